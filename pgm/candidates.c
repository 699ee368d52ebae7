/* SPDX-License-Identifier: Apache-2.0 */
/* The table of candidates: see the header. In pieces, for the heap gives no run longer than a chunk. */
#include "pgm/candidates.h"

#include "pgm/internal.h"

#define PIECE_BYTES (64 * KIB)
#define PIECE_ENTRIES (PIECE_BYTES / sizeof(uint64_t))
#define PIECES 1024u
#define BUCKET 8u /* entries */
#define PAGES_PER_ENTRY 2u

_Static_assert(MAX_OWNERS == 1024 && PGM_MAX_GPA >> PAGE_SHIFT <= ENTRY_PAGE + 1, "owners and pages fit");

static uint64_t *table[PIECES];
static uint64_t buckets; /* a power of two, or 0 */

enum status pgm_fusion_start(uint64_t pages)
{
	uint64_t entries = PIECE_ENTRIES;

	if (buckets)
		return OK;
	while (entries * 2 <= pages / PAGES_PER_ENTRY && entries < PIECES * PIECE_ENTRIES)
		entries *= 2;
	for (unsigned i = 0; i < entries / PIECE_ENTRIES; i++) {
		if (!table[i])
			table[i] = heap_alloc(PIECE_BYTES);
		if (!table[i])
			return NO_MEMORY;
	}
	buckets = entries / BUCKET;
	return OK;
}

uint64_t *candidate_slot(uint64_t key)
{
	uint64_t at = (key & (buckets - 1)) * BUCKET, *bucket, *room;

	if (!buckets)
		return NULL;
	bucket = &table[at / PIECE_ENTRIES][at % PIECE_ENTRIES];
	room = &bucket[key >> 40 & (BUCKET - 1)];
	for (unsigned i = 0; i < BUCKET; i++) {
		if (bucket[i] && !((bucket[i] ^ key) & ENTRY_HASH))
			return &bucket[i];
		if (!bucket[i])
			room = &bucket[i];
	}
	return room;
}
