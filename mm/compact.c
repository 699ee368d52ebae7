/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compaction: a split chunk of which little is used is emptied, and whole again. Meanwhile it is closed: it stands in no set, and what comes
 * free in it is given to nobody. Who holds its frames moves them (pgm/page/move.c), into partly used chunks, never into a fresh one.
 * A chunk in which a machine doesn't find all that is used, as shared frames or those being cleared, is left alone.
 *
 * Invariant: at most one chunk is closed; it is split, and opens again by itself when it comes empty. One CPU at a time calls any of this: the idle
 * worker.
 */
#include "mm/compact.h"

#include "mm/chunk.h"
#include "mm/counters.h"
#include "mm/inject.h"

#define LOOK_AT 64u

/* Under chunk_lock, as the next. */
static bool worth_it(const struct chunk *chunk, unsigned most)
{
	unsigned used = PAGES_PER_BLOCK - chunk->free;

	return chunk->kind == CHUNK_SPLIT && !chunk->busy && !chunk->broken && used && used <= most;
}

enum status compact_find(uint64_t *cursor, unsigned most, hpa_t *block)
{
	HOLD(&chunk_lock);
	for (unsigned i = 0; i < LOOK_AT && *cursor < chunks.count; i++) {
		const struct chunk *chunk = &chunks.table[(*cursor)++];

		*block = chunk_frame(chunk, 0);
		if (worth_it(chunk, most))
			return OK;
	}
	if (*cursor < chunks.count)
		return BUSY;
	*cursor = 0;
	return NOT_FOUND;
}

unsigned compact_frames(const struct account *account, hpa_t block, unsigned *index, struct frame_place *places,
			unsigned most)
{
	const struct chunk *chunk = chunk_of(block);
	unsigned got = 0;

	HOLD(&chunk_lock);
	for (; *index < PAGES_PER_BLOCK && got < most && chunk->kind == CHUNK_SPLIT && !chunk->busy; ++*index) {
		frame_record record = record_load(&chunk->records[*index]);
		gpa_t page = record_page(record);

		if (record_state(record) != FRAME_PRIVATE || record_owner(record) != account->owner)
			continue;
		if (got && page.v >> BLOCK_SHIFT != places[0].page.v >> BLOCK_SHIFT)
			break;
		places[got++] = (struct frame_place){ chunk_frame(chunk, *index), page };
	}
	return got;
}

bool compact_room(const struct account *account, hpa_t block, unsigned pages)
{
	const struct chunk *chunk;
	unsigned room = 0;

	HOLD(&chunk_lock);
	chunk = account->partly_used;
	for (unsigned i = 0; i < LOOK_AT && chunk && room < pages; i++, chunk = chunk->next)
		room += chunk == chunk_of(block) ? 0 : chunk->free;
	return room >= pages;
}

bool compact_close(hpa_t block, unsigned used)
{
	struct chunk *chunk = chunk_of(block);

	HOLD(&chunk_lock);
	bool fits = worth_it(chunk, used);
	if (fits) {
		chunk_unlist(chunk);
		chunk->closed = true;
	}
	return fits;
}

bool compact_end(hpa_t block)
{
	struct chunk *chunk = chunk_of(block);

	HOLD(&chunk_lock);
	bool whole = !chunk->closed;
	chunk->closed = false;
	chunk_relist(chunk);
	mm_count(&mm_counters.chunks_emptied, whole);
	return whole;
}
