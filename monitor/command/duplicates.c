/* SPDX-License-Identifier: Apache-2.0 */
/* A hash table with open addressing, in pieces, since the heap gives no run longer than a chunk. */
#include "monitor/command/duplicates.h"

#include <string.h>

#include "arch/x86_64/address.h"
#include "lib/hash.h"
#include "lib/memory.h"

#define MET_AGAIN UINT64_C(1)
#define PIECE_BYTES (DUPLICATE_PIECE * sizeof(uint64_t))

void duplicates_end(struct duplicates *d)
{
	for (unsigned i = 0; i < DUPLICATE_PIECES; i++)
		if (d->piece[i])
			heap_free(d->piece[i], PIECE_BYTES);
	memset(d->piece, 0, sizeof(d->piece));
}

bool duplicates_begin(struct duplicates *d, uint64_t pages)
{
	unsigned pieces = 1;

	memset(d, 0, sizeof(*d));
	while ((uint64_t)pieces * DUPLICATE_PIECE < pages * 2 && pieces < DUPLICATE_PIECES)
		pieces *= 2;
	d->slots = (uint64_t)pieces * DUPLICATE_PIECE;
	for (unsigned i = 0; i < pieces; i++) {
		d->piece[i] = heap_alloc(PIECE_BYTES);
		if (!d->piece[i]) {
			duplicates_end(d);
			return false;
		}
	}
	return true;
}

/* The slot of this content, or the free one where it belongs. One slot in eight always stays free. */
static uint64_t *slot_of(struct duplicates *d, uint64_t hash)
{
	for (uint64_t i = hash >> 1;; i++) {
		uint64_t at = i & (d->slots - 1);
		uint64_t *slot = &d->piece[at / DUPLICATE_PIECE][at % DUPLICATE_PIECE];

		if (!*slot || (*slot | MET_AGAIN) == hash)
			return slot;
	}
}

void duplicates_add(struct duplicates *d, const void *page)
{
	uint64_t hash = hash_xxh3(page, PAGE_SIZE) | MET_AGAIN, *slot;

	if (hash_is_zero(page, PAGE_SIZE)) {
		d->zero++;
		return;
	}
	hash = hash == MET_AGAIN ? ~UINT64_C(0) : hash; /* a word of a used slot is never 0 */
	slot = slot_of(d, hash);
	if (!*slot && d->used >= d->slots - d->slots / 8) {
		d->untold++;
	} else if (!*slot) {
		*slot = hash & ~MET_AGAIN;
		d->used++;
		d->unique++;
	} else if (*slot & MET_AGAIN) {
		d->duplicate++;
	} else {
		*slot |= MET_AGAIN;
		d->unique--;
		d->duplicate += 2;
	}
}
