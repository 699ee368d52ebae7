/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reserve ("handy pages"): zeroed frames kept ready, so that a fault doesn't wait for the allocator.
 *
 * Accounted in two phases: a frame is charged to the machine when it enters the reserve, and given to its page when it
 * leaves. So a fault that finds a frame here can't fail for want of quota, and the reservation of the base account has
 * room for a full reserve besides all of RAM. It is refilled with no lock held, for that means clearing: by idle CPUs (pgm_idle_step), and,
 * when it is low, at the end of what took from it (handy_settle). Who finds it empty gets one frame in place.
 */
#include "mm/inject.h"
#include "pgm/internal.h"

_Static_assert(HANDY_LOW + HANDY_REFILL <= HANDY_SIZE, "a refill below the mark always fits");

/* Up to count frames, charged and cleared. Gives up quietly: an empty reserve tells by itself. */
static enum status fetch(struct pgm *pgm, unsigned count, hpa_t *frames, unsigned *got)
{
	*got = 0;
	if (mm_fault_injected(MM_SITE_HANDY, pgm->account.owner))
		return NO_MEMORY;
	return frame_alloc_many(&pgm->account, ACCOUNT_BASE, count, frames, got);
}

enum status handy_take(struct pgm *pgm, gpa_t where, hpa_t *frame)
{
	enum status status;
	unsigned got;

	if (likely(handy_pop(pgm, where, frame)))
		return OK;
	status = fetch(pgm, 1, frame, &got);
	if (status != OK)
		return status;
	frame_assign(*frame, where);
	COUNT(pgm, handy_allocs);
	return OK;
}

static void give_back(struct pgm *pgm, const hpa_t *frames, unsigned count)
{
	struct gather gather;

	gather_begin(&gather, NULL, &pgm->account);
	while (count)
		gather_frame(&gather, frames[--count], ACCOUNT_BASE);
	gather_finish(&gather);
}

bool handy_refill(struct pgm *pgm)
{
	struct handy *h = &pgm->handy;
	hpa_t frames[HANDY_REFILL];
	unsigned got, room;
	bool added = false;

	lock_acquire(&h->lock);
	room = HANDY_SIZE - h->count;
	lock_release(&h->lock);
	if (!room || fetch(pgm, room < HANDY_REFILL ? room : HANDY_REFILL, frames, &got) != OK)
		return false;
	COUNT(pgm, handy_refills);
	lock_acquire(&h->lock);
	for (; got && h->count < HANDY_SIZE; added = true)
		h->frame[h->count++] = frames[--got];
	lock_release(&h->lock);
	give_back(pgm, frames, got); /* another CPU was first */
	return added;
}

void handy_drain(struct pgm *pgm, struct gather *gather)
{
	struct handy *h = &pgm->handy;

	lock_acquire(&h->lock);
	while (h->count)
		gather_frame(gather, h->frame[--h->count], ACCOUNT_BASE);
	lock_release(&h->lock);
}
