/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MMIO2 regions. A region holds one page record per page: frame, and state MONITORED while the page is
 * clean and tracked, else ALLOCATED. While it's mapped the block's record of the page is the truth, and is copied back
 * when it's unmapped; so dirty bits survive a move.
 *
 * Records come before the range and go after it: no vcpu ever sees the range without its frames.
 */

#include <string.h>

#include "pgm/internal.h"

static uint64_t records_size(const struct mmio2 *m)
{
	return m->pages * sizeof(m->page[0]);
}

static void free_frames(struct pgm *pgm, struct mmio2 *m, uint64_t count)
{
	GATHER(gather, NULL, &pgm->account);
	for (uint64_t i = 0; i < count; i++)
		gather_frame(&gather, page_frame(m->page[i]), ACCOUNT_FIXED);
}

static enum status make_frames(struct pgm *pgm, struct mmio2 *m)
{
	for (uint64_t i = 0; i < m->pages; i++) {
		hpa_t frame;
		enum status status = frame_alloc(&pgm->account, ACCOUNT_FIXED, gpa(0), &frame);

		if (status != OK) {
			free_frames(pgm, m, i);
			return status;
		}
		page_set(&m->page[i], PAGE_ALLOCATED, frame);
		page_set_type(&m->page[i], PAGE_MMIO2);
	}
	return OK;
}

enum status pgm_mmio2_register(struct pgm *pgm, uint64_t size, const char *name, struct mmio2 **out)
{
	struct mmio2 *m;
	enum status status;

	if (!size || !is_aligned(size, PAGE_SIZE) || size > MMIO2_MAX_SIZE)
		return BAD_VALUE;
	m = heap_alloc(sizeof(*m));
	if (!m)
		return NO_MEMORY;
	m->pages = size >> PAGE_SHIFT;
	for (unsigned i = 0; name[i] && i < PGM_NAME - 1; i++)
		m->name[i] = name[i];
	m->page = heap_alloc(records_size(m));
	status = m->page ? quota_grow(pgm, ACCOUNT_FIXED, m->pages) : NO_MEMORY;
	if (status == OK) {
		status = make_frames(pgm, m);
		if (status != OK)
			quota_shrink(pgm, ACCOUNT_FIXED, m->pages);
	}
	if (status != OK) {
		if (m->page)
			heap_free(m->page, records_size(m));
		heap_free(m, sizeof(*m));
		return status;
	}
	m->next = pgm->mmio2;
	pgm->mmio2 = m;
	*out = m;
	return OK;
}

/*
 * One page appears in, or goes from, its block; locked and detailed. A pin is the address's, not the page's: it stays behind,
 * and its owner goes on with the frame, which is the region's as long as that exists.
 */
static void show_page(struct pgm *pgm, struct block *b, gpa_t where, const page_record *from, struct gather *gather)
{
	page_record *r = page_of(b, where);

	page_unmap(pgm, b, where, gather);
	gather_settle(gather); /* of what was shown here before, another CPU may owe the flush */
	r->bits = from->bits | (r->bits & PAGE_PINNED);
	b->flags |= r->bits & PAGE_ALIASED ? BLOCK_ALIASED : 0;
	b->held++;
	__atomic_fetch_sub(&pgm->beside_blocks, 1, __ATOMIC_RELAXED);
	frame_assign(page_frame(*from), where);
	dirty_written(pgm, where);
}

static void hide_page(struct pgm *pgm, struct block *b, gpa_t where, page_record *to, struct gather *gather)
{
	page_record *r = page_of(b, where);

	to->bits = r->bits & ~PAGE_PINNED;
	page_set_handler(to, HANDLER_NONE);
	page_set(r, PAGE_ZERO, hpa(0));
	r->bits &= ~PAGE_WRITTEN;
	page_set_type(r, PAGE_INVALID);
	b->held--;
	__atomic_fetch_add(&pgm->beside_blocks, 1, __ATOMIC_RELAXED);
	page_unmap(pgm, b, where, gather);
	gather_flush(gather);
}

/* A region on its way into its blocks, or out of them. */
struct passage {
	struct mmio2 *m;
	uint64_t base, shown; /* its pages below `shown` (an address) are in their blocks */
	struct gather gather;
};

static enum status show_block(struct pgm *pgm, struct block *b, uint64_t first, uint64_t end, void *context)
{
	struct passage *p = context;
	enum status status = block_make_detailed(pgm, b, gpa(first), &p->gather);

	for (uint64_t a = first; a < end && status == OK; a += PAGE_SIZE)
		show_page(pgm, b, gpa(a), &p->m->page[(a - p->base) >> PAGE_SHIFT], &p->gather);
	p->shown = status == OK ? end : first;
	return status;
}

static enum status hide_block(struct pgm *pgm, struct block *b, uint64_t first, uint64_t end, void *context)
{
	struct passage *p = context;

	for (uint64_t a = first; a < end; a += PAGE_SIZE)
		hide_page(pgm, b, gpa(a), &p->m->page[(a - p->base) >> PAGE_SHIFT], &p->gather);
	return OK;
}

/* Those of its pages that lie below `end`. */
static void hide_pages(struct pgm *pgm, struct mmio2 *m, gpa_t base, uint64_t end)
{
	struct passage p = { .m = m, .base = base.v };

	gather_begin(&p.gather, &pgm->flush, &pgm->account);
	panic_unless(blocks_visit(pgm, base.v, end, hide_block, &p) == OK);
	gather_finish(&p.gather);
}

static uint64_t end_at(const struct mmio2 *m, gpa_t base)
{
	return base.v + (m->pages << PAGE_SHIFT);
}

/* What a region that has left this place, or never came, has left behind: records and tables of nothing. */
static void tidy_up(struct pgm *pgm, const struct mmio2 *m, gpa_t base)
{
	GATHER(gather, &pgm->flush, &pgm->account);
	panic_unless(blocks_visit(pgm, base.v, end_at(m, base), block_drop_records, &gather) == OK);
}

/* Its blocks have descriptors: blocks_make_detailed(). */
static enum status show_pages(struct pgm *pgm, struct mmio2 *m, gpa_t base)
{
	struct passage p = { .m = m, .base = base.v };
	enum status status;

	gather_begin(&p.gather, &pgm->flush, &pgm->account);
	status = blocks_visit(pgm, base.v, end_at(m, base), show_block, &p);
	gather_finish(&p.gather);
	if (status != OK)
		hide_pages(pgm, m, base, p.shown);
	return status;
}

/* Anything but this region itself in the way? */
static bool occupied(struct pgm *pgm, const struct mmio2 *m, uint64_t first, uint64_t last)
{
	struct pgm_range range;

	for (unsigned i = 0; pgm_range_get(pgm, i, &range); i++) {
		bool own = m->mapped && range.base == m->base.v;

		if (!own && first < range.base + range.size && last >= range.base)
			return true;
	}
	return handler_overlaps(&pgm->handlers, first, last, UINT64_MAX);
}

/* Its pages, then its range; on an error nothing of it is there. */
static enum status appear(struct pgm *pgm, struct mmio2 *m, gpa_t base)
{
	enum status status;

	TRY(show_pages(pgm, m, base));
	status = range_add(pgm, base, m->pages << PAGE_SHIFT, PAGE_MMIO2, m->name);
	if (status != OK)
		hide_pages(pgm, m, base, end_at(m, base));
	m->base = base;
	m->mapped = status == OK;
	return status;
}

/* The records stay, for another place in the same block may need them. */
static void leave(struct pgm *pgm, struct mmio2 *m)
{
	range_remove(pgm, m->base);
	hide_pages(pgm, m, m->base, end_at(m, m->base));
	m->mapped = false;
}

enum status pgm_mmio2_map(struct pgm *pgm, struct mmio2 *m, gpa_t base)
{
	uint64_t size = m->pages << PAGE_SHIFT;
	struct pgm_range last;
	gpa_t old = m->base;
	bool moved = m->mapped;
	enum status status;

	if (!is_aligned(base.v, PAGE_SIZE))
		return BAD_VALUE;
	if (base.v >= pgm->directory_count << DIRECTORY_SHIFT ||
	    size > (pgm->directory_count << DIRECTORY_SHIFT) - base.v)
		return BAD_ADDRESS;
	if (occupied(pgm, m, base.v, base.v + size - 1))
		return CONFLICT;
	if (moved && base.v == old.v)
		return OK;
	if (!moved && pgm_range_get(pgm, PGM_MAX_RANGES - 1, &last))
		return LIMIT;
	/* All memory for the new place comes before the region leaves the old one, so that it stays there if there is none. */
	status = blocks_make_detailed(pgm, base.v, base.v + size);
	if (status == OK && moved)
		leave(pgm, m);
	if (status == OK)
		status = appear(pgm, m, base);
	else
		moved = false;
	/* Someone was quicker with a range of his own there, or with taking the empty records away. */
	if (status != OK && moved && appear(pgm, m, old) != OK)
		log_line("pgm: MMIO2 %s has lost its place", m->name);
	if (moved)
		tidy_up(pgm, m, old);
	if (status != OK)
		tidy_up(pgm, m, base);
	return status;
}

void pgm_mmio2_unmap(struct pgm *pgm, struct mmio2 *m)
{
	if (!m->mapped)
		return;
	leave(pgm, m);
	tidy_up(pgm, m, m->base);
}

bool pgm_mmio2_mapped(const struct mmio2 *m, gpa_t *base)
{
	*base = m->base;
	return m->mapped;
}

uint64_t pgm_mmio2_size(const struct mmio2 *m)
{
	return m->pages << PAGE_SHIFT;
}

void pgm_mmio2_deregister(struct pgm *pgm, struct mmio2 *m)
{
	struct mmio2 **link = &pgm->mmio2;

	while (*link != m)
		link = &(*link)->next;
	*link = m->next;
	pgm_mmio2_unmap(pgm, m);
	free_frames(pgm, m, m->pages);
	quota_shrink(pgm, ACCOUNT_FIXED, m->pages);
	heap_free(m->page, records_size(m));
	heap_free(m, sizeof(*m));
}
