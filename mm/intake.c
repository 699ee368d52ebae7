/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The firmware's memory map is input like any other, and often wrong in a detail: what is wrong is told and done without, for
 * what is right is enough nearly always. First what may be used is collected, in any order and overlap; then all else that the map names is cut
 * out of that, so that it wins; then what Quire keeps, and the first MiB, into which BIOSes write when they please.
 * UEFI 2.10 section 7.2.3.
 */
#include "mm/intake.h"

#include "arch/x86_64/log.h"
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
/* Each is held against all usable ranges: this bounds it. */
#define MAX_DESCRIPTORS 4096u
#define WARNINGS_TOLD 8u
#define FIRST_MIB MIB

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
	uint64_t limit;
	struct memory_layout *layout;
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

static void warn(const struct reader *reader, uint64_t index, const struct descriptor *entry, const char *what)
{
	if (reader->layout->warnings++ < WARNINGS_TOLD)
		log_line(LOG_WARNING "memory map entry %llu (type %u, 0x%llx, 0x%llx pages): %s",
			 (unsigned long long)index, entry->type, (unsigned long long)entry->base,
			 (unsigned long long)entry->pages, what);
}

/* What is wrong with it, or NULL. */
static const char *wrong_with(const struct descriptor *entry)
{
	if (!is_aligned(entry->base, PAGE_SIZE))
		return "not page-aligned: left out";
	if (!entry->pages)
		return "empty: left out";
	if (entry->pages > ADDRESS_LIMIT >> PAGE_SHIFT || entry->base > ADDRESS_LIMIT - (entry->pages << PAGE_SHIFT))
		return "ends beyond the physical address space: left out";
	return NULL;
}

static void collect(const struct reader *reader, uint64_t index, const struct descriptor *entry)
{
	uint64_t end = entry->base + (entry->pages << PAGE_SHIFT), size = min_u64(end, reader->limit) - entry->base;

	if (end > reader->limit)
		warn(reader, index, entry, "beyond what can be reached: left out");
	if (entry->base >= reader->limit)
		return;
	if (intake_add(reader->layout, entry->base, size) < size)
		warn(reader, index, entry, "told twice, or one range too many");
	reader->layout->top = max_u64(reader->layout->top, entry->base + size);
}

static void cut_out(const struct reader *reader, uint64_t index, const struct descriptor *entry)
{
	uint64_t size = entry->pages << PAGE_SHIFT;
	enum use use = use_of(entry);

	if (intake_exclude(reader->layout, entry->base, size))
		warn(reader, index, entry, "another entry calls it usable: left out");
	*(use == USE_RUNTIME ? &reader->layout->runtime_bytes
	  : use == USE_MMIO  ? &reader->layout->mmio_bytes
			     : &reader->layout->reserved_bytes) += size;
}

static void read_map(const struct reader *reader, bool ram)
{
	for (uint64_t i = 0; i < reader->count; i++) {
		struct descriptor entry = entry_at(reader, i);
		const char *wrong = wrong_with(&entry);

		if (wrong && ram)
			warn(reader, i, &entry, wrong);
		if (!wrong && (use_of(&entry) == USE_RAM) == ram)
			(ram ? collect : cut_out)(reader, i, &entry);
	}
}

static enum status cut_out_kept(const struct memory_range *keep, unsigned count, struct memory_layout *layout,
				char *why, size_t why_size)
{
	intake_exclude(layout, 0, FIRST_MIB);
	for (unsigned i = 0; i < count; i++) {
		uint64_t base = align_down(keep[i].base, PAGE_SIZE);

		if (keep[i].base > ADDRESS_LIMIT || keep[i].size > ADDRESS_LIMIT - keep[i].base)
			return EXPLAIN(BAD_FORMAT, why, why_size, "range %u to keep (0x%llx, 0x%llx bytes) wraps", i,
				       (unsigned long long)keep[i].base, (unsigned long long)keep[i].size);
		if (keep[i].size)
			intake_exclude(layout, base, align_up(keep[i].base + keep[i].size, PAGE_SIZE) - base);
	}
	return OK;
}

enum status intake_parse(const void *map, uint64_t map_size, uint64_t descriptor_size, const struct memory_range *keep,
			 unsigned keep_count, uint64_t limit, struct memory_layout *layout, char *why, size_t why_size)
{
	struct reader reader = { .map = map, .stride = descriptor_size, .limit = limit, .layout = layout };

	layout->count = layout->warnings = 0;
	layout->top = layout->usable_bytes = 0;
	layout->reserved_bytes = layout->runtime_bytes = layout->mmio_bytes = 0;
	if (descriptor_size < sizeof(struct descriptor) || !map_size || map_size % descriptor_size)
		return EXPLAIN(BAD_FORMAT, why, why_size, "memory map of %llu bytes with entries of %llu bytes",
			       (unsigned long long)map_size, (unsigned long long)descriptor_size);
	reader.count = map_size / descriptor_size;
	if (reader.count > MAX_DESCRIPTORS)
		return EXPLAIN(LIMIT, why, why_size, "memory map has %llu entries, at most %u are possible",
			       (unsigned long long)reader.count, MAX_DESCRIPTORS);
	read_map(&reader, true);
	read_map(&reader, false);
	if (layout->warnings > WARNINGS_TOLD)
		log_line(LOG_WARNING "memory map: %u more warnings", layout->warnings - WARNINGS_TOLD);
	return cut_out_kept(keep, keep_count, layout, why, why_size);
}
