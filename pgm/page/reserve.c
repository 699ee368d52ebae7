/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reserve ("handy pages"): zeroed frames kept ready, so that a fault doesn't wait for the allocator.
 *
 * Accounted in two phases: a frame is charged to the machine when it enters the reserve, and given to its page when it
 * leaves. So a fault that finds a frame here can't fail for want of quota, and the reservation of the base account has
 * room for a full reserve besides all of RAM. Idle CPUs keep it full (handy_top_up); only a fault that finds fewer than
 * HANDY_LOW refills it itself, one batch at a time, so that no fault pays for much clearing.
 */
#include "mm/inject.h"
#include "pgm/internal.h"

_Static_assert(HANDY_LOW + HANDY_REFILL <= HANDY_SIZE, "a refill below the mark always fits");

/* Called with the lock held; gives up quietly: an empty reserve tells by itself. */
static enum status refill(struct pgm *pgm)
{
	struct handy *h = &pgm->handy;
	unsigned room = HANDY_SIZE - h->count, got = 0;
	enum status status;

	if (mm_fault_injected(MM_SITE_HANDY, pgm->account.owner))
		return NO_MEMORY;
	COUNT(pgm, handy_refills);
	status = frame_alloc_many(&pgm->account, room < HANDY_REFILL ? room : HANDY_REFILL, &h->frame[h->count], &got);
	h->count += got;
	return status;
}

enum status handy_take(struct pgm *pgm, gpa_t page, hpa_t *frame)
{
	struct handy *h = &pgm->handy;
	enum status status = OK;

	lock_acquire(&h->lock);
	if (unlikely(h->count < HANDY_LOW))
		status = refill(pgm);
	if (unlikely(!h->count)) {
		lock_release(&h->lock);
		return status;
	}
	*frame = h->frame[--h->count];
	lock_release(&h->lock);
	frame_assign(*frame, page);
	COUNT(pgm, handy_allocs);
	return OK;
}

bool handy_top_up(struct pgm *pgm)
{
	struct handy *h = &pgm->handy;
	unsigned before;
	bool more;

	lock_acquire(&h->lock);
	before = h->count;
	more = before < HANDY_SIZE && refill(pgm) == OK && h->count > before;
	lock_release(&h->lock);
	return more;
}

void handy_drain(struct pgm *pgm, struct gather *gather)
{
	struct handy *h = &pgm->handy;

	lock_acquire(&h->lock);
	while (h->count)
		gather_frame(gather, h->frame[--h->count], ACCOUNT_BASE);
	lock_release(&h->lock);
}
