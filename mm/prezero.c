/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clearing ahead of time, one frame per step, for CPUs that have nothing to do. Free chunks come
 * first (a whole zero chunk saves the most), then single free frames. And clearing in slices for those who
 * need a whole chunk now, but can come again: block_ready().
 *
 * What is being cleared is taken off its set or list, so nobody can be given it meanwhile. Who finds no other chunk holds
 * the clearing: waits until what is out has come back, which is a matter of one slice, and has the first look at it.
 */
#include "mm/chunk.h"
#include "mm/counters.h"

/* Chunks looked at for a dirty frame in one step. */
#define LOOK_AT 64u

void frame_clear(hpa_t frame)
{
	void *bytes = frame_map(frame);

	clear_page(bytes);
	frame_unmap(bytes);
}

static uint64_t cursor; /* where the last step stopped; under chunk_lock */

/* A free chunk that isn't zero, off its set. */
static struct chunk *take_dirty_chunk(void)
{
	struct chunk *chunk;

	HOLD(&chunk_lock);
	chunk = chunks.held ? NULL : chunk_fullest(SET_DIRTY);
	if (chunk) {
		chunk_unlist(chunk);
		chunk->busy = true;
		__atomic_fetch_add(&chunks.clearing, 1, __ATOMIC_RELAXED);
	}
	return chunk;
}

static void put_chunk_back(struct chunk *chunk, unsigned cleared)
{
	HOLD(&chunk_lock);
	chunk->cleared += (uint16_t)cleared;
	/* Not before: who clears the next frame would map it again. */
	if (chunk->cleared == PAGES_PER_BLOCK)
		chunk_leave_windows(chunk);
	chunk->busy = false;
	chunk_relist(chunk);
	__atomic_fetch_sub(&chunks.clearing, 1, __ATOMIC_RELAXED);
	mm_count(&mm_counters.frames_prezeroed, cleared);
}

static void hold(int by)
{
	HOLD(&chunk_lock);
	chunks.held += (uint64_t)(int64_t)by;
}

void chunk_clearing_hold(void)
{
	hold(1);
	while (__atomic_load_n(&chunks.clearing, __ATOMIC_ACQUIRE))
		spin_pause();
}

void chunk_clearing_resume(void)
{
	hold(-1);
}

static bool step_in_free_chunk(void)
{
	struct chunk *chunk = take_dirty_chunk();

	if (!chunk)
		return false;
	frame_clear(chunk_frame(chunk, chunk->cleared));
	put_chunk_back(chunk, 1);
	return true;
}

bool block_ready(void)
{
	struct chunk *chunk;
	unsigned count;
	uint8_t *bytes;

	if (__atomic_load_n(&chunks.filled[SET_ZERO], __ATOMIC_RELAXED))
		return true;
	chunk = take_dirty_chunk();
	if (!chunk)
		return true;
	count = BLOCK_SLICE - chunk->cleared % BLOCK_SLICE;
	bytes = frame_map(chunk_frame(chunk, chunk->cleared));
	if (likely(count == BLOCK_SLICE)) /* a constant size is one rep stosq */
		__builtin_memset(bytes, 0, BLOCK_SLICE * PAGE_SIZE);
	else
		for (unsigned i = 0; i < count; i++)
			clear_page(bytes + i * PAGE_SIZE);
	frame_unmap(bytes);
	put_chunk_back(chunk, count);
	return false;
}

/* A dirty free frame of the next few chunks, HELD; HPA_NONE when none of them has one. Under chunk_lock. */
static hpa_t next_dirty_frame(void)
{
	for (unsigned i = 0; i < LOOK_AT; i++) {
		struct chunk *chunk = &chunks.table[cursor];

		if ((chunk->kind == CHUNK_SPLIT || chunk->kind == CHUNK_KERNEL) && !chunk->busy && chunk->dirty) {
			hpa_t frame = chunk_frame(chunk, chunk_pop_dirty(chunk));

			chunk_relist(chunk);
			return frame;
		}
		cursor = cursor + 1 < chunks.count ? cursor + 1 : 0;
	}
	return HPA_NONE;
}

bool frame_prezero_step(void)
{
	hpa_t frame = HPA_NONE;
	bool left;

	if (step_in_free_chunk())
		return true;
	lock_acquire(&chunk_lock);
	left = chunks.dirty_frames != 0;
	if (left)
		frame = next_dirty_frame();
	lock_release(&chunk_lock);
	if (hpa_is_none(frame))
		return left;
	frame_clear(frame);
	lock_acquire(&chunk_lock);
	chunk_return_frame(frame, true);
	lock_release(&chunk_lock);
	mm_count(&mm_counters.frames_prezeroed, 1);
	return true;
}
