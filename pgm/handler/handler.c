/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Access handlers: registration, its end, and the questions about it. An operation changes the tree, then the
 * marks, under one lock, then releases it and flushes; when it returns no CPU has the wider translation any more.
 * One that takes something away from a callback waits, after that and with nothing held, until no call that began
 * before is in progress.
 */
#include "pgm/handler/mark.h"

enum status handler_begin(struct handler_operation *o, struct pgm *pgm)
{
	if (pgm->handlers.calls[cpu_index()].holds_lock)
		return BUSY;
	o->pgm = pgm;
	gather_begin(&o->gather, &pgm->flush, &pgm->account);
	lock_acquire(&pgm->handlers.lock);
	return OK;
}

enum status handler_begin_at(struct handler_operation *o, struct pgm *pgm, gpa_t first)
{
	enum status status = handler_begin(o, pgm);

	if (status != OK)
		return status;
	if (handler_find(&pgm->handlers, first.v, &o->node) && o->node.first == first.v)
		return OK;
	handler_end(o);
	return NOT_FOUND;
}

void handler_end(struct handler_operation *o)
{
	lock_release(&o->pgm->handlers.lock);
	gather_finish(&o->gather);
}

enum status handler_end_quiet(struct handler_operation *o, enum status status)
{
	handler_end(o);
	if (status == OK)
		handler_wait_quiet(&o->pgm->handlers);
	return status;
}

/* Here, in take_out() and in handler/change.c: the node was found under handlers.lock, which is held since. */
void handler_write_back(struct handler_operation *o)
{
	if (handler_replace(&o->pgm->handlers, o->node.first, &o->node) != OK)
		panic("a handler is gone from under the lock");
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

enum status handler_check_bounds(struct pgm *pgm, const struct handler_type_entry *type, uint64_t first, uint64_t last)
{
	bool whole_pages = type->kind != HANDLER_KIND_WRITE || (type->flags & HANDLER_NOT_IN_HARDWARE);

	if (last < first || last >= PGM_MAX_GPA)
		return BAD_VALUE;
	if (whole_pages && (!is_aligned(first, PAGE_SIZE) || !is_aligned(last + 1, PAGE_SIZE)))
		return BAD_VALUE;
	if (type->kind != HANDLER_KIND_MMIO)
		return covered_by_memory(pgm, first, last) ? OK : BAD_ADDRESS;
	return over_memory(pgm, first, last) ? CONFLICT : OK;
}

/* Takes o->node out of the tree and its marks off the pages. */
static void take_out(struct handler_operation *o)
{
	if (handler_remove(&o->pgm->handlers, o->node.first, &o->node) != OK)
		panic("a handler is gone from under the lock");
	if (!handler_is_mmio(o->pgm, &o->node) || o->node.pages_aliased)
		handler_remark(o, o->node.first, o->node.last, false);
	misconfig_remove(o->pgm, o->node.first, o->node.last);
}

enum status pgm_handler_register(struct pgm *pgm, handler_type type, gpa_t first, gpa_t last, void *user,
				 const char *description)
{
	const struct handler_type_entry *entry;
	struct handler_operation o;
	enum status status = handler_begin(&o, pgm);

	if (status != OK)
		return status;
	o.node = (struct handler_node){ .first = first.v, .last = last.v, .user = user, .description = description };
	entry = handler_type_entry(pgm, type);
	status = entry ? handler_check_bounds(pgm, entry, first.v, last.v) : NOT_FOUND;
	if (status == OK) {
		o.node.type = (uint16_t)(entry - pgm->handlers.type);
		status = handler_insert(&pgm->handlers, &o.node);
	}
	if (status == OK && entry->kind != HANDLER_KIND_MMIO) {
		status = handler_mark(&o, first.v, last.v);
		if (status != OK)
			take_out(&o);
	}
	handler_end(&o);
	return status;
}

enum status pgm_handler_retire(struct pgm *pgm, gpa_t first)
{
	struct handler_operation o;
	enum status status = handler_begin_at(&o, pgm, first);

	if (status != OK)
		return status;
	take_out(&o);
	handler_end(&o);
	return OK;
}

enum status pgm_handlers_quiesce(struct pgm *pgm)
{
	if (handler_inside_call(&pgm->handlers))
		return BUSY;
	handler_wait_quiet(&pgm->handlers);
	return OK;
}

enum status pgm_handler_deregister(struct pgm *pgm, gpa_t first)
{
	enum status status;

	if (handler_inside_call(&pgm->handlers))
		return BUSY;
	status = pgm_handler_retire(pgm, first);
	return status == OK ? pgm_handlers_quiesce(pgm) : status;
}

enum status pgm_handler_reset(struct pgm *pgm, gpa_t first)
{
	struct handler_operation o;
	enum status status = handler_begin_at(&o, pgm, first);

	if (status != OK)
		return status;
	COUNT(pgm, handler_resets);
	if (o.node.pages_off || o.node.pages_aliased) {
		o.node.pages_off = o.node.pages_aliased = o.node.edges_off = 0;
		handler_write_back(&o);
		handler_remark(&o, o.node.first, o.node.last, true);
	}
	handler_end(&o);
	return OK;
}

static void describe(struct pgm *pgm, const struct handler_node *n, struct pgm_handler_info *out)
{
	const struct handler_type_entry *type = &pgm->handlers.type[n->type];

	*out = (struct pgm_handler_info){
		.first = n->first,
		.last = n->last,
		.hits = n->hits,
		.kind = type->kind,
		.flags = type->flags,
		.pages_off = n->pages_off,
		.pages_aliased = n->pages_aliased,
		.user = n->user,
		.description = n->description,
		.type_description = type->description,
	};
}

bool pgm_handler_next(struct pgm *pgm, gpa_t from, struct pgm_handler_info *out)
{
	struct handler_node n;
	bool found;

	handler_call_begin(&pgm->handlers); /* so that the type stays */
	found = handler_next(&pgm->handlers, from.v, &n);
	if (found)
		describe(pgm, &n, out);
	handler_call_end(&pgm->handlers);
	return found;
}

bool pgm_handler_find(struct pgm *pgm, gpa_t where, struct pgm_handler_info *out)
{
	struct handler_node n;
	bool found;

	handler_call_begin(&pgm->handlers);
	found = handler_find(&pgm->handlers, where.v, &n);
	if (found && out)
		describe(pgm, &n, out);
	handler_call_end(&pgm->handlers);
	return found;
}

bool pgm_handler_is_registered(struct pgm *pgm, gpa_t first)
{
	struct handler_node n;

	return handler_find(&pgm->handlers, first.v, &n) && n.first == first.v;
}
