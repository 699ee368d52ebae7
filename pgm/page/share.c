/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that share a frame, or turn into zeros again. Nothing is compared or copied for good that somebody may still write: the page's
 * translations go and are flushed first, of the first tables and of what was derived from them, and no other writer passes the
 * block's lock. A page is never fused in place: its content goes to a frame that nobody could ever write.
 * One block's lock at a time: each page is switched under its own.
 *
 * A page that is switched hasn't changed: the dirty log isn't told. page_own() is the way back.
 */
#include <string.h>

#include "lib/hash.h"
#include "pgm/internal.h"

static bool same_content(hpa_t one, hpa_t other)
{
	void *a = frame_map(one), *b = frame_map(other);
	bool same = !memcmp(a, b, PAGE_SIZE);

	frame_unmap(b);
	frame_unmap(a);
	return same;
}

/* Locked. */
static void read_content(hpa_t frame, struct page_sight *sight)
{
	void *bytes = frame_map(frame);

	sight->zero = hash_is_zero(bytes, PAGE_SIZE);
	sight->hash = sight->zero ? 0 : hash_xxh3(bytes, PAGE_SIZE);
	frame_unmap(bytes);
}

/* Nine bits of the content stay in the record: a page that has the same at the next look is quiet. */
static bool seen_again(page_record *r, uint64_t hash)
{
	uint64_t seen = (hash & PAGE_SEEN) | BIT(52);
	bool again = (r->bits & PAGE_SEEN) == seen;

	r->bits = (r->bits & ~PAGE_SEEN) | seen;
	return again;
}

enum status page_look(struct pgm *pgm, gpa_t where, bool shared, struct page_sight *sight)
{
	struct block *b = block_find(pgm, where);
	enum status status = NOT_FOUND;
	page_record r;

	if (!b)
		return NOT_FOUND;
	HOLD_BLOCK(b);
	if (block_kind(b) >= BLOCK_LARGE) {
		r = block_record(b, where);
		status = collapse_page_fit(r) || (shared && page_fit(r, PAGE_SHARED)) ? OK : CONFLICT;
	}
	if (status == OK) {
		*sight = (struct page_sight){ .large = block_kind(b) == BLOCK_LARGE, .shared = HPA_NONE };
		read_content(page_frame(r), sight);
		if (!sight->large)
			sight->quiet = seen_again(page_of(b, where), sight->hash);
		if (page_get_state(r) == PAGE_SHARED) {
			sight->quiet = true;
			sight->shared = page_frame(r);
		}
	}
	return status;
}

enum status page_replace(struct pgm *pgm, struct block *b, gpa_t where, enum page_state state, hpa_t to, bool copy,
			 struct gather *gather, struct gather *old)
{
	page_record *r = page_of(b, where);
	hpa_t from = page_frame(*r);

	page_unmap(pgm, b, where, gather);
	gather_settle(gather);
	if (copy)
		copy_frame(to, from);
	else if (!same_content(to, from))
		return CONFLICT;
	b->flags &= ~(uint32_t)BLOCK_COLLAPSING;
	if (state == PAGE_ZERO) {
		b->held--;
		r->bits &= ~PAGE_WRITTEN;
	}
	page_set(r, state, state == PAGE_ZERO ? hpa(0) : to);
	gather_frame(old, from, ACCOUNT_BASE);
	return OK;
}

/* Locked. A first comparison costs the guest nothing if they differ. */
static enum status share_locked(struct pgm *pgm, struct block *b, gpa_t where, hpa_t with, bool copy,
				struct gather *gather, struct gather *old)
{
	enum page_state state = with.v == pgm_zero_block.v ? PAGE_ZERO : PAGE_SHARED;

	page_record r;

	if (block_kind(b) != BLOCK_DETAILED)
		return CONFLICT;
	r = *page_of(b, where);
	if (!(collapse_page_fit(r) || page_fit(r, PAGE_SHARED)) || !(copy || same_content(with, page_frame(r))))
		return CONFLICT;
	return page_replace(pgm, b, where, state, with, copy, gather, old);
}

enum status page_share(struct pgm *pgm, gpa_t where, hpa_t *with)
{
	struct block *b = block_find(pgm, where);
	bool copy = hpa_is_none(*with), zero = with->v == pgm_zero_block.v;
	enum status status = b ? OK : NOT_FOUND;

	if (b && copy)
		status = frame_share_new(&pgm->account, pgm->config.share_group, with);
	else if (b && !zero)
		status = frame_share_more(&pgm->account, pgm->config.share_group, *with);
	if (status != OK)
		return status;
	GATHER(old, NULL, &pgm->account); /* flushed under the lock, and out of everybody's reach since */
	GATHER(gather, &pgm->flush, &pgm->account);
	HOLD_BLOCK(b);
	status = share_locked(pgm, b, where, *with, copy, &gather, &old);
	if (status != OK && !zero)
		gather_frame(&old, *with, ACCOUNT_BASE); /* the reference */
	return status;
}
