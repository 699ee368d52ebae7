/* SPDX-License-Identifier: Apache-2.0 */
/* Integrity of the store of handlers by itself: its order, its count, its unused nodes, its types. Part of pgm_check(). */
#include "lib/format.h"
#include "pgm/handler/handler.h"

struct check {
	void (*report)(void *context, const char *line);
	void *context;
	unsigned findings;
};

static void finding(struct check *c, uint64_t where, const char *what)
{
	char line[120];

	format_string(line, sizeof(line), "handler at gpa %#llx: %s", (unsigned long long)where, what);
	c->report(c->context, line);
	c->findings++;
}

/* Both ways: each is above its neighbour below, and the search from above comes to it. */
static void check_node(struct check *c, struct handler_table *t, const struct handler_node *n, uint64_t end)
{
	struct handler_node found;

	if (n->last < n->first || n->first < end)
		finding(c, n->first, "out of order or overlapping");
	else if (!handler_next(t, end, &found) || found.first != n->first)
		finding(c, n->first, "not found where it is");
	if (n->type >= HANDLER_TYPES || !t->type[n->type].tag)
		finding(c, n->first, "of a type that isn't registered");
}

unsigned handler_store_check(struct handler_table *t, void (*report)(void *context, const char *line), void *context)
{
	struct check c = { .report = report, .context = context };
	uint32_t users[HANDLER_TYPES] = { 0 }, unused = 0;
	struct handler_node n;
	uint64_t end = 0;

	for (uint32_t i = 0; i < t->used && i < t->capacity; i++, end = n.last + 1) {
		n = *handler_in_order(t, i);
		check_node(&c, t, &n, end);
		users[n.type % HANDLER_TYPES]++;
	}
	for (uint32_t at = t->free; at < t->capacity && unused <= t->capacity; unused++)
		at = (uint32_t)handler_node_at(t, at)->last;
	if (t->used + unused != t->capacity)
		finding(&c, end, "used and unused ones don't add up");
	for (unsigned i = 0; i < HANDLER_TYPES; i++)
		if (users[i] != t->type[i].users)
			finding(&c, end, "the count of a type's handlers is wrong");
	return c.findings;
}
