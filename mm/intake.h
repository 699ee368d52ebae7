/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the firmware's memory map to chunks. First the map is checked and boiled down to
 * usable ranges; then the early allocator serves page tables and the chunk table from them;
 * then mm_start() hands the rest to the chunk allocator.
 */
#ifndef MM_INTAKE_H
#define MM_INTAKE_H

#include "arch/x86_64/address.h"
#include "lib/status.h"

struct memory_range {
	uint64_t base, size; /* host-physical, whole pages */
};

#define INTAKE_MAX_RANGES 512u

/* Where other processors start in real mode: one page below 1 MiB. It and frame 0 are never handed out. */
#define INTAKE_TRAMPOLINE UINT64_C(0x8000)

struct memory_layout {
	unsigned count;
	struct memory_range usable[INTAKE_MAX_RANGES]; /* sorted, disjoint, merged */
	uint64_t top; /* end of the highest range of a usable type, kept ones included */
	uint64_t usable_bytes;
	uint64_t reserved_bytes, runtime_bytes, mmio_bytes; /* for the printed summary */
};

/*
 * map: UEFI descriptors (UEFI 2.10 section 7.2.3), `descriptor_size` bytes apart. keep: ranges that must not be handed
 * out though their type is usable (kernel, boot data, guest files). Usable: conventional, loader code and data, boot
 * services code and data; never special-purpose (attribute SP), persistent, unaccepted, or anything else. Frame 0 and
 * the trampoline's page are kept out.
 * BAD_FORMAT: overlap, wrap, misaligned or empty entry, absurd size; `why` says which entry. LIMIT: too many ranges.
 */
enum status intake_parse(const void *map, uint64_t map_size, uint64_t descriptor_size, const struct memory_range *keep,
			 unsigned keep_count, struct memory_layout *layout, char *why, size_t why_size) must_check;

/* Takes [base, base + size) out of the usable ranges; whole pages. LIMIT: too many pieces; then nothing changed. */
enum status intake_exclude(struct memory_layout *layout, uint64_t base, uint64_t size) must_check;

/* Bump allocation of zeroed pages out of the layout before mm_start; HPA_NONE when there is no room. size and alignment multiples of 4 KiB. */
hpa_t early_alloc(struct memory_layout *layout, uint64_t size, uint64_t alignment);

/*
 * Opens the chunk allocator and the heap over what is left; direct_map must have its final value.
 * NO_MEMORY when less than 16 MiB is left.
 */
enum status mm_start(struct memory_layout *layout) must_check;

/*
 * Hands in a further range later (boot data no longer needed). What isn't a whole page, lies above the layout's top,
 * or is there already is left alone.
 */
void mm_add_range(uint64_t base, uint64_t size);

#endif
