/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Integrity of the handlers: the tree's order both ways, its balance and its count; the types' users; and that marks and
 * handlers explain one another, page by page (check.c asks here) and handler by handler.
 */
#include "lib/format.h"
#include "pgm/handler_mark.h"

#define MAX_DEPTH 40u

struct walk_state {
	struct handler_table *table;
	void (*report)(void *context, const char *line);
	void *context;
	unsigned findings, seen;
	uint64_t end;
	bool any;
	uint32_t users[HANDLER_TYPES];
};

static void finding(struct walk_state *s, const char *what, uint32_t at)
{
	char line[120];

	format_string(line, sizeof(line), "handler tree: node %u: %s", at, what);
	s->report(s->context, line);
	s->findings++;
}

static struct handler_node *node(const struct walk_state *s, uint32_t at)
{
	return handler_node_at(s->table, at);
}

static void check_node(struct walk_state *s, uint32_t at, unsigned depth)
{
	struct handler_node *n = node(s, at);

	if (!at)
		return;
	if (depth > MAX_DEPTH || at > s->table->capacity || s->seen > s->table->capacity) {
		finding(s, "too deep, out of the slab, or a loop", at);
		return;
	}
	check_node(s, n->left, depth + 1);
	s->seen++;
	if (n->last < n->first || (s->any && n->first <= s->end))
		finding(s, "out of order or overlapping", at);
	if (node(s, n->left)->level + 1 != n->level || n->level - node(s, n->right)->level > 1 ||
	    node(s, node(s, n->right)->right)->level >= n->level)
		finding(s, "out of balance", at);
	if (n->type >= HANDLER_TYPES || !s->table->type[n->type].tag)
		finding(s, "of a type that isn't registered", at);
	else
		s->users[n->type]++;
	s->end = n->last;
	s->any = true;
	check_node(s, n->right, depth + 1);
}

/* Downwards by predecessor: each node's neighbour below, by the tree's own search, must end before it begins. */
static unsigned count_downwards(struct walk_state *s)
{
	uint64_t bound = UINT64_MAX;
	unsigned count = 0;

	while (count <= s->table->used) {
		uint32_t best = 0;

		for (uint32_t at = s->table->root, depth = 0; at && depth < MAX_DEPTH; depth++) {
			bool below = node(s, at)->first < bound;

			best = below ? at : best;
			at = below ? node(s, at)->right : node(s, at)->left;
		}
		if (!best)
			break;
		if (node(s, best)->last >= bound)
			finding(s, "reaches into its successor", best);
		bound = node(s, best)->first;
		count++;
	}
	return count;
}

unsigned handler_tree_check(struct handler_table *t, void (*report)(void *context, const char *line), void *context)
{
	struct walk_state s = { .table = t, .report = report, .context = context };
	uint32_t free_nodes = 0;

	check_node(&s, t->root, 0);
	for (uint32_t at = t->free; at && free_nodes <= t->capacity; at = node(&s, at)->right)
		free_nodes++;
	if (s.seen != t->used || s.seen + free_nodes != t->capacity)
		finding(&s, "nodes in the tree and on the free list don't add up", t->root);
	if (count_downwards(&s) != t->used)
		finding(&s, "downwards there are not as many nodes as upwards", t->root);
	for (unsigned i = 0; i < HANDLER_TYPES; i++)
		if (s.users[i] != t->type[i].users)
			finding(&s, "the count of a type's handlers is wrong", i);
	return s.findings;
}

const char *handler_check_page(struct pgm *pgm, gpa_t page, page_record r)
{
	page_record expected = handler_expected(pgm, page, r, false);

	if (page_get_handler(expected) != page_get_handler(r))
		return page_get_handler(r) > page_get_handler(expected) ? "no handler explains its mark" :
									  "its mark is less than its handlers ask for";
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

	lock_acquire(&t->lock);
	findings = handler_tree_check(t, report, context);
	while (!findings && limit-- && handler_next(t, from, &n)) {
		findings += check_handler(pgm, &n, report, context);
		from = n.last + 1;
	}
	lock_release(&t->lock);
	return findings;
}
