/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Access handlers inside PGM: the store of nodes, the types, the marks, the calls.
 *
 * The store is a slab of nodes made at creation, with a balanced (AA) tree of disjoint byte intervals over it. Nodes
 * are linked by index, and every index is checked against the slab before use, so a lookup that races with a change
 * can go astray but never out of bounds; the generation tells it to try again. All that lookups read is written by
 * release stores and read by acquire loads: that orders it against the generation without a fence.
 *
 * table->lock (RANK_HANDLERS, outside pgm->lock and the blocks) is held by every operation from its change of the tree
 * to its last mark, so that marks and tree are seen apart only by lookups, for which the tree decides.
 */
#ifndef PGM_HANDLER_HANDLER_H
#define PGM_HANDLER_HANDLER_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/x86_64/address.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/spinlock.h"
#include "lib/bits.h"
#include "lib/status.h"

#define HANDLER_TYPES 32u
#define HANDLER_NONE_INDEX 0u /* node 0 is the sentinel: level 0, children itself */

struct handler_node {
	uint64_t first, last; /* inclusive, bytes */
	uint32_t left, right; /* next free node when unused */
	uint16_t level;       /* 0: unused */
	uint16_t type;        /* index into type[] */
	uint32_t edges_off;   /* EDGE_*: pages covered in part and switched off; whole pages have it in their record */
	uint32_t pages_off;   /* switched off, edges included */
	uint32_t pages_aliased;
	void *user;
	const char *description;
	uint64_t hits; /* atomic */
};

_Static_assert(sizeof(struct handler_node) == 64, "a node is one cache line");

#define EDGE_HEAD 1u /* the first page, which may be the last as well */
#define EDGE_TAIL 2u

struct pgm;
struct pgm_access;
struct pgm_counters;

struct handler_type_entry {
	uint32_t tag;      /* 0: unused */
	uint32_t last_tag; /* of the type that had this slot before */
	uint32_t users;    /* nodes of this type; under the lock */
	uint8_t kind;      /* enum handler_kind */
	uint8_t flags;     /* HANDLER_KEEP_LOCK, HANDLER_NOT_IN_HARDWARE */
	enum status (*callback)(void *user, struct pgm_access *access);
	const char *description;
};

/* Of one CPU: odd while it is inside a handler. Only that CPU writes it. */
struct handler_calls {
	uint64_t sequence; /* atomic */
	uint32_t depth;    /* handlers within handlers */
	bool holds_lock;   /* a handler of a type that keeps the lock is among them */
};

struct handler_table {
	struct spinlock lock;
	uint64_t generation; /* atomic; odd while the tree changes */
	uint32_t changing;   /* depth of handler_change_begin */
	uint32_t capacity;   /* usable nodes: 1..capacity */
	uint32_t root, free, used;
	uint32_t recent; /* the node that served last: tried first */
	uint64_t seed;
	struct pgm_counters *counters;
	uint64_t *recent_hits;      /* among them */
	struct handler_node **slab; /* pages of nodes */
	struct handler_type_entry type[HANDLER_TYPES];
	struct handler_calls calls[MAX_CPUS];
};

/* An index beyond the slab is counted, and becomes the sentinel's. */
uint32_t handler_index_wrong(const struct handler_table *table);
#define HANDLER_NODES_PER_PAGE (PAGE_SIZE / sizeof(struct handler_node))

static inline struct handler_node *handler_node_at(const struct handler_table *t, uint32_t index)
{
	if (unlikely(index > t->capacity))
		index = handler_index_wrong(t);
	return &t->slab[index / HANDLER_NODES_PER_PAGE][index % HANDLER_NODES_PER_PAGE];
}

/* handler/tree.c. All but create and destroy: table->lock held. */
enum status handler_table_create(struct handler_table *table, uint32_t capacity,
				 struct pgm_counters *counters) must_check;
void handler_table_destroy(struct handler_table *table);
/* What happens between the two is seen by lookups at once or not at all. They nest. Keep it short: lookups spin. */
void handler_change_begin(struct handler_table *table);
void handler_change_end(struct handler_table *table);
/* CONFLICT: overlaps another; LIMIT: the slab is used up. The links of `what` are not looked at. */
enum status handler_insert(struct handler_table *table, const struct handler_node *what) must_check;
/* removed may be NULL. NOT_FOUND: none starts at `first`. */
enum status handler_remove(struct handler_table *table, uint64_t first, struct handler_node *removed) must_check;
/* The node that starts at `first` becomes `what`, in its place: the new range must lie between its neighbours. */
enum status handler_replace(struct handler_table *table, uint64_t first, const struct handler_node *what) must_check;
void handler_node_copy(struct handler_node *to, const struct handler_node *from);

/* handler/lookup.c: lock-free */
/* Copies the node around `where`. No hit is counted. */
bool handler_find(struct handler_table *table, uint64_t where, struct handler_node *out);
/*
 * The same for a call: tries the recent node first, counts the hit and how it was found. Of *out are filled: first, last,
 * type, edges_off, user.
 */
bool handler_find_recent(struct handler_table *table, uint64_t where, struct handler_node *out);
/* Its way when nothing has changed since the last call, and it is the same handler's: false says nothing. */
static inline bool handler_try_recent(struct handler_table *t, uint64_t where, struct handler_node *out)
{
	uint64_t generation = __atomic_load_n(&t->generation, __ATOMIC_SEQ_CST);
	uint32_t at = __atomic_load_n(&t->recent, __ATOMIC_ACQUIRE);
	struct handler_node *n = handler_node_at(t, at);

	out->first = __atomic_load_n(&n->first, __ATOMIC_ACQUIRE);
	out->last = __atomic_load_n(&n->last, __ATOMIC_ACQUIRE);
	/* A node that has been freed has level 0; so has the sentinel, number 0. */
	if (unlikely(where < out->first || where > out->last || !__atomic_load_n(&n->level, __ATOMIC_ACQUIRE)))
		return false;
	out->type = __atomic_load_n(&n->type, __ATOMIC_ACQUIRE);
	out->edges_off = __atomic_load_n(&n->edges_off, __ATOMIC_ACQUIRE);
	out->user = __atomic_load_n(&n->user, __ATOMIC_ACQUIRE);
	if (unlikely((generation & 1) || __atomic_load_n(&t->generation, __ATOMIC_RELAXED) != generation))
		return false;
	/* Freed meanwhile it gets a wrong hit: harmless. */
	__atomic_fetch_add(&n->hits, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(t->recent_hits, 1, __ATOMIC_RELAXED);
	return true;
}
/* The node with the least `last` at or above `from`: the next in address order. */
bool handler_next(struct handler_table *table, uint64_t from, struct handler_node *out);
/* A handler's callback runs between these, and so does the lookup that finds it. */
static inline void handler_call_begin(struct handler_table *t)
{
	struct handler_calls *c = &t->calls[cpu_index()];

	if (!c->depth++)
		__atomic_store_n(&c->sequence, c->sequence + 1, __ATOMIC_SEQ_CST);
}
static inline void handler_call_end(struct handler_table *t)
{
	struct handler_calls *c = &t->calls[cpu_index()];

	if (!--c->depth)
		__atomic_store_n(&c->sequence, c->sequence + 1, __ATOMIC_RELEASE);
}
bool handler_inside_call(const struct handler_table *table);
/* Returns when no call that began before is in progress. Not inside a call, nor with a lock that a handler takes. */
void handler_wait_quiet(const struct handler_table *table);

/* check/handler.c: order, levels, count, free list, types. table->lock held. Returns findings. */
unsigned handler_tree_check(struct handler_table *table, void (*report)(void *context, const char *line),
			    void *context);

#endif
