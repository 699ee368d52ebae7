/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames within one chunk: its records and its two lists of free frames, one of frames known
 * to be zero and one of the others. Both lists run through the records themselves, linked both
 * ways, so that any frame can be taken out of the middle (runs for the heap).
 */
#include "mm/chunk.h"
#include "mm/counters.h"

static uint16_t *list_of(struct chunk *chunk, bool zero)
{
	return zero ? &chunk->zero_head : &chunk->dirty_head;
}

void chunk_fill_records(struct chunk *chunk, frame_record *records, unsigned cleared)
{
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		bool first = i == 0 || i == cleared;
		bool last = i + 1 == PAGES_PER_BLOCK || i + 1 == cleared;

		record_store(&records[i], record_free(i < cleared, last ? NO_FRAME : i + 1, first ? NO_FRAME : i - 1));
	}
	chunk->records = records;
	chunk->zero_head = cleared ? 0 : NO_FRAME;
	chunk->dirty_head = cleared < PAGES_PER_BLOCK ? (uint16_t)cleared : NO_FRAME;
	chunk->dirty = (uint16_t)(PAGES_PER_BLOCK - cleared);
	chunk->free = PAGES_PER_BLOCK;
}

static void link_previous(struct chunk *chunk, unsigned index, unsigned previous)
{
	frame_record record = record_load(&chunk->records[index]);

	record_store(&chunk->records[index], (record & ~RECORD_PREVIOUS) | (uint64_t)previous << RECORD_PREVIOUS_SHIFT);
}

static void link_next(struct chunk *chunk, unsigned index, unsigned next)
{
	frame_record record = record_load(&chunk->records[index]);

	record_store(&chunk->records[index], (record & ~RECORD_NEXT) | (uint64_t)next << RECORD_PAGE_SHIFT);
}

static void account_for(struct chunk *chunk, bool zero, int by)
{
	chunk->free = (uint16_t)(chunk->free + by);
	if (!zero) {
		chunk->dirty = (uint16_t)(chunk->dirty + by);
		chunks.dirty_frames += (uint64_t)(int64_t)by;
	}
	if (chunk->kind == CHUNK_KERNEL)
		chunks.kernel_free += (uint64_t)(int64_t)by;
}

void chunk_take_frame(struct chunk *chunk, unsigned index)
{
	frame_record record = record_load(&chunk->records[index]);
	bool zero = record & RECORD_ZERO;
	unsigned next = record_next(record), previous = record_previous(record);

	panic_unless(record_state(record) == FRAME_FREE);
	if (next != NO_FRAME)
		link_previous(chunk, next, previous);
	if (previous != NO_FRAME)
		link_next(chunk, previous, next);
	else
		*list_of(chunk, zero) = (uint16_t)next;
	record_store(&chunk->records[index], record_held(zero));
	account_for(chunk, zero, -1);
}

unsigned chunk_pop(struct chunk *chunk)
{
	unsigned index = chunk->zero_head != NO_FRAME ? chunk->zero_head : chunk->dirty_head;

	chunk_take_frame(chunk, index);
	return index;
}

unsigned chunk_pop_dirty(struct chunk *chunk)
{
	unsigned index = chunk->dirty_head;

	chunk_take_frame(chunk, index);
	return index;
}

void chunk_push(struct chunk *chunk, unsigned index, bool zero)
{
	uint16_t *head = list_of(chunk, zero);

	panic_unless(record_state(record_load(&chunk->records[index])) != FRAME_FREE);
	record_store(&chunk->records[index], record_free(zero, *head, NO_FRAME));
	if (*head != NO_FRAME)
		link_previous(chunk, *head, index);
	*head = (uint16_t)index;
	account_for(chunk, zero, 1);
}

unsigned chunk_pop_many(struct chunk *chunk, unsigned count, hpa_t *frames)
{
	unsigned got = 0;

	while (got < count && chunk->free)
		frames[got++] = chunk_frame(chunk, chunk_pop(chunk));
	chunk_relist(chunk);
	return got;
}

void frame_clear(hpa_t frame)
{
	void *bytes = frame_map(frame);

	clear_page(bytes);
	frame_unmap(bytes);
}
