/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes of the handler tree, for the two files that walk it by index. */
#ifndef PGM_HANDLER_NODE_H
#define PGM_HANDLER_NODE_H

#include "arch/x86_64/address.h"
#include "pgm/handler.h"

#define NODES_PER_PAGE (PAGE_SIZE / sizeof(struct handler_node))
#define MAX_DEPTH 40u
_Static_assert(NODES_PER_PAGE >= 32, "a slab page holds the smallest table");

/* The sentinel for every index that isn't one of the slab's. */
static inline struct handler_node *node(const struct handler_table *t, uint32_t index)
{
	if (unlikely(index > t->capacity))
		index = HANDLER_NONE_INDEX;
	return &t->slab[index / NODES_PER_PAGE][index % NODES_PER_PAGE];
}

#endif
