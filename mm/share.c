/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared frames: one frame behind equal pages of one group's machines. They lie in chunks of their own, in which no machine's frames
 * are, unless a machine finds none anywhere else; so no private frame stands beside one that another machine reads. A frame's record
 * has its group and its references; it never moves, but its pages may go to another (frame_share_worse); it goes with its last reference (guest_frame_free). Each reference is charged to
 * the machine that holds it, as a frame of its own would be.
 *
 * Invariant, under chunk_lock: the references of all shared frames are the shared_pages of all accounts, but for one that is just changing.
 */
#include "mm/chunk.h"
#include "mm/inject.h"

#define SPARSE (PAGES_PER_BLOCK / 4) /* with so few, a chunk is better empty */

/* Owns the chunks, and nothing is ever charged to it. */
static struct account sharing = { .lock = SPINLOCK(RANK_ACCOUNT, "sharing"), .owner = OWNER_SHARED };

void share_start(void)
{
	sharing.partly_used = NULL;
	accounts[OWNER_SHARED] = &sharing;
}

enum status frame_share_new(struct account *account, unsigned group, hpa_t *frame)
{
	frame_record record = record_shared(1) | (frame_record)group << RECORD_OWNER_SHIFT;
	unsigned dirty = 0;

	panic_unless(group && group <= RECORD_OWNER >> RECORD_OWNER_SHIFT);
	if (mm_fault_injected(MM_SITE_FRAME, account->owner))
		return NO_MEMORY;
	TRY(account_charge_locked(account, ACCOUNT_BASE, 1));
	if (!guest_take_own(&sharing, record, 1, frame, &dirty)) {
		account_uncharge_locked(account, ACCOUNT_BASE, 1);
		return NO_MEMORY;
	}
	HOLD(&chunk_lock);
	record_store(frame_slot(*frame), record); /* not known to be zero for long */
	chunks.shared_frames++;
	account->shared_pages++;
	return OK;
}

/* Under chunk_lock, and of any frame whatever. */
static enum status refer(struct account *account, unsigned group, hpa_t frame)
{
	struct chunk *chunk = chunk_of(frame);
	frame_record *slot;

	if (frame.v >> BLOCK_SHIFT >= chunks.count || chunk->kind != CHUNK_SPLIT || chunk->busy)
		return NOT_FOUND;
	slot = frame_slot(frame);
	if (record_state(record_load(slot)) != FRAME_SHARED || record_owner(record_load(slot)) != group)
		return NOT_FOUND;
	if (record_references(record_load(slot)) >= REFERENCES_TOP)
		return LIMIT;
	record_store(slot, record_load(slot) + RECORD_REFERENCE);
	account->shared_pages++;
	return OK;
}

enum status frame_share_more(struct account *account, unsigned group, hpa_t frame)
{
	enum status status;

	TRY(account_charge_locked(account, ACCOUNT_BASE, 1));
	lock_acquire(&chunk_lock);
	status = refer(account, group, frame);
	lock_release(&chunk_lock);
	if (status != OK)
		account_uncharge_locked(account, ACCOUNT_BASE, 1);
	return status;
}

static bool fuller(const struct chunk *chunk, const struct chunk *than)
{
	return chunk->free != than->free ? chunk->free < than->free : chunk < than;
}

bool frame_share_worse(hpa_t frame, hpa_t other)
{
	struct chunk *chunk = chunk_of(frame), *next;

	HOLD(&chunk_lock);
	if (!hpa_is_none(other))
		return other.v >> BLOCK_SHIFT < chunks.count &&
		       (chunk_of(other) == chunk ? other.v < frame.v : fuller(chunk_of(other), chunk));
	if (chunk->free < PAGES_PER_BLOCK - SPARSE || !sharing.partly_used)
		return false;
	next = chunk->next;
	if (sharing.partly_used == chunk && next && fuller(next, chunk)) {
		chunk_unlist(next);
		chunk_relist(next); /* becomes the first, which gives */
	}
	return fuller(sharing.partly_used, chunk);
}
