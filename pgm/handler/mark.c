/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Marks: each page's record carries the severest of all handlers on it (NONE < DISABLED < WRITE < ALL), so that
 * ordinary memory never looks for handlers. The mark is always derived from the store, never counted up and down; only
 * which pages, of those that one handler covers whole, are off or aliased is kept in the records alone.
 *
 * Narrowing drops the table entry, if there is one, and flushes. Widening leaves the entry: it grants less than the record, so the
 * next access faults and is mapped anew. (Dropped without a flush, a later narrowing would find nothing to flush
 * while a CPU still held the old translation.)
 */
#include "pgm/internal.h"

/* A block with records weighs as much as so many without. */
#define HEAVY 64u
#define STEP (4 * HEAVY)

static enum page_handler mark_of_node(const struct handler_node *n, uint64_t page, page_record now)
{
	if (n->kind == HANDLER_KIND_MMIO)
		return (n->off & HANDLER_OFF_WHOLE) && page_is_alias(now) ? HANDLER_DISABLED : HANDLER_NONE;
	if (handler_open_ends(n, page))
		return handler_part_is_off(n, page) ? HANDLER_DISABLED : HANDLER_WRITE;
	if ((n->off & HANDLER_OFF_WHOLE) && page_get_handler(now) == HANDLER_DISABLED)
		return HANDLER_DISABLED;
	return n->kind == HANDLER_KIND_ALL ? HANDLER_ALL : HANDLER_WRITE;
}

page_record handler_expected(struct pgm *pgm, gpa_t page, page_record now)
{
	uint64_t from = page.v, last = page.v + PAGE_SIZE - 1;
	enum page_handler mark = HANDLER_NONE;
	struct handler_node n;

	now.bits &= ~PAGE_HANDLER_SOFTWARE;
	/* Only WRITE handlers share a page, so one that is armed settles it. */
	for (; from <= last && mark < HANDLER_WRITE && handler_next(&pgm->handlers, from, &n) && n.first <= last;
	     from = n.last + 1) {
		mark = (enum page_handler)max_u64(mark, mark_of_node(&n, page.v, now));
		if (n.flags & HANDLER_NOT_IN_HARDWARE)
			now.bits |= PAGE_HANDLER_SOFTWARE;
	}
	if (page_is_alias(now) && mark == HANDLER_NONE) {
		page_set(&now, PAGE_ZERO, hpa(0));
		page_set_type(&now, range_type(pgm, page));
	}
	page_set_handler(&now, mark);
	return now;
}

static void remark_page(struct handler_operation *o, struct block *b, gpa_t page)
{
	page_record *r = page_of(b, page), was = *r, fresh = handler_expected(o->pgm, page, was);
	uint64_t *entry;
	unsigned level;

	if (page_rights(*r) & ~page_rights(fresh)) {
		reverse_drop_page(o->pgm, b, page, &o->gather);
		gather_flush(&o->gather);
	}
	*r = fresh;
	entry = slat_find_in(&o->pgm->slat, b->slot, page, &level);
	if (slat_rights(&o->pgm->slat, __atomic_load_n(entry, __ATOMIC_ACQUIRE)) & ~page_rights(fresh))
		page_unmap(o->pgm, b, page, &o->gather);
	if (page_get_type(was) == PAGE_MMIO2_ALIAS_MMIO &&
	    !page_is_alias(fresh)) /* last: mmio2_access.c relies on it */
		__atomic_fetch_sub(&o->pgm->aliases, 1, __ATOMIC_RELEASE);
}

/* The first block's part of first..end; *next: where the rest begins. Returns what it weighed in *weight. */
static enum status remark(struct handler_operation *o, uint64_t first, uint64_t end, bool make, uint64_t *next,
			  unsigned *weight)
{
	struct block *b = block_find(o->pgm, gpa(first));
	enum status status = !b && make ? block_get(o->pgm, gpa(first), &b) : OK;
	uint64_t stride = b ? BLOCK_SIZE : BIT(DIRECTORY_SHIFT);

	*next = min_u64(end, align_down(first, stride) + stride);
	*weight = 1;
	if (!b)
		return status;
	HOLD_BLOCK(b);
	if (make)
		status = block_make_detailed(o->pgm, b, gpa(first), &o->gather);
	if (status == OK && block_kind(b) == BLOCK_DETAILED) {
		*weight = HEAVY;
		for (uint64_t a = align_down(first, PAGE_SIZE); a < *next; a += PAGE_SIZE)
			remark_page(o, b, gpa(a));
	}
	return status;
}

/* What came goes again, and what went comes back. The marks follow, and this time that can't fail. */
static void undo(struct handler_table *t, struct handler_work *w, enum status status)
{
	handler_change_begin(t);
	handler_take(t, w->in[0].first);
	if (w->goes)
		handler_put(t, &w->out);
	handler_change_end(t);
	w->area[0].first = w->in[0].first;
	w->make = false;
	w->answer = status;
}

enum status handler_marks_step(struct handler_operation *o, struct handler_work *w)
{
	bool mmio = (w->goes ? &w->out : &w->in[0])->kind == HANDLER_KIND_MMIO;
	unsigned done = 0, weight;

	for (unsigned i = 0; i < ARRAY_SIZE(w->area);) {
		uint64_t first = w->area[i].first, next;
		enum status status;

		if (first >= w->area[i].end) {
			i++;
			continue;
		}
		if (done >= STEP)
			return BUSY;
		status = remark(o, first, w->area[i].end, w->make && !i, &next, &weight);
		if (mmio)
			misconfig_remove(o->pgm, first, next - 1);
		w->area[i].first = next;
		if (status != OK)
			undo(&o->pgm->handlers, w, status);
		done += weight;
	}
	return w->answer;
}
