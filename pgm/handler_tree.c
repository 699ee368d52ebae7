/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The AA tree over the slab. Depth is at most 2·log2(n + 1): 34 for 65,536 handlers, so the
 * recursion of insert and remove is bounded by that.
 */
#include "arch/x86_64/spinlock.h"
#include "lib/memory.h"
#include "pgm/handler_node.h"

/*
 * Lookups read while a writer changes the tree. What they read is loaded with acquire and stored with release: a
 * lookup that saw anything of a change also sees the generation that the change began with.
 */
#define LOAD(member) __atomic_load_n(&(member), __ATOMIC_ACQUIRE)
#define STORE(member, value) __atomic_store_n(&(member), (value), __ATOMIC_RELEASE)

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
	STORE(node(t, at)->left, node(t, left)->right);
	STORE(node(t, left)->right, at);
	return left;
}

static uint32_t split(struct handler_table *t, uint32_t at)
{
	uint32_t right = node(t, at)->right;

	if (!at || !right || node(t, node(t, right)->right)->level != node(t, at)->level)
		return at;
	STORE(node(t, at)->right, node(t, right)->left);
	STORE(node(t, right)->left, at);
	node(t, right)->level++;
	return right;
}

static uint32_t insert_at(struct handler_table *t, uint32_t at, uint32_t fresh)
{
	struct handler_node *n = node(t, at);

	if (!at)
		return fresh;
	if (node(t, fresh)->first < n->first)
		STORE(n->left, insert_at(t, n->left, fresh));
	else
		STORE(n->right, insert_at(t, n->right, fresh));
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
	STORE(n->right, skew(t, n->right));
	if (n->right)
		STORE(node(t, n->right)->right, skew(t, node(t, n->right)->right));
	at = split(t, at);
	STORE(node(t, at)->right, split(t, node(t, at)->right));
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
	STORE(n->left, take_first(t, n->left, taken));
	return lower_level(t, at);
}

static uint32_t remove_at(struct handler_table *t, uint32_t at, uint64_t first, uint32_t *removed)
{
	struct handler_node *n = node(t, at);

	if (!at)
		return 0;
	if (first < n->first) {
		STORE(n->left, remove_at(t, n->left, first, removed));
	} else if (first > n->first) {
		STORE(n->right, remove_at(t, n->right, first, removed));
	} else {
		uint32_t next;

		*removed = at;
		if (!n->right)
			return n->left;
		STORE(n->right, take_first(t, n->right, &next));
		STORE(node(t, next)->left, n->left);
		STORE(node(t, next)->right, n->right);
		node(t, next)->level = n->level;
		at = next;
	}
	return lower_level(t, at);
}

/* The index of the last node that starts at or below `where`; bounded even while the tree changes. */
static uint32_t floor_of(const struct handler_table *t, uint64_t where)
{
	uint32_t at = LOAD(t->root), best = 0;

	for (unsigned depth = 0; at && depth < MAX_DEPTH; depth++) {
		struct handler_node *n = node(t, at);

		if (LOAD(n->first) <= where) {
			best = at;
			at = LOAD(n->right);
		} else {
			at = LOAD(n->left);
		}
	}
	return best;
}

static void change_begin(struct handler_table *t)
{
	STORE(t->generation, t->generation + 1);
}

static void change_end(struct handler_table *t)
{
	STORE(t->recent, 0);
	STORE(t->generation, t->generation + 1);
}

/* All but the links. */
static void copy_node(struct handler_node *to, struct handler_node *from)
{
	*to = (struct handler_node){ .first = LOAD(from->first), .last = LOAD(from->last), .type = LOAD(from->type),
				     .user = LOAD(from->user), .description = LOAD(from->description),
				     .hits = LOAD(from->hits) };
}

static void fill_node(struct handler_node *n, const struct handler_node *what)
{
	STORE(n->first, what->first);
	STORE(n->last, what->last);
	STORE(n->type, what->type);
	STORE(n->user, what->user);
	STORE(n->description, what->description);
	STORE(n->hits, 0);
	STORE(n->left, 0);
	STORE(n->right, 0);
	n->level = 1;
}

enum status handler_insert(struct handler_table *t, const struct handler_node *what)
{
	uint32_t below = floor_of(t, what->last);
	uint32_t fresh = t->free;

	if (below && node(t, below)->last >= what->first)
		return CONFLICT;
	if (!fresh)
		return LIMIT;
	change_begin(t);
	t->free = node(t, fresh)->right;
	fill_node(node(t, fresh), what);
	STORE(t->root, insert_at(t, t->root, fresh));
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
	STORE(t->root, remove_at(t, t->root, first, &removed));
	copy_node(out, node(t, removed));
	node(t, removed)->level = 0;
	/* Covers nothing: a lookup that is just ending may still note it as the recent one. */
	STORE(node(t, removed)->first, UINT64_MAX);
	STORE(node(t, removed)->last, 0);
	STORE(node(t, removed)->right, t->free);
	t->free = removed;
	t->used--;
	change_end(t);
	return OK;
}

static uint64_t read_begin(const struct handler_table *t)
{
	uint64_t generation;

	while ((generation = LOAD(t->generation)) & 1)
		spin_pause();
	return generation;
}

static bool read_retry(const struct handler_table *t, uint64_t generation)
{
	return LOAD(t->generation) != generation;
}

static bool covers(struct handler_node *n, uint64_t where)
{
	return LOAD(n->first) <= where && where <= LOAD(n->last);
}

bool handler_find(struct handler_table *t, uint64_t where, struct handler_node *out)
{
	uint64_t generation;
	uint32_t at;
	bool found;

	do {
		generation = read_begin(t);
		at = LOAD(t->recent);
		if (!at || !covers(node(t, at), where))
			at = floor_of(t, where);
		found = at && covers(node(t, at), where);
		if (found)
			copy_node(out, node(t, at));
	} while (unlikely(read_retry(t, generation)));
	if (found) {
		__atomic_fetch_add(&node(t, at)->hits, 1, __ATOMIC_RELAXED);
		if (LOAD(t->recent) != at)
			STORE(t->recent, at);
	}
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
		at = LOAD(t->root);
		for (unsigned depth = 0; at && depth < MAX_DEPTH; depth++) {
			struct handler_node *n = node(t, at);

			if (LOAD(n->last) >= from) {
				best = at;
				at = LOAD(n->left);
			} else {
				at = LOAD(n->right);
			}
		}
		if (best)
			copy_node(out, node(t, best));
	} while (unlikely(read_retry(t, generation)));
	return best != 0;
}
