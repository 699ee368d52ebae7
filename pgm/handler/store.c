/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sorted array of handlers, finding them without a lock, and knowing who is inside one.
 *
 * The array holds 16-bit numbers, four to a word, so that the longest shift, that of 65,536 handlers, moves 16 K words:
 * a few microseconds, in which lookups wait. A lookup reads the generation, halves the array, copies the node that it
 * found, and starts again if the generation has moved. A call is announced in the CPU's own slot before its lookup:
 * who has removed a handler and then finds every slot quiet, or moved on, knows that no call to it is left and none can
 * begin.
 */
#include "arch/x86_64/log.h"
#include "lib/memory.h"
#include "pgm/handler/handler.h"

#define NODES_PER_PAGE (PAGE_SIZE / sizeof(struct handler_node))
#define NUMBER_BITS 16u
#define NUMBERS_PER_WORD 4u
_Static_assert(NUMBER_BITS *NUMBERS_PER_WORD == 64, "a word is full of numbers");

#define PUT(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELEASE)
#define GET(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE)

static size_t slab_pages(const struct handler_table *t)
{
	return (t->capacity + NODES_PER_PAGE - 1) / NODES_PER_PAGE;
}

/* One number more than there can be: a removal looks at the word behind the last. */
static size_t order_bytes(const struct handler_table *t)
{
	return (t->capacity / NUMBERS_PER_WORD + 2) * sizeof(t->order[0]);
}

struct handler_node *handler_node_at(const struct handler_table *t, uint32_t number)
{
	return &t->slab[number / NODES_PER_PAGE][number % NODES_PER_PAGE];
}

static void add_free(struct handler_table *t, uint32_t number)
{
	PUT(handler_node_at(t, number)->first, UINT64_MAX);
	PUT(handler_node_at(t, number)->last, t->free);
	t->free = number;
}

enum status handler_table_create(struct handler_table *t, uint32_t capacity, struct pgm_counters *counters)
{
	*t = (struct handler_table){ .capacity = capacity, .free = capacity, .counters = counters };
	lock_init(&t->lock, RANK_HANDLERS, "handlers");
	t->order = heap_alloc(order_bytes(t));
	t->slab = heap_alloc(slab_pages(t) * sizeof(t->slab[0]));
	for (size_t i = 0; t->slab && i < slab_pages(t); i++) {
		t->slab[i] = heap_alloc(PAGE_SIZE);
		if (!t->slab[i])
			break;
	}
	if (!t->order || !t->slab || !t->slab[slab_pages(t) - 1]) {
		handler_table_destroy(t);
		return NO_MEMORY;
	}
	for (uint32_t i = capacity; i-- > 0;)
		add_free(t, i);
	t->recent = handler_node_at(t, 0);
	return OK;
}

void handler_table_destroy(struct handler_table *t)
{
	for (size_t i = 0; t->slab && i < slab_pages(t); i++)
		heap_free(t->slab[i], PAGE_SIZE);
	heap_free(t->slab, slab_pages(t) * sizeof(t->slab[0]));
	heap_free(t->order, order_bytes(t));
	t->slab = NULL;
	t->order = NULL;
	t->used = 0;
}

static uint64_t read_begin(const struct handler_table *t)
{
	uint64_t generation;

	while ((generation = __atomic_load_n(&t->generation, __ATOMIC_SEQ_CST)) & 1)
		spin_pause();
	return generation;
}

struct handler_node *handler_in_order(const struct handler_table *t, uint32_t at)
{
	return handler_node_at(t, GET(t->order[at / NUMBERS_PER_WORD]) >> at % NUMBERS_PER_WORD * NUMBER_BITS & 0xffff);
}

/* The place of the first node that ends at or above `from`; t->used: there is none. */
static uint32_t seek(const struct handler_table *t, uint64_t from)
{
	uint32_t low = 0, high = GET(t->used);

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (GET(handler_in_order(t, middle)->last) < from)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct handler_node *handler_next_place(struct handler_table *t, uint64_t from, struct handler_node *out)
{
	struct handler_node *n;
	uint64_t generation;

	do {
		uint32_t at;

		generation = read_begin(t);
		at = seek(t, from);
		n = at < GET(t->used) ? handler_in_order(t, at) : NULL;
		if (n)
			handler_node_copy(out, n, HANDLER_NODE_WORDS);
		/* Every load before was an acquire, so this one comes after them all. */
	} while (unlikely(__atomic_load_n(&t->generation, __ATOMIC_RELAXED) != generation));
	return n;
}

bool handler_find_recent(struct handler_table *t, uint64_t where, struct handler_node *out)
{
	struct handler_node *n;

	if (likely(handler_try_recent(t, where, out)))
		return true;
	__atomic_fetch_add(&t->counters->handler_misses, 1, __ATOMIC_RELAXED);
	n = handler_next_place(t, where, out);
	if (!n || out->first > where)
		return false;
	/* A node freed meanwhile gets a wrong hit, or is tried in vain: both harmless. */
	__atomic_fetch_add(&n->hits, 1, __ATOMIC_RELAXED);
	PUT(t->recent, n);
	return true;
}

bool handler_overlaps(struct handler_table *t, uint64_t first, uint64_t last, uint64_t but)
{
	struct handler_node n;

	for (uint64_t from = first; handler_next(t, from, &n) && n.first <= last; from = n.last + 1)
		if (n.first != but)
			return true;
	return false;
}

enum status handler_room(const struct handler_table *t)
{
	if (t->used < t->capacity)
		return OK;
	__atomic_fetch_add(&t->counters->handler_alloc_errors, 1, __ATOMIC_RELAXED);
	return LIMIT;
}

void handler_change_begin(struct handler_table *t)
{
	__atomic_store_n(&t->generation, t->generation + 1, __ATOMIC_SEQ_CST);
}

/* Sequentially consistent against handler_call_begin(): a call that is not waited for sees the change. */
void handler_change_end(struct handler_table *t)
{
	__atomic_store_n(&t->generation, t->generation + 1, __ATOMIC_SEQ_CST);
}

static void count_moved(struct handler_table *t, uint32_t at)
{
	__atomic_fetch_add(&t->counters->handler_rebalances, (t->used - at) / NUMBERS_PER_WORD + 1, __ATOMIC_RELAXED);
}

static void open_gap(struct handler_table *t, uint32_t at, uint64_t number)
{
	unsigned shift = at % NUMBERS_PER_WORD * NUMBER_BITS;
	uint64_t below = BIT(shift) - 1, *order = t->order;
	uint32_t first = at / NUMBERS_PER_WORD, i = t->used / NUMBERS_PER_WORD;

	for (; i > first; i--)
		PUT(order[i], order[i] << NUMBER_BITS | order[i - 1] >> (64 - NUMBER_BITS));
	PUT(order[i], (order[i] & below) | number << shift | (order[i] & ~below) << NUMBER_BITS);
}

static void close_gap(struct handler_table *t, uint32_t at)
{
	uint64_t below = BIT(at % NUMBERS_PER_WORD * NUMBER_BITS) - 1, *order = t->order;
	uint32_t i = at / NUMBERS_PER_WORD, last = t->used / NUMBERS_PER_WORD;

	for (; i <= last; i++, below = 0)
		PUT(order[i],
		    (order[i] & below) | (order[i] >> NUMBER_BITS & ~below) | order[i + 1] << (64 - NUMBER_BITS));
}

void handler_put(struct handler_table *t, const struct handler_node *what)
{
	uint32_t at = seek(t, what->first), number = t->free;

	if (at < t->used && handler_in_order(t, at)->first == what->first) {
		handler_node_copy(handler_in_order(t, at), what, HANDLER_NODE_WORDS);
		return;
	}
	t->free = (uint32_t)handler_node_at(t, number)->last;
	handler_node_copy(handler_node_at(t, number), what, HANDLER_NODE_WORDS);
	open_gap(t, at, number);
	count_moved(t, at);
	PUT(t->used, t->used + 1);
	t->type[what->type].users++;
	t->counters->handler_max = max_u64(t->used, t->counters->handler_max);
	__atomic_fetch_add(&t->counters->handler_inserts, 1, __ATOMIC_RELAXED);
}

void handler_take(struct handler_table *t, uint64_t first)
{
	uint32_t at = seek(t, first), word = at / NUMBERS_PER_WORD;
	uint32_t number = t->order[word] >> at % NUMBERS_PER_WORD * NUMBER_BITS & 0xffff;

	/* Whoever takes a node out has found it under the lock, which is still held. */
	panic_unless(at < t->used && handler_node_at(t, number)->first == first);
	t->type[handler_node_at(t, number)->type].users--;
	close_gap(t, at);
	count_moved(t, at);
	PUT(t->used, t->used - 1);
	add_free(t, number);
	__atomic_fetch_add(&t->counters->handler_removals, 1, __ATOMIC_RELAXED);
}

void handler_wait_quiet(const struct handler_table *t)
{
	for (unsigned cpu = 0; cpu < cpu_count(); cpu++) {
		const uint64_t *sequence = &t->calls[cpu].sequence;
		uint64_t seen = __atomic_load_n(sequence, __ATOMIC_SEQ_CST);

		while ((seen & 1) && __atomic_load_n(sequence, __ATOMIC_ACQUIRE) == seen)
			spin_pause();
	}
}
