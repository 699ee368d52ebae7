/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the firmware's memory map to chunks. First the map is boiled down to usable ranges; then the early allocator
 * serves page tables and the chunk table from them; then mm_start() hands the rest to the chunk allocator.
 */
#pragma once

#include "arch/x86_64/address.h"
#include "lib/status.h"

struct memory_range {
	uint64_t base, size; /* host-physical, whole pages */
};

#define INTAKE_MAX_RANGES 512u

struct memory_layout {
	unsigned count;
	struct memory_range usable[INTAKE_MAX_RANGES]; /* sorted, disjoint, merged */
	uint64_t top; /* end of the highest range of a usable type, kept ones included */
	uint64_t usable_bytes;
	uint64_t reserved_bytes, runtime_bytes, mmio_bytes; /* for the printed summary */
	unsigned warnings;                                  /* entries that were wrong, and did without */
};

/*
 * map: UEFI descriptors (UEFI 2.10 section 7.2.3), `descriptor_size` bytes apart. keep: ranges that must not be handed
 * out though their type is usable (kernel, boot data, guest files). limit: memory from there on can't be reached. Usable: conventional,
 * loader code and data, boot services code and data; never special-purpose (attribute SP), persistent, unaccepted, or anything else;
 * and never the first MiB. An entry that is empty, misaligned or ends nowhere is left out, what two entries tell differently of isn't
 * usable, and of more ranges than there is room for the smallest go: each with a warning in the log.
 * BAD_FORMAT, LIMIT: this is no memory map; `why` says what is wrong with it.
 */
enum status intake_parse(const void *map, uint64_t map_size, uint64_t descriptor_size, const struct memory_range *keep,
			 unsigned keep_count, uint64_t limit, struct memory_layout *layout, char *why,
			 size_t why_size) must_check;

/* Puts [base, base + size), whole pages, into the usable ranges; how many bytes of it are new there. 0 also: there's no room for it. */
uint64_t intake_add(struct memory_layout *layout, uint64_t base, uint64_t size);
/* Takes them out; how many bytes that were. Where a range falls in two and there's no room, the smaller piece goes too. */
uint64_t intake_exclude(struct memory_layout *layout, uint64_t base, uint64_t size);

/* Bump allocation of zeroed pages out of the layout before mm_start; HPA_NONE when there is no room. size and alignment multiples of 4 KiB. */
hpa_t early_alloc(struct memory_layout *layout, uint64_t size, uint64_t alignment);

/*
 * Opens the chunk allocator and the heap over what is left; direct_map must have its final value.
 * NO_MEMORY when less than 16 MiB is left.
 */
enum status mm_start(struct memory_layout *layout) must_check;

/* Hands one range in. What isn't a whole page, lies above the layout's top, or is there already is left alone. */
void mm_add_range(uint64_t base, uint64_t size);
