/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The free frames of one chunk: a ring through their records, linked both ways, so that any frame can be taken out of the
 * middle (runs for the heap). Those known to be zero stand first, those that aren't last.
 */
#include "mm/chunk.h"

void chunk_fill_records(struct chunk *chunk, frame_record *records, unsigned cleared)
{
	const unsigned last = PAGES_PER_BLOCK - 1;

	/* From one to the next both links grow by one. */
	const frame_record step = record_free(false, 2, 1) - record_free(false, 1, 0);
	frame_record record = record_free(false, 2, 0);

	for (unsigned i = 1; i < last; i++, record += step)
		record_store(&records[i], record | (i < cleared ? RECORD_ZERO : 0));
	record_store(&records[0], record_free(cleared, 1, last));
	record_store(&records[last], record_free(cleared > last, 0, last - 1));
	chunk->records = records;
	chunk->head = 0;
	chunk->dirty = (uint16_t)(PAGES_PER_BLOCK - cleared);
	chunk->free = PAGES_PER_BLOCK;
}

static void link_frames(struct chunk *chunk, unsigned previous, unsigned next)
{
	frame_record *before = &chunk->records[previous], *after = &chunk->records[next];

	record_store(before, (record_load(before) & ~RECORD_NEXT) | (uint64_t)next << RECORD_PAGE_SHIFT);
	record_store(after, (record_load(after) & ~RECORD_PREVIOUS) | (uint64_t)previous << RECORD_PREVIOUS_SHIFT);
}

/* So many frames more (by > 0) or fewer are free, `dirty` of them not known to be zero. */
static void account_for(struct chunk *chunk, int by, int dirty)
{
	chunk->free = (uint16_t)(chunk->free + by);
	chunk->dirty = (uint16_t)(chunk->dirty + dirty);
	chunks.dirty_frames += (uint64_t)(int64_t)dirty;
	if (chunk->kind == CHUNK_KERNEL)
		chunks.kernel_free += (uint64_t)(int64_t)by;
	if (!chunk->free)
		chunk->head = NO_FRAME;
}

void chunk_take_frame(struct chunk *chunk, unsigned index)
{
	frame_record record = record_load(&chunk->records[index]);
	bool zero = record & RECORD_ZERO;

	panic_unless(record_state(record) == FRAME_FREE);
	link_frames(chunk, record_previous(record), record_next(record));
	if (chunk->head == index)
		chunk->head = (uint16_t)record_next(record);
	record_store(&chunk->records[index], record_held(zero));
	account_for(chunk, -1, -!zero);
}

unsigned chunk_pop_dirty(struct chunk *chunk)
{
	unsigned index = record_previous(record_load(&chunk->records[chunk->head]));

	chunk_take_frame(chunk, index);
	return index;
}

void chunk_push(struct chunk *chunk, unsigned index, bool zero)
{
	unsigned next = chunk->free ? chunk->head : index;
	unsigned previous = chunk->free ? record_previous(record_load(&chunk->records[next])) : index;

	panic_unless(record_state(record_load(&chunk->records[index])) != FRAME_FREE);
	record_store(&chunk->records[index], record_free(zero, index, index));
	link_frames(chunk, previous, index);
	link_frames(chunk, index, next);
	if (zero || !chunk->free)
		chunk->head = (uint16_t)index;
	account_for(chunk, 1, !zero);
}

unsigned chunk_pop_many(struct chunk *chunk, frame_record record, unsigned count, hpa_t *frames, unsigned *dirty_frames)
{
	unsigned got = 0, index = chunk->head, dirty = 0, last;
	uint64_t base = chunk_frame(chunk, 0).v;

	if (count > chunk->free)
		count = chunk->free;
	if (!count)
		return 0;
	last = record_previous(record_load(&chunk->records[index]));
	for (; got < count; got++) {
		frame_record old = record_load(&chunk->records[index]);

		record_store(&chunk->records[index], record | (old & RECORD_ZERO));
		dirty += !(old & RECORD_ZERO);
		frames[got] = hpa(base | (uint64_t)index << PAGE_SHIFT);
		index = record_next(old);
	}
	*dirty_frames += dirty;
	account_for(chunk, -(int)count, -(int)dirty);
	if (chunk->free) {
		chunk->head = (uint16_t)index;
		link_frames(chunk, last, index);
	}
	chunk_relist(chunk);
	return count;
}
