/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames whose memory the hardware has called broken. One in use is only remembered, and retired when it would come free; of a chunk that is
 * or comes free whole all is retired: there are no records to tell one frame from another, and neighbours of a broken row are suspect.
 *
 * Invariant: what is retired is in no free list, belongs to no account, and stays so until the host restarts.
 */
#include "mm/chunk.h"

#define BROKEN_MOST 64u

static hpa_t broken[BROKEN_MOST]; /* under chunk_lock, with its count */
static unsigned count;

static bool is_known(hpa_t frame)
{
	for (unsigned i = 0; i < count; i++)
		if (broken[i].v == frame.v)
			return true;
	return false;
}

bool frame_retires(hpa_t frame)
{
	if (!is_known(frame))
		return false;
	record_store(frame_slot(frame), FRAME_RETIRED);
	chunks.retired_frames++;
	return true;
}

/* Under chunk_lock, no chunk is being cleared. One whose records are just being written has its frame retired after its first use. */
static void retire(struct chunk *chunk, hpa_t frame)
{
	chunk->broken = true;
	if (chunk->kind == CHUNK_FREE) {
		chunk_give_back(chunk, 0);
	} else if (chunk->kind != CHUNK_LARGE && !chunk->busy &&
		   record_state(record_load(frame_slot(frame))) == FRAME_FREE) {
		chunk_take_frame(chunk, frame_index(frame));
		chunk_relist(chunk);
		(void)frame_retires(frame);
	}
}

enum status frame_retire(hpa_t frame)
{
	struct chunk *chunk = chunk_of(frame);
	enum status status = OK;

	frame = hpa(align_down(frame.v, PAGE_SIZE));
	if (frame.v >> BLOCK_SHIFT >= chunks.count || chunk->kind == CHUNK_ABSENT)
		return BAD_ADDRESS;
	chunk_clearing_hold();
	lock_acquire(&chunk_lock);
	if (chunk->kind != CHUNK_RETIRED && !is_known(frame)) {
		status = count == BROKEN_MOST ? LIMIT : OK;
		if (status == OK) {
			broken[count++] = frame;
			retire(chunk, frame);
		}
	}
	lock_release(&chunk_lock);
	chunk_clearing_resume();
	return status;
}
