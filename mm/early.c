/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory before the chunk allocator is open: a sorted list of usable ranges, into which ranges are put and out of which they are
 * cut; and pages from its end, never given back, of which page tables and the chunk table are made.
 */
#include "lib/bits.h"
#include "mm/intake.h"
#include "mm/map.h"

static uint64_t end_of(const struct memory_range *range)
{
	return range->base + range->size;
}

/* Ranges from..to-1 become `count` others, which the caller fills in. */
static void resize(struct memory_layout *layout, unsigned from, unsigned to, unsigned count)
{
	struct memory_range *usable = layout->usable;

	__builtin_memmove(&usable[from + count], &usable[to], (layout->count - to) * sizeof(*usable));
	layout->count += count - (to - from);
}

uint64_t intake_add(struct memory_layout *layout, uint64_t base, uint64_t size)
{
	uint64_t end = base + size, before = 0;
	unsigned from = 0, to;

	while (from < layout->count && end_of(&layout->usable[from]) < base)
		from++;
	for (to = from; to < layout->count && layout->usable[to].base <= end; to++)
		before += layout->usable[to].size;
	if (to > from) {
		base = min_u64(base, layout->usable[from].base);
		end = max_u64(end, end_of(&layout->usable[to - 1]));
	} else if (layout->count == INTAKE_MAX_RANGES) {
		return 0;
	}
	resize(layout, from, to, 1);
	layout->usable[from] = (struct memory_range){ base, end - base };
	layout->usable_bytes += end - base - before;
	return end - base - before;
}

/* Cuts from..to out of range `index`; where there's no room for two pieces the smaller one is lost. */
static void cut(struct memory_layout *layout, unsigned index, uint64_t from, uint64_t to)
{
	struct memory_range low = layout->usable[index], high = { to, end_of(&low) - to };

	layout->usable_bytes -= low.size;
	low.size = from - low.base;
	if (low.size && high.size && layout->count == INTAKE_MAX_RANGES)
		*(low.size < high.size ? &low.size : &high.size) = 0;
	layout->usable_bytes += low.size + high.size;
	resize(layout, index, index + 1, !!low.size + !!high.size);
	if (low.size)
		layout->usable[index] = low;
	if (high.size)
		layout->usable[index + !!low.size] = high;
}

uint64_t intake_exclude(struct memory_layout *layout, uint64_t base, uint64_t size)
{
	uint64_t before = layout->usable_bytes;

	for (unsigned i = layout->count; i-- > 0;) {
		const struct memory_range *range = &layout->usable[i];
		uint64_t from = max_u64(range->base, base), to = min_u64(end_of(range), base + size);

		if (from < to)
			cut(layout, i, from, to);
	}
	return before - layout->usable_bytes;
}

hpa_t early_alloc(struct memory_layout *layout, uint64_t size, uint64_t alignment)
{
	for (unsigned i = layout->count; size && i-- > 0;) {
		const struct memory_range *range = &layout->usable[i];
		uint64_t base;

		if (range->size < size)
			continue;
		base = align_down(end_of(range) - size, alignment);
		if (base < range->base)
			continue;
		cut(layout, i, base, base + size);
		__builtin_memset(direct_pointer(hpa(base)), 0, size);
		return hpa(base);
	}
	return HPA_NONE;
}
