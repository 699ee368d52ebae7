/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all loaders share: files by name, the memory map, ACPI, and the register states.
 */

#include <string.h>

#include "dev/pci/pci.h"
#include "lib/format.h"
#include "vm/load/internal.h"

static const struct guest_file *files;
static unsigned file_count;

void load_set_files(const struct guest_file *list, unsigned count)
{
	files = list;
	file_count = count;
}

const struct guest_file *load_find_file(const char *name)
{
	for (unsigned i = 0; i < file_count; i++)
		if (!strcmp(files[i].name, name))
			return &files[i];
	return NULL;
}

enum status loader_fail(struct loader *l, enum status status, const char *format, ...)
{
	format_arguments(l->why, l->why_size, format);
	return status;
}

enum status loader_file(struct loader *l, const char *name, const struct guest_file **file)
{
	*file = load_find_file(name);
	if (!*file)
		return loader_fail(l, NOT_FOUND, "file %s was not read at boot", name);
	return (*file)->data ? OK : loader_fail(l, NOT_FOUND, "file %s: %s", name, (*file)->error);
}

enum status loader_write(struct loader *l, uint64_t where, const void *data, uint64_t size, const char *what)
{
	struct pgm *pgm = l->plan->pgm;
	struct pgm_range range;
	enum status status;

	if (!size)
		return OK;
	if (!pgm_range_find(pgm, gpa(where), &range) || range.type != PAGE_RAM || size > range.size ||
	    where - range.base > range.size - size)
		return loader_fail(l, BAD_ADDRESS, "%s (%#lx bytes at %#lx) does not fit in the machine's memory", what,
				   size, where);
	status = pgm_write(pgm, gpa(where), data, size, ORIGIN_DEBUGGER, NULL);
	return status == OK ? OK : loader_fail(l, status, "%s: %s", what, status_text(status));
}

static void map_add(struct loader *l, uint64_t base, uint64_t end, bool usable)
{
	if (end > base && l->map_count < GUEST_MAP_MAX)
		l->map[l->map_count++] = (struct guest_map_entry){ base, end - base, usable };
}

static void map_build(struct loader *l)
{
	struct pgm_range range;

	map_add(l, 0, LOAD_EBDA, true);
	map_add(l, LOAD_EBDA, UINT64_C(0xa0000), false);
	map_add(l, LOAD_ROM, LOAD_ROM + LOAD_ROM_SIZE, false);
	l->low_end = LOAD_HIGH;
	for (unsigned i = 0; pgm_range_get(l->plan->pgm, i, &range); i++) {
		if (range.type != PAGE_RAM || range.base < LOAD_HIGH || !strcmp(range.name, LOAD_UNTOLD))
			continue;
		map_add(l, range.base, range.base + range.size, true);
		if (range.base < 4 * GIB)
			l->low_end = range.base + range.size;
	}
	map_add(l, PCI_ECAM_BASE, PCI_ECAM_BASE + PCI_ECAM_SIZE, false);
}

static const uint64_t gdt[] = {
	0,
	0,
	UINT64_C(0x00cf9b000000ffff), /* 0x10 32-bit code */
	UINT64_C(0x00cf93000000ffff), /* 0x18 data */
	UINT64_C(0x00af9b000000ffff), /* 0x20 64-bit code */
};

static struct segment flat(uint16_t selector, uint16_t attributes)
{
	return (struct segment){ .limit = UINT32_MAX, .selector = selector, .attributes = attributes };
}

#define CODE32 0xc09bu
#define CODE64 0xa09bu
#define DATA32 0xc093u

static void set_flat_segments(struct hv_vcpu *h, uint16_t code, uint16_t code_attributes, uint16_t data)
{
	hv_need(h, REGS_ALL);
	for (unsigned i = SEG_ES; i <= SEG_GS; i++)
		h->segment[i] = flat(data, DATA32);
	h->segment[SEG_CS] = flat(code, code_attributes);
	h->gdtr = (struct table_register){ .base = LOAD_GDT, .limit = sizeof(gdt) - 1 };
	h->idtr = (struct table_register){ .base = 0, .limit = 0 };
	memset(h->gpr, 0, sizeof(h->gpr));
	h->rflags = 2;
}

enum status loader_protected(struct loader *l, uint64_t entry, uint16_t code, uint16_t data)
{
	struct hv_vcpu *h = l->plan->boot;

	set_flat_segments(h, code, CODE32, data);
	h->cr0 = CR0_PE | CR0_ET;
	h->rip = entry;
	hv_changed(h, REGS_ALL);
	return loader_write(l, LOAD_GDT, gdt, sizeof(gdt), "boot GDT");
}

/* PML4, one PDPT, four directories of 2 MiB pages. */
static enum status write_page_tables(struct loader *l)
{
	static uint64_t table[512];
	uint64_t base = LOAD_PAGE_TABLES;

	memset(table, 0, sizeof(table));
	table[0] = (base + PAGE_SIZE) | 7;
	TRY(loader_write(l, base, table, sizeof(table), "boot page tables"));
	for (unsigned i = 0; i < 4; i++)
		table[i] = (base + (2 + i) * PAGE_SIZE) | 7;
	TRY(loader_write(l, base + PAGE_SIZE, table, sizeof(table), "boot page tables"));
	for (unsigned i = 0; i < 4; i++) {
		for (unsigned e = 0; e < 512; e++)
			table[e] = ((uint64_t)i << 30 | (uint64_t)e << 21) | 0x87;
		TRY(loader_write(l, base + (2 + i) * PAGE_SIZE, table, sizeof(table), "boot page tables"));
	}
	return OK;
}

enum status loader_long(struct loader *l, uint64_t entry)
{
	struct hv_vcpu *h = l->plan->boot;
	enum status status = write_page_tables(l);

	set_flat_segments(h, 0x20, CODE64, 0x18);
	h->cr0 = CR0_PE | CR0_PG | CR0_ET;
	h->cr3 = LOAD_PAGE_TABLES;
	h->cr4 = CR4_PAE;
	h->efer = EFER_LME | EFER_LMA;
	h->rip = entry;
	hv_changed(h, REGS_ALL);
	return status == OK ? loader_write(l, LOAD_GDT, gdt, sizeof(gdt), "boot GDT") : status;
}

void loader_real(struct loader *l, uint64_t entry)
{
	struct hv_vcpu *h = l->plan->boot;

	hv_need(h, REGS_ALL);
	h->segment[SEG_CS].selector = (uint16_t)((entry & 0xf0000) >> 4);
	h->segment[SEG_CS].base = entry & 0xf0000;
	h->rip = entry & 0xffff;
	hv_changed(h, REGS_ALL);
}

static enum config_protocol detect(const struct guest_file *kernel)
{
	if (linux_detect(kernel))
		return PROTOCOL_LINUX;
	return multiboot_detect(kernel) ? PROTOCOL_MULTIBOOT : PROTOCOL_AUTO;
}

enum status load_guest(const struct load_plan *plan, char *why, size_t size)
{
	struct loader l = { .plan = plan, .config = plan->config, .rsdp = LOAD_ROM, .why = why, .why_size = size };
	enum config_protocol protocol = (enum config_protocol)plan->config->protocol;
	enum status status = OK;
	struct pgm_range rom;

	TRY(loader_file(&l, plan->config->kernel, &l.kernel));
	if (!pgm_range_find(plan->pgm, gpa(LOAD_ROM), &rom)) /* after a reset it's there */
		status = pgm_add_rom(plan->pgm, gpa(LOAD_ROM), LOAD_ROM_SIZE, "firmware ROM");
	if (status == OK)
		status = acpi_build(plan);
	if (status != OK)
		return loader_fail(&l, status, "ACPI tables: %s", status_text(status));
	TRY(bios_build(&l));
	map_build(&l);
	if (protocol == PROTOCOL_AUTO)
		protocol = detect(l.kernel);
	switch (protocol) {
	case PROTOCOL_LINUX: return load_linux(&l);
	case PROTOCOL_MULTIBOOT: return load_multiboot(&l);
	case PROTOCOL_FLAT: return load_flat(&l);
	default:
		return loader_fail(&l, BAD_FORMAT,
				   "%s is neither a Linux bzImage nor a multiboot 1 kernel; a flat image "
				   "needs protocol = flat",
				   plan->config->kernel);
	}
}
