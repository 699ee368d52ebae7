/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MMIO2 regions. A region holds one page record per page: frame, and state MONITORED while the page is
 * clean and tracked, else ALLOCATED (the machine's dirty log may watch it besides: mmio2_is_dirty()). While it's mapped the block's record of the page is the truth, and is copied back
 * when it's unmapped; so dirty bits survive a move.
 *
 * Records come before the range and go after it: no vcpu ever sees the range without its frames.
 */
#include "pgm/range/mmio2.h"

#include <string.h>

#include "pgm/internal.h"

static uint64_t records_size(const struct mmio2 *m)
{
	return m->capacity * sizeof(m->page[0]);
}

/* A level-0 table and a frame of records for each block it can touch, wherever it lies. */
static uint64_t table_pages(uint64_t pages)
{
	return 2 * (pages / PAGES_PER_BLOCK + 2);
}

static void free_frames(struct pgm *pgm, struct mmio2 *m, uint64_t from, uint64_t to)
{
	struct gather gather;

	gather_begin(&gather, NULL, &pgm->account);
	for (uint64_t i = from; i < to; i++)
		gather_frame(&gather, page_frame(m->page[i]), ACCOUNT_FIXED);
	gather_finish(&gather);
}

static enum status make_frames(struct pgm *pgm, struct mmio2 *m)
{
	for (uint64_t i = 0; i < m->pages; i++) {
		hpa_t frame;
		enum status status = frame_alloc(&pgm->account, ACCOUNT_FIXED, gpa(0), &frame);

		if (status != OK) {
			free_frames(pgm, m, 0, i);
			return status;
		}
		page_set(&m->page[i], PAGE_ALLOCATED, frame);
		page_set_type(&m->page[i], PAGE_MMIO2);
	}
	return OK;
}

static void unreserve(struct pgm *pgm, uint64_t pages, uint64_t tables)
{
	quota_return(pgm, ACCOUNT_FIXED, pages);
	quota_return(pgm, ACCOUNT_TABLE, tables);
}

static enum status reserve(struct pgm *pgm, uint64_t pages, uint64_t tables)
{
	enum status status = account_adjust(&pgm->account, ACCOUNT_FIXED, (int64_t)pages);

	if (status != OK)
		return status;
	status = account_adjust(&pgm->account, ACCOUNT_TABLE, (int64_t)tables);
	if (status != OK)
		quota_return(pgm, ACCOUNT_FIXED, pages);
	return status;
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
	m->pages = m->capacity = size >> PAGE_SHIFT;
	for (unsigned i = 0; name[i] && i < PGM_NAME - 1; i++)
		m->name[i] = name[i];
	m->page = heap_alloc(records_size(m));
	status = m->page ? reserve(pgm, m->pages, table_pages(m->pages)) : NO_MEMORY;
	if (status == OK) {
		status = make_frames(pgm, m);
		if (status != OK)
			unreserve(pgm, m->pages, table_pages(m->pages));
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

	slat_drop_page(&pgm->slat, b->slot, where, gather);
	gather_settle(gather); /* of what was shown here before, another CPU may owe the flush */
	r->bits = from->bits | (r->bits & PAGE_PINNED);
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
	slat_drop_page(&pgm->slat, b->slot, where, gather);
	gather_flush(gather);
}

static void hide_pages(struct pgm *pgm, struct mmio2 *m, gpa_t base, uint64_t count)
{
	struct gather gather;

	gather_begin(&gather, &pgm->flush, &pgm->account);
	for (uint64_t i = 0; i < count; i++) {
		gpa_t where = gpa(base.v + (i << PAGE_SHIFT));
		struct block *b = block_find(pgm, where);

		block_lock(b);
		hide_page(pgm, b, where, &m->page[i], &gather);
		block_unlock(b);
	}
	gather_finish(&gather);
}

static enum status show_pages(struct pgm *pgm, struct mmio2 *m, gpa_t base)
{
	enum status status = OK;
	struct gather gather;
	uint64_t done = 0;

	gather_begin(&gather, &pgm->flush, &pgm->account);
	for (; done < m->pages && status == OK; done += status == OK) {
		gpa_t where = gpa(base.v + (done << PAGE_SHIFT));
		struct block *b;

		status = block_get(pgm, where, &b);
		if (status != OK)
			break;
		block_lock(b);
		status = block_make_detailed(pgm, b, where, &gather);
		if (status == OK)
			show_page(pgm, b, where, &m->page[done], &gather);
		block_unlock(b);
	}
	gather_finish(&gather);
	if (status != OK)
		hide_pages(pgm, m, base, done);
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
	enum status status = show_pages(pgm, m, base);

	if (status != OK)
		return status;
	status = range_add(pgm, base, m->pages << PAGE_SHIFT, PAGE_MMIO2, m->name);
	if (status != OK)
		hide_pages(pgm, m, base, m->pages);
	m->base = base;
	m->mapped = status == OK;
	return status;
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
	if (status != OK)
		return status;
	if (moved)
		pgm_mmio2_unmap(pgm, m);
	status = appear(pgm, m, base);
	/* Someone was quicker with a range of his own there, or with taking the empty records away. */
	if (status != OK && moved && appear(pgm, m, old) != OK)
		log_line("pgm: MMIO2 %s has lost its place", m->name);
	return status;
}

void pgm_mmio2_unmap(struct pgm *pgm, struct mmio2 *m)
{
	if (!m->mapped)
		return;
	range_remove(pgm, m->base);
	hide_pages(pgm, m, m->base, m->pages);
	m->mapped = false;
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

enum status pgm_mmio2_reduce(struct pgm *pgm, struct mmio2 *m, uint64_t size)
{
	uint64_t pages = size >> PAGE_SHIFT, before = m->pages;

	if (!size || !is_aligned(size, PAGE_SIZE) || pages > m->pages)
		return BAD_VALUE;
	if (m->mapped)
		return BUSY;
	free_frames(pgm, m, pages, m->pages);
	m->pages = pages;
	unreserve(pgm, before - pages, table_pages(before) - table_pages(pages));
	return OK;
}

void pgm_mmio2_deregister(struct pgm *pgm, struct mmio2 *m)
{
	struct mmio2 **link = &pgm->mmio2;

	while (*link != m)
		link = &(*link)->next;
	*link = m->next;
	pgm_mmio2_unmap(pgm, m);
	free_frames(pgm, m, 0, m->pages);
	unreserve(pgm, m->pages, table_pages(m->pages));
	heap_free(m->page, records_size(m));
	heap_free(m, sizeof(*m));
}
