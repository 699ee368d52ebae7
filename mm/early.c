/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory before the chunk allocator is open: what the processor's memory types forbid is left out; the rest is cut from the end of the highest range that has room,
 * never given back. Page tables and the chunk table are made of it.
 */
#include "mm/intake.h"
#include "mm/map.h"

/* Ends range `index` at `end`; what lies from `rest` to its old end stays as a range of its own if there's room for one. */
static void cut(struct memory_layout *layout, unsigned index, uint64_t end, uint64_t rest)
{
	struct memory_range *range = &layout->usable[index];
	uint64_t old_end = range->base + range->size;

	range->size = end - range->base;
	if (rest == old_end || layout->count == INTAKE_MAX_RANGES)
		return;
	for (unsigned i = layout->count++; i > index + 1; i--)
		layout->usable[i] = layout->usable[i - 1];
	layout->usable[index + 1] = (struct memory_range){ .base = rest, .size = old_end - rest };
}

static void remove_empty(struct memory_layout *layout, unsigned index)
{
	if (layout->usable[index].size)
		return;
	layout->count--;
	for (unsigned i = index; i < layout->count; i++)
		layout->usable[i] = layout->usable[i + 1];
}

enum status intake_exclude(struct memory_layout *layout, uint64_t base, uint64_t size)
{
	if (layout->count == INTAKE_MAX_RANGES)
		return LIMIT;
	for (unsigned i = layout->count; i-- > 0;) {
		const struct memory_range *range = &layout->usable[i];
		uint64_t from = max_u64(range->base, base), to = min_u64(range->base + range->size, base + size);

		if (from >= to)
			continue;
		layout->usable_bytes -= to - from;
		layout->reserved_bytes += to - from;
		cut(layout, i, from, to);
		remove_empty(layout, i);
	}
	return OK;
}

hpa_t early_alloc(struct memory_layout *layout, uint64_t size, uint64_t alignment)
{
	for (unsigned i = layout->count; size && i-- > 0;) {
		const struct memory_range *range = &layout->usable[i];
		uint64_t base;

		if (range->size < size)
			continue;
		base = align_down(range->base + range->size - size, alignment);
		if (base < range->base)
			continue;
		cut(layout, i, base, base + size);
		remove_empty(layout, i);
		__builtin_memset(direct_pointer(hpa(base)), 0, size);
		return hpa(base);
	}
	return HPA_NONE;
}
