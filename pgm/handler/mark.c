/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Marks: each page's record carries the severest of all handlers on it (NONE < DISABLED < WRITE < ALL), so that
 * ordinary memory never looks into the tree. The mark is always derived from the tree, never counted up and
 * down; only "off" and "aliased" of a page that one handler covers whole are kept in the record alone.
 *
 * Narrowing drops the table entry, if there is one, and flushes. Widening leaves the entry: it grants less than the record, so the
 * next access faults and is mapped anew. (Dropped without a flush, a later narrowing would find nothing to flush
 * while a CPU still held the old translation.)
 */
#include "pgm/handler/mark.h"

static enum page_handler implied_mark(const struct handler_type_entry *type)
{
	return type->kind == HANDLER_KIND_ALL ? HANDLER_ALL : HANDLER_WRITE;
}

static enum page_handler mark_of_node(struct pgm *pgm, const struct handler_node *n, uint64_t page, page_record now,
				      bool rearm)
{
	const struct handler_type_entry *type = &pgm->handlers.type[n->type];

	if (type->kind == HANDLER_KIND_MMIO)
		return page_is_alias(now) && !rearm ? HANDLER_DISABLED : HANDLER_NONE;
	if (!handler_covers_page(n, page))
		return handler_edge_is_off(n, page) ? HANDLER_DISABLED : HANDLER_WRITE;
	return page_get_handler(now) == HANDLER_DISABLED && !rearm ? HANDLER_DISABLED : implied_mark(type);
}

page_record handler_expected(struct pgm *pgm, gpa_t page, page_record now, bool rearm)
{
	uint64_t from = page.v, last = page.v + PAGE_SIZE - 1;
	enum page_handler mark = HANDLER_NONE;
	struct pgm_range range;
	struct handler_node n;

	now.bits &= ~PAGE_HANDLER_SOFTWARE;
	/* Only WRITE handlers share a page, so one that is armed settles it. */
	while (from <= last && mark < HANDLER_WRITE && handler_next(&pgm->handlers, from, &n) && n.first <= last) {
		enum page_handler one = mark_of_node(pgm, &n, page.v, now, rearm);

		mark = one > mark ? one : mark;
		if (pgm->handlers.type[n.type].flags & HANDLER_NOT_IN_HARDWARE)
			now.bits |= PAGE_HANDLER_SOFTWARE;
		from = n.last + 1;
	}
	if (page_is_alias(now) && mark == HANDLER_NONE) {
		page_set(&now, PAGE_ZERO, hpa(0));
		page_set_type(&now, pgm_range_find(pgm, page, &range) ? range.type : PAGE_INVALID);
	}
	page_set_handler(&now, mark);
	return now;
}

void handler_slat_follow(struct pgm *pgm, gpa_t page, page_record r, struct gather *gather)
{
	unsigned level;
	uint64_t *entry = slat_find(&pgm->slat, page, &level);

	if (slat_rights(&pgm->slat, __atomic_load_n(entry, __ATOMIC_ACQUIRE)) & ~page_rights(r))
		slat_drop_page(&pgm->slat, NULL, page, gather);
}

static void remark_page(struct handler_operation *o, struct block *b, gpa_t page, bool rearm)
{
	page_record *r = page_of(b, page);
	page_record fresh = handler_expected(o->pgm, page, *r, rearm);

	if (page_rights(*r) & ~page_rights(fresh))
		gather_flush(&o->gather);
	*r = fresh;
	handler_slat_follow(o->pgm, page, fresh, &o->gather);
}

/* The part of first..last in one block, which stays locked for at most 512 pages. */
static enum status remark_block(struct handler_operation *o, struct block *b, uint64_t first, uint64_t last, bool make,
				bool rearm)
{
	enum status status = OK;

	block_lock(b);
	if (make)
		status = block_make_detailed(o->pgm, b, gpa(first), &o->gather);
	for (uint64_t a = first; status == OK && block_kind(b) == BLOCK_DETAILED && a <= last; a += PAGE_SIZE)
		remark_page(o, b, gpa(a), rearm);
	block_unlock(b);
	return status;
}

static enum status remark(struct handler_operation *o, uint64_t first, uint64_t last, bool make, bool rearm)
{
	enum status status = OK;
	uint64_t next;

	for (uint64_t a = align_down(first, PAGE_SIZE); a <= last && status == OK; a = next) {
		struct block *b = block_find(o->pgm, gpa(a));

		next = align_down(a, BLOCK_SIZE) + BLOCK_SIZE;
		if (!b && make)
			status = block_get(o->pgm, gpa(a), &b);
		if (b && status == OK)
			status = remark_block(o, b, a, min_u64(last, next - 1), make, rearm);
	}
	return status;
}

enum status handler_mark(struct handler_operation *o, uint64_t first, uint64_t last)
{
	return remark(o, first, last, true, true);
}

/* Without `make` remark() only visits records that exist, and neither allocates nor fails: the panic is for a broken remark(). */
void handler_remark(struct handler_operation *o, uint64_t first, uint64_t last, bool rearm)
{
	if (remark(o, first, last, false, rearm) != OK)
		panic("marks that need no memory failed");
}

void handler_count_exceptions(struct pgm *pgm, struct handler_node *n)
{
	uint32_t off = 0, aliased = 0;

	for (uint64_t page = align_down(n->first, PAGE_SIZE); page <= n->last; page += PAGE_SIZE) {
		struct block *b = block_find(pgm, gpa(page));

		if (!handler_covers_page(n, page)) {
			off += handler_edge_is_off(n, page);
			continue;
		}
		if (!b) {
			page = align_down(page, BLOCK_SIZE) + BLOCK_SIZE - PAGE_SIZE;
			continue;
		}
		block_lock(b);
		if (block_kind(b) == BLOCK_DETAILED) {
			page_record r = *page_of(b, gpa(page));

			aliased += page_is_alias(r);
			off += !page_is_alias(r) && page_get_handler(r) == HANDLER_DISABLED;
		}
		block_unlock(b);
	}
	n->pages_off = off;
	n->pages_aliased = aliased;
}
