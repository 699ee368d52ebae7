/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way back from block_split(): a chunk all of whose frames stand behind one block, in order, becomes a
 * whole chunk again and gives up its frame records. No memory moves.
 */
#include "mm/chunk.h"

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
