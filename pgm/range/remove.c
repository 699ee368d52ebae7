/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking a range of RAM away while vcpus run, in bounded steps.
 *
 * First the range leaves the table, so whoever looks from now on (always under the block's lock) finds nothing there. Then block by block
 * the records and translations go, and the frames follow after the flush. A vcpu that held a block's lock before us is
 * seen by what it left in the record; so nothing of the range survives its block's turn.
 */
#include "pgm/internal.h"

#define EMPTY_BLOCKS 256u /* looked at in one step */

bool removal_covers(const struct pgm *pgm, gpa_t where)
{
	const struct removal *m = &pgm->removal;

	return m->active && where.v - m->base < m->size;
}

static enum status begin(struct pgm *pgm, gpa_t base)
{
	struct pgm_range r;

	HOLD(&pgm->handlers.lock); /* no handler comes between the look and the removal */
	HOLD(&pgm->lock);
	if (!pgm_range_find(pgm, base, &r) || r.base != base.v)
		return NOT_FOUND;
	if (r.type != PAGE_RAM)
		return NOT_SUPPORTED;
	if (handler_overlaps(&pgm->handlers, r.base, r.base + r.size - 1, UINT64_MAX))
		return CONFLICT;
	pgm->removal = (struct removal){ .active = true, .base = r.base, .size = r.size, .cursor = r.base };
	range_take_out(&pgm->ranges, base);
	(void)__atomic_fetch_sub(&pgm->config.ram, r.size, __ATOMIC_RELAXED);
	return OK;
}

/* Locked, detailed: pages first..end lose their frames. BUSY: one is pinned. */
static enum status clear_pages(struct pgm *pgm, struct block *b, uint64_t first, uint64_t end, struct gather *gather)
{
	enum status status = OK;

	b->flags &= ~(uint32_t)BLOCK_COLLAPSING;
	for (uint64_t a = first; a < end; a += PAGE_SIZE) {
		page_record *r = page_of(b, gpa(a));

		if (r->bits & PAGE_PINNED) {
			status = BUSY;
			continue;
		}
		page_unmap(pgm, b, gpa(a), gather);
		if (page_owns_frame(*r)) {
			b->held--;
			gather_frame(gather, page_frame(*r), ACCOUNT_BASE);
		}
		if (page_get_state(*r) == PAGE_BALLOONED)
			balloon_shrunk(pgm, b, 1);
		r->bits = 0;
	}
	return status;
}

enum status block_drop_records(struct pgm *pgm, struct block *b, uint64_t first, uint64_t end, void *gather)
{
	if (block_kind(b) != BLOCK_DETAILED)
		return OK;
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		if (block_records(b)[i].bits)
			return OK;
	block_unmap(pgm, b, gpa(first), gather);
	gather_frame(gather, block_address(b), ACCOUNT_TABLE);
	block_set(b, BLOCK_UNTOUCHED, hpa(0));
	b->flags = 0;
	return OK;
}

/* Locked. */
static enum status clear_block(struct pgm *pgm, struct block *b, uint64_t first, uint64_t end, struct gather *gather)
{
	gpa_t base = gpa(align_down(first, BLOCK_SIZE));
	enum status status = OK;

	if (block_kind(b) == BLOCK_LARGE) { /* a large block lies in one range, so all of it goes */
		block_unmap(pgm, b, base, gather);
		gather_block(gather, block_address(b));
		block_set(b, BLOCK_UNTOUCHED, hpa(0));
		b->flags = 0;
	} else if (block_kind(b) == BLOCK_DETAILED) {
		status = clear_pages(pgm, b, first, end, gather);
		if (status == OK)
			status = block_drop_records(pgm, b, first, end, gather);
	} else {
		block_unmap(pgm, b, base, gather);
		balloon_shrunk(pgm, b, b->ballooned);
		block_set(b, BLOCK_UNTOUCHED, hpa(0));
	}
	return status;
}

/* One block's turn; *heavy: it had something in it. */
static enum status remove_block(struct pgm *pgm, bool *heavy)
{
	struct removal *m = &pgm->removal;
	uint64_t first = m->cursor;
	uint64_t end = min_u64(m->base + m->size, align_down(first, BLOCK_SIZE) + BLOCK_SIZE);
	struct block *b = block_find(pgm, gpa(first));

	if (!b) { /* nothing in these 256 MiB was ever touched, nor mapped */
		m->cursor = min_u64(m->base + m->size, align_down(first, BIT(DIRECTORY_SHIFT)) + BIT(DIRECTORY_SHIFT));
		return OK;
	}
	GATHER(gather, &pgm->flush, &pgm->account);
	HOLD_BLOCK(b);
	*heavy = block_kind(b) != BLOCK_UNTOUCHED;
	TRY(clear_block(pgm, b, first, end, &gather));
	m->cursor = end;
	return OK;
}

/* At worst a level-0 table and a frame of records for each block that so many pages can touch. */
static uint64_t tables_for(uint64_t pages)
{
	return (pages / PAGES_PER_BLOCK + 2) * 2;
}

enum status quota_grow(struct pgm *pgm, enum account_kind kind, uint64_t pages)
{
	enum status status;

	TRY(account_adjust(&pgm->account, kind, (int64_t)pages));
	status = account_adjust(&pgm->account, ACCOUNT_TABLE, (int64_t)tables_for(pages));
	if (status != OK)
		quota_return(pgm, kind, pages);
	return status;
}

void quota_return(struct pgm *pgm, enum account_kind kind, uint64_t pages)
{
	enum status status = account_adjust(&pgm->account, kind, -(int64_t)pages);

	/* Something holds more than what would be left: the machine keeps the larger quota. Of tables that is to be expected. */
	if (status != OK && kind != ACCOUNT_TABLE)
		log_line(LOG_ERROR "pgm: the quota stays as it is: %s", status_text(status));
}

void quota_shrink(struct pgm *pgm, enum account_kind kind, uint64_t pages)
{
	quota_return(pgm, kind, pages);
	quota_return(pgm, ACCOUNT_TABLE, tables_for(pages));
}

static enum status finish(struct pgm *pgm)
{
	struct removal *m = &pgm->removal;

	quota_shrink(pgm, ACCOUNT_BASE, m->size >> PAGE_SHIFT);
	HOLD(&pgm->lock);
	m->active = false;
	return OK;
}

enum status pgm_remove_range_step(struct pgm *pgm, gpa_t base)
{
	struct removal *m = &pgm->removal;
	enum status status = OK;
	bool heavy = false;

	if (!m->active) {
		status = begin(pgm, base);
		return status == OK ? BUSY : status;
	}
	if (m->base != base.v)
		return CONFLICT;
	for (unsigned i = 0; i < EMPTY_BLOCKS && m->cursor < m->base + m->size && status == OK && !heavy; i++)
		status = remove_block(pgm, &heavy);
	return status != OK || m->cursor < m->base + m->size ? BUSY : finish(pgm);
}
