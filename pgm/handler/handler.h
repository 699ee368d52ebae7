/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Access handlers inside PGM: the store of nodes, the types, who is inside a call, the marks.
 *
 * The store is a sorted array of numbers of nodes, over nodes that stay where they are; handlers never overlap, so they
 * are sorted by either end. Lookups take no lock: what they read may change under them, but every number in the array
 * is always that of a node, and the generation tells them to try again. All that they read is written by release
 * stores and read by acquire loads: that orders it against the generation without a fence.
 *
 * table->lock (RANK_HANDLERS, outside pgm->lock and the blocks) is held by every operation from its change of the store
 * to its last mark (of a step), so that marks and store are seen apart only by lookups, for which the store decides.
 */
#pragma once

#include "pgm/handlers.h"

#define HANDLER_TYPES 32u

struct handler_node {
	/* Bytes, inclusive. Unused: `first` is all ones, and `last` the number of the next unused node. */
	uint64_t first, last;
	pgm_handler callback;
	void *user;
	uint8_t kind;  /* enum handler_kind */
	uint8_t flags; /* HANDLER_KEEP_LOCK, HANDLER_NOT_IN_HARDWARE */
	uint8_t off;   /* HANDLER_OFF_* */
	uint8_t type;  /* index into type[] */
	uint32_t spare;
	/* Up to here it is what a call needs. */
	const char *description, *type_description;
	uint64_t hits; /* atomic */
};

#define HANDLER_NODE_WORDS 8u
#define HANDLER_CALL_WORDS 5u
_Static_assert(sizeof(struct handler_node) == HANDLER_NODE_WORDS * sizeof(uint64_t), "a node is one cache line");
_Static_assert(offsetof(struct handler_node, description) == HANDLER_CALL_WORDS * sizeof(uint64_t), "a call's part");

/* The page at this end, where the handler begins (ends) within it, is switched off. */
#define HANDLER_OFF_HEAD 1u
#define HANDLER_OFF_TAIL 2u
/* Some of the pages that it covers whole are off, or show another page: their records tell which. */
#define HANDLER_OFF_WHOLE 4u

struct handler_type_entry {
	uint32_t tag, last_tag;   /* 0: unused; of the type that had this slot before */
	uint32_t users;           /* nodes of this type */
	struct handler_node node; /* what such a one begins as */
};

/* Of one CPU: odd while it is inside a handler. Only that CPU writes it. */
struct handler_calls {
	uint64_t sequence; /* atomic */
	uint32_t depth;    /* handlers within handlers */
	bool holds_lock;   /* a handler of a type that keeps the lock is among them */
};

/* What an operation does to the store, and where marks must follow it: kept while they follow in steps. */
struct handler_work {
	struct handler_node out, in[2]; /* this one goes; these come, or take the place of what starts there */
	bool goes;
	unsigned comes;
	bool make; /* the first area's records are made, which can fail: then it is undone */
	enum status answer;
	struct {
		uint64_t first, end;
	} area[2]; /* whose marks are not there yet: bytes from first to below end */
};

struct handler_table {
	struct spinlock lock;
	uint64_t generation;         /* atomic; odd while the store changes */
	uint32_t capacity, used;     /* used: atomic */
	uint32_t free;               /* the first unused node */
	struct handler_node *recent; /* atomic: the node that served last is tried first */
	uint64_t *order;             /* atomic: numbers of nodes by address, four to a word */
	struct handler_node **slab;  /* pages of nodes */
	struct pgm_counters *counters;
	uint64_t seed;
	bool pending; /* work is not done */
	struct handler_work work;
	struct handler_type_entry type[HANDLER_TYPES];
	struct handler_calls calls[MAX_CPUS];
};

/* ---- handler/store.c: the lock is held, but for those marked lock-free ---- */
enum status handler_table_create(struct handler_table *table, uint32_t capacity,
				 struct pgm_counters *counters) must_check;
void handler_table_destroy(struct handler_table *table);
/* Does another node than the one that starts at `but` overlap these bytes? Lock-free. */
bool handler_overlaps(struct handler_table *table, uint64_t first, uint64_t last, uint64_t but);
/* LIMIT: for one more. */
enum status handler_room(const struct handler_table *table) must_check;
/* What happens between the two is seen by lookups at once or not at all. Keep it short: lookups spin. */
void handler_change_begin(struct handler_table *table);
void handler_change_end(struct handler_table *table);
/* In place of the node that starts there, or as a new one that fits. */
void handler_put(struct handler_table *table, const struct handler_node *what);
/* The node that starts at `first`, which must be there, goes. */
void handler_take(struct handler_table *table, uint64_t first);
struct handler_node *handler_node_at(const struct handler_table *table, uint32_t number);
/* By address, from 0 to below used. */
struct handler_node *handler_in_order(const struct handler_table *table, uint32_t at);

/* Lock-free. The node with the least `last` at or above `from` is copied; NULL: none. The place is good for its hits alone. */
struct handler_node *handler_next_place(struct handler_table *table, uint64_t from, struct handler_node *out);
static inline bool handler_next(struct handler_table *table, uint64_t from, struct handler_node *out)
{
	return handler_next_place(table, from, out) != NULL;
}
/* Lock-free. Copies the node around `where`. No hit is counted. */
static inline bool handler_find(struct handler_table *table, uint64_t where, struct handler_node *out)
{
	return handler_next(table, where, out) && out->first <= where;
}
/* Lock-free. The same for a call, whose words it fills: tries the recent node first, counts the hit and how it was found. */
bool handler_find_recent(struct handler_table *table, uint64_t where, struct handler_node *out);

static inline void handler_node_copy(struct handler_node *to, const struct handler_node *from, unsigned words)
{
#pragma GCC unroll 8
	for (unsigned i = 0; i < words; i++)
		__atomic_store_n((uint64_t *)to + i, __atomic_load_n((const uint64_t *)from + i, __ATOMIC_ACQUIRE),
				 __ATOMIC_RELEASE);
}

/* Its way when nothing has changed since the last call, and it is the same handler's: false says nothing. */
static inline bool handler_try_recent(struct handler_table *t, uint64_t where, struct handler_node *out)
{
	uint64_t generation = __atomic_load_n(&t->generation, __ATOMIC_SEQ_CST);
	struct handler_node *n = __atomic_load_n(&t->recent, __ATOMIC_ACQUIRE);

	handler_node_copy(out, n, HANDLER_CALL_WORDS);
	if (unlikely(where < out->first || where > out->last || (generation & 1) ||
		     __atomic_load_n(&t->generation, __ATOMIC_RELAXED) != generation))
		return false;
	/* Freed meanwhile it gets a wrong hit: harmless. */
	__atomic_fetch_add(&n->hits, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&t->counters->handler_hits, 1, __ATOMIC_RELAXED);
	return true;
}

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
/* Returns when no call that began before is in progress. Not inside a call, nor with a lock that a handler takes. */
void handler_wait_quiet(const struct handler_table *table);

/* check/store.c: order, count, unused nodes, types. The lock is held. */
struct check;
void handler_store_check(struct check *c, struct handler_table *table);

/* ---- operations: the lock is held from begin to end, and what they narrow is flushed after it is released ---- */
struct handler_operation {
	struct pgm *pgm;
	struct handler_node node; /* the handler that is operated on */
	bool held, outside;
	struct gather gather;
	struct handler_work work;
};

/* BAD_STATE: inside a handler that keeps the lock; with `outside`, inside any. In every case handler_end() must follow. */
enum status handler_begin(struct handler_operation *o, struct pgm *pgm, bool outside) must_check;
/* The same, and loads the handler that starts at `first`. NOT_FOUND; BAD_STATE: marks of memory are outstanding. */
enum status handler_begin_at(struct handler_operation *o, struct pgm *pgm, gpa_t first, bool outside) must_check;
/* What the operation is to do: a node comes into the store; the pages that these bytes touch are marked anew. */
static inline void handler_put_in(struct handler_operation *o, const struct handler_node *n)
{
	o->work.in[o->work.comes++] = *n;
}
static inline void handler_mark_area(struct handler_operation *o, unsigned i, uint64_t first, uint64_t last)
{
	o->work.area[i].first = first;
	o->work.area[i].end = last + 1;
}
/*
 * Does o->work if status is OK. With `outside` it waits, holding nothing, until no call that began before is in
 * progress. BUSY: all is done but for marks that follow in steps.
 */
enum status handler_end(struct handler_operation *o, enum status status) must_check;

struct handler_type_entry *handler_type_entry(struct pgm *pgm, handler_type type);

/* ---- handler/mark.c ---- */
/*
 * A step of what `work` has left, its areas: the records there become as the store wants them, and marks of MMIO go where no handler
 * is any more. BUSY: more to do; NO_MEMORY, OVER_QUOTA where records had to be made: it is undone.
 */
enum status handler_marks_step(struct handler_operation *o, struct handler_work *work) must_check;
/* What the record of this page must be by the store: mark, software bit, and for an alias whose handler is gone, type and frame. */
page_record handler_expected(struct pgm *pgm, gpa_t page, page_record now);

/* The ends of the handler that lie within the page around `where`. */
static inline unsigned handler_open_ends(const struct handler_node *n, uint64_t where)
{
	uint64_t page = align_down(where, PAGE_SIZE);

	return (n->first > page ? HANDLER_OFF_HEAD : 0) | (n->last < page + PAGE_SIZE - 1 ? HANDLER_OFF_TAIL : 0);
}

/* Is it off where it covers only a part of the page around `where`? Whole pages have that in the record. */
static inline bool handler_part_is_off(const struct handler_node *n, uint64_t where)
{
	unsigned ends = handler_open_ends(n, where);

	return ends && (n->off & ends) == ends;
}
