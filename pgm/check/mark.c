/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Marks and handlers explain one another: page by page (check.c asks here), handler by handler, and the types' counts.
 */
#include "lib/format.h"
#include "pgm/handler/mark.h"

const char *handler_check_page(struct pgm *pgm, gpa_t page, page_record r)
{
	page_record expected = handler_expected(pgm, page, r, false);

	if (page_get_handler(expected) != page_get_handler(r))
		return page_get_handler(r) > page_get_handler(expected) ? "no handler explains its mark"
									: "its mark is less than its handlers ask for";
	if ((expected.bits ^ r.bits) & PAGE_HANDLER_SOFTWARE)
		return "marked for software only, and should not be, or the other way about";
	return page_is_alias(expected) == page_is_alias(r) ? NULL : "shows another page and has no handler";
}

/* The first block that a marking handler covers, and that has no records; true: found. */
static bool unmarked_block(struct pgm *pgm, const struct handler_node *n, uint64_t *where)
{
	for (uint64_t a = align_down(n->first, BLOCK_SIZE); a <= n->last; a += BLOCK_SIZE) {
		struct block *b = block_find(pgm, gpa(a));

		*where = a;
		if (!b || block_kind(b) != BLOCK_DETAILED)
			return true;
	}
	return false;
}

/* Every handler is of a type that is there, and each type counts its handlers. Bounded by the slab. */
static const char *check_types(struct handler_table *t)
{
	uint32_t users[HANDLER_TYPES] = { 0 }, limit = t->capacity;
	struct handler_node n;
	uint64_t from = 0;

	while (limit-- && handler_next(t, from, &n)) {
		if (n.type >= HANDLER_TYPES || !t->type[n.type].tag)
			return "a handler is of a type that isn't registered";
		users[n.type]++;
		from = n.last + 1;
	}
	for (unsigned i = 0; i < HANDLER_TYPES; i++)
		if (users[i] != t->type[i].users)
			return "the count of a type's handlers is wrong";
	return NULL;
}

static unsigned check_handler(struct pgm *pgm, const struct handler_node *n,
			      void (*report)(void *context, const char *line), void *context)
{
	struct handler_node counted = *n;
	const char *what = NULL;
	uint64_t where = n->first;
	char line[120];

	if (!handler_is_mmio(pgm, n) && unmarked_block(pgm, n, &where))
		what = "the handler's pages have no marks";
	if (n->pages_off || n->pages_aliased) {
		handler_count_exceptions(pgm, &counted);
		if (counted.pages_off != n->pages_off || counted.pages_aliased != n->pages_aliased)
			what = "the handler's counts of pages off and aliased are wrong";
	}
	if (!what)
		return 0;
	format_string(line, sizeof(line), "gpa %#llx: %s", (unsigned long long)where, what);
	report(context, line);
	return 1;
}

unsigned handlers_check(struct pgm *pgm, void (*report)(void *context, const char *line), void *context)
{
	struct handler_table *t = &pgm->handlers;
	uint32_t limit = t->capacity;
	unsigned findings;
	struct handler_node n;
	uint64_t from = 0;
	const char *what;

	lock_acquire(&t->lock);
	findings = handler_tree_check(t, report, context);
	what = findings ? NULL : check_types(t);
	if (what) {
		report(context, what);
		findings++;
	}
	while (!findings && limit-- && handler_next(t, from, &n)) {
		findings += check_handler(pgm, &n, report, context);
		from = n.last + 1;
	}
	lock_release(&t->lock);
	return findings;
}
