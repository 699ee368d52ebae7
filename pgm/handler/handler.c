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

#define BLOCKS_AT_ONCE 4u /* that a device's handler may have marks in while other marks are outstanding */

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

enum status handler_begin_at(struct handler_operation *o, struct pgm *pgm, gpa_t first, bool outside)
{
	enum status status = handler_begin(o, pgm, outside);

	if (status != OK)
		return status;
	if (!handler_find(&pgm->handlers, first.v, &o->node) || o->node.first != first.v)
		return NOT_FOUND;
	return pgm->handlers.pending && o->node.kind != HANDLER_KIND_MMIO ? BAD_STATE : OK;
}

/* Whether marks may follow: at once, or in steps that nobody else is at. */
static enum status check_marks(const struct handler_operation *o)
{
	uint64_t blocks = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(o->work.area); i++)
		blocks += (o->work.area[i].end - o->work.area[i].first) / BLOCK_SIZE;
	return o->pgm->handlers.pending && blocks >= BLOCKS_AT_ONCE ? BAD_STATE : OK;
}

static enum status carry_out(struct handler_operation *o)
{
	struct handler_table *t = &o->pgm->handlers;
	struct handler_work *w = &o->work;
	enum status status = check_marks(o);

	if (status != OK)
		return status;
	if (w->goes || w->comes) {
		handler_change_begin(t);
		if (w->goes)
			handler_take(t, w->out.first);
		for (unsigned i = 0; i < w->comes; i++)
			handler_put(t, &w->in[i]);
		handler_change_end(t);
	}
	status = handler_marks_step(o, w);
	if (status == BUSY) {
		t->work = *w;
		t->pending = true;
	}
	return status;
}

enum status handler_end(struct handler_operation *o, enum status status)
{
	if (!o->held)
		return status;
	if (status == OK)
		status = carry_out(o);
	lock_release(&o->pgm->handlers.lock);
	gather_finish(&o->gather);
	if (o->outside && (status == OK || status == BUSY))
		handler_wait_quiet(&o->pgm->handlers);
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

static bool covered_by_memory(struct pgm *pgm, uint64_t first, uint64_t last)
{
	struct pgm_range range;

	return pgm_range_find(pgm, gpa(first), &range) && last - range.base < range.size && range.type != PAGE_MMIO;
}

static bool over_memory(struct pgm *pgm, uint64_t first, uint64_t last)
{
	struct pgm_range range;
	uint64_t generation;
	bool over;

	do {
		generation = ranges_begin(pgm);
		over = false;
		for (unsigned i = 0; pgm_range_get(pgm, i, &range); i++)
			over |= range.type != PAGE_MMIO && first < range.base + range.size && last >= range.base;
	} while (ranges_changed(pgm, generation));
	return over;
}

/* Range, alignment and what is below. */
static enum status check_bounds(struct pgm *pgm, const struct handler_node *n)
{
	bool whole_pages = n->kind != HANDLER_KIND_WRITE || (n->flags & HANDLER_NOT_IN_HARDWARE);

	if (n->last < n->first || n->last >= PGM_MAX_GPA)
		return BAD_VALUE;
	if (whole_pages && (!is_aligned(n->first, PAGE_SIZE) || !is_aligned(n->last + 1, PAGE_SIZE)))
		return BAD_VALUE;
	if (n->kind != HANDLER_KIND_MMIO)
		return covered_by_memory(pgm, n->first, n->last) ? OK : BAD_ADDRESS;
	return over_memory(pgm, n->first, n->last) ? CONFLICT : OK;
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
	if (status == OK && pgm->handlers.pending && e->kind != HANDLER_KIND_MMIO)
		status = BAD_STATE;
	if (status == OK) {
		o.node = (struct handler_node){ .first = first.v,
						.last = last.v,
						.callback = e->callback,
						.user = user,
						.kind = e->kind,
						.flags = e->flags,
						.type = (uint8_t)(e - pgm->handlers.type),
						.description = description,
						.type_description = e->description };
		status = place(&o, &o.node, UINT64_MAX);
	}
	if (status == OK)
		status = handler_room(&pgm->handlers);
	return handler_end(&o, status);
}

static enum status leave(struct pgm *pgm, gpa_t first, bool outside)
{
	struct handler_operation o;
	enum status status = handler_begin_at(&o, pgm, first, outside);

	if (status == OK)
		take_out(&o);
	return handler_end(&o, status);
}

enum status pgm_handler_retire(struct pgm *pgm, gpa_t first)
{
	return leave(pgm, first, false);
}

enum status pgm_handler_deregister(struct pgm *pgm, gpa_t first)
{
	return leave(pgm, first, true);
}

enum status pgm_handlers_quiesce(struct pgm *pgm)
{
	struct handler_operation o;

	return handler_end(&o, handler_begin(&o, pgm, true));
}

enum status pgm_handler_reset(struct pgm *pgm, gpa_t first)
{
	struct handler_operation o;
	enum status status = handler_begin_at(&o, pgm, first, false);

	if (status == OK) {
		COUNT(pgm, handler_resets);
		if (o.node.off)
			handler_mark_area(&o, 0, o.node.first, o.node.last);
		o.node.off = 0;
		handler_put_in(&o, &o.node);
	}
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

	if (status == OK) {
		struct handler_node moved = o.node;

		moved.first = new_first.v;
		moved.last = new_last.v;
		moved.off = 0;
		status = place(&o, &moved, first.v);
		take_out(&o);
	}
	return handler_end(&o, status);
}

enum status pgm_handler_split(struct pgm *pgm, gpa_t first, gpa_t at)
{
	struct handler_operation o;
	enum status status = handler_begin_at(&o, pgm, first, false);

	if (status == OK && (at.v <= first.v || at.v > o.node.last))
		status = BAD_VALUE;
	if (status == OK) {
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
		status = check_bounds(pgm, &right);
	}
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
	if (status == OK) {
		joined.off = joined_off(&o.node, b);
		joined.last = b->last;
		joined.hits += b->hits;
		o.work.goes = true;
		handler_put_in(&o, &joined);
		handler_mark_area(&o, 0, b->first - 1, b->first);
		status = check_bounds(pgm, &joined); /* two ranges can touch */
	}
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

bool pgm_handler_is_registered(struct pgm *pgm, gpa_t first)
{
	struct handler_node n;

	return handler_find(&pgm->handlers, first.v, &n) && n.first == first.v;
}
