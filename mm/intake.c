/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The firmware's memory map is input like any other: first each entry is checked by itself, then
 * all against one another, and only then is it believed. What may be used is copied out into a
 * sorted list, and the ranges to keep are cut out of that. UEFI 2.10 section 7.2.3.
 */
#include "mm/intake.h"
#include "lib/format.h"

/* EFI_MEMORY_DESCRIPTOR, version 1; entries may be longer than this. */
struct descriptor {
	uint32_t type, pad;
	uint64_t base;
	uint64_t virtual_base;
	uint64_t pages;
	uint64_t attributes;
};

_Static_assert(sizeof(struct descriptor) == 40, "as UEFI lays it out");

#define ATTRIBUTE_NON_VOLATILE BIT(15)
#define ATTRIBUTE_SPECIAL_PURPOSE BIT(18)

/* No processor has more physical address bits. */
#define ADDRESS_LIMIT BIT(52)
/* Checking for overlap compares all pairs: this bounds it. */
#define MAX_DESCRIPTORS 4096u

enum use { USE_NEVER, USE_RAM, USE_RUNTIME, USE_MMIO };

/* By EfiMemoryType; types beyond the table are never used. */
static const uint8_t use_of_type[] = {
	[0] = USE_NEVER,   /* reserved */
	[1] = USE_RAM,     /* loader code */
	[2] = USE_RAM,     /* loader data */
	[3] = USE_RAM,     /* boot services code */
	[4] = USE_RAM,     /* boot services data */
	[5] = USE_RUNTIME, /* runtime services code */
	[6] = USE_RUNTIME, /* runtime services data */
	[7] = USE_RAM,     /* conventional */
	[8] = USE_NEVER,   /* unusable */
	[9] = USE_NEVER,   /* ACPI tables: kept, the host and guests read them */
	[10] = USE_NEVER,  /* ACPI NVS */
	[11] = USE_MMIO,   /* MMIO */
	[12] = USE_MMIO,   /* MMIO ports */
	[13] = USE_NEVER,  /* PAL code */
	[14] = USE_NEVER,  /* persistent */
	[15] = USE_NEVER,  /* unaccepted */
};

struct reader {
	const uint8_t *map;
	uint64_t count, stride;
	char *why;
	size_t why_size;
};

/* Entries needn't be aligned: copied byte by byte. */
static struct descriptor entry_at(const struct reader *reader, uint64_t index)
{
	struct descriptor entry;

	__builtin_memcpy(&entry, reader->map + index * reader->stride, sizeof(entry));
	return entry;
}

static enum use use_of(const struct descriptor *entry)
{
	enum use use = entry->type < ARRAY_SIZE(use_of_type) ? (enum use)use_of_type[entry->type] : USE_NEVER;

	if (use == USE_RAM && (entry->attributes & (ATTRIBUTE_SPECIAL_PURPOSE | ATTRIBUTE_NON_VOLATILE)))
		return USE_NEVER;
	return use;
}

static enum status refuse(const struct reader *reader, uint64_t index, const struct descriptor *entry, const char *what)
{
	format_string(reader->why, reader->why_size, "memory map entry %llu (type %u, 0x%llx, 0x%llx pages): %s",
		      (unsigned long long)index, entry->type, (unsigned long long)entry->base,
		      (unsigned long long)entry->pages, what);
	return BAD_FORMAT;
}

static enum status check_entry(const struct reader *reader, uint64_t index)
{
	struct descriptor entry = entry_at(reader, index);

	if (!is_aligned(entry.base, PAGE_SIZE))
		return refuse(reader, index, &entry, "not page-aligned");
	if (!entry.pages)
		return refuse(reader, index, &entry, "empty");
	if (entry.pages > ADDRESS_LIMIT >> PAGE_SHIFT || entry.base > ADDRESS_LIMIT - (entry.pages << PAGE_SHIFT))
		return refuse(reader, index, &entry, "ends beyond the physical address space");
	return OK;
}

/* Against all entries before it. */
static enum status check_overlap(const struct reader *reader, uint64_t index)
{
	struct descriptor entry = entry_at(reader, index);
	uint64_t end = entry.base + (entry.pages << PAGE_SHIFT);

	for (uint64_t i = 0; i < index; i++) {
		struct descriptor other = entry_at(reader, i);

		if (entry.base < other.base + (other.pages << PAGE_SHIFT) && other.base < end)
			return refuse(reader, index, &entry, "overlaps another entry");
	}
	return OK;
}

static enum status check_map(const struct reader *reader)
{
	for (uint64_t i = 0; i < reader->count; i++) {
		enum status status = check_entry(reader, i);

		if (status != OK)
			return status;
	}
	for (uint64_t i = 0; i < reader->count; i++) {
		enum status status = check_overlap(reader, i);

		if (status != OK)
			return status;
	}
	return OK;
}

static void insert_at(struct memory_layout *layout, unsigned index, struct memory_range range)
{
	for (unsigned i = layout->count++; i > index; i--)
		layout->usable[i] = layout->usable[i - 1];
	layout->usable[index] = range;
}

static void remove_at(struct memory_layout *layout, unsigned index)
{
	layout->count--;
	for (unsigned i = index; i < layout->count; i++)
		layout->usable[i] = layout->usable[i + 1];
}

static bool touches(const struct memory_range *low, const struct memory_range *high)
{
	return low->base + low->size == high->base;
}

/* Into its sorted place, joined with the neighbours that it touches. False: no room. */
static bool add_usable(struct memory_layout *layout, struct memory_range range)
{
	struct memory_range *usable = layout->usable;
	unsigned at = layout->count;

	while (at > 0 && usable[at - 1].base > range.base)
		at--;
	if (at > 0 && touches(&usable[at - 1], &range)) {
		usable[at - 1].size += range.size;
		at--;
	} else if (at < layout->count && touches(&range, &usable[at])) {
		usable[at].base = range.base;
		usable[at].size += range.size;
	} else if (layout->count == INTAKE_MAX_RANGES) {
		return false;
	} else {
		insert_at(layout, at, range);
	}
	if (at + 1 < layout->count && touches(&usable[at], &usable[at + 1])) {
		usable[at].size += usable[at + 1].size;
		remove_at(layout, at + 1);
	}
	return true;
}

/* Takes base..end out of the usable ranges. False: one would have to be cut in two and there is no room. */
static bool keep_out(struct memory_layout *layout, uint64_t base, uint64_t end)
{
	for (unsigned i = 0; i < layout->count;) {
		struct memory_range *range = &layout->usable[i];
		uint64_t range_end = range->base + range->size;

		if (end <= range->base || base >= range_end) {
			i++;
			continue;
		}
		if (base > range->base && end < range_end) {
			if (layout->count == INTAKE_MAX_RANGES)
				return false;
			range->size = base - range->base;
			insert_at(layout, i + 1, (struct memory_range){ .base = end, .size = range_end - end });
			return true;
		}
		if (base <= range->base && end >= range_end) {
			remove_at(layout, i);
			continue;
		}
		if (base > range->base)
			range->size = base - range->base;
		else
			*range = (struct memory_range){ .base = end, .size = range_end - end };
		i++;
	}
	return true;
}

static enum status collect(const struct reader *reader, struct memory_layout *layout)
{
	for (uint64_t i = 0; i < reader->count; i++) {
		struct descriptor entry = entry_at(reader, i);
		uint64_t bytes = entry.pages << PAGE_SHIFT;

		switch (use_of(&entry)) {
		case USE_RAM:
			if (!add_usable(layout, (struct memory_range){ .base = entry.base, .size = bytes }))
				return LIMIT;
			layout->top = max_u64(layout->top, entry.base + bytes);
			break;
		case USE_RUNTIME: layout->runtime_bytes += bytes; break;
		case USE_MMIO: layout->mmio_bytes += bytes; break;
		default: layout->reserved_bytes += bytes; break;
		}
	}
	return OK;
}

static enum status cut_out(const struct memory_range *keep, unsigned count, struct memory_layout *layout, char *why,
			   size_t why_size)
{
	if (!keep_out(layout, 0, PAGE_SIZE) || !keep_out(layout, INTAKE_TRAMPOLINE, INTAKE_TRAMPOLINE + PAGE_SIZE))
		return LIMIT;
	for (unsigned i = 0; i < count; i++) {
		if (keep[i].base > ADDRESS_LIMIT || keep[i].size > ADDRESS_LIMIT - keep[i].base) {
			format_string(why, why_size, "range %u to keep (0x%llx, 0x%llx bytes) wraps", i,
				      (unsigned long long)keep[i].base, (unsigned long long)keep[i].size);
			return BAD_FORMAT;
		}
		if (keep[i].size && !keep_out(layout, align_down(keep[i].base, PAGE_SIZE),
					      align_up(keep[i].base + keep[i].size, PAGE_SIZE)))
			return LIMIT;
	}
	return OK;
}

enum status intake_parse(const void *map, uint64_t map_size, uint64_t descriptor_size, const struct memory_range *keep,
			 unsigned keep_count, struct memory_layout *layout, char *why, size_t why_size)
{
	struct reader reader = { .map = map, .stride = descriptor_size, .why = why, .why_size = why_size };
	enum status status;

	layout->count = 0;
	layout->top = layout->usable_bytes = 0;
	layout->reserved_bytes = layout->runtime_bytes = layout->mmio_bytes = 0;
	if (descriptor_size < sizeof(struct descriptor) || !map_size || map_size % descriptor_size) {
		format_string(why, why_size, "memory map of %llu bytes with entries of %llu bytes",
			      (unsigned long long)map_size, (unsigned long long)descriptor_size);
		return BAD_FORMAT;
	}
	reader.count = map_size / descriptor_size;
	if (reader.count > MAX_DESCRIPTORS) {
		format_string(why, why_size, "memory map has %llu entries, at most %u are possible",
			      (unsigned long long)reader.count, MAX_DESCRIPTORS);
		return LIMIT;
	}
	status = check_map(&reader);
	if (status == OK)
		status = collect(&reader, layout);
	if (status == OK)
		status = cut_out(keep, keep_count, layout, why, why_size);
	if (status == LIMIT)
		format_string(why, why_size, "memory map has more than %u separate usable ranges", INTAKE_MAX_RANGES);
	for (unsigned i = 0; status == OK && i < layout->count; i++)
		layout->usable_bytes += layout->usable[i].size;
	return status;
}
