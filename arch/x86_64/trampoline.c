/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trampoline's pages: found in the firmware's map, filled, and used once more to leave 5-level paging. They are
 * page 0 the code, then a root, a PDPT and a PD whose one entry is a 2 MiB page: the processor
 * needs an identity mapping for the instruction after the one that turns paging on, and a root below 4 GiB.
 */
#include "arch/x86_64/trampoline.h"

#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/cpu_local.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/paging_entry.h"
#include "arch/x86_64/smp.h"
#include "boot/boot_info.h"

#define LOW_MEMORY_END (640 * KIB)

struct far_pointer {
	uint32_t offset;
	uint16_t selector, pad;
} __attribute__((packed));

/* At trampoline_parameters in the code. */
struct trampoline_parameters {
	uint16_t gdt_limit;
	uint64_t gdt_base;
	uint16_t pad;
	struct far_pointer protected_code, long_code, left_code;
	uint32_t root, efer;
	uint64_t kernel_root, entry, saved_stack, xd_off;
} __attribute__((packed));
_Static_assert(sizeof(struct trampoline_parameters) == 12 + 3 * 8 + 8 + 4 * 8, "as trampoline.asm has it");

extern const uint8_t trampoline_start[], trampoline_end[], trampoline_parameters[], trampoline_leave[];
extern const uint8_t ap_entry[];
void trampoline_call(uint64_t base, uint64_t code);

static hpa_t place = { ~UINT64_C(0) };

hpa_t trampoline_place(void)
{
	return place;
}

void smp_set_trampoline(hpa_t where)
{
	place = !hpa_is_none(where) && is_aligned(where.v, PAGE_SIZE) && where.v >= PAGE_SIZE &&
				where.v <= LOW_MEMORY_END - TRAMPOLINE_SIZE
			? where
			: HPA_NONE;
}

/* UEFI 2.10 section 7.2.3: loader code and data, boot services code and data, conventional. */
static bool usable(uint32_t type)
{
	return type >= 1 && type <= 7 && type != 5 && type != 6;
}

static hpa_t find_between(const struct boot_info *info, uint64_t low, uint64_t high)
{
	uint64_t step = info->map_descriptor_size;

	for (uint64_t at = 0; step >= 40 && at + step <= info->map_size; at += step) {
		const uint8_t *d = (const uint8_t *)info->map_address + at;
		uint64_t start, pages;
		uint32_t type;

		memcpy(&type, d, sizeof(type));
		memcpy(&start, d + 8, sizeof(start));
		memcpy(&pages, d + 24, sizeof(pages));
		if (!usable(type) || start >= high || start % PAGE_SIZE || pages > BIT(40))
			continue;
		if (max_u64(start, low) + TRAMPOLINE_SIZE <= min_u64(start + pages * PAGE_SIZE, high))
			return hpa(max_u64(start, low));
	}
	return HPA_NONE;
}

hpa_t smp_find_trampoline(const struct boot_info *info)
{
	hpa_t found = find_between(info, 64 * KIB, LOW_MEMORY_END);

	return hpa_is_none(found) ? find_between(info, PAGE_SIZE, 64 * KIB) : found;
}

static void prepare_tables(hpa_t kernel_root)
{
	uint64_t *root = paging_pointer(hpa(place.v + 1 * PAGE_SIZE));
	uint64_t *pdpt = paging_pointer(hpa(place.v + 2 * PAGE_SIZE));
	uint64_t *pd = paging_pointer(hpa(place.v + 3 * PAGE_SIZE));
	const uint64_t *kernel = paging_pointer(kernel_root);

	memset(root, 0, PAGE_SIZE / 2);
	memset(pdpt, 0, PAGE_SIZE);
	memset(pd, 0, PAGE_SIZE);
	memcpy(root + 256, kernel + 256, PAGE_SIZE / 2);
	root[0] = (place.v + 2 * PAGE_SIZE) | ENTRY_TABLE;
	pdpt[0] = (place.v + 3 * PAGE_SIZE) | ENTRY_TABLE;
	pd[0] = ENTRY_TABLE | ENTRY_LARGE;
}

void trampoline_prepare(hpa_t kernel_root)
{
	uint8_t *code = paging_pointer(place);
	struct trampoline_parameters *p =
		(struct trampoline_parameters *)(code + (trampoline_parameters - trampoline_start));
	uint32_t base = (uint32_t)place.v;

	panic_unless((size_t)(trampoline_end - trampoline_start) <= PAGE_SIZE);
	prepare_tables(kernel_root);
	memcpy(code, trampoline_start, (size_t)(trampoline_end - trampoline_start));
	p->gdt_base += base;
	p->protected_code.offset += base;
	p->long_code.offset += base;
	p->left_code.offset += base;
	p->root = base + (uint32_t)PAGE_SIZE;
	p->efer = EFER_LME | EFER_NXE;
	p->kernel_root = kernel_root.v;
	p->entry = (uint64_t)ap_entry;
	p->xd_off = features.xd_was_off;
}

void smp_leave_la57(hpa_t root)
{
	if (hpa_is_none(place))
		panic("the firmware left 5-level paging on, and there is no memory below 640 KiB to leave it: "
		      "turn 5-level paging off in the firmware setup");
	trampoline_prepare(root);
	trampoline_call(place.v, place.v + (uint64_t)(trampoline_leave - trampoline_start));
	/* Segments and table registers are the trampoline's now; the 32-bit passage may have cut bases. */
	wrmsr(MSR_GS_BASE, (uint64_t)&boot_cpu);
	cpu_load_tables(&boot_cpu, boot_stacks);
}
