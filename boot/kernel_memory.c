/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory's part of the start: the firmware's map, less what is kept and what is not write-back, becomes the kernel's own tables
 * and then mm/'s chunks. kernel_main alone calls it, once each, in this order; what can't go on is refused here.
 */
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/mtrr.h"
#include "arch/x86_64/start.h"
#include "boot/kernel.h"
#include "mm/intake.h"
#include "mm/map.h"
#include "pgm/pgm.h"

#define MINIMUM_MEMORY (64 * MIB)

static struct memory_layout layout;
static bool mm_open;

/* Table pages for the host's own tables: the early allocator at first, then mm. */
static hpa_t page_for_tables(void *context)
{
	hpa_t frame;

	if (!mm_open)
		return early_alloc(&layout, PAGE_SIZE, PAGE_SIZE);
	return table_alloc(&host_account, &frame) == OK ? frame : HPA_NONE;
}

/* What the loader left that the kernel keeps: its image, the boot information, the configuration, the files. */
static unsigned keep_list(const struct boot_info *info, hpa_t trampoline, struct memory_range *keep)
{
	unsigned n = 0;

	keep[n++] = (struct memory_range){ info->kernel_address, align_up(info->kernel_size, PAGE_SIZE) };
	keep[n++] = (struct memory_range){ align_down((uint64_t)(uintptr_t)info, PAGE_SIZE),
					   align_up(sizeof(*info), PAGE_SIZE) + PAGE_SIZE };
	keep[n++] = (struct memory_range){ align_down(info->map_address, PAGE_SIZE),
					   align_up(info->map_size, PAGE_SIZE) + PAGE_SIZE };
	if (!hpa_is_none(trampoline))
		keep[n++] = (struct memory_range){ trampoline.v, TRAMPOLINE_SIZE };
	if (info->config_size)
		keep[n++] = (struct memory_range){ align_down(info->config_address, PAGE_SIZE),
						   align_up(info->config_size, PAGE_SIZE) + PAGE_SIZE };
	for (unsigned i = 0; i < info->file_count && i < BOOT_MAX_FILES; i++)
		if (info->files[i].size)
			keep[n++] = (struct memory_range){ info->files[i].address,
							   align_up(info->files[i].size, PAGE_SIZE) };
	return n;
}

#define TYPE_LIMIT 64u /* pieces that are not write-back: more of them, and the MTRRs are beyond belief */

/*
 * Guests' memory is mapped write-back, so only what the MTRRs call write-back is taken in: under EPT the table's type
 * would win over the MTRRs'. A range of mixed type is halved until its parts are of one.
 */
static unsigned find_uncached(uint64_t base, uint64_t size, struct memory_range *found, unsigned count)
{
	unsigned type = host_memory_type(hpa(base), size);
	uint64_t half = align_down(size / 2, PAGE_SIZE);

	if (type == MEMORY_TYPE_WB || count == TYPE_LIMIT)
		return count;
	if (type == MEMORY_TYPE_MIXED && half) {
		count = find_uncached(base, half, found, count);
		return find_uncached(base + half, size - half, found, count);
	}
	found[count] = (struct memory_range){ base, size };
	return count + 1;
}

static void leave_out_uncached(void)
{
	static struct memory_range found[TYPE_LIMIT];
	unsigned count = 0;

	if (!mtrr_on())
		refuse("memory types: the firmware left the processor's MTRRs off, so all memory is uncached",
		       "update the machine's firmware");
	for (unsigned i = 0; i < layout.count; i++)
		count = find_uncached(layout.usable[i].base, layout.usable[i].size, found, count);
	for (unsigned i = 0; i < count; i++) {
		log_line(LOG_WARNING "memory: %#lx, %lu KiB: not write-back by the MTRRs: left out", found[i].base,
			 (found[i].size / KIB));
		layout.reserved_bytes += intake_exclude(&layout, found[i].base, found[i].size);
	}
	if (count == TYPE_LIMIT)
		refuse("sane MTRRs: usable memory is cut into too many memory types", "update the machine's firmware");
}

/* No memory lies beyond what the processor can address, and what the direct map has no place for is of no use. */
static uint64_t memory_limit(void)
{
	return min_u64(DIRECT_SIZE, BIT(features.physical_bits));
}

static void take_memory(const struct boot_info *info, hpa_t trampoline)
{
	static struct memory_range keep[BOOT_MAX_FILES + 8];
	char why[160] = "";
	enum status status;

	if (info->map_truncated)
		refuse("the firmware's memory map was cut short", "report this firmware to Quire's makers");
	status = intake_parse((const void *)(uintptr_t)info->map_address, info->map_size, info->map_descriptor_size,
			      keep, keep_list(info, trampoline, keep), memory_limit(), &layout, why, sizeof(why));
	if (status != OK)
		refuse(why[0] ? why : status_text(status), "update the machine's firmware: its memory map is broken");
	leave_out_uncached();
	log_line("memory: %lu MiB usable, %lu MiB reserved, up to %#lx", (layout.usable_bytes / MIB),
		 (layout.reserved_bytes / MIB), layout.top);
	if (layout.usable_bytes < MINIMUM_MEMORY)
		refuse("memory: less than 64 MiB is usable", "give the machine at least 128 MiB of memory");
}

void open_memory(const struct boot_info *info)
{
	hpa_t trampoline = smp_find_trampoline(info);
	enum status status;

	take_memory(info, trampoline);
	status = arch_paging(info, trampoline, page_for_tables, NULL);
	if (status != OK)
		refuse(status_text(status), "see the log above");
	direct_map = (uint8_t *)DIRECT_BASE;
}

void open_mm(void)
{
	enum status status = mm_start(&layout);

	if (status != OK)
		refuse("memory for the chunk allocator", "give the machine at least 128 MiB of memory");
	mm_open = true;
	if (pgm_start() != OK)
		refuse("a free 2 MiB chunk", "give the machine more memory");
}
