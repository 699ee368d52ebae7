/* SPDX-License-Identifier: Apache-2.0 */
/* Integrity of the handler tree: order, balance, and every node accounted for. */
#include "lib/format.h"
#include "pgm/handler_node.h"

struct walk_state {
	struct handler_table *table;
	void (*report)(void *context, const char *line);
	void *context;
	unsigned findings, seen;
	uint64_t end;
	bool any;
};

static void finding(struct walk_state *s, const char *what, uint32_t at)
{
	char line[120];

	format_string(line, sizeof(line), "handler tree: node %u: %s", at, what);
	s->report(s->context, line);
	s->findings++;
}

static void check_node(struct walk_state *s, uint32_t at, unsigned depth)
{
	struct handler_table *t = s->table;
	struct handler_node *n = node(t, at);

	if (!at)
		return;
	if (depth > MAX_DEPTH || at > t->capacity || s->seen > t->capacity) {
		finding(s, "too deep, out of the slab, or a loop", at);
		return;
	}
	check_node(s, n->left, depth + 1);
	s->seen++;
	if (n->last < n->first || (s->any && n->first <= s->end))
		finding(s, "out of order or overlapping", at);
	if (node(t, n->left)->level + 1 != n->level || n->level - node(t, n->right)->level > 1 ||
	    node(t, node(t, n->right)->right)->level >= n->level)
		finding(s, "out of balance", at);
	s->end = n->last;
	s->any = true;
	check_node(s, n->right, depth + 1);
}

unsigned handler_tree_check(struct handler_table *t, void (*report)(void *context, const char *line), void *context)
{
	struct walk_state s = { .table = t, .report = report, .context = context };
	uint32_t free_nodes = 0;

	check_node(&s, t->root, 0);
	for (uint32_t at = t->free; at && free_nodes <= t->capacity; at = node(t, at)->right)
		free_nodes++;
	if (s.seen != t->used || s.seen + free_nodes != t->capacity)
		finding(&s, "nodes in the tree and on the free list don't add up", t->root);
	return s.findings;
}
