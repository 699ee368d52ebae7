/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames for the kernel and for tables: out of kernel chunks only, which always stand in the
 * direct map. Tables are few, one for 2 MiB of a guest's, and the heap's slabs hold many objects: so they
 * come one by one, straight from the chunks.
 *
 * A fresh kernel chunk holds its own records in its first frame: so this is where the chain of
 * records for records ends.
 */
#include "mm/chunk.h"
#include "mm/counters.h"
#include "mm/inject.h"
#include "mm/map.h"

/* How many chunks a search for a run looks into before it takes a fresh one. */
#define RUN_CHUNKS 8u

/* A fresh chunk for the kernel. False: no free chunk is left. */
static bool kernel_grow(void)
{
	struct chunk *chunk;
	unsigned cleared;

	if (mm_fault_injected(MM_SITE_CHUNK, OWNER_HOST))
		return false;
	chunk = chunk_claim(OWNER_HOST, CHUNK_KERNEL, gpa(0));
	if (!chunk)
		return false;
	cleared = chunk->cleared;
	chunk_fill_records(chunk, direct_pointer(chunk_frame(chunk, 0)), cleared);
	HOLD(&chunk_lock);
	chunks.kernel_free += PAGES_PER_BLOCK;
	chunks.dirty_frames += PAGES_PER_BLOCK - cleared;
	chunk_take_frame(chunk, 0);
	record_store(&chunk->records[0], record_kernel(0));
	chunk->busy = false;
	chunk_relist(chunk);
	mm_count(&mm_counters.chunks_split, 1);
	return true;
}

static bool take_one(frame_record record, hpa_t *frame)
{
	unsigned dirty = 0;
	struct chunk *chunk;

	HOLD(&chunk_lock);
	chunk = chunk_fullest(SET_KERNEL);
	if (likely(chunk))
		chunk_pop_many(chunk, record, 1, frame, &dirty);
	return chunk;
}

/* Whatever stands in it. */
static bool take_raw(frame_record record, hpa_t *frame)
{
	while (!take_one(record, frame)) {
		if (!kernel_grow()) {
			mm_count(&mm_counters.frames_refused, 1);
			return false;
		}
	}
	return true;
}

bool kernel_frame_take(frame_record record, hpa_t *frame)
{
	if (!take_raw(record, frame))
		return false;
	if (!(record_load(frame_slot(*frame)) & RECORD_ZERO))
		clear_page(direct_pointer(*frame));
	return true;
}

void kernel_frame_put(hpa_t frame)
{
	kernel_run_put(frame, 1);
}

/* First of `count` adjacent free frames, or NO_FRAME. */
static unsigned find_run(const struct chunk *chunk, unsigned count)
{
	unsigned length = 0;

	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		length = record_state(record_load(&chunk->records[i])) == FRAME_FREE ? length + 1 : 0;
		if (length == count)
			return i + 1 - count;
	}
	return NO_FRAME;
}

/* Looks into a bounded number of chunks, fullest first. Under chunk_lock. */
static bool take_run(unsigned count, hpa_t *frame)
{
	unsigned left = RUN_CHUNKS;

	for (unsigned bucket = count >> BUCKET_SHIFT; bucket < BUCKETS; bucket++) {
		for (struct chunk *chunk = chunks.bucket[SET_KERNEL][bucket]; chunk && left;
		     chunk = chunk->next, left--) {
			unsigned first = find_run(chunk, count);

			if (first == NO_FRAME)
				continue;
			for (unsigned i = 0; i < count; i++)
				chunk_take_frame(chunk, first + i);
			chunk_relist(chunk);
			*frame = chunk_frame(chunk, first);
			return true;
		}
	}
	return false;
}

bool kernel_run_take(unsigned count, hpa_t *frame)
{
	for (unsigned attempt = 0;; attempt++) {
		bool found;

		lock_acquire(&chunk_lock);
		found = take_run(count, frame);
		lock_release(&chunk_lock);
		if (found)
			break;
		if (attempt == RUN_CHUNKS || !kernel_grow())
			return false;
	}
	for (unsigned i = 0; i < count; i++) {
		hpa_t one = hpa(frame->v + i * PAGE_SIZE);

		if (!(record_load(frame_slot(one)) & RECORD_ZERO))
			clear_page(direct_pointer(one));
		record_store(frame_slot(one), record_kernel(i ? 0 : count));
	}
	return true;
}

void kernel_run_put(hpa_t frame, unsigned count)
{
	HOLD(&chunk_lock);
	for (unsigned i = 0; i < count; i++)
		chunk_return_frame(hpa(frame.v + i * PAGE_SIZE), false);
}

static enum status take_table(struct account *account, bool (*take)(frame_record record, hpa_t *frame), hpa_t *frame)
{
	if (mm_fault_injected(MM_SITE_TABLE, account->owner))
		return NO_MEMORY;
	TRY(account_charge_locked(account, ACCOUNT_TABLE, 1));
	if (likely(take(record_table(account->owner), frame)))
		return OK;
	account_uncharge_locked(account, ACCOUNT_TABLE, 1);
	return NO_MEMORY;
}

enum status table_alloc(struct account *account, hpa_t *frame)
{
	return take_table(account, kernel_frame_take, frame);
}

enum status table_alloc_raw(struct account *account, hpa_t *frame)
{
	return take_table(account, take_raw, frame);
}
