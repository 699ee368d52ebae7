/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the memory is used for, as numbers; and what one frame is used for. Pages in use come from the
 * accounts, chunks from the chunk table's own counts; frames that are held for clearing are
 * free. While other CPUs allocate, the numbers may be those of slightly different moments.
 */
#include "mm/chunk.h"

static void visit(struct account *account, void *context)
{
	struct frame_totals *totals = context;

	HOLD(&account->lock);
	totals->private_pages +=
		account->allocated[ACCOUNT_BASE] + account->allocated[ACCOUNT_FIXED] - account->shared_pages;
	totals->table_pages += account->allocated[ACCOUNT_TABLE];
	totals->ballooned_pages += account->ballooned;
	totals->duplicate_pages += account->shared_pages;
}

void frame_totals(struct frame_totals *totals)
{
	uint64_t in_use, withheld;

	*totals = (struct frame_totals){ 0 };
	account_each(visit, totals);
	lock_acquire(&host_account.lock);
	totals->table_pages += host_account.allocated[ACCOUNT_TABLE];
	totals->kernel_pages = host_account.allocated[ACCOUNT_BASE] + host_account.allocated[ACCOUNT_FIXED];
	lock_release(&host_account.lock);
	totals->reserved_pages = admission_promised();
	totals->promise_percent = admission_percent();

	lock_acquire(&chunk_lock);
	totals->pages = chunks.pages;
	totals->chunks = chunks.kinds[CHUNK_FREE] + chunks.kinds[CHUNK_LARGE] + chunks.kinds[CHUNK_SPLIT] +
			 chunks.kinds[CHUNK_KERNEL] + chunks.kinds[CHUNK_RETIRED];
	totals->free_chunks = chunks.kinds[CHUNK_FREE];
	totals->large_chunks = chunks.kinds[CHUNK_LARGE];
	totals->split_chunks = chunks.kinds[CHUNK_SPLIT];
	totals->kernel_chunks = chunks.kinds[CHUNK_KERNEL];
	totals->partial_chunks = chunks.ragged;
	totals->zero_chunks = chunks.sets[SET_ZERO];
	totals->shared_pages = chunks.shared_frames;
	totals->duplicate_pages -= min_u64(totals->duplicate_pages, totals->shared_pages);
	totals->retired_pages = chunks.retired_frames;
	totals->record_bytes = chunks.count * sizeof(struct chunk) +
			       (chunks.kinds[CHUNK_SPLIT] + chunks.kinds[CHUNK_KERNEL]) * PAGE_SIZE;
	withheld = chunks.kernel_free + chunk_kernel_headroom() * PAGES_PER_BLOCK;
	/* The frames of frame records. */
	totals->kernel_pages += chunks.kinds[CHUNK_SPLIT] + chunks.kinds[CHUNK_KERNEL];
	lock_release(&chunk_lock);
	in_use = totals->private_pages + totals->shared_pages + totals->table_pages + totals->kernel_pages +
		 totals->retired_pages;
	totals->free_pages = totals->pages > in_use ? totals->pages - in_use : 0;
	totals->guest_pages = totals->free_pages > withheld ? totals->free_pages - withheld : 0;
}

static void describe_record(frame_record record, struct frame_info *info)
{
	enum frame_state state = record_state(record);

	info->state = state == RECORD_HELD ? FRAME_FREE : state;
	if (state == FRAME_PRIVATE || state == FRAME_TABLE)
		info->owner = record_owner(record);
	if (state == FRAME_PRIVATE)
		info->page = record_page(record);
	if (state == FRAME_SHARED)
		info->references = record_references(record);
	info->zero = info->state == FRAME_FREE && (record & RECORD_ZERO);
}

void frame_describe(hpa_t frame, struct frame_info *info)
{
	struct chunk *chunk;
	unsigned index = frame_index(frame);

	*info = (struct frame_info){ .state = FRAME_ABSENT };
	if (frame.v >> BLOCK_SHIFT >= chunks.count)
		return;
	chunk = chunk_of(frame);
	HOLD(&chunk_lock);
	switch (chunk->kind) {
	case CHUNK_FREE:
		info->state = FRAME_FREE;
		info->zero = index < chunk->cleared;
		break;
	case CHUNK_LARGE:
		info->state = chunk->owner == OWNER_HOST ? FRAME_KERNEL : FRAME_PRIVATE;
		info->owner = chunk->owner;
		info->page = gpa((chunk->block + index) << PAGE_SHIFT);
		info->large = true;
		break;
	case CHUNK_SPLIT:
	case CHUNK_KERNEL:
		if (chunk->busy) /* its records are being written: all its frames are still free */
			info->state = FRAME_FREE;
		else
			describe_record(record_load(&chunk->records[index]), info);
		break;
	case CHUNK_RETIRED: info->state = FRAME_RETIRED; break;
	default: break;
	}
}
