/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single frames for guests: out of split chunks only, never out of a kernel chunk.
 *
 * Where they are looked for: the machine's own partly used chunks; the fullest chunk whose machine
 * is gone, which it adopts; a fresh chunk; and only when no chunk may be had any more, the fullest
 * chunk of another machine. So machines don't mix as long as there is room, and a machine that
 * ends gives back whole chunks.
 *
 * Each account has a small reserve of frames, filled in a batch, so that the common allocation
 * takes the account's own lock and no other. Frames are charged before they are looked for,
 * recorded and cleared after all locks are gone.
 */
#include "mm/chunk.h"
#include "mm/counters.h"
#include "mm/inject.h"

/* An orphan that this machine takes from is its own from now on. */
static struct chunk *adopt(struct account *account)
{
	struct chunk *chunk = chunk_fullest(SET_ORPHAN);

	if (chunk && account->owner != OWNER_HOST) {
		chunk_unlist(chunk);
		if (chunk->free == PAGES_PER_BLOCK)
			chunk_leave_windows(chunk);
		chunk->owner = account->owner;
		chunk_relist(chunk);
	}
	return chunk;
}

static unsigned take_near(struct account *account, unsigned count, hpa_t *frames)
{
	unsigned got = 0;

	lock_acquire(&chunk_lock);
	while (got < count) {
		struct chunk *chunk = account->partly_used;

		if (!chunk)
			chunk = adopt(account);
		if (!chunk)
			break;
		got += chunk_pop_many(chunk, count - got, frames + got);
	}
	lock_release(&chunk_lock);
	return got;
}

static unsigned take_anywhere(unsigned count, hpa_t *frames)
{
	struct chunk *chunk;
	unsigned got = 0;

	lock_acquire(&chunk_lock);
	while (got < count && (chunk = chunk_fullest(SET_OWNED)))
		got += chunk_pop_many(chunk, count - got, frames + got);
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
	lock_acquire(&chunk_lock);
	chunks.dirty_frames += chunk->dirty;
	chunk->busy = false;
	chunk_relist(chunk);
	lock_release(&chunk_lock);
	mm_count(&mm_counters.chunks_split, 1);
	return true;
}

static void put_back(const hpa_t *frames, unsigned count)
{
	if (!count)
		return;
	lock_acquire(&chunk_lock);
	for (unsigned i = 0; i < count; i++)
		chunk_return_frame(frames[i], record_load(frame_slot(frames[i])) & RECORD_ZERO);
	lock_release(&chunk_lock);
}

void guest_reserve_drain(struct account *account)
{
	hpa_t frames[ACCOUNT_RESERVE];
	unsigned count = 0;

	lock_acquire(&account->lock);
	while (account->reserve_count)
		frames[count++] = account->reserve[--account->reserve_count];
	lock_release(&account->lock);
	put_back(frames, count);
}

static void drain_visit(struct account *account, void *context)
{
	(void)context;
	guest_reserve_drain(account);
}

/* Up to count frames, HELD, neither charged nor cleared. No lock may be held. */
static unsigned guest_take(struct account *account, unsigned count, hpa_t *frames)
{
	for (unsigned attempt = 0; attempt < 2; attempt++) {
		unsigned got;

		do {
			got = take_near(account, count, frames);
		} while (!got && guest_grow(account));
		if (!got)
			got = take_anywhere(count, frames);
		if (got)
			return got;
		account_each(drain_visit, NULL);
		mm_count(&mm_counters.reserve_drains, 1);
	}
	mm_count(&mm_counters.frames_refused, 1);
	return 0;
}

/* One frame for the caller, the rest of a batch for the account's reserve. */
static bool refill(struct account *account, hpa_t *frame)
{
	hpa_t batch[ACCOUNT_RESERVE];
	/* The host takes few frames, and nobody would ever drain its reserve. */
	unsigned got = guest_take(account, account->owner == OWNER_HOST ? 1 : ACCOUNT_RESERVE, batch);

	if (!got)
		return false;
	*frame = batch[--got];
	lock_acquire(&account->lock);
	while (got && account->reserve_count < ACCOUNT_RESERVE)
		account->reserve[account->reserve_count++] = batch[--got];
	lock_release(&account->lock);
	put_back(batch, got);
	mm_count(&mm_counters.reserve_refills, 1);
	return true;
}

/* The frame is ours alone: writes its record, clears it if need be. */
static inline void hand_out(hpa_t frame, frame_record record)
{
	frame_record *slot = frame_slot(frame);
	bool zero = record_load(slot) & RECORD_ZERO;

	record_store(slot, record);
	if (!zero) {
		frame_clear(frame);
		mm_count(&mm_counters.frames_cleared, 1);
	}
}

enum status frame_alloc(struct account *account, enum account_kind kind, gpa_t page, hpa_t *frame)
{
	if (mm_fault_injected(MM_SITE_FRAME, account->owner))
		return NO_MEMORY;
	lock_acquire(&account->lock);
	if (unlikely(!account_charge(account, kind, 1))) {
		lock_release(&account->lock);
		return OVER_QUOTA;
	}
	if (likely(account->reserve_count)) {
		*frame = account->reserve[--account->reserve_count];
		lock_release(&account->lock);
	} else {
		lock_release(&account->lock);
		if (!refill(account, frame)) {
			account_uncharge_locked(account, kind, 1);
			return NO_MEMORY;
		}
	}
	hand_out(*frame, record_private(account->owner, kind, page));
	return OK;
}

enum status frame_alloc_many(struct account *account, unsigned count, hpa_t *frames, unsigned *got)
{
	enum status status;

	*got = 0;
	if (mm_fault_injected(MM_SITE_FRAME, account->owner))
		return NO_MEMORY;
	/* Near the end of the quota fewer come. */
	for (status = account_charge_locked(account, ACCOUNT_BASE, count); status != OK && count > 1;) {
		count /= 2;
		status = account_charge_locked(account, ACCOUNT_BASE, count);
	}
	if (status != OK)
		return status;
	while (*got < count) {
		unsigned more = guest_take(account, count - *got, frames + *got);

		if (!more)
			break;
		*got += more;
	}
	if (*got < count)
		account_uncharge_locked(account, ACCOUNT_BASE, count - *got);
	for (unsigned i = 0; i < *got; i++)
		hand_out(frames[i], record_private(account->owner, ACCOUNT_BASE, PAGE_UNASSIGNED));
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
			record_store(slot, record_shared(references - 1));
			return;
		}
		chunks.shared_frames--;
	} else {
		panic_unless(record_state(record) == FRAME_PRIVATE);
		panic_unless(record_owner(record) == account->owner && record_kind(record) == kind);
	}
	chunk_return_frame(frame, false);
}
