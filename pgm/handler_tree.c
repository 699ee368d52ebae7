/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The AA tree over the slab. Depth is at most 2·log2(n + 1): 34 for 65,536 handlers, so the
 * recursion of insert and remove is bounded by that.
 */
#include "arch/x86_64/address.h"
#include "arch/x86_64/spinlock.h"
#include "lib/bits.h"
#include "lib/format.h"
#include "lib/memory.h"
#include "pgm/handler.h"

#define NODES_PER_PAGE (PAGE_SIZE / sizeof(struct handler_node))
#define MAX_DEPTH 40u
_Static_assert(NODES_PER_PAGE >= 32, "a slab page holds the smallest table");

static struct handler_node *node(const struct handler_table *t, uint32_t index)
{
	if (unlikely(index > t->capacity))
		index = HANDLER_NONE_INDEX;
	return &t->slab[index / NODES_PER_PAGE][index % NODES_PER_PAGE];
}

static size_t slab_pages(uint32_t capacity)
{
	return (capacity + NODES_PER_PAGE) / NODES_PER_PAGE;
}

enum status handler_table_create(struct handler_table *t, uint32_t capacity)
{
	size_t pages = slab_pages(capacity);

	*t = (struct handler_table){ .capacity = capacity };
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

static uint32_t skew(struct handler_table *t, uint32_t at)
{
	uint32_t left = node(t, at)->left;

	if (!at || node(t, left)->level != node(t, at)->level)
		return at;
	node(t, at)->left = node(t, left)->right;
	node(t, left)->right = at;
	return left;
}

static uint32_t split(struct handler_table *t, uint32_t at)
{
	uint32_t right = node(t, at)->right;

	if (!at || !right || node(t, node(t, right)->right)->level != node(t, at)->level)
		return at;
	node(t, at)->right = node(t, right)->left;
	node(t, right)->left = at;
	node(t, right)->level++;
	return right;
}

static uint32_t insert_at(struct handler_table *t, uint32_t at, uint32_t fresh)
{
	struct handler_node *n = node(t, at);

	if (!at)
		return fresh;
	if (node(t, fresh)->first < n->first)
		n->left = insert_at(t, n->left, fresh);
	else
		n->right = insert_at(t, n->right, fresh);
	return split(t, skew(t, at));
}

static uint32_t lower_level(struct handler_table *t, uint32_t at)
{
	struct handler_node *n = node(t, at), *right = node(t, n->right);
	uint16_t want = (uint16_t)(min_u64(node(t, n->left)->level, right->level) + 1);

	if (want < n->level) {
		n->level = want;
		if (want < right->level)
			right->level = want;
	}
	at = skew(t, at);
	n = node(t, at);
	n->right = skew(t, n->right);
	if (n->right)
		node(t, n->right)->right = skew(t, node(t, n->right)->right);
	at = split(t, at);
	node(t, at)->right = split(t, node(t, at)->right);
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
	n->left = take_first(t, n->left, taken);
	return lower_level(t, at);
}

static uint32_t remove_at(struct handler_table *t, uint32_t at, uint64_t first, uint32_t *removed)
{
	struct handler_node *n = node(t, at);

	if (!at)
		return 0;
	if (first < n->first) {
		n->left = remove_at(t, n->left, first, removed);
	} else if (first > n->first) {
		n->right = remove_at(t, n->right, first, removed);
	} else {
		uint32_t next;

		*removed = at;
		if (!n->right)
			return n->left;
		n->right = take_first(t, n->right, &next);
		node(t, next)->left = n->left;
		node(t, next)->right = n->right;
		node(t, next)->level = n->level;
		at = next;
	}
	return lower_level(t, at);
}

/* The index of the last node that starts at or below `where`; bounded even while the tree changes. */
static uint32_t floor_of(const struct handler_table *t, uint64_t where)
{
	uint32_t at = __atomic_load_n(&t->root, __ATOMIC_ACQUIRE), best = 0;

	for (unsigned depth = 0; at && depth < MAX_DEPTH; depth++) {
		struct handler_node *n = node(t, at);

		if (n->first <= where) {
			best = at;
			at = n->right;
		} else {
			at = n->left;
		}
	}
	return best;
}

static void change_begin(struct handler_table *t)
{
	__atomic_store_n(&t->generation, t->generation + 1, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void change_end(struct handler_table *t)
{
	t->recent = 0;
	__atomic_store_n(&t->generation, t->generation + 1, __ATOMIC_RELEASE);
}

enum status handler_insert(struct handler_table *t, const struct handler_node *what)
{
	uint32_t below = floor_of(t, what->last);
	uint32_t fresh = t->free;
	struct handler_node *n;

	if (below && node(t, below)->last >= what->first)
		return CONFLICT;
	if (!fresh)
		return LIMIT;
	change_begin(t);
	n = node(t, fresh);
	t->free = n->right;
	*n = *what;
	n->left = n->right = 0;
	n->level = 1;
	n->hits = 0;
	t->root = insert_at(t, t->root, fresh);
	t->used++;
	change_end(t);
	return OK;
}

enum status handler_remove(struct handler_table *t, uint64_t first, struct handler_node *out)
{
	uint32_t removed = 0, at = floor_of(t, first);

	if (!at || node(t, at)->first != first)
		return NOT_FOUND;
	change_begin(t);
	t->root = remove_at(t, t->root, first, &removed);
	*out = *node(t, removed);
	node(t, removed)->level = 0;
	node(t, removed)->right = t->free;
	t->free = removed;
	t->used--;
	change_end(t);
	return OK;
}

static uint64_t read_begin(const struct handler_table *t)
{
	uint64_t generation;

	while ((generation = __atomic_load_n(&t->generation, __ATOMIC_ACQUIRE)) & 1)
		spin_pause();
	return generation;
}

static bool read_retry(const struct handler_table *t, uint64_t generation)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(&t->generation, __ATOMIC_RELAXED) != generation;
}

bool handler_find(struct handler_table *t, uint64_t where, struct handler_node *out)
{
	uint64_t generation;
	bool found;

	do {
		uint32_t at;

		generation = read_begin(t);
		at = __atomic_load_n(&t->recent, __ATOMIC_RELAXED);
		if (!at || where < node(t, at)->first || where > node(t, at)->last)
			at = floor_of(t, where);
		found = at && where <= node(t, at)->last && where >= node(t, at)->first;
		if (found) {
			*out = *node(t, at);
			__atomic_store_n(&t->recent, at, __ATOMIC_RELAXED);
			__atomic_fetch_add(&node(t, at)->hits, 1, __ATOMIC_RELAXED);
		}
	} while (unlikely(read_retry(t, generation)));
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
		at = t->root;
		for (unsigned depth = 0; at && depth < MAX_DEPTH; depth++) {
			struct handler_node *n = node(t, at);

			if (n->last >= from) {
				best = at;
				at = n->left;
			} else {
				at = n->right;
			}
		}
		if (best)
			*out = *node(t, best);
	} while (unlikely(read_retry(t, generation)));
	return best != 0;
}

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
