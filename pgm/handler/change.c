/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handlers that stay but change: another user value, cut in two, put together, moved. Lookups see the tree before or
 * after, never between.
 */
#include "pgm/handler/mark.h"

enum status pgm_handler_change_user(struct pgm *pgm, gpa_t first, void *user)
{
	struct handler_operation o;
	enum status status;

	if (handler_inside_call(&pgm->handlers))
		return BUSY;
	status = handler_begin_at(&o, pgm, first);
	if (status != OK)
		return status;
	o.node.user = user;
	handler_write_back(&o);
	return handler_end_quiet(&o, OK);
}

/* After a cut or a seam at `at`: the page that it goes through is armed again; the counts are made anew. */
static void settle(struct handler_operation *o, struct handler_node *a, struct handler_node *b, uint64_t at)
{
	struct handler_table *t = &o->pgm->handlers;
	struct handler_node *both[] = { a, b };

	if (!is_aligned(at, PAGE_SIZE))
		handler_remark(o, at, at, true);
	for (unsigned i = 0; i < ARRAY_SIZE(both); i++) {
		if (!both[i] || !(both[i]->pages_off || both[i]->pages_aliased))
			continue;
		handler_count_exceptions(o->pgm, both[i]);
		if (handler_replace(t, both[i]->first, both[i]) != OK)
			panic("a handler is gone from under the lock");
	}
}

/* The edges of the two pieces: what the whole had, but none on the page that is cut. */
static void cut_edges(struct handler_node *left, struct handler_node *right, uint64_t at)
{
	uint64_t page = at >> PAGE_SHIFT;
	bool through = !is_aligned(at, PAGE_SIZE);

	left->edges_off &= EDGE_HEAD;
	if (through && left->first >> PAGE_SHIFT == page)
		left->edges_off = 0;
	/* A tail that becomes the first page of its piece is named by the head bit. */
	if (right->edges_off & EDGE_TAIL)
		right->edges_off = right->first >> PAGE_SHIFT == right->last >> PAGE_SHIFT ? EDGE_HEAD : EDGE_TAIL;
	else
		right->edges_off = 0;
	if (through && right->last >> PAGE_SHIFT == page)
		right->edges_off = 0;
}

enum status pgm_handler_split(struct pgm *pgm, gpa_t first, gpa_t at)
{
	struct handler_table *t = &pgm->handlers;
	struct handler_node left, right;
	struct handler_operation o;
	enum status status = handler_begin_at(&o, pgm, first);

	if (status != OK)
		return status;
	left = right = o.node;
	left.last = at.v - 1;
	right.first = at.v;
	right.hits = 0;
	if (at.v <= o.node.first || at.v > o.node.last)
		status = BAD_VALUE;
	else
		status = handler_check_bounds(pgm, &t->type[o.node.type], at.v, o.node.last);
	if (status == OK) {
		cut_edges(&left, &right, at.v);
		handler_change_begin(t);
		status = handler_replace(t, first.v, &left);
		if (status == OK) {
			status = handler_insert(t, &right);
			if (status != OK)
				handler_write_back(&o);
		}
		handler_change_end(t);
	}
	if (status == OK && (!is_aligned(at.v, PAGE_SIZE) || o.node.pages_off || o.node.pages_aliased))
		settle(&o, &left, &right, at.v);
	handler_end(&o);
	return status;
}

/* What stays off at the outer edges; the seam's page is armed. */
static unsigned joined_edges(const struct handler_node *a, const struct handler_node *b,
			     const struct handler_node *joined)
{
	bool through = !is_aligned(b->first, PAGE_SIZE);
	uint64_t seam = b->first >> PAGE_SHIFT;
	unsigned edges = 0;

	if ((a->edges_off & EDGE_HEAD) && !(through && a->first >> PAGE_SHIFT == seam))
		edges |= EDGE_HEAD;
	if (b->edges_off && handler_edge(b, b->last) & b->edges_off && !(through && b->last >> PAGE_SHIFT == seam))
		edges |= handler_edge(joined, joined->last);
	return edges;
}

enum status pgm_handler_join(struct pgm *pgm, gpa_t first, gpa_t second)
{
	struct handler_table *t = &pgm->handlers;
	struct handler_node joined, b;
	struct handler_operation o;
	enum status status = handler_begin_at(&o, pgm, first);

	if (status != OK)
		return status;
	if (!handler_find(t, second.v, &b) || b.first != second.v)
		status = NOT_FOUND;
	else if (b.first != o.node.last + 1)
		status = BAD_VALUE;
	else if (b.type != o.node.type || b.user != o.node.user || b.description != o.node.description)
		status = CONFLICT;
	else if (!handler_is_mmio(pgm, &b))
		status = handler_check_bounds(pgm, &t->type[b.type], o.node.first, b.last); /* two ranges can touch */
	if (status == OK) {
		joined = o.node;
		joined.last = b.last;
		joined.hits += b.hits;
		joined.pages_off += b.pages_off;
		joined.pages_aliased += b.pages_aliased;
		joined.edges_off = joined_edges(&o.node, &b, &joined);
		handler_change_begin(t);
		status = handler_remove(t, b.first, NULL);
		if (status == OK)
			status = handler_replace(t, first.v, &joined);
		handler_change_end(t);
	}
	if (status == OK && (!is_aligned(b.first, PAGE_SIZE) || joined.pages_off))
		settle(&o, &joined, NULL, b.first);
	handler_end(&o);
	return status;
}

/* In the tree, from `from` to `to`; CONFLICT: `from` stays: its slab node and its place were freed just now, under the lock. */
static enum status move_node(struct handler_table *t, const struct handler_node *from, const struct handler_node *to)
{
	enum status status;

	handler_change_begin(t);
	status = handler_remove(t, from->first, NULL);
	if (status == OK) {
		status = handler_insert(t, to);
		if (status != OK && handler_insert(t, from) != OK)
			panic("the place of a handler just taken out is gone");
	}
	handler_change_end(t);
	return status;
}

/* Marks for the new place; without memory for them all goes back, and the old place is armed throughout. */
static enum status mark_moved(struct handler_operation *o, struct handler_node *old, const struct handler_node *moved)
{
	enum status status = handler_mark(o, moved->first, moved->last);

	if (status == OK)
		return OK;
	old->pages_off = old->edges_off = 0;
	if (move_node(&o->pgm->handlers, moved, old) != OK)
		panic("the place of a handler just moved is gone");
	handler_remark(o, moved->first, moved->last, false);
	return status;
}

enum status pgm_handler_modify(struct pgm *pgm, gpa_t first, gpa_t new_first, gpa_t new_last)
{
	struct handler_table *t = &pgm->handlers;
	struct handler_operation o;
	struct handler_node moved;
	enum status status;
	bool marks;

	if (handler_inside_call(t))
		return BUSY;
	status = handler_begin_at(&o, pgm, first);
	if (status != OK)
		return status;
	marks = !handler_is_mmio(pgm, &o.node);
	moved = o.node;
	moved.pages_off = moved.pages_aliased = moved.edges_off = 0;
	moved.first = new_first.v;
	moved.last = new_last.v;
	status = handler_check_bounds(pgm, &t->type[o.node.type], new_first.v, new_last.v);
	if (status == OK)
		status = move_node(t, &o.node, &moved);
	if (status == OK) {
		if (marks)
			status = mark_moved(&o, &o.node, &moved);
		/* The old pages lose marks and aliases; or, if the new ones could not be marked, are armed again. */
		if (marks || o.node.pages_aliased)
			handler_remark(&o, o.node.first, o.node.last, true);
		misconfig_remove(pgm, o.node.first, o.node.last);
	}
	return handler_end_quiet(&o, status);
}
