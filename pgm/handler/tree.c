/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The AA tree over the slab. Depth is at most 2·log2(n + 1): 34 for 65,536 handlers, so the recursion of insert and
 * remove is bounded by that. Writers are alone (table->lock), readers are not kept out: see handler.h.
 */
#include "lib/bits.h"
#include "lib/memory.h"
#include "pgm/handler/handler.h"
#include "pgm/pgm.h"

#define NODES_PER_PAGE HANDLER_NODES_PER_PAGE
_Static_assert(NODES_PER_PAGE >= 32, "a slab page holds the smallest table");

#define PUT(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELEASE)
#define GET(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE)

uint32_t handler_index_wrong(const struct handler_table *t)
{
	__atomic_fetch_add(&t->counters->handler_tree_errors, 1, __ATOMIC_RELAXED);
	return HANDLER_NONE_INDEX;
}

static struct handler_node *node(const struct handler_table *t, uint32_t index)
{
	return handler_node_at(t, index);
}

static size_t slab_pages(uint32_t capacity)
{
	return (capacity + NODES_PER_PAGE) / NODES_PER_PAGE;
}

enum status handler_table_create(struct handler_table *t, uint32_t capacity, struct pgm_counters *counters)
{
	size_t pages = slab_pages(capacity);

	*t = (struct handler_table){ .capacity = capacity,
				     .counters = counters,
				     .recent_hits = &counters->handler_hits };
	lock_init(&t->lock, RANK_HANDLERS, "handlers");
	t->slab = heap_alloc(pages * sizeof(t->slab[0]));
	if (!t->slab)
		return NO_MEMORY;
	for (size_t i = 0; i < pages; i++) {
		t->slab[i] = heap_alloc(PAGE_SIZE);
		if (!t->slab[i]) {
			handler_table_destroy(t);
			return NO_MEMORY;
		}
	}
	for (uint32_t i = capacity; i; i--) {
		node(t, i)->right = t->free;
		t->free = i;
	}
	return OK;
}

void handler_table_destroy(struct handler_table *t)
{
	size_t pages = slab_pages(t->capacity);

	if (!t->slab)
		return;
	for (size_t i = 0; i < pages; i++)
		heap_free(t->slab[i], PAGE_SIZE);
	heap_free(t->slab, pages * sizeof(t->slab[0]));
	t->slab = NULL;
	t->root = 0;
}

void handler_node_copy(struct handler_node *to, const struct handler_node *from)
{
	to->first = GET(from->first);
	to->last = GET(from->last);
	to->left = GET(from->left);
	to->right = GET(from->right);
	to->level = GET(from->level);
	to->type = GET(from->type);
	to->edges_off = GET(from->edges_off);
	to->pages_off = GET(from->pages_off);
	to->pages_aliased = GET(from->pages_aliased);
	to->user = GET(from->user);
	to->description = GET(from->description);
	to->hits = __atomic_load_n(&from->hits, __ATOMIC_RELAXED);
}

/* All but the links. */
static void node_fill(struct handler_node *to, const struct handler_node *from)
{
	PUT(to->first, from->first);
	PUT(to->last, from->last);
	PUT(to->type, from->type);
	PUT(to->edges_off, from->edges_off);
	PUT(to->pages_off, from->pages_off);
	PUT(to->pages_aliased, from->pages_aliased);
	PUT(to->user, from->user);
	PUT(to->description, from->description);
	PUT(to->hits, from->hits);
}

static void rebalanced(struct handler_table *t)
{
	__atomic_fetch_add(&t->counters->handler_rebalances, 1, __ATOMIC_RELAXED);
}

static uint32_t skew(struct handler_table *t, uint32_t at)
{
	uint32_t left = node(t, at)->left;

	if (!at || node(t, left)->level != node(t, at)->level)
		return at;
	PUT(node(t, at)->left, node(t, left)->right);
	PUT(node(t, left)->right, at);
	rebalanced(t);
	return left;
}

static uint32_t split(struct handler_table *t, uint32_t at)
{
	uint32_t right = node(t, at)->right;

	if (!at || !right || node(t, node(t, right)->right)->level != node(t, at)->level)
		return at;
	PUT(node(t, at)->right, node(t, right)->left);
	PUT(node(t, right)->left, at);
	PUT(node(t, right)->level, (uint16_t)(node(t, right)->level + 1));
	rebalanced(t);
	return right;
}

static uint32_t insert_at(struct handler_table *t, uint32_t at, uint32_t fresh)
{
	struct handler_node *n = node(t, at);

	if (!at)
		return fresh;
	if (node(t, fresh)->first < n->first)
		PUT(n->left, insert_at(t, n->left, fresh));
	else
		PUT(n->right, insert_at(t, n->right, fresh));
	return split(t, skew(t, at));
}

static uint32_t lower_level(struct handler_table *t, uint32_t at)
{
	struct handler_node *n = node(t, at), *right = node(t, n->right);
	uint16_t want = (uint16_t)(min_u64(node(t, n->left)->level, right->level) + 1);

	if (want < n->level) {
		PUT(n->level, want);
		if (want < right->level)
			PUT(right->level, want);
	}
	at = skew(t, at);
	n = node(t, at);
	PUT(n->right, skew(t, n->right));
	if (n->right) {
		n = node(t, n->right);
		PUT(n->right, skew(t, n->right));
	}
	at = split(t, at);
	n = node(t, at);
	PUT(n->right, split(t, n->right));
	return at;
}

/* Takes the leftmost node out of the subtree; *taken is its index. */
static uint32_t take_first(struct handler_table *t, uint32_t at, uint32_t *taken)
{
	struct handler_node *n = node(t, at);

	if (!n->left) {
		*taken = at;
		return n->right;
	}
	PUT(n->left, take_first(t, n->left, taken));
	return lower_level(t, at);
}

static uint32_t remove_at(struct handler_table *t, uint32_t at, uint64_t first, uint32_t *removed)
{
	struct handler_node *n = node(t, at);

	if (!at)
		return 0;
	if (first < n->first) {
		PUT(n->left, remove_at(t, n->left, first, removed));
	} else if (first > n->first) {
		PUT(n->right, remove_at(t, n->right, first, removed));
	} else {
		uint32_t next;

		*removed = at;
		if (!n->right)
			return n->left;
		PUT(n->right, take_first(t, n->right, &next));
		PUT(node(t, next)->left, n->left);
		PUT(node(t, next)->right, n->right);
		PUT(node(t, next)->level, n->level);
		at = next;
	}
	return lower_level(t, at);
}

/* The index of the last node that starts at or below `where`; writers only. */
static uint32_t floor_of(const struct handler_table *t, uint64_t where)
{
	uint32_t best = 0;

	for (uint32_t at = t->root; at;) {
		struct handler_node *n = node(t, at);

		if (n->first <= where)
			best = at;
		at = n->first <= where ? n->right : n->left;
	}
	return best;
}

void handler_change_begin(struct handler_table *t)
{
	if (!t->changing++)
		__atomic_store_n(&t->generation, t->generation + 1, __ATOMIC_SEQ_CST);
}

/* Sequentially consistent against handler_call_begin(): a call that is not waited for sees the change. */
void handler_change_end(struct handler_table *t)
{
	if (--t->changing)
		return;
	__atomic_store_n(&t->recent, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&t->generation, t->generation + 1, __ATOMIC_SEQ_CST);
}

enum status handler_insert(struct handler_table *t, const struct handler_node *what)
{
	uint32_t below = floor_of(t, what->last);
	uint32_t fresh = t->free;
	struct handler_node *n = node(t, fresh);

	if (below && node(t, below)->last >= what->first)
		return CONFLICT;
	if (!fresh) {
		__atomic_fetch_add(&t->counters->handler_alloc_errors, 1, __ATOMIC_RELAXED);
		return LIMIT;
	}
	handler_change_begin(t);
	t->free = n->right;
	node_fill(n, what);
	PUT(n->left, 0);
	PUT(n->right, 0);
	PUT(n->level, 1);
	PUT(t->root, insert_at(t, t->root, fresh));
	t->type[what->type].users++;
	t->used++;
	if (t->used > t->counters->handler_max)
		t->counters->handler_max = t->used;
	__atomic_fetch_add(&t->counters->handler_inserts, 1, __ATOMIC_RELAXED);
	handler_change_end(t);
	return OK;
}

enum status handler_remove(struct handler_table *t, uint64_t first, struct handler_node *out)
{
	uint32_t removed = 0, at = floor_of(t, first);
	struct handler_node *n;

	if (!at || node(t, at)->first != first)
		return NOT_FOUND;
	handler_change_begin(t);
	PUT(t->root, remove_at(t, t->root, first, &removed));
	n = node(t, removed);
	if (out)
		handler_node_copy(out, n);
	t->type[n->type].users--;
	PUT(n->level, 0);
	PUT(n->left, 0);
	PUT(n->right, t->free);
	t->free = removed;
	t->used--;
	__atomic_fetch_add(&t->counters->handler_removals, 1, __ATOMIC_RELAXED);
	handler_change_end(t);
	return OK;
}

enum status handler_replace(struct handler_table *t, uint64_t first, const struct handler_node *what)
{
	uint32_t at = floor_of(t, first);

	if (!at || node(t, at)->first != first)
		return NOT_FOUND;
	handler_change_begin(t);
	node_fill(node(t, at), what);
	handler_change_end(t);
	return OK;
}
