/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's address space at start: the image with one permission per section and holes below the boot CPU's
 * stacks, all memory of the firmware's map at DIRECT_BASE, and on demand the device window.
 *
 * The memory map is firmware's and may be in any order: ranges are taken from it lowest first, merged
 * where they touch, so that large pages cover the seams.
 */
#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/cpu_local.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/paging_entry.h"
#include "arch/x86_64/smp.h"
#include "boot/boot_info.h"

extern const uint8_t kernel_start[], kernel_text_end[], kernel_rodata_end[], kernel_end[];

/* UEFI 2.10 section 7.2.3. */
struct memory_descriptor {
	uint32_t type, pad;
	uint64_t physical_start, virtual_start, pages, attribute;
};

/*
 * Types that are memory: 1-7 loader, boot services, runtime, conventional; 9 and 10 ACPI. Not 8 broken, 11-13 I/O,
 * 14 persistent, 15 unaccepted.
 */
#define MEMORY_TYPES (BITS(7, 1) | BIT(9) | BIT(10))
/* Never mapped write-back, though firmware calls some of it memory as well: 8 broken, 11 and 12 I/O. */
#define DEVICE_TYPES (BIT(8) | BIT(11) | BIT(12))

static hpa_t image_base;

hpa_t paging_kernel_address(const void *symbol)
{
	return hpa(image_base.v + ((uint64_t)symbol - KERNEL_BASE));
}

/* As far as it is of one of these types and lies below DIRECT_SIZE. */
static bool descriptor_range(const struct boot_info *info, uint64_t at, uint64_t types, uint64_t *base, uint64_t *end)
{
	struct memory_descriptor d;

	memcpy(&d, (const void *)(info->map_address + at), sizeof(d));
	if (d.type >= 64 || !(types >> d.type & 1) || !d.pages || d.physical_start % PAGE_SIZE)
		return false;
	if (d.physical_start >= DIRECT_SIZE)
		return false;
	*base = d.physical_start;
	*end = *base + min_u64(d.pages, (DIRECT_SIZE - *base) / PAGE_SIZE) * PAGE_SIZE;
	return true;
}

/* The lowest stretch of memory that ends above `cursor`, cut off below it. False: there is none. */
static bool next_memory(const struct boot_info *info, uint64_t cursor, uint64_t *base, uint64_t *end)
{
	uint64_t step = info->map_descriptor_size, b, e;
	bool found = false, grown;

	for (uint64_t at = 0; at + step <= info->map_size; at += step)
		if (descriptor_range(info, at, MEMORY_TYPES, &b, &e) && e > cursor && (!found || b < *base)) {
			*base = b;
			*end = e;
			found = true;
		}
	if (!found)
		return false;
	do {
		grown = false;
		for (uint64_t at = 0; at + step <= info->map_size; at += step)
			if (descriptor_range(info, at, MEMORY_TYPES, &b, &e) && b <= *end && e > *end) {
				*end = e;
				grown = true;
			}
	} while (grown);
	*base = max_u64(*base, cursor);
	return true;
}

/* Cuts [*base, *end) off where a device begins, or moves *base past one. */
static void avoid_devices(const struct boot_info *info, uint64_t *base, uint64_t *end)
{
	uint64_t step = info->map_descriptor_size, b, e;
	bool moved;

	do {
		moved = false;
		for (uint64_t at = 0; at + step <= info->map_size; at += step) {
			if (!descriptor_range(info, at, DEVICE_TYPES, &b, &e) || b >= *end || e <= *base)
				continue;
			moved |= b <= *base;
			*(b <= *base ? base : end) = b <= *base ? e : b;
		}
	} while (moved && *base < *end);
}

static enum status map_memory(const struct boot_info *info)
{
	uint64_t cursor = 0, base = 0, end = 0;

	while (next_memory(info, cursor, &base, &end)) {
		enum status status = OK;

		avoid_devices(info, &base, &end);
		if (base < end)
			status = paging_map(DIRECT_BASE + base, hpa(base), end - base, MAP_WRITE, MEMORY_TYPE_WB);
		if (status != OK)
			return status;
		cursor = max_u64(base, end);
	}
	return cursor ? OK : BAD_FORMAT;
}

static enum status map_section(const uint8_t *from, const uint8_t *to, unsigned rights)
{
	if (from == to)
		return OK;
	return paging_map((uint64_t)from, paging_kernel_address(from), (uint64_t)(to - from), rights, MEMORY_TYPE_WB);
}

static enum status unmap_guards(void)
{
	static const unsigned guards[] = { AREA_MAIN_GUARD, AREA_IST_GUARD(0), AREA_IST_GUARD(1), AREA_IST_GUARD(2),
					   AREA_LAST_GUARD };
	enum status status = OK;

	for (unsigned i = 0; i < ARRAY_SIZE(guards) && status == OK; i++)
		status = paging_unmap((uint64_t)boot_stacks + guards[i] * PAGE_SIZE, PAGE_SIZE);
	return status;
}

static enum status map_image(void)
{
	enum status status = map_section(kernel_start, kernel_text_end, MAP_EXECUTE);

	if (status == OK)
		status = map_section(kernel_text_end, kernel_rodata_end, 0);
	if (status == OK)
		status = map_section(kernel_rodata_end, kernel_end, MAP_WRITE);
	if (status == OK)
		status = unmap_guards();
	/* Code and constants are read-only through the direct map too. */
	if (status == OK)
		status = paging_protect(DIRECT_BASE + image_base.v, (uint64_t)(kernel_rodata_end - kernel_start), 0);
	return status == NOT_FOUND ? BAD_FORMAT : status;
}

enum status paging_build(const struct boot_info *info)
{
	hpa_t root = paging_take_page();

	if (hpa_is_none(root))
		return NO_MEMORY;
	if (!is_aligned(info->kernel_address, PAGE_SIZE) || info->map_truncated ||
	    info->map_descriptor_size < sizeof(struct memory_descriptor))
		return BAD_FORMAT;
	image_base = hpa(info->kernel_address);
	paging_use(root, 0);
	TRY(map_memory(info));
	return map_image();
}

void paging_switch(void)
{
	hpa_t root = paging_root();

	/* Global and PCID-tagged entries of the loader's tables go with the bits. SDM vol. 3 section 4.10.4. */
	write_cr4(read_cr4() & ~(CR4_PGE | CR4_PCIDE));
	if (read_cr4() & CR4_LA57)
		smp_leave_la57(root);
	else
		write_cr3(root.v);
	paging_use(root, DIRECT_BASE);
}

/* ---- device window ---- */

static struct spinlock device_lock = SPINLOCK(RANK_LEAF, "device window");
static uint64_t device_next = DEVICE_BASE;

/* Takes addresses that agree with `where` below 2 MiB, so that large pages can serve. 0: full. */
static uint64_t take_window(uint64_t where, uint64_t size)
{
	HOLD(&device_lock);
	uint64_t start = align_up(device_next, PAGE_SIZE);
	if (size >= BLOCK_SIZE)
		start = align_up(start, BLOCK_SIZE) + (where & (BLOCK_SIZE - 1));
	if (size > DEVICE_END - DEVICE_BASE || start + size > DEVICE_END)
		start = 0;
	else
		device_next = start + size + PAGE_SIZE; /* one page stays a hole */
	return start;
}

void *host_map_device(hpa_t where, uint64_t size, unsigned type)
{
	uint64_t base = align_down(where.v, PAGE_SIZE), end = align_up(where.v + size, PAGE_SIZE), window;

	if (!size || where.v + size < where.v || end < base || end > BIT(features.physical_bits))
		return NULL;
	window = take_window(base, end - base);
	if (!window)
		return NULL;
	if (paging_map(window, hpa(base), end - base, type == MEMORY_TYPE_WB ? 0 : MAP_WRITE, type) != OK)
		return NULL;
	return (void *)(window + (where.v - base));
}

const void *paging_view(hpa_t where, uint64_t size)
{
	uint64_t end = where.v + size;
	bool direct = paging_direct_base() && end > where.v && end <= DIRECT_SIZE;

	for (uint64_t at = align_down(where.v, PAGE_SIZE); direct && at < end; at += PAGE_SIZE)
		direct = paging_is_mapped(DIRECT_BASE + at);
	return direct ? paging_pointer(where) : host_map_device(where, size, MEMORY_TYPE_WB);
}
