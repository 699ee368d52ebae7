/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reserve ("handy pages"): zeroed frames kept ready, so that a fault doesn't wait for the
 * allocator. Refilled in small batches, so that no fault pays for much clearing.
 */
#include "pgm/internal.h"

/* Called with the lock held; gives up quietly: an empty reserve tells by itself. */
static enum status refill(struct pgm *pgm)
{
	struct handy *h = &pgm->handy;
	unsigned got = 0;
	enum status status;

	COUNT(pgm, handy_refills);
	status = frame_alloc_many(&pgm->account, HANDY_REFILL, &h->frame[h->count], &got);
	h->count += got;
	return status;
}

enum status handy_take(struct pgm *pgm, gpa_t page, hpa_t *frame)
{
	struct handy *h = &pgm->handy;
	enum status status = OK;

	lock_acquire(&h->lock);
	if (h->count < HANDY_LOW)
		status = refill(pgm);
	if (h->count) {
		*frame = h->frame[--h->count];
		status = OK;
	}
	lock_release(&h->lock);
	if (status != OK)
		return status;
	frame_assign(*frame, page);
	COUNT(pgm, handy_allocs);
	return OK;
}

void handy_drain(struct pgm *pgm, struct gather *gather)
{
	struct handy *h = &pgm->handy;

	lock_acquire(&h->lock);
	while (h->count)
		gather_frame(gather, h->frame[--h->count], ACCOUNT_BASE);
	lock_release(&h->lock);
}
