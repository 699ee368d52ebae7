/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding handlers without a lock, and knowing who is inside one.
 *
 * A lookup reads the generation, walks at most MAX_DEPTH nodes, copies what it found, and starts again if the
 * generation has moved. A call is announced in the CPU's own slot before its lookup: who has removed a handler and
 * then finds every slot quiet, or moved on, knows that no call to it is left and none can begin.
 */
#include "lib/bits.h"
#include "pgm/handler/handler.h"
#include "pgm/pgm.h"

#define MAX_DEPTH 40u
#define GET(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE)

static uint64_t read_begin(const struct handler_table *t)
{
	uint64_t generation;

	while ((generation = __atomic_load_n(&t->generation, __ATOMIC_SEQ_CST)) & 1)
		spin_pause();
	return generation;
}

/* Every load in between was an acquire, so this one comes after them all. */
static bool read_retry(const struct handler_table *t, uint64_t generation)
{
	return __atomic_load_n(&t->generation, __ATOMIC_RELAXED) != generation;
}

/* The index of the last node that starts at or below `where`; bounded even while the tree changes. */
static uint32_t floor_of(const struct handler_table *t, uint64_t where)
{
	uint32_t at = GET(t->root), best = 0;

	for (unsigned depth = 0; at && depth < MAX_DEPTH; depth++) {
		struct handler_node *n = handler_node_at(t, at);

		if (GET(n->first) <= where) {
			best = at;
			at = GET(n->right);
		} else {
			at = GET(n->left);
		}
	}
	return best;
}

static inline bool covers(const struct handler_table *t, uint32_t at, uint64_t where)
{
	const struct handler_node *n = handler_node_at(t, at);

	/* The recent node may have been freed: its level tells. */
	return at && GET(n->level) && where >= GET(n->first) && where <= GET(n->last);
}

bool handler_find(struct handler_table *t, uint64_t where, struct handler_node *out)
{
	uint64_t generation;
	bool found;

	do {
		uint32_t at;

		generation = read_begin(t);
		at = floor_of(t, where);
		found = covers(t, at, where);
		if (found)
			handler_node_copy(out, handler_node_at(t, at));
	} while (unlikely(read_retry(t, generation)));
	return found;
}

bool handler_find_recent(struct handler_table *t, uint64_t where, struct handler_node *out)
{
	uint64_t generation;
	uint32_t at;
	bool found;

	if (likely(handler_try_recent(t, where, out)))
		return true;
	do {
		generation = read_begin(t);
		at = floor_of(t, where);
		found = covers(t, at, where);
		if (found)
			handler_node_copy(out, handler_node_at(t, at));
	} while (unlikely(read_retry(t, generation)));
	if (found) {
		/* A node freed meanwhile gets a wrong hit, or is tried in vain: both harmless. */
		__atomic_fetch_add(&handler_node_at(t, at)->hits, 1, __ATOMIC_RELAXED);
		__atomic_store_n(&t->recent, at, __ATOMIC_RELEASE);
	}
	__atomic_fetch_add(&t->counters->handler_misses, 1, __ATOMIC_RELAXED);
	return found;
}

bool handler_next(struct handler_table *t, uint64_t from, struct handler_node *out)
{
	uint64_t generation;
	uint32_t best;

	do {
		uint32_t at;

		generation = read_begin(t);
		best = 0;
		at = GET(t->root);
		for (unsigned depth = 0; at && depth < MAX_DEPTH; depth++) {
			struct handler_node *n = handler_node_at(t, at);

			if (GET(n->last) >= from) {
				best = at;
				at = GET(n->left);
			} else {
				at = GET(n->right);
			}
		}
		if (best)
			handler_node_copy(out, handler_node_at(t, best));
	} while (unlikely(read_retry(t, generation)));
	return best != 0;
}

bool handler_inside_call(const struct handler_table *t)
{
	return t->calls[cpu_index()].depth != 0;
}

void handler_wait_quiet(const struct handler_table *t)
{
	for (unsigned cpu = 0; cpu < cpu_count(); cpu++) {
		const uint64_t *sequence = &t->calls[cpu].sequence;
		uint64_t seen = __atomic_load_n(sequence, __ATOMIC_SEQ_CST);

		if (!(seen & 1))
			continue;
		while (__atomic_load_n(sequence, __ATOMIC_ACQUIRE) == seen)
			spin_pause();
	}
}
