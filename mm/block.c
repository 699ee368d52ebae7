/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole chunks behind guest blocks, and 512 of them side by side behind a GiB. A whole chunk
 * has no frame records: its chunk record alone says whose it is and which block it is behind.
 * block_split() writes records that say the same of each page; from then on the chunk is like
 * any split one, and is the machine's own. block_join() is the way back: a chunk all of whose frames stand behind one block,
 * in order, gives up its records. No memory moves either way.
 */
#include "mm/chunk.h"
#include "mm/counters.h"
#include "mm/inject.h"

#define CHUNKS_PER_GIB (GIB / BLOCK_SIZE)

enum status block_alloc(struct account *account, gpa_t block, hpa_t *frame, bool *zero)
{
	struct chunk *chunk;

	if (mm_fault_injected(MM_SITE_LARGE, account->owner))
		return NO_MEMORY;
	TRY(account_charge_locked(account, ACCOUNT_BASE, PAGES_PER_BLOCK));
	chunk = chunk_claim(account->owner, CHUNK_LARGE, block);
	if (unlikely(!chunk)) {
		account_uncharge_locked(account, ACCOUNT_BASE, PAGES_PER_BLOCK);
		mm_count(&mm_counters.blocks_refused, 1);
		return NO_MEMORY;
	}
	*zero = chunk->cleared == PAGES_PER_BLOCK;
	*frame = chunk_frame(chunk, 0);
	mm_count(&mm_counters.blocks_given, 1);
	return OK;
}

void block_zero(hpa_t block)
{
	void *bytes = frame_map(block);

	/* A constant size, as in clear_page(): one rep stosq. */
	__builtin_memset(bytes, 0, BLOCK_SIZE);
	frame_unmap(bytes);
}

/* All 512 chunks of one GiB if all are free; under chunk_lock. */
static bool take_gib(struct chunk *first, owner_t owner, gpa_t where)
{
	if (owner != OWNER_HOST && !chunk_guest_may_take(owner, CHUNKS_PER_GIB))
		return false;
	for (unsigned i = 0; i < CHUNKS_PER_GIB; i++) {
		if (first[i].kind != CHUNK_FREE || first[i].busy)
			return false;
	}
	for (unsigned i = 0; i < CHUNKS_PER_GIB; i++) {
		chunk_unlist(&first[i]);
		chunk_become(&first[i], owner, CHUNK_LARGE, gpa(where.v + i * BLOCK_SIZE));
	}
	return true;
}

/* Goes through the aligned GiBs of memory, letting go of the lock in between. */
static struct chunk *find_gib(owner_t owner, gpa_t where)
{
	for (uint64_t i = 0; i + CHUNKS_PER_GIB <= chunks.count; i += CHUNKS_PER_GIB) {
		bool found;

		lock_acquire(&chunk_lock);
		found = take_gib(&chunks.table[i], owner, where);
		lock_release(&chunk_lock);
		if (found)
			return &chunks.table[i];
	}
	return NULL;
}

void block_clear_dirty(hpa_t block)
{
	if (chunk_of(block)->cleared < PAGES_PER_BLOCK)
		block_zero(block);
}

enum status huge_take(struct account *account, gpa_t where, hpa_t *frame)
{
	uint64_t pages = GIB / PAGE_SIZE;
	struct chunk *first;

	if (mm_fault_injected(MM_SITE_LARGE, account->owner))
		return NO_MEMORY;
	TRY(account_charge_locked(account, ACCOUNT_BASE, pages));
	first = find_gib(account->owner, where);
	if (!first) { /* a chunk that was being cleared stood in the way, perhaps */
		chunk_clearing_hold();
		first = find_gib(account->owner, where);
		chunk_clearing_resume();
	}
	if (first) {
		*frame = chunk_frame(first, 0);
		mm_count(&mm_counters.blocks_given, CHUNKS_PER_GIB);
		return OK;
	}
	account_uncharge_locked(account, ACCOUNT_BASE, pages);
	mm_count(&mm_counters.blocks_refused, 1);
	return NO_MEMORY;
}

enum status block_split(struct account *account, hpa_t block)
{
	struct chunk *chunk = chunk_of(block);
	frame_record *records;
	hpa_t frame;

	panic_unless(chunk->kind == CHUNK_LARGE && chunk->owner == account->owner);
	if (mm_fault_injected(MM_SITE_TABLE, account->owner) || !kernel_frame_take(record_kernel(0), &frame))
		return NO_MEMORY;
	records = direct_pointer(frame);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		record_store(&records[i],
			     record_private(account->owner, ACCOUNT_BASE, gpa((chunk->block + i) << PAGE_SHIFT)));
	HOLD(&chunk_lock);
	chunk_set_kind(chunk, CHUNK_SPLIT);
	chunk->records = records;
	chunk->free = chunk->dirty = 0;
	chunk->head = NO_FRAME;
	mm_count(&mm_counters.blocks_split, 1);
	return OK;
}

/* Under chunk_lock. */
static bool all_behind(const struct chunk *chunk, owner_t owner, gpa_t block)
{
	if (chunk->kind != CHUNK_SPLIT || chunk->busy || chunk->free || chunk->present != PAGES_PER_BLOCK)
		return false;
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		frame_record record = record_load(&chunk->records[i]) & ~RECORD_ZERO;

		if (record != record_private(owner, ACCOUNT_BASE, gpa(block.v + i * PAGE_SIZE)))
			return false;
	}
	return true;
}

enum status block_join(struct account *account, hpa_t frame, gpa_t block)
{
	struct chunk *chunk = chunk_of(frame);
	frame_record *records = NULL;

	lock_acquire(&chunk_lock);
	if (all_behind(chunk, account->owner, block)) {
		records = chunk->records;
		chunk->owner = account->owner;
		chunk_set_kind(chunk, CHUNK_LARGE);
		chunk->block = block.v >> PAGE_SHIFT;
	}
	lock_release(&chunk_lock);
	if (!records)
		return CONFLICT;
	kernel_frame_put(direct_address(records));
	return OK;
}

void block_free(struct account *account, hpa_t block)
{
	struct chunk *chunk = chunk_of(block);

	panic_unless(chunk->kind == CHUNK_LARGE && chunk->owner == account->owner);
	chunk_give_back(chunk, 0);
	mm_count(&mm_counters.chunks_returned, 1);
}
