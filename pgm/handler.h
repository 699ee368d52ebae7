/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store of access handlers: a slab of nodes made at creation, and a balanced (AA) tree of
 * disjoint intervals over it. Nodes are linked by index, and every index is checked against the
 * slab before use, so a lookup that races with a change can go astray but never out of bounds;
 * the generation tells it to try again.
 */
#ifndef PGM_HANDLER_H
#define PGM_HANDLER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"

#define HANDLER_TYPES 32u
#define HANDLER_NONE_INDEX 0u /* node 0 is the sentinel: level 0, children itself */

struct handler_node {
	uint64_t first, last;  /* inclusive, bytes */
	uint32_t left, right;  /* next free node when unused */
	uint16_t level;        /* 0: unused */
	uint16_t type;         /* index into types[] */
	void *user;
	const char *description;
	uint64_t hits;
};

struct pgm_access;

struct handler_kind_entry {
	uint32_t tag;          /* 0: unused */
	uint8_t kind;          /* enum handler_kind */
	enum status (*callback)(void *user, struct pgm_access *access);
	const char *description;
};

struct handler_table {
	uint64_t generation;   /* atomic; odd while the tree changes */
	uint32_t capacity;     /* usable nodes: 1..capacity */
	uint32_t root, free, used;
	uint32_t recent;       /* the node that served last: tried first */
	uint32_t seed;
	struct handler_node **slab; /* pages of nodes */
	struct handler_kind_entry type[HANDLER_TYPES];
};

enum status handler_table_create(struct handler_table *table, uint32_t capacity) must_check;
void handler_table_destroy(struct handler_table *table);
/* Writers hold pgm->lock. CONFLICT: overlaps another; LIMIT: the slab is used up. */
enum status handler_insert(struct handler_table *table, const struct handler_node *what) must_check;
enum status handler_remove(struct handler_table *table, uint64_t first, struct handler_node *removed) must_check;
/* Lock-free. Copies the node around `where`, and counts the hit. */
bool handler_find(struct handler_table *table, uint64_t where, struct handler_node *out);
/* The node with the least `last` at or above `from`: the next in address order. Lock-free. */
bool handler_next(struct handler_table *table, uint64_t from, struct handler_node *out);
/* Order, levels, count, free list. Returns findings. Writers must be kept out. */
unsigned handler_tree_check(struct handler_table *table, void (*report)(void *context, const char *line), void *context);

#endif
