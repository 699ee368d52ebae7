/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on access handlers. Each looks at its handler under the lock, says what goes out of the store and what
 * comes in and whose marks must follow, and leaves the rest to handler_end(): lookups see the store before or after,
 * never between; then come the marks, then, with nothing held, the flush: when it returns no CPU has the
 * wider translation any more. One that takes something away from a callback waits, after that, until no call that
 * began before is in progress.
 *
 * Marks of more than a few blocks follow in steps (pgm_handlers_step): one operation at a time has them outstanding.
 */
#include "pgm/internal.h"

#define SMALL (8 * MIB) /* a device's handler below this never leaves marks to do */

enum status handler_begin(struct handler_operation *o, struct pgm *pgm, bool outside)
{
	struct handler_calls *calls = &pgm->handlers.calls[cpu_index()];

	o->pgm = pgm;
	o->outside = outside;
	o->work = (struct handler_work){ .answer = OK };
	o->node = (struct handler_node){ 0 };
	o->held = !calls->holds_lock && !(outside && calls->depth);
	if (!o->held)
		return BAD_STATE;
	gather_begin(&o->gather, &pgm->flush, &pgm->account);
	lock_acquire(&pgm->handlers.lock);
	return OK;
}

/* One operation at a time has marks to do: meanwhile none may begin that could have any itself. */
static enum status may_begin(const struct pgm *pgm, const struct handler_node *n)
{
	bool few = n->kind == HANDLER_KIND_MMIO && n->last - n->first < SMALL;

	return pgm->handlers.pending && !few ? BAD_STATE : OK;
}

enum status handler_begin_at(struct handler_operation *o, struct pgm *pgm, gpa_t first, bool outside)
{
	TRY(handler_begin(o, pgm, outside));
	if (!handler_find(&pgm->handlers, first.v, &o->node) || o->node.first != first.v)
		return NOT_FOUND;
	return may_begin(pgm, &o->node);
}

enum status handler_end(struct handler_operation *o, enum status status)
{
	struct handler_table *t = &o->pgm->handlers;
	struct handler_work *w = &o->work;

	if (!o->held)
		return status;
	if (status == OK && (w->goes || w->comes)) {
		handler_change_begin(t);
		if (w->goes)
			handler_take(t, w->out.first);
		for (unsigned i = 0; i < w->comes; i++)
			handler_put(t, &w->in[i]);
		handler_change_end(t);
		status = handler_marks_step(o, w);
		if (status == BUSY) {
			t->work = *w;
			t->pending = true;
		}
	}
	lock_release(&t->lock);
	gather_finish(&o->gather);
	if (o->outside && (status == OK || status == BUSY))
		handler_wait_quiet(t);
	return status;
}

enum status pgm_handlers_step(struct pgm *pgm)
{
	struct handler_table *t = &pgm->handlers;
	struct handler_operation o;
	enum status status = handler_begin(&o, pgm, false);

	if (status == OK && t->pending) {
		status = handler_marks_step(&o, &t->work);
		t->pending = status == BUSY;
	}
	return handler_end(&o, status);
}

/* Is there memory anywhere in first..last, and of one range all over it? */
static void memory_below(struct pgm *pgm, uint64_t first, uint64_t last, bool *any, bool *all)
{
	struct pgm_range r;
	uint64_t generation;

	do {
		generation = ranges_begin(pgm);
		*any = *all = false;
		for (unsigned i = 0; pgm_range_get(pgm, i, &r); i++) {
			bool meets = r.type != PAGE_MMIO && first < r.base + r.size && last >= r.base;

			*any |= meets;
			*all |= meets && first >= r.base && last - r.base < r.size;
		}
	} while (ranges_changed(pgm, generation));
}

/* Range, alignment and what is below. */
static enum status check_bounds(struct pgm *pgm, const struct handler_node *n)
{
	bool whole_pages = n->kind != HANDLER_KIND_WRITE || (n->flags & HANDLER_NOT_IN_HARDWARE), any, all;

	if (n->last < n->first || n->last >= PGM_MAX_GPA ||
	    (whole_pages && !is_aligned(n->first | (n->last + 1), PAGE_SIZE)))
		return BAD_VALUE;
	memory_below(pgm, n->first, n->last, &any, &all);
	if (n->kind == HANDLER_KIND_MMIO)
		return any ? CONFLICT : OK;
	return all ? OK : BAD_ADDRESS;
}

/* A node comes at a place of its own; `but` is the one that goes for it. */
static enum status place(struct handler_operation *o, const struct handler_node *n, uint64_t but)
{
	enum status status = check_bounds(o->pgm, n);

	if (status == OK && handler_overlaps(&o->pgm->handlers, n->first, n->last, but))
		status = CONFLICT;
	handler_put_in(o, n);
	o->work.make = n->kind != HANDLER_KIND_MMIO;
	if (o->work.make)
		handler_mark_area(o, 0, n->first, n->last);
	return status;
}

static void take_out(struct handler_operation *o)
{
	o->work.out = o->node;
	o->work.goes = true;
	handler_mark_area(o, 1, o->node.first, o->node.last);
}

enum status pgm_handler_register(struct pgm *pgm, handler_type type, gpa_t first, gpa_t last, void *user,
				 const char *description)
{
	const struct handler_type_entry *e;
	struct handler_operation o;
	enum status status = handler_begin(&o, pgm, false);

	e = status == OK ? handler_type_entry(pgm, type) : NULL;
	if (status == OK && !e)
		status = NOT_FOUND;
	if (status == OK) {
		o.node = e->node;
		o.node.first = first.v;
		o.node.last = last.v;
		o.node.user = user;
		o.node.description = description;
		status = place(&o, &o.node, UINT64_MAX);
	}
	if (status == OK)
		status = may_begin(pgm, &o.node);
	if (status == OK)
		status = handler_room(&pgm->handlers);
	return handler_end(&o, status);
}

enum status pgm_handler_deregister(struct pgm *pgm, gpa_t first)
{
	struct handler_operation o;
	enum status status = handler_begin_at(&o, pgm, first, true);

	take_out(&o);
	return handler_end(&o, status);
}

enum status pgm_handler_reset(struct pgm *pgm, gpa_t first)
{
	struct handler_operation o;
	enum status status = handler_begin_at(&o, pgm, first, false);

	COUNT_BY(pgm, handler_resets, status == OK);
	if (o.node.off)
		handler_mark_area(&o, 0, o.node.first, o.node.last);
	o.node.off = 0;
	handler_put_in(&o, &o.node);
	return handler_end(&o, status);
}

enum status pgm_handler_change_user(struct pgm *pgm, gpa_t first, void *user)
{
	struct handler_operation o;
	enum status status = handler_begin_at(&o, pgm, first, true);

	o.node.user = user;
	handler_put_in(&o, &o.node);
	return handler_end(&o, status);
}

enum status pgm_handler_modify(struct pgm *pgm, gpa_t first, gpa_t new_first, gpa_t new_last)
{
	struct handler_operation o;
	enum status status = handler_begin_at(&o, pgm, first, true);

	take_out(&o);
	o.node.first = new_first.v;
	o.node.last = new_last.v;
	o.node.off = 0;
	if (status == OK)
		status = place(&o, &o.node, first.v);
	return handler_end(&o, status);
}

enum status pgm_handler_split(struct pgm *pgm, gpa_t first, gpa_t at)
{
	struct handler_operation o;
	enum status status = handler_begin_at(&o, pgm, first, false);
	struct handler_node right = o.node;

	/* Neither half's end at the cut is off, so that a page which is cut in two is armed. */
	right.first = at.v;
	right.hits = 0;
	right.off &= (uint8_t)~HANDLER_OFF_HEAD;
	o.node.last = at.v - 1;
	o.node.off &= (uint8_t)~HANDLER_OFF_TAIL;
	handler_put_in(&o, &o.node);
	handler_put_in(&o, &right);
	handler_mark_area(&o, 0, at.v - 1, at.v);
	if (status == OK)
		status = at.v <= first.v ? BAD_VALUE : check_bounds(pgm, &right);
	if (status == OK)
		status = handler_room(&pgm->handlers);
	return handler_end(&o, status);
}

/* What is off where b is joined to a. The page that both have a part of is off if it was so for both. */
static uint8_t joined_off(const struct handler_node *a, const struct handler_node *b)
{
	unsigned off = (a->off & ~HANDLER_OFF_TAIL) | (b->off & ~HANDLER_OFF_HEAD), ends;
	uint64_t page = align_down(b->first, PAGE_SIZE);

	if (page == b->first)
		return (uint8_t)off;
	ends = (a->first >= page ? HANDLER_OFF_HEAD : 0) | (b->last < page + PAGE_SIZE ? HANDLER_OFF_TAIL : 0);
	if (handler_part_is_off(a, page) && handler_part_is_off(b, page))
		return (uint8_t)(off | ends | HANDLER_OFF_WHOLE);
	return (uint8_t)(off & ~ends);
}

enum status pgm_handler_join(struct pgm *pgm, gpa_t first, gpa_t second)
{
	struct handler_operation o;
	enum status status = handler_begin_at(&o, pgm, first, false);
	struct handler_node *b = &o.work.out, joined = o.node;

	if (status == OK && (!handler_find(&pgm->handlers, second.v, b) || b->first != second.v))
		status = NOT_FOUND;
	if (status == OK && b->first != joined.last + 1)
		status = BAD_VALUE;
	if (status == OK && (b->type != joined.type || b->user != joined.user || b->description != joined.description))
		status = CONFLICT;
	joined.off = joined_off(&o.node, b);
	joined.last = b->last;
	joined.hits += b->hits;
	o.work.goes = true;
	handler_put_in(&o, &joined);
	handler_mark_area(&o, 0, b->first - 1, b->first);
	if (status == OK)
		status = check_bounds(pgm, &joined); /* two ranges can touch */
	return handler_end(&o, status);
}

bool pgm_handler_next(struct pgm *pgm, gpa_t from, struct pgm_handler_info *out)
{
	struct handler_node n;

	if (!handler_next(&pgm->handlers, from.v, &n))
		return false;
	*out = (struct pgm_handler_info){ .first = n.first,
					  .last = n.last,
					  .hits = n.hits,
					  .kind = n.kind,
					  .flags = n.flags,
					  .excepted = n.off,
					  .user = n.user,
					  .description = n.description,
					  .type_description = n.type_description };
	return true;
}

bool pgm_handler_find(struct pgm *pgm, gpa_t where, struct pgm_handler_info *out)
{
	struct pgm_handler_info unused;

	if (!out)
		out = &unused;
	return pgm_handler_next(pgm, where, out) && out->first <= where.v;
}
