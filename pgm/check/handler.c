/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handlers and marks explain one another: each handler's pages have records, and each page's mark its handlers (check.c
 * asks page by page).
 */
#include "pgm/check/finding.h"
#include "pgm/internal.h"

const char *handler_check_page(struct pgm *pgm, gpa_t page, page_record r)
{
	page_record expected = handler_expected(pgm, page, r);

	if (pgm->handlers.pending)
		return NULL;
	if (page_get_handler(expected) != page_get_handler(r))
		return page_get_handler(r) > page_get_handler(expected) ? "no handler explains its mark"
									: "its mark is less than its handlers ask for";
	if ((expected.bits ^ r.bits) & PAGE_HANDLER_SOFTWARE)
		return "marked for software only, and should not be, or the other way about";
	return page_is_alias(expected) == page_is_alias(r) ? NULL : "shows another page and has no handler";
}

/* Does every block of a marking handler have records? If not, *where is the first without. */
static bool marked(struct pgm *pgm, const struct handler_node *n, uint64_t *where)
{
	for (*where = align_down(n->first, BLOCK_SIZE); *where <= n->last; *where += BLOCK_SIZE) {
		const struct block *b = block_find(pgm, gpa(*where));

		if (!b || block_kind(b) != BLOCK_DETAILED)
			return false;
	}
	return true;
}

void handlers_check(struct check *c)
{
	struct handler_table *t = &c->pgm->handlers;
	unsigned before = c->findings;
	uint64_t where;

	HOLD(&t->lock);
	handler_store_check(c, t);
	for (uint32_t i = 0; i < t->used && c->findings == before && !t->pending; i++) {
		const struct handler_node *n = handler_in_order(t, i);

		if (n->kind != HANDLER_KIND_MMIO && !marked(c->pgm, n, &where))
			finding(c, gpa(where), "a handler's pages have no marks", n->first);
	}
}
