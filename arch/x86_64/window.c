/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Windows, and blocks of the direct map that come and go. Private to one CPU is its root table alone: the upper half
 * is a copy of the shared root's, but for the window's entry. So every region must have its entry in the shared root before
 * the first copy is made (window_open() sees to it), and no CPU can reach, not even speculatively, what stands in another one's window.
 */
#include "arch/x86_64/window.h"

#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/cpu_local.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/paging_entry.h"
#include "arch/x86_64/shootdown.h"

#define LEAF_2M (ENTRY_PRESENT | ENTRY_WRITE | ENTRY_ACCESSED | ENTRY_DIRTY | ENTRY_LARGE | ENTRY_GLOBAL | ENTRY_NX)
#define TOP_INDEX(where) ((unsigned)((where) >> 39) & 511)

static uint64_t *table_of(uint64_t entry)
{
	return paging_pointer(hpa(entry & ENTRY_ADDRESS));
}

/* The window's PDPT with a directory for each GiB of slots. HPA_NONE: no memory; what was made of it stays unused. */
static hpa_t make_tables(unsigned slots)
{
	hpa_t pdpt = paging_take_page();

	for (unsigned i = 0; !hpa_is_none(pdpt) && i * 512 < slots; i++) {
		hpa_t directory = paging_take_page();

		if (hpa_is_none(directory))
			return HPA_NONE;
		((uint64_t *)paging_pointer(pdpt))[i] = directory.v | ENTRY_TABLE;
	}
	return pdpt;
}

uint8_t *window_open(unsigned slots)
{
	static const uint64_t regions[] = { CPU_AREA_BASE, DEVICE_BASE };
	hpa_t root = paging_take_page(), pdpt = make_tables(slots);
	uint64_t *table;

	if (hpa_is_none(root) || hpa_is_none(pdpt))
		return NULL;
	for (unsigned i = 0; i < ARRAY_SIZE(regions); i++)
		if (paging_make_table(regions[i], LEVEL_1G) != OK)
			return NULL;
	table = paging_pointer(root);
	memcpy(table + 256, (uint64_t *)paging_pointer(paging_root()) + 256, PAGE_SIZE / 2);
	table[TOP_INDEX(WINDOW_BASE)] = pdpt.v | ENTRY_TABLE;
	this_cpu()->window = paging_pointer(pdpt);
	write_cr3(root.v);
	flush_all_translations();
	return (uint8_t *)WINDOW_BASE;
}

static void set_entry(const struct cpu *cpu, unsigned slot, uint64_t entry)
{
	__atomic_store_n(&table_of(cpu->window[slot / 512])[slot % 512], entry, __ATOMIC_SEQ_CST);
}

void window_set(unsigned slot, hpa_t block)
{
	set_entry(this_cpu(), slot, block.v | LEAF_2M);
	invlpg(WINDOW_BASE + slot * BLOCK_SIZE);
}

void window_clear(unsigned cpu, unsigned slot)
{
	set_entry(cpu_record(cpu), slot, 0);
	if (cpu == cpu_index())
		invlpg(WINDOW_BASE + slot * BLOCK_SIZE);
	else
		shootdown();
}

enum status direct_prepare(hpa_t block)
{
	return paging_make_table(DIRECT_BASE + block.v, LEVEL_2M);
}

void direct_set(hpa_t block, bool mapped)
{
	unsigned level;
	uint64_t *entry = paging_find(DIRECT_BASE + block.v, &level);

	panic_unless(level == LEVEL_2M);
	__atomic_store_n(entry, mapped ? block.v | LEAF_2M : 0, __ATOMIC_SEQ_CST);
	if (!mapped)
		shootdown();
}

static void visit_table(const uint64_t *table, unsigned level, uint64_t base, mapping_visit visit, void *context)
{
	for (unsigned i = level == LEVEL_TOP ? 256 : 0; i < 512; i++) {
		uint64_t entry = __atomic_load_n(&table[i], __ATOMIC_RELAXED), size = level_size(level);
		uint64_t where = sign_extend(base | (uint64_t)i << level_shift(level), 48);

		if (!(entry & ENTRY_PRESENT))
			continue;
		if (level == LEVEL_4K || (level < LEVEL_TOP && (entry & ENTRY_LARGE)))
			visit(context, where, hpa(entry & ENTRY_ADDRESS & ~(size - 1)), size);
		else
			visit_table(table_of(entry), level - 1, where, visit, context);
	}
}

bool mapping_is(uint64_t where, hpa_t from)
{
	hpa_t now;

	return paging_translate(where, &now) && now.v == from.v;
}

void mappings_each(mapping_visit visit, void *context)
{
	visit_table(paging_pointer(paging_root()), LEVEL_TOP, 0, visit, context);
}
