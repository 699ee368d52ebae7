/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a page gets a frame of its own: page_own(), for everybody who writes, maps or pins one. Break before make: the zeros
 * or the shared frame that processors see are taken away and flushed before the new frame appears, or two of them could
 * see different pages at one address, an older value after a newer one.
 */
#include <string.h>

#include "pgm/internal.h"

void copy_frame(hpa_t to, hpa_t from)
{
	void *target = frame_map(to), *source = frame_map(from);

	memcpy(target, source, PAGE_SIZE);
	frame_unmap(source);
	frame_unmap(target);
}

enum status page_own_slow(struct pgm *pgm, struct block *b, gpa_t where, struct gather *gather)
{
	page_record *r = page_of(b, where);
	unsigned level;
	hpa_t frame;
	struct pgm_local *l = local_of(pgm);
	enum status status = handy_take(pgm, l, where, &frame);

	if (unlikely(status != OK))
		return status;
	if (b->shadows || slat_present(&pgm->slat, *slat_find_in(&pgm->slat, b->slot, where, &level)))
		page_unmap(pgm, b, where, gather);
	if (unlikely(page_get_state(*r) == PAGE_SHARED)) {
		copy_frame(frame, page_frame(*r));
		gather_frame(gather, page_frame(*r), ACCOUNT_BASE);
		LOCAL_COUNT(l, fusion_broken, 1);
	}
	gather_settle(gather);
	page_give(pgm, l, b, where, frame);
	return OK;
}
