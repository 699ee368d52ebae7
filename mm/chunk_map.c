/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One CPU's chunk map: slots of its window. A chunk's number names its own slot, one load and one comparison; if it isn't
 * there it may stand in one of the next few (WAYS); else it is mapped, in an empty one of these or in the place of that which wasn't used
 * for the longest time.
 *
 * Slots are filled and emptied under the map's lock, for another CPU may drop a chunk. Who uses a chunk needs no lock: a chunk in
 * use is never dropped, and what becomes of other slots doesn't matter to him.
 */
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/window.h"
#include "lib/memory.h"
#include "mm/chunk.h"

#define WAYS CHUNK_MAP_LEAST
#define NO_CHUNK UINT32_MAX

struct slot {
	uint32_t chunk; /* atomic: hpa >> 21, or NO_CHUNK */
	uint32_t users; /* frame_map() without its frame_unmap() */
	uint64_t used;  /* the map's clock at its last use */
};
_Static_assert(CHUNK_MAP_MOST * sizeof(struct slot) <= BLOCK_SIZE, "the heap gives the largest map's slots");

struct chunk_map {
	struct spinlock lock;
	uint8_t *window;
	struct slot *slots;
	uint32_t capacity; /* a power of two */
	uint64_t clock;
	struct chunk_map_totals count; /* written by its CPU alone, but for `mapped` and `unmaps`: under the lock */
};

static struct chunk_map *maps[MAX_CPUS];
static unsigned bound, sharers;
unsigned chunk_map_strict;

static void count_up(uint64_t *counter, uint64_t by)
{
	__atomic_store_n(counter, *counter + by, __ATOMIC_RELAXED);
}

static struct slot *way(const struct chunk_map *map, uint32_t chunk, unsigned number)
{
	return &map->slots[(chunk + number) & (map->capacity - 1)];
}

static bool holds(const struct slot *slot, uint32_t chunk)
{
	return __atomic_load_n(&slot->chunk, __ATOMIC_RELAXED) == chunk;
}

static struct slot *find(const struct chunk_map *map, uint32_t chunk)
{
	for (unsigned i = 0; i < WAYS; i++)
		if (holds(way(map, chunk, i), chunk))
			return way(map, chunk, i);
	return NULL;
}

/* Under the map's lock, as all that follows. `cpu`: whose map it is. */
static void unmap(struct chunk_map *map, unsigned cpu, struct slot *slot)
{
	uint64_t before = __builtin_ia32_rdtsc();

	panic_unless(!slot->users);
	window_clear(cpu, (unsigned)(slot - map->slots));
	__atomic_fetch_sub(&chunks.table[slot->chunk].windows, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->chunk, NO_CHUNK, __ATOMIC_RELAXED);
	count_up(&map->count.mapped, UINT64_MAX);
	count_up(&map->count.unmaps, 1);
	count_up(&map->count.unmap_ticks, __builtin_ia32_rdtsc() - before);
}

/* An empty slot, or the one that wasn't used for the longest time. */
static struct slot *make_room(struct chunk_map *map, uint32_t chunk)
{
	struct slot *oldest = NULL;

	for (unsigned i = 0; i < WAYS; i++) {
		struct slot *slot = way(map, chunk, i);

		if (holds(slot, NO_CHUNK))
			return slot;
		if (slot->users)
			count_up(&map->count.aging, 1);
		else if (!oldest || slot->used < oldest->used)
			oldest = slot;
	}
	if (!oldest)
		panic("more than %u chunks in use on one CPU", WAYS);
	unmap(map, cpu_index(), oldest);
	return oldest;
}

static struct slot *map_chunk(struct chunk_map *map, uint32_t chunk)
{
	struct slot *slot = make_room(map, chunk);
	uint64_t before = __builtin_ia32_rdtsc();

	__atomic_fetch_add(&chunks.table[chunk].windows, 1, __ATOMIC_RELAXED);
	window_set((unsigned)(slot - map->slots), hpa((uint64_t)chunk << BLOCK_SHIFT));
	__atomic_store_n(&slot->chunk, chunk, __ATOMIC_RELAXED);
	count_up(&map->count.mapped, 1);
	count_up(&map->count.maps, 1);
	count_up(&map->count.map_ticks, __builtin_ia32_rdtsc() - before);
	return slot;
}

/* It isn't in its own slot. */
static struct slot *find_or_map(struct chunk_map *map, uint32_t chunk)
{
	struct slot *slot;

	HOLD(&map->lock);
	count_up(&map->count.misses, 1);
	slot = find(map, chunk);
	if (slot)
		count_up(&map->count.finds, 1);
	else
		slot = map_chunk(map, chunk);
	return slot;
}

void *chunk_map_take(hpa_t where)
{
	struct chunk_map *map = maps[cpu_index()];
	uint32_t chunk = (uint32_t)(where.v >> BLOCK_SHIFT);
	struct slot *slot = way(map, chunk, 0);

	if (likely(holds(slot, chunk)))
		count_up(&map->count.hits, 1);
	else
		slot = find_or_map(map, chunk);
	slot->used = ++map->clock;
	slot->users++;
	return map->window + ((uint64_t)(slot - map->slots) << BLOCK_SHIFT) + (where.v & (BLOCK_SIZE - 1));
}

static void unmap_idle(struct chunk_map *map, struct slot *slot)
{
	HOLD(&map->lock);
	if (!slot->users && !holds(slot, NO_CHUNK))
		unmap(map, cpu_index(), slot);
}

void chunk_map_give(const void *pointer)
{
	struct chunk_map *map = maps[cpu_index()];
	uint64_t index = (uint64_t)((const uint8_t *)pointer - map->window) >> BLOCK_SHIFT;

	panic_unless(index < map->capacity && map->slots[index].users != 0);
	if (!--map->slots[index].users && unlikely(chunk_map_strict) && map->clock % chunk_map_strict == 0)
		unmap_idle(map, &map->slots[index]);
}

void chunk_map_forget(void)
{
	struct chunk_map *map = maps[cpu_index()];

	for (uint32_t i = 0; i < map->capacity && __atomic_load_n(&map->count.mapped, __ATOMIC_RELAXED); i++)
		if (!holds(&map->slots[i], NO_CHUNK))
			unmap_idle(map, &map->slots[i]);
}

void chunk_map_drop(hpa_t block)
{
	uint32_t chunk = (uint32_t)(block.v >> BLOCK_SHIFT);

	for (unsigned cpu = 0; cpu < MAX_CPUS && __atomic_load_n(&chunks.table[chunk].windows, __ATOMIC_RELAXED);
	     cpu++) {
		struct chunk_map *map = __atomic_load_n(&maps[cpu], __ATOMIC_ACQUIRE);
		struct slot *slot;

		if (!map)
			continue;
		HOLD(&map->lock);
		slot = find(map, chunk);
		if (slot)
			unmap(map, cpu, slot);
	}
}

static uint32_t share(void)
{
	uint64_t most = max_u64(CHUNK_MAP_LEAST, bound / sharers);

	return (uint32_t)1 << (63 - __builtin_clzll(most));
}

void chunk_map_bound(unsigned chunks, unsigned cpus)
{
	panic_unless(chunks <= CHUNK_MAP_MOST && cpus != 0);
	bound = chunks;
	sharers = cpus;
}

enum status chunk_map_open(void)
{
	struct chunk_map *map = heap_alloc(sizeof(*map));
	uint32_t capacity = share();

	if (!map)
		return NO_MEMORY;
	*map = (struct chunk_map){ .lock = SPINLOCK(RANK_LEAF, "chunk map"), .capacity = capacity };
	map->slots = heap_alloc(capacity * sizeof(*map->slots));
	map->window = map->slots ? window_open(capacity) : NULL;
	if (!map->window) {
		heap_free(map->slots, capacity * sizeof(*map->slots));
		heap_free(map, sizeof(*map));
		return NO_MEMORY;
	}
	for (uint32_t i = 0; i < capacity; i++)
		map->slots[i].chunk = NO_CHUNK;
	map->count.most = capacity;
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
	}
}
