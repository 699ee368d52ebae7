/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single frames for guests: out of split chunks only, never out of a kernel chunk.
 *
 * Where they are looked for: the machine's own partly used chunks; the fullest chunk whose machine
 * is gone, which it adopts; a fresh chunk; and only when no chunk may be had any more, the fullest
 * chunk of another machine. So machines don't mix as long as there is room, and a machine that
 * ends gives back whole chunks.
 *
 * Frames come in batches: charged before they are looked for, taken and recorded under the chunk lock in one go, cleared after all locks
 * are gone.
 */
#include "mm/chunk.h"
#include "mm/compact.h"
#include "mm/counters.h"
#include "mm/inject.h"

/* An orphan that this machine takes from is its own from now on. Shared frames stand beside nobody's. */
static struct chunk *adopt(struct account *account)
{
	struct chunk *chunk = chunk_fullest(SET_ORPHAN);

	if (chunk && account->owner == OWNER_SHARED && chunk->free < PAGES_PER_BLOCK)
		return NULL;
	if (chunk && account->owner != OWNER_HOST) {
		chunk_unlist(chunk);
		if (chunk->free == PAGES_PER_BLOCK)
			chunk_leave_windows(chunk);
		chunk->owner = account->owner;
		chunk_relist(chunk);
	}
	return chunk;
}

static unsigned take_near(struct account *account, frame_record record, unsigned count, hpa_t *frames, unsigned *dirty)
{
	unsigned got = 0;

	HOLD(&chunk_lock);
	while (got < count) {
		struct chunk *chunk = account->partly_used;

		if (!chunk)
			chunk = adopt(account);
		if (!chunk)
			break;
		got += chunk_pop_many(chunk, record, count - got, frames + got, dirty);
	}
	return got;
}

/* A chunk of any machine's that has a free frame; at last one of shared frames. Under chunk_lock. */
static struct chunk *anybodys(void)
{
	for (unsigned i = 1; i < MAX_OWNERS && chunks.sets[SET_OWNED]; i++)
		if (accounts[i] && accounts[i]->partly_used)
			return accounts[i]->partly_used;
	return NULL;
}

static unsigned take_anywhere(frame_record record, unsigned count, hpa_t *frames, unsigned *dirty)
{
	struct chunk *chunk;
	unsigned got = 0;

	lock_acquire(&chunk_lock);
	while (got < count && (chunk = anybodys()))
		got += chunk_pop_many(chunk, record, count - got, frames + got, dirty);
	lock_release(&chunk_lock);
	mm_count(&mm_counters.frames_mixed, got);
	return got;
}

/* Cuts a fresh chunk for this machine. False: none may be had, or no frame for its records. */
static bool guest_grow(struct account *account)
{
	struct chunk *chunk;
	hpa_t records;

	if (mm_fault_injected(MM_SITE_CHUNK, account->owner) || !kernel_frame_take(record_kernel(0), &records))
		return false;
	chunk = chunk_claim(account->owner, CHUNK_SPLIT, gpa(0));
	if (!chunk) {
		kernel_frame_put(records);
		return false;
	}
	chunk_fill_records(chunk, direct_pointer(records), chunk->cleared);
	HOLD(&chunk_lock);
	chunks.dirty_frames += chunk->dirty;
	chunk->busy = false;
	chunk_relist(chunk);
	mm_count(&mm_counters.chunks_split, 1);
	return true;
}

unsigned guest_take_own(struct account *account, frame_record record, unsigned count, hpa_t *frames, unsigned *dirty)
{
	unsigned got;

	do {
		got = take_near(account, record, count, frames, dirty);
	} while (!got && guest_grow(account));
	return got;
}

/* Up to count frames, recorded, neither charged nor cleared. No lock may be held. */
static unsigned guest_take(struct account *account, frame_record record, unsigned count, hpa_t *frames, unsigned *dirty)
{
	unsigned got = guest_take_own(account, record, count, frames, dirty);

	return got ? got : take_anywhere(record, count, frames, dirty);
}

enum status frame_alloc(struct account *account, enum account_kind kind, gpa_t page, hpa_t *frame)
{
	unsigned got;
	enum status status = frame_alloc_many(account, kind, 1, frame, &got);

	if (status == OK)
		frame_assign(*frame, page);
	return status;
}

enum status frame_alloc_near(struct account *account, gpa_t page, hpa_t *frame)
{
	enum status status = account_charge_locked(account, ACCOUNT_BASE, 1);
	unsigned dirty = 0;
	bool in_use;

	if (status != OK)
		return status;
	lock_acquire(&chunk_lock);
	in_use = account->partly_used != NULL;
	lock_release(&chunk_lock);
	if (in_use && !mm_fault_injected(MM_SITE_FRAME, account->owner) &&
	    take_near(account, record_private(account->owner, ACCOUNT_BASE, PAGE_UNASSIGNED), 1, frame, &dirty)) {
		frame_assign(*frame, page);
		return OK;
	}
	account_uncharge_locked(account, ACCOUNT_BASE, 1);
	return NO_MEMORY;
}

static void clear_dirty(const hpa_t *frames, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (!(record_load(frame_slot(frames[i])) & RECORD_ZERO))
			frame_clear(frames[i]);
}

enum status frame_alloc_many(struct account *account, enum account_kind kind, unsigned count, hpa_t *frames,
			     unsigned *got)
{
	frame_record record = record_private(account->owner, kind, PAGE_UNASSIGNED);
	unsigned more = 1, dirty = 0;
	enum status status;

	*got = 0;
	if (mm_fault_injected(MM_SITE_FRAME, account->owner))
		return NO_MEMORY;
	/* Near the end of the quota fewer come. */
	for (status = account_charge_locked(account, kind, count); status != OK && count > 1;) {
		count /= 2;
		status = account_charge_locked(account, kind, count);
	}
	if (status != OK)
		return status;
	for (; *got < count && more; *got += more)
		more = guest_take(account, record, count - *got, frames + *got, &dirty);
	if (*got < count)
		account_uncharge_locked(account, kind, count - *got);
	if (dirty) {
		clear_dirty(frames, *got);
		mm_count(&mm_counters.frames_cleared, dirty);
	}
	if (!*got)
		mm_count(&mm_counters.frames_refused, 1);
	return *got ? OK : NO_MEMORY;
}

void frame_assign(hpa_t frame, gpa_t page)
{
	frame_record *slot = frame_slot(frame);
	frame_record record = record_load(slot);

	panic_unless(record_state(record) == FRAME_PRIVATE);
	record_store(slot, record_private(record_owner(record), record_kind(record), page));
}

void guest_frame_free(struct account *account, hpa_t frame, enum account_kind kind)
{
	frame_record *slot = frame_slot(frame);
	frame_record record = record_load(slot);

	if (record_state(record) == FRAME_SHARED) {
		uint32_t references = record_references(record);

		panic_unless(references != 0);
		__atomic_fetch_sub(&account->shared_pages, 1, __ATOMIC_RELAXED);
		if (references > 1) {
			record_store(slot, record - RECORD_REFERENCE);
			return;
		}
		chunks.shared_frames--;
	} else {
		panic_unless(record_state(record) == FRAME_PRIVATE);
		panic_unless(record_owner(record) == account->owner && record_kind(record) == kind);
	}
	chunk_return_frame(frame, false);
}
