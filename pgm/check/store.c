/* SPDX-License-Identifier: Apache-2.0 */
/* Integrity of the store of handlers by itself: its order, its count, its unused nodes, its types. Part of pgm_check(). */
#include "pgm/check/finding.h"
#include "pgm/handler/handler.h"

/* Both ways: each is above its neighbour below, and the search from above comes to it. */
static void check_node(struct check *c, struct handler_table *t, const struct handler_node *n, uint64_t end)
{
	struct handler_node found;

	if (n->last < n->first || n->first < end)
		finding(c, gpa(n->first), "a handler is out of order or overlapping", n->last);
	else if (!handler_next(t, end, &found) || found.first != n->first)
		finding(c, gpa(n->first), "a handler is not found where it is", n->last);
	if (n->type >= HANDLER_TYPES || !t->type[n->type].tag)
		finding(c, gpa(n->first), "a handler is of a type that isn't registered", n->last);
}

void handler_store_check(struct check *c, struct handler_table *t)
{
	uint32_t users[HANDLER_TYPES] = { 0 }, unused = 0;
	struct handler_node n;
	uint64_t end = 0;

	for (uint32_t i = 0; i < t->used && i < t->capacity; i++, end = n.last + 1) {
		n = *handler_in_order(t, i);
		check_node(c, t, &n, end);
		users[n.type % HANDLER_TYPES]++;
	}
	for (uint32_t at = t->free; at < t->capacity && unused <= t->capacity; unused++)
		at = (uint32_t)handler_node_at(t, at)->last;
	if (t->used + unused != t->capacity)
		finding(c, gpa(end), "used and unused handlers don't add up", t->used);
	for (unsigned i = 0; i < HANDLER_TYPES; i++)
		if (users[i] != t->type[i].users)
			finding(c, gpa(end), "the count of a type's handlers is wrong", t->used);
}
