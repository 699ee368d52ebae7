/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that change their frames for the host's sake: out of a chunk that is to become whole, or off memory that begins to fail. Content, rights
 * and logs stay as they are. What has a handler or a pin, or isn't plain private RAM, stays where it is.
 *
 * Pages of one block are unmapped together, so that one flush serves them all; then each is given its new frame by page_replace().
 */
#include "mm/compact.h"
#include "pgm/internal.h"

#define MOVE_PAGES 16u
#define UNASSIGNED(place) ((place).page.v >= PGM_MAX_GPA)

/* Locked. */
static bool movable(struct block *b, const struct frame_place *p)
{
	return block_kind(b) == BLOCK_DETAILED && page_frame(*page_of(b, p->page)).v == p->frame.v &&
	       collapse_page_fit(*page_of(b, p->page));
}

static bool all_movable(struct pgm *pgm, const struct frame_place *places, unsigned count)
{
	struct block *b = block_find(pgm, places[0].page);
	bool all = b;

	if (!b || UNASSIGNED(places[0]))
		return UNASSIGNED(places[0]);
	HOLD_BLOCK(b);
	for (unsigned i = 0; i < count && all; i++)
		all = movable(b, &places[i]);
	return all;
}

/* Locked. Frames that weren't wanted go to `old`. */
static unsigned move_locked(struct pgm *pgm, struct block *b, const struct frame_place *places, const hpa_t *to,
			    unsigned count, struct gather *gather, struct gather *old)
{
	unsigned moved = 0;

	for (unsigned i = 0; i < count; i++)
		if (movable(b, &places[i]))
			page_unmap(pgm, b, places[i].page, gather);
	for (unsigned i = 0; i < count; i++) {
		if (movable(b, &places[i]) &&
		    page_replace(pgm, b, places[i].page, PAGE_ALLOCATED, to[i], true, gather, old) == OK)
			moved++;
		else
			gather_frame(old, to[i], ACCOUNT_BASE);
	}
	COUNT_BY(pgm, moved, moved);
	return moved;
}

/* Pages of one block. near: not for a fresh chunk; else for a large page's split, too. CONFLICT: one of them stays. */
static enum status move(struct pgm *pgm, const struct frame_place *places, unsigned count, bool near)
{
	struct block *b = block_find(pgm, places[0].page);
	enum status status = b ? OK : CONFLICT;
	unsigned got = 0;
	hpa_t to[MOVE_PAGES];

	for (; got < count && status == OK; got += status == OK)
		status = near ? frame_alloc_near(&pgm->account, places[got].page, &to[got])
			      : frame_alloc(&pgm->account, ACCOUNT_BASE, places[got].page, &to[got]);
	if (!got)
		return status;
	GATHER(old, NULL, &pgm->account); /* flushed under the lock, or never mapped */
	GATHER(gather, &pgm->flush, &pgm->account);
	HOLD_BLOCK(b);
	if (!near && status == OK && block_kind(b) == BLOCK_LARGE)
		status = block_make_detailed(pgm, b, places[0].page, &gather);
	if (move_locked(pgm, b, places, to, got, &gather, &old) < count && status == OK)
		return CONFLICT;
	return status;
}

enum status pgm_move_step(struct pgm *pgm, hpa_t block, unsigned *index, bool look, unsigned *pages)
{
	struct frame_place places[MOVE_PAGES];
	unsigned count = compact_frames(&pgm->account, block, index, places, MOVE_PAGES);
	enum status status = BUSY;

	*pages += count;
	if (!count)
		return OK;
	if (look)
		return all_movable(pgm, places, count) ? BUSY : CONFLICT;
	if (UNASSIGNED(places[0])) {
		GATHER(gather, NULL, &pgm->account);
		handy_drain(pgm, block, &gather);
	} else {
		status = move(pgm, places, count, true);
	}
	return status == OK ? BUSY : status;
}

enum status pgm_leave_frame(struct pgm *pgm, gpa_t page, hpa_t frame)
{
	return move(pgm, &(struct frame_place){ frame, page }, 1, false);
}
