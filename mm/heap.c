/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel heap: lib/memory.h over kernel frames.
 *
 *   up to 2016 bytes   slabs: one frame cut into objects of one size, a header at its start
 *   up to 4 KiB        one frame
 *   up to 1 MiB        a run of adjacent frames within one kernel chunk
 *   up to 2 MiB        a whole chunk
 *
 * All is charged to the host's base account. Each size has a lock of its own, never held while frames are
 * fetched or bytes are cleared. Debug builds fill what is free and what lies behind an object with
 * patterns: a write after free, a write past the end or a free with another size panics.
 */
#include "lib/memory.h"
#include "mm/chunk.h"
#include "mm/inject.h"

#define SLAB_HEADER 64u
#define SLAB_MAGIC 0x62616c53u
#define RUN_MAX ((unsigned)(MIB / PAGE_SIZE))
#define FILL_FREE 0xdb
#define FILL_TAIL 0xa5
#define FILL_END 0x5e /* the first byte of the tail, so that the size must be exact */

static const bool debugging = QUIRE_DEBUG;

struct slab {
	struct slab *next, *previous; /* slabs of this size with room */
	void *free;                   /* free objects, each holding the address of the next */
	uint32_t magic;
	uint16_t used;
	uint16_t size_class;
};

_Static_assert(sizeof(struct slab) <= SLAB_HEADER, "the header has its place");

static struct size_class {
	uint16_t size;
	struct slab *slabs;
	struct spinlock lock;
} classes[] = {
#define CLASS(bytes)                                                                                                   \
	{                                                                                                              \
		.size = (bytes), .lock = SPINLOCK(RANK_LEAF, "heap")                                                   \
	}
	CLASS(16),  CLASS(32),  CLASS(48),  CLASS(64),  CLASS(96),   CLASS(128),  CLASS(192),  CLASS(256),
	CLASS(336), CLASS(400), CLASS(560), CLASS(672), CLASS(1008), CLASS(1344), CLASS(2016),
#undef CLASS
};

static unsigned objects_per_slab(const struct size_class *class)
{
	return (unsigned)(PAGE_SIZE - SLAB_HEADER) / class->size;
}

/* NULL: too large for a slab. */
static struct size_class *class_of(size_t size)
{
	for (unsigned i = 0; i < ARRAY_SIZE(classes); i++) {
		if (size <= classes[i].size)
			return &classes[i];
	}
	return NULL;
}

static void fill(void *where, uint8_t pattern, size_t size)
{
	__builtin_memset(where, pattern, size);
}

static bool is_filled(const uint8_t *where, uint8_t pattern, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (where[i] != pattern)
			return false;
	}
	return true;
}

/* What lies behind an object of this size up to the end of its place. */
static void tail_set(struct size_class *class, uint8_t *object, size_t size)
{
	if (size == class->size)
		return;
	object[size] = FILL_END;
	fill(object + size + 1, FILL_TAIL, class->size - size - 1);
}

static bool tail_holds(struct size_class *class, const uint8_t *object, size_t size)
{
	if (size == class->size)
		return true;
	return object[size] == FILL_END && is_filled(object + size + 1, FILL_TAIL, class->size - size - 1);
}

static void slab_link(struct size_class *class, struct slab *slab)
{
	slab->previous = NULL;
	slab->next = class->slabs;
	if (slab->next)
		slab->next->previous = slab;
	class->slabs = slab;
}

static void slab_unlink(struct size_class *class, struct slab *slab)
{
	if (slab->previous)
		slab->previous->next = slab->next;
	else
		class->slabs = slab->next;
	if (slab->next)
		slab->next->previous = slab->previous;
}

/* Frames are charged to the host, which has no quota: only real shortage fails. */
static void *pages_take(unsigned count)
{
	hpa_t frame;
	bool got;

	if (account_charge_locked(&host_account, ACCOUNT_BASE, count) != OK)
		return NULL;
	got = count == 1 ? kernel_frame_take(record_kernel(1), &frame) : kernel_run_take(count, &frame);
	if (got)
		return direct_pointer(frame);
	account_uncharge_locked(&host_account, ACCOUNT_BASE, count);
	return NULL;
}

static void pages_put(void *pointer, unsigned count)
{
	hpa_t frame = direct_address(pointer);
	frame_record record;

	panic_unless(chunk_of(frame)->kind == CHUNK_KERNEL);
	record = record_load(frame_slot(frame));
	panic_unless(record_state(record) == FRAME_KERNEL && record_references(record) == count);
	if (count == 1)
		kernel_frame_put(frame);
	else
		kernel_run_put(frame, count);
	account_uncharge_locked(&host_account, ACCOUNT_BASE, count);
}

static struct slab *slab_new(struct size_class *class)
{
	struct slab *slab = pages_take(1);
	uint8_t *objects = (uint8_t *)slab + SLAB_HEADER;

	if (!slab)
		return NULL;
	slab->magic = SLAB_MAGIC;
	slab->size_class = (uint16_t)(class - classes);
	for (unsigned i = objects_per_slab(class); i-- > 0;) {
		void *object = objects + i * class->size;

		if (debugging)
			fill(object, FILL_FREE, class->size);
		*(void **)object = slab->free;
		slab->free = object;
	}
	return slab;
}

static void *slab_pop(struct size_class *class)
{
	struct slab *slab;
	void *object = NULL;

	HOLD(&class->lock);
	slab = class->slabs;
	if (slab) {
		object = slab->free;
		slab->free = *(void **)object;
		slab->used++;
		if (!slab->free)
			slab_unlink(class, slab);
	}
	return object;
}

static void *small_alloc(struct size_class *class, size_t size)
{
	uint8_t *object;

	while (!(object = slab_pop(class))) {
		struct slab *slab = slab_new(class);

		if (!slab)
			return NULL;
		HOLD(&class->lock);
		slab_link(class, slab);
	}
	if (debugging) {
		panic_unless(is_filled(object + sizeof(void *), FILL_FREE, class->size - sizeof(void *)));
		tail_set(class, object, size);
	}
	fill(object, 0, size);
	return object;
}

static void small_free(struct size_class *class, uint8_t *object, size_t size)
{
	struct slab *slab = (struct slab *)((uintptr_t)object & ~(uintptr_t)(PAGE_SIZE - 1)), *gone = NULL;

	if (debugging) {
		panic_unless(slab->magic == SLAB_MAGIC && slab->size_class == class - classes);
		panic_unless(tail_holds(class, object, size));
		fill(object, FILL_FREE, class->size);
	}
	lock_acquire(&class->lock);
	if (!slab->free)
		slab_link(class, slab);
	*(void **)object = slab->free;
	slab->free = object;
	/* An empty slab goes, unless it's the last one with room. */
	if (!--slab->used && (slab->next || slab->previous)) {
		slab_unlink(class, slab);
		gone = slab;
	}
	lock_release(&class->lock);
	if (gone)
		pages_put(gone, 1);
}

static void *whole_chunk_alloc(void)
{
	hpa_t block;
	bool zero;

	if (block_alloc(&host_account, gpa(0), &block, &zero) != OK)
		return NULL;
	if (!zero)
		block_zero(block);
	return direct_pointer(block);
}

static void whole_chunk_free(void *pointer)
{
	lock_acquire(&chunk_lock);
	block_free(&host_account, direct_address(pointer));
	lock_release(&chunk_lock);
	account_uncharge_locked(&host_account, ACCOUNT_BASE, PAGES_PER_BLOCK);
}

void *heap_alloc(size_t size)
{
	struct size_class *class = class_of(size);
	unsigned pages = (unsigned)((size + PAGE_SIZE - 1) / PAGE_SIZE);

	if (size > BLOCK_SIZE || mm_fault_injected(MM_SITE_HEAP, OWNER_HOST))
		return NULL;
	if (class)
		return small_alloc(class, size);
	return pages <= RUN_MAX ? pages_take(pages) : whole_chunk_alloc();
}

void heap_free(void *pointer, size_t size)
{
	struct size_class *class = class_of(size);
	unsigned pages = (unsigned)((size + PAGE_SIZE - 1) / PAGE_SIZE);

	if (!pointer)
		return;
	if (class)
		small_free(class, pointer, size);
	else if (pages <= RUN_MAX)
		pages_put(pointer, pages);
	else
		whole_chunk_free(pointer);
}
