/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One CPU's chunk map: slots of its window, found by chunk number in three steps. The lookaside table names a slot that
 * may be it, one load and one comparison; then a hash; then the chunk is mapped, in a free slot or in the oldest one's place.
 *
 * Slots with a chunk stand on a list by age, moved to its young end when the hash finds them. Who is found in the
 * lookaside table is only marked, so that the common way writes no links: a marked chunk that has become the oldest is
 * spared once. A chunk in use is always spared.
 */
#include "mm/chunk_map.h"

#include "arch/x86_64/log.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/window.h"
#include "lib/memory.h"

#define LOOKASIDE 64u
#define NO_CHUNK UINT32_MAX
#define NO_SLOT UINT32_MAX

struct slot {
	uint32_t chunk;        /* hpa >> 21, or NO_CHUNK */
	uint32_t users;        /* frame_map() without its frame_unmap() */
	uint32_t next;         /* of its hash bucket; of the free slots */
	uint32_t older, newer; /* by age, in a ring through the head */
	bool touched;          /* used since it was last moved to the young end */
};
_Static_assert((CHUNK_MAP_MOST + 1) * sizeof(struct slot) <= BLOCK_SIZE, "the heap gives the largest map's slots");

struct chunk_map {
	uint8_t *window;
	struct slot *slots; /* `capacity`, and behind them the head of the ring */
	uint32_t *buckets;
	uint32_t capacity, bucket_mask, free;
	uint32_t lookaside[LOOKASIDE];
	struct chunk_map_totals count; /* written by its CPU alone */
};

static struct chunk_map *maps[MAX_CPUS];
static unsigned bound;
bool chunk_map_strict;

static void count_up(uint64_t *counter, uint64_t by)
{
	__atomic_store_n(counter, *counter + by, __ATOMIC_RELAXED);
}

static unsigned share(void)
{
	return (unsigned)max_u64(CHUNK_MAP_LEAST, bound / cpu_count());
}

static void ring_remove(struct slot *slots, uint32_t index)
{
	slots[slots[index].older].newer = slots[index].newer;
	slots[slots[index].newer].older = slots[index].older;
}

static void ring_add(struct chunk_map *map, uint32_t index)
{
	struct slot *slots = map->slots, *head = &slots[map->capacity];

	slots[index].newer = map->capacity;
	slots[index].older = head->older;
	slots[head->older].newer = index;
	head->older = index;
	slots[index].touched = false;
}

static void make_newest(struct chunk_map *map, uint32_t index)
{
	ring_remove(map->slots, index);
	ring_add(map, index);
}

/* The head's neighbour on the other side is the oldest. */
static uint32_t oldest(const struct chunk_map *map)
{
	return map->slots[map->capacity].newer;
}

static uint32_t *bucket_of(struct chunk_map *map, uint32_t chunk)
{
	return &map->buckets[chunk & map->bucket_mask];
}

static uint32_t find(struct chunk_map *map, uint32_t chunk)
{
	uint32_t index = *bucket_of(map, chunk);

	while (index != NO_SLOT && map->slots[index].chunk != chunk)
		index = map->slots[index].next;
	return index;
}

/* Nothing stands in this slot any more. */
static void unmap(struct chunk_map *map, uint32_t index)
{
	struct slot *slot = &map->slots[index];
	uint32_t *link = bucket_of(map, slot->chunk);
	uint64_t before = __builtin_ia32_rdtsc();

	while (*link != index)
		link = &map->slots[*link].next;
	*link = slot->next;
	ring_remove(map->slots, index);
	window_set(index, HPA_NONE);
	slot->chunk = NO_CHUNK;
	slot->next = map->free;
	map->free = index;
	count_up(&map->count.mapped, UINT64_MAX);
	count_up(&map->count.unmaps, 1);
	count_up(&map->count.unmap_ticks, __builtin_ia32_rdtsc() - before);
}

/* Makes room for one more. Each slot is spared at most once for its mark, so the second round ends it. */
static void unmap_oldest(struct chunk_map *map)
{
	for (uint64_t left = 2 * map->count.mapped; left; left--) {
		uint32_t index = oldest(map);

		if (!map->slots[index].users && !map->slots[index].touched) {
			unmap(map, index);
			return;
		}
		make_newest(map, index);
		count_up(&map->count.aging, 1);
	}
	panic("more than %u chunks in use on one CPU", (unsigned)map->count.mapped);
}

static uint32_t map_chunk(struct chunk_map *map, uint32_t chunk)
{
	uint64_t limit = min_u64(share(), map->capacity), before;
	uint32_t index;

	while (map->count.mapped >= limit)
		unmap_oldest(map);
	before = __builtin_ia32_rdtsc();
	index = map->free;
	map->free = map->slots[index].next;
	map->slots[index].chunk = chunk;
	map->slots[index].next = *bucket_of(map, chunk);
	*bucket_of(map, chunk) = index;
	ring_add(map, index);
	window_set(index, hpa((uint64_t)chunk << BLOCK_SHIFT));
	count_up(&map->count.mapped, 1);
	count_up(&map->count.maps, 1);
	count_up(&map->count.map_ticks, __builtin_ia32_rdtsc() - before);
	return index;
}

/* Not where the lookaside table said. */
static uint32_t find_or_map(struct chunk_map *map, uint32_t chunk)
{
	uint32_t index = find(map, chunk);

	count_up(&map->count.misses, 1);
	if (index == NO_SLOT) {
		index = map_chunk(map, chunk);
	} else {
		make_newest(map, index);
		count_up(&map->count.finds, 1);
	}
	map->lookaside[chunk % LOOKASIDE] = index;
	return index;
}

void *chunk_map_take(hpa_t where)
{
	struct chunk_map *map = maps[cpu_index()];
	uint32_t chunk = (uint32_t)(where.v >> BLOCK_SHIFT), index = map->lookaside[chunk % LOOKASIDE];

	if (likely(map->slots[index].chunk == chunk)) {
		map->slots[index].touched = true;
		count_up(&map->count.hits, 1);
	} else {
		index = find_or_map(map, chunk);
	}
	map->slots[index].users++;
	return map->window + ((uint64_t)index << BLOCK_SHIFT) + (where.v & (BLOCK_SIZE - 1));
}

void chunk_map_give(const void *pointer)
{
	struct chunk_map *map = maps[cpu_index()];
	uint64_t index = (uint64_t)((const uint8_t *)pointer - map->window) >> BLOCK_SHIFT;

	panic_unless(index < map->capacity && map->slots[index].users != 0);
	if (!--map->slots[index].users && unlikely(chunk_map_strict))
		unmap(map, (uint32_t)index);
}

void chunk_map_forget(void)
{
	struct chunk_map *map = maps[cpu_index()];

	for (uint32_t index = oldest(map), newer; index != map->capacity; index = newer) {
		newer = map->slots[index].newer;
		if (!map->slots[index].users)
			unmap(map, index);
	}
}

void chunk_map_bound(unsigned chunks)
{
	panic_unless(chunks <= CHUNK_MAP_MOST);
	bound = chunks;
}

static void make_empty(struct chunk_map *map)
{
	for (uint32_t i = 0; i < map->capacity; i++)
		map->slots[i] = (struct slot){ .chunk = NO_CHUNK, .next = i + 1 };
	for (uint32_t i = 0; i <= map->bucket_mask; i++)
		map->buckets[i] = NO_SLOT;
	map->slots[map->capacity].older = map->slots[map->capacity].newer = map->capacity;
}

enum status chunk_map_open(void)
{
	struct chunk_map *map = heap_alloc(sizeof(*map));
	uint32_t capacity = share(), buckets = 1;

	while (buckets < capacity)
		buckets *= 2;
	if (!map)
		return NO_MEMORY;
	*map = (struct chunk_map){ .capacity = capacity, .bucket_mask = buckets - 1 };
	map->slots = heap_alloc((capacity + 1) * sizeof(*map->slots));
	map->buckets = heap_alloc(buckets * sizeof(*map->buckets));
	map->window = map->slots && map->buckets ? window_open(capacity) : NULL;
	if (!map->window) {
		heap_free(map->buckets, buckets * sizeof(*map->buckets));
		heap_free(map->slots, (capacity + 1) * sizeof(*map->slots));
		heap_free(map, sizeof(*map));
		return NO_MEMORY;
	}
	make_empty(map);
	__atomic_store_n(&maps[cpu_index()], map, __ATOMIC_RELEASE);
	return OK;
}

void chunk_map_totals(struct chunk_map_totals *totals)
{
	uint64_t *sums = (uint64_t *)totals;

	*totals = (struct chunk_map_totals){ 0 };
	for (unsigned cpu = 0; cpu < MAX_CPUS; cpu++) {
		struct chunk_map *map = __atomic_load_n(&maps[cpu], __ATOMIC_ACQUIRE);

		for (unsigned i = 0; map && i < sizeof(*totals) / sizeof(*sums); i++)
			sums[i] += __atomic_load_n((const uint64_t *)&map->count + i, __ATOMIC_RELAXED);
		if (map)
			totals->most += min_u64(share(), map->capacity);
	}
}
