/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames for the kernel and for tables: out of kernel chunks only, which always stand in the
 * direct map. Each CPU has a magazine of them, filled and emptied by half, so that a table or a
 * slab page is usually had without a lock. Only the CPU itself touches its magazine, and kernel
 * code is never moved or interrupted in here.
 *
 * A fresh kernel chunk holds its own records in its first frame: so this is where the chain of
 * records for records ends.
 */
#include "arch/x86_64/percpu.h"
#include "mm/chunk.h"
#include "mm/counters.h"
#include "mm/inject.h"
#include "mm/map.h"

#define MAGAZINE_HALF (MAGAZINE / 2)
/* How many chunks a search for a run looks into before it takes a fresh one. */
#define RUN_CHUNKS 8u

static struct magazine {
	unsigned count;
	hpa_t frames[MAGAZINE];
} __attribute__((aligned(64))) magazines[MAX_CPUS];

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
	lock_acquire(&chunk_lock);
	chunks.kernel_free += PAGES_PER_BLOCK;
	chunks.dirty_frames += PAGES_PER_BLOCK - cleared;
	chunk_take_frame(chunk, 0);
	record_store(&chunk->records[0], record_kernel(0));
	chunk->busy = false;
	chunk_relist(chunk);
	lock_release(&chunk_lock);
	mm_count(&mm_counters.chunks_split, 1);
	return true;
}

static void magazine_store(struct magazine *magazine, unsigned count)
{
	__atomic_store_n(&magazine->count, count, __ATOMIC_RELAXED);
}

static bool refill(struct magazine *magazine)
{
	unsigned got = 0;

	for (;;) {
		struct chunk *chunk;

		lock_acquire(&chunk_lock);
		while (got < MAGAZINE_HALF && (chunk = chunk_fullest(SET_KERNEL)))
			got += chunk_pop_many(chunk, MAGAZINE_HALF - got, magazine->frames + got);
		lock_release(&chunk_lock);
		if (got || !kernel_grow())
			break;
	}
	magazine_store(magazine, got);
	mm_count(&mm_counters.magazine_refills, 1);
	return got != 0;
}

bool kernel_frame_take(frame_record record, hpa_t *frame)
{
	struct magazine *magazine = &magazines[cpu_index()];
	frame_record *slot;
	bool zero;

	if (unlikely(!magazine->count) && !refill(magazine)) {
		mm_count(&mm_counters.frames_refused, 1);
		return false;
	}
	*frame = magazine->frames[magazine->count - 1];
	magazine_store(magazine, magazine->count - 1);
	slot = frame_slot(*frame);
	zero = record_load(slot) & RECORD_ZERO;
	record_store(slot, record);
	if (!zero)
		clear_page(direct_pointer(*frame));
	return true;
}

/* Gives `count` frames from the bottom of the magazine, those that lay longest, back to their chunks. */
static void spill(struct magazine *magazine, unsigned count)
{
	lock_acquire(&chunk_lock);
	for (unsigned i = 0; i < count; i++)
		chunk_return_frame(magazine->frames[i], record_load(frame_slot(magazine->frames[i])) & RECORD_ZERO);
	lock_release(&chunk_lock);
	for (unsigned i = count; i < magazine->count; i++)
		magazine->frames[i - count] = magazine->frames[i];
	magazine_store(magazine, magazine->count - count);
	mm_count(&mm_counters.magazine_spills, 1);
}

void kernel_frame_put(hpa_t frame)
{
	struct magazine *magazine = &magazines[cpu_index()];

	if (unlikely(magazine->count == MAGAZINE))
		spill(magazine, MAGAZINE_HALF);
	record_store(frame_slot(frame), record_held(false));
	magazine->frames[magazine->count] = frame;
	magazine_store(magazine, magazine->count + 1);
}

void kernel_magazine_drain(void)
{
	struct magazine *magazine = &magazines[cpu_index()];

	if (magazine->count)
		spill(magazine, magazine->count);
}

uint64_t kernel_magazine_frames(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < MAX_CPUS; i++)
		sum += __atomic_load_n(&magazines[i].count, __ATOMIC_RELAXED);
	return sum;
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
	lock_acquire(&chunk_lock);
	for (unsigned i = 0; i < count; i++)
		chunk_return_frame(hpa(frame.v + i * PAGE_SIZE), false);
	lock_release(&chunk_lock);
}

enum status table_alloc(struct account *account, hpa_t *frame)
{
	enum status status;

	if (mm_fault_injected(MM_SITE_TABLE, account->owner))
		return NO_MEMORY;
	status = account_charge_locked(account, ACCOUNT_TABLE, 1);
	if (status != OK)
		return status;
	if (likely(kernel_frame_take(record_table(account->owner), frame)))
		return OK;
	account_uncharge_locked(account, ACCOUNT_TABLE, 1);
	return NO_MEMORY;
}
