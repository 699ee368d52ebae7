/* SPDX-License-Identifier: Apache-2.0 */
/* Integrity of the handlers' tree: its order both ways, its balance, its count, and the free nodes. */
#include "lib/bits.h"
#include "lib/format.h"
#include "pgm/handler/handler.h"

#define MAX_DEPTH 40u

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
	return s.findings;
}
