/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Access handlers: types, registration, and the call. A page's record carries the severest
 * handler on it (NONE < DISABLED < WRITE < ALL), so ordinary memory never looks into the tree.
 */
#include "pgm/internal.h"

#define TYPE_INDEX(t) ((t) & (HANDLER_TYPES - 1))
_Static_assert((HANDLER_TYPES & (HANDLER_TYPES - 1)) == 0, "the index is the handle's low bits");

enum status pgm_handler_type_register(struct pgm *pgm, enum handler_kind kind, pgm_handler callback,
				      const char *description, handler_type *out)
{
	struct handler_table *t = &pgm->handlers;
	enum status status = LIMIT;

	lock_acquire(&pgm->lock);
	for (uint32_t i = 0; i < HANDLER_TYPES && status != OK; i++) {
		if (t->type[i].tag)
			continue;
		/* A tag no earlier type of this slot had: a stale handle is caught. */
		t->seed = t->seed * 1664525u + 1013904223u;
		t->type[i] = (struct handler_kind_entry){ .tag = (t->seed | HANDLER_TYPES) & ~(HANDLER_TYPES - 1),
							  .kind = (uint8_t)kind, .callback = callback,
							  .description = description };
		*out = t->type[i].tag | i;
		status = OK;
	}
	lock_release(&pgm->lock);
	return status;
}

static struct handler_kind_entry *type_entry(struct pgm *pgm, handler_type type)
{
	struct handler_kind_entry *e = &pgm->handlers.type[TYPE_INDEX(type)];

	return e->tag && e->tag == (type & ~(HANDLER_TYPES - 1)) ? e : NULL;
}

enum page_handler handler_on_page(struct pgm *pgm, gpa_t page)
{
	struct handler_node n;

	if (!handler_next(&pgm->handlers, page.v, &n) || n.first >= page.v + PAGE_SIZE)
		return HANDLER_NONE;
	/* Kind ALL covers whole pages, so where one of kind WRITE is there are only such. */
	switch (pgm->handlers.type[n.type].kind) {
	case HANDLER_KIND_ALL: return HANDLER_ALL;
	case HANDLER_KIND_WRITE: return HANDLER_WRITE;
	default: return HANDLER_NONE;
	}
}

/*
 * The record says what the tree says. Whoever changes the tree comes here after it; the last one to get a block's lock
 * sees all changes, so neighbours on one page may come and go at once.
 */
static void mark_page(struct pgm *pgm, struct block *b, gpa_t where, struct gather *gather)
{
	page_record *r = page_of(b, where);
	enum page_handler old = page_get_handler(*r), mark = handler_on_page(pgm, where);

	if (mark == old)
		return;
	b->special = (uint16_t)(b->special + (mark != HANDLER_NONE) - (old != HANDLER_NONE));
	page_set_handler(r, mark);
	slat_drop_page(&pgm->slat, where, gather);
}

/* After a handler came: the pages first..last get records. NO_MEMORY, OVER_QUOTA: some may have been marked. */
static enum status mark_pages(struct pgm *pgm, uint64_t first, uint64_t last)
{
	enum status status = OK;
	struct gather gather;

	gather_begin(&gather, &pgm->flush, &pgm->account);
	for (uint64_t a = align_down(first, PAGE_SIZE); a <= last && status == OK; a += PAGE_SIZE) {
		struct block *b;

		status = block_get(pgm, gpa(a), &b);
		if (status != OK)
			break;
		block_lock(b);
		status = block_make_detailed(pgm, b, gpa(a), &gather);
		if (status == OK)
			mark_page(pgm, b, gpa(a), &gather);
		block_unlock(b);
	}
	gather_finish(&gather);
	return status;
}

/* After a handler went: needs no memory, for a block without records has no marks. */
static void unmark_pages(struct pgm *pgm, uint64_t first, uint64_t last)
{
	struct gather gather;

	gather_begin(&gather, &pgm->flush, &pgm->account);
	for (uint64_t a = align_down(first, PAGE_SIZE); a <= last; a += PAGE_SIZE) {
		struct block *b = block_find(pgm, gpa(a));

		if (!b)
			continue;
		block_lock(b);
		if (block_kind(b) == BLOCK_DETAILED)
			mark_page(pgm, b, gpa(a), &gather);
		block_unlock(b);
	}
	gather_finish(&gather);
}

static bool covered_by_memory(struct pgm *pgm, uint64_t first, uint64_t last)
{
	struct pgm_range range;

	return pgm_range_find(pgm, gpa(first), &range) && last - range.base < range.size && range.type != PAGE_MMIO;
}

static enum status check_bounds(struct pgm *pgm, const struct handler_kind_entry *type, uint64_t first, uint64_t last)
{
	struct pgm_range range;

	if (last < first || last >= PGM_MAX_GPA)
		return BAD_VALUE;
	if (type->kind != HANDLER_KIND_WRITE && (!is_aligned(first, PAGE_SIZE) || !is_aligned(last + 1, PAGE_SIZE)))
		return BAD_VALUE;
	if (type->kind != HANDLER_KIND_MMIO)
		return covered_by_memory(pgm, first, last) ? OK : BAD_ADDRESS;
	for (unsigned i = 0; pgm_range_get(pgm, i, &range); i++)
		if (range.type != PAGE_MMIO && first < range.base + range.size && last >= range.base)
			return CONFLICT;
	return OK;
}

enum status pgm_handler_register(struct pgm *pgm, handler_type type, gpa_t first, gpa_t last, void *user,
				 const char *description)
{
	struct handler_kind_entry *entry = type_entry(pgm, type);
	struct handler_node fresh = { .first = first.v, .last = last.v, .type = (uint16_t)TYPE_INDEX(type), .user = user,
				      .description = description };
	enum status status;
	bool inserted;

	if (!entry)
		return NOT_FOUND;
	status = check_bounds(pgm, entry, first.v, last.v);
	if (status != OK)
		return status;
	__atomic_fetch_add(&pgm->handlers_changing, 1, __ATOMIC_SEQ_CST);
	lock_acquire(&pgm->lock);
	status = handler_insert(&pgm->handlers, &fresh);
	lock_release(&pgm->lock);
	inserted = status == OK;
	if (inserted && entry->kind != HANDLER_KIND_MMIO)
		status = mark_pages(pgm, first.v, last.v);
	/* NOT_FOUND: somebody else took it off meanwhile. */
	if (inserted && status != OK && pgm_handler_deregister(pgm, first) != OK)
		status = NOT_FOUND;
	__atomic_fetch_sub(&pgm->handlers_changing, 1, __ATOMIC_SEQ_CST);
	return status;
}

enum status pgm_handler_deregister(struct pgm *pgm, gpa_t first)
{
	struct handler_node removed;
	enum status status;

	__atomic_fetch_add(&pgm->handlers_changing, 1, __ATOMIC_SEQ_CST);
	lock_acquire(&pgm->lock);
	status = handler_remove(&pgm->handlers, first.v, &removed);
	lock_release(&pgm->lock);
	if (status == OK && pgm->handlers.type[removed.type].kind != HANDLER_KIND_MMIO)
		unmark_pages(pgm, removed.first, removed.last);
	__atomic_fetch_sub(&pgm->handlers_changing, 1, __ATOMIC_SEQ_CST);
	return status;
}

bool pgm_handler_next(struct pgm *pgm, gpa_t from, struct pgm_handler_info *out)
{
	struct handler_node n;

	if (!handler_next(&pgm->handlers, from.v, &n))
		return false;
	*out = (struct pgm_handler_info){ .first = n.first, .last = n.last, .hits = n.hits,
					  .kind = pgm->handlers.type[n.type].kind, .description = n.description };
	return true;
}
