/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/intake.c mm/early.c mm/map.c lib/format.c
/*
 * libFuzzer: the firmware's memory map and the ranges to keep, as raw bytes. Whatever comes, the layout is sorted,
 * disjoint and inside what some entry of a usable type covers, or it is refused with a text.
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -I. -o build/fuzz_memory_map tests/fuzz/fuzz_memory_map.c <sources>
 */
#include <stdlib.h>
#include <string.h>

#include "arch/x86_64/log.h"
#include "mm/intake.h"

#define KEEPS 3u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Built without the kernel's own log. */
void log_line(const char *format, ...)
{
}

static void must(bool condition)
{
	if (!condition)
		abort();
}

static bool usable(uint32_t type)
{
	return (type >= 1 && type <= 4) || type == 7;
}

/* Every page at the ends of a range stands in an entry of a usable type. */
static bool covered(const uint8_t *map, size_t size, uint64_t stride, uint64_t address)
{
	for (size_t at = 0; at + stride <= size; at += stride) {
		uint64_t entry[5];

		memcpy(entry, map + at, sizeof(entry));
		if (usable((uint32_t)entry[0]) && address >= entry[1] && address - entry[1] < entry[3] << PAGE_SHIFT)
			return true;
	}
	return false;
}

static void check(const struct memory_layout *layout, const struct memory_range *keep, const uint8_t *map, size_t size,
		  uint64_t stride)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < layout->count; i++) {
		const struct memory_range *range = &layout->usable[i];

		must(range->size && is_aligned(range->base | range->size, PAGE_SIZE));
		must(range->base >= MIB && range->base + range->size <= layout->top);
		must(!i || range[-1].base + range[-1].size <= range->base);
		must(covered(map, size, stride, range->base) &&
		     covered(map, size, stride, range->base + range->size - 1));
		for (unsigned j = 0; j < KEEPS; j++)
			must(!keep[j].size || keep[j].base + keep[j].size <= range->base ||
			     range->base + range->size <= keep[j].base);
		sum += range->size;
	}
	must(sum == layout->usable_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct memory_layout layout;
	struct memory_range keep[KEEPS];
	uint64_t stride;
	char why[100] = "";
	enum status status;

	if (size < sizeof(keep) + 1)
		return 0;
	memcpy(keep, data, sizeof(keep));
	stride = data[sizeof(keep)] % 2 ? 48 : 40 + data[sizeof(keep)] % 16;
	data += sizeof(keep) + 1;
	size -= sizeof(keep) + 1;
	size -= size % stride;
	status = intake_parse(data, size, stride, keep, KEEPS, BIT(46), &layout, why, sizeof(why));
	if (status == OK)
		check(&layout, keep, data, size, stride);
	else
		must((status == BAD_FORMAT || status == LIMIT) && why[0]);
	return 0;
}
