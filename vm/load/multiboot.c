/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multiboot 1: header, ELF32 or ELF64 or raw load addresses, modules, memory map, command line.
 * Manual: Multiboot Specification 0.6.96 sections 3.1 to 3.3; ELF: elf.h.
 */
#include <elf.h>
#include <string.h>

#include "lib/format.h"
#include "vm/load/internal.h"

#define HEADER_MAGIC 0x1badb002u
#define BOOT_MAGIC 0x2badb002u
#define SEARCH 8192u
#define FLAG_ADDRESSES BIT(16)
#define INFO_MEMORY BIT(0)
#define INFO_COMMAND_LINE BIT(2)
#define INFO_MODULES BIT(3)
#define INFO_MAP BIT(6)
#define INFO_LOADER BIT(9)

struct multiboot_header {
	uint32_t magic, flags, checksum;
	uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
};

struct multiboot_info {
	uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4];
	uint32_t mmap_length, mmap_addr, drives_length, drives_addr, config_table, boot_loader_name;
};

struct multiboot_module {
	uint32_t start, end, string, reserved;
};

struct multiboot_map {
	uint32_t size;
	uint64_t base, length;
	uint32_t type;
} __attribute__((packed));

_Static_assert(sizeof(struct multiboot_info) == 68 && sizeof(struct multiboot_map) == 24, "multiboot layouts");

/* What is put at LOAD_INFO; all pointers go there. */
struct info_page {
	struct multiboot_info info;
	struct multiboot_map map[GUEST_MAP_MAX];
	struct multiboot_module module[CONFIG_MAX_MODULES];
	char loader_name[16];
};
_Static_assert(LOAD_INFO + sizeof(struct info_page) <= LOAD_PAGE_TABLES, "the information fits below the page tables");

#define AT(member) ((uint32_t)(LOAD_INFO + offsetof(struct info_page, member)))

static const struct multiboot_header *find_header(const struct guest_file *file, uint64_t *offset)
{
	uint64_t end = min_u64(file->size, SEARCH);

	for (uint64_t at = 0; at + 12 <= end; at += 4) {
		const struct multiboot_header *h = (const void *)((const uint8_t *)file->data + at);

		if (h->magic == HEADER_MAGIC && h->magic + h->flags + h->checksum == 0) {
			*offset = at;
			return h;
		}
	}
	return NULL;
}

bool multiboot_detect(const struct guest_file *file)
{
	uint64_t offset;

	return find_header(file, &offset) != NULL;
}

/* One loadable piece; *top is the end of the highest one. RAM is zero to begin with, so no bss is written. */
static enum status load_piece(struct loader *l, uint64_t from, uint64_t bytes, uint64_t to, uint64_t memory,
			      uint64_t *top)
{
	if (from > l->kernel->size || bytes > l->kernel->size - from)
		return loader_fail(l, TRUNCATED, "%s: a segment reaches past the file's end", l->kernel->name);
	if (memory < bytes || to > l->low_end || memory > l->low_end - to)
		return loader_fail(l, BAD_ADDRESS, "%s: a segment of %#lx bytes at %#lx does not fit in memory",
				   l->kernel->name, memory, to);
	*top = max_u64(*top, to + memory);
	return loader_write(l, to, (const uint8_t *)l->kernel->data + from, bytes, l->kernel->name);
}

static enum status load_by_addresses(struct loader *l, const struct multiboot_header *h, uint64_t offset,
				     uint64_t *entry, uint64_t *top)
{
	uint64_t from, bytes, memory;

	if (offset + sizeof(*h) > l->kernel->size)
		return loader_fail(l, TRUNCATED, "%s ends inside its multiboot header", l->kernel->name);
	if (h->header_addr < h->load_addr || offset < h->header_addr - h->load_addr)
		return loader_fail(l, BAD_FORMAT, "%s: multiboot addresses contradict the file", l->kernel->name);
	from = offset - (h->header_addr - h->load_addr);
	bytes = h->load_end_addr ? (uint64_t)h->load_end_addr - h->load_addr : l->kernel->size - from;
	memory = h->bss_end_addr ? (uint64_t)h->bss_end_addr - h->load_addr : bytes;
	if ((h->load_end_addr && h->load_end_addr < h->load_addr) ||
	    (h->bss_end_addr && h->bss_end_addr < h->load_addr))
		return loader_fail(l, BAD_FORMAT, "%s: multiboot addresses contradict the file", l->kernel->name);
	*entry = h->entry_addr;
	return load_piece(l, from, bytes, h->load_addr, max_u64(memory, bytes), top);
}

/* What both classes of ELF say, in one form. */
struct elf_shape {
	uint64_t entry, headers, count, header_size;
	bool wide;
};

/* Headers may lie anywhere in the file: everything is copied out before it is looked at. */
static enum status read_shape(struct loader *l, bool wide, struct elf_shape *shape)
{
	uint64_t want = wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	Elf32_Ehdr narrow;
	Elf64_Ehdr e;

	if (wide) {
		memcpy(&e, l->kernel->data, sizeof(e));
		*shape = (struct elf_shape){ e.e_entry, e.e_phoff, e.e_phnum, e.e_phentsize, true };
	} else {
		memcpy(&narrow, l->kernel->data, sizeof(narrow));
		*shape =
			(struct elf_shape){ narrow.e_entry, narrow.e_phoff, narrow.e_phnum, narrow.e_phentsize, false };
	}
	if (shape->header_size != want)
		return loader_fail(l, BAD_FORMAT, "%s: program headers of %lu bytes, %lu expected", l->kernel->name,
				   shape->header_size, want);
	if (shape->headers > l->kernel->size || shape->count * want > l->kernel->size - shape->headers)
		return loader_fail(l, TRUNCATED, "%s: program headers past the file's end", l->kernel->name);
	return OK;
}

static Elf64_Phdr read_segment(const struct loader *l, const struct elf_shape *shape, unsigned index)
{
	const uint8_t *at = (const uint8_t *)l->kernel->data + shape->headers + index * shape->header_size;
	Elf32_Phdr narrow;
	Elf64_Phdr p;

	if (shape->wide) {
		memcpy(&p, at, sizeof(p));
		return p;
	}
	memcpy(&narrow, at, sizeof(narrow));
	return (Elf64_Phdr){ .p_type = narrow.p_type,
			     .p_offset = narrow.p_offset,
			     .p_filesz = narrow.p_filesz,
			     .p_vaddr = narrow.p_vaddr,
			     .p_paddr = narrow.p_paddr,
			     .p_memsz = narrow.p_memsz };
}

/*
 * Segments don't overlap, so all together fit in the machine's memory: that bounds the work too. The processor starts
 * without paging: an entry within a segment's virtual addresses means the same place in its physical ones, one that is in
 * no segment is physical already.
 */
static enum status load_elf(struct loader *l, bool wide, uint64_t *entry, uint64_t *top)
{
	uint64_t room = l->low_end;
	struct elf_shape shape = { 0 };
	enum status status = read_shape(l, wide, &shape);

	*entry = shape.entry;
	for (unsigned i = 0; status == OK && i < shape.count; i++) {
		Elf64_Phdr p = read_segment(l, &shape, i);

		if (p.p_type != PT_LOAD || !p.p_memsz)
			continue;
		status = load_piece(l, p.p_offset, p.p_filesz, p.p_paddr, p.p_memsz, top);
		if (status == OK && p.p_memsz > room)
			return loader_fail(l, BAD_FORMAT, "%s: its segments together are larger than memory",
					   l->kernel->name);
		room -= p.p_memsz;
		if (shape.entry - p.p_vaddr < p.p_memsz)
			*entry = shape.entry - p.p_vaddr + p.p_paddr;
	}
	if (status == OK && *entry >= 4 * GIB)
		return loader_fail(l, BAD_FORMAT, "%s: entry %#lx is above 4 GiB", l->kernel->name, *entry);
	return status;
}

static enum status load_kernel(struct loader *l, uint64_t *entry, uint64_t *top)
{
	const uint8_t *data = l->kernel->data;
	const struct multiboot_header *h;
	uint64_t offset = 0;

	h = find_header(l->kernel, &offset);
	if (!h)
		return loader_fail(l, BAD_FORMAT, "%s has no multiboot 1 header in its first 8 KiB", l->kernel->name);
	if (h->flags & BITS(15, 3))
		return loader_fail(l, NOT_SUPPORTED, "%s asks for multiboot features %#x that don't exist here",
				   l->kernel->name, (unsigned)(h->flags & BITS(15, 3)));
	if (h->flags & FLAG_ADDRESSES)
		return load_by_addresses(l, h, offset, entry, top);
	if (l->kernel->size >= sizeof(Elf64_Ehdr) && !memcmp(data, ELFMAG, SELFMAG)) {
		if (data[EI_CLASS] == ELFCLASS32)
			return load_elf(l, false, entry, top);
		if (data[EI_CLASS] == ELFCLASS64)
			return load_elf(l, true, entry, top);
	}
	return loader_fail(l, BAD_FORMAT, "%s is no ELF file and its multiboot header gives no addresses",
			   l->kernel->name);
}

/* Command line strings lie one behind the other from LOAD_COMMAND_LINE on. */
static enum status put_string(struct loader *l, const char *first, const char *second, uint64_t *at, uint32_t *pointer)
{
	char text[CONFIG_MAX_CMDLINE + CONFIG_MAX_FILE + 3];
	size_t length = format_string(text, sizeof(text), second && second[0] ? "%s %s" : "%s", first, second);

	length = min_u64(length, sizeof(text) - 1);
	*pointer = (uint32_t)*at;
	*at += length + 1;
	if (*at > LOAD_EBDA)
		return loader_fail(l, LIMIT, "command lines of kernel and modules are too long");
	return loader_write(l, *pointer, text, length + 1, "command line");
}

static enum status load_modules(struct loader *l, struct info_page *page, uint64_t top, uint64_t *strings)
{
	uint64_t at = align_up(top, PAGE_SIZE);

	for (unsigned i = 0; i < l->config->modules.count; i++) {
		const struct config_module *m = &l->config->modules.list[i];
		const struct guest_file *file;

		TRY(loader_file(l, m->name, &file));
		if (at > l->low_end || file->size > l->low_end - at)
			return loader_fail(l, BAD_ADDRESS, "module %s does not fit in memory", m->name);
		TRY(loader_write(l, at, file->data, file->size, m->name));
		page->module[i].start = (uint32_t)at;
		page->module[i].end = (uint32_t)(at + file->size);
		TRY(put_string(l, m->name, m->arguments, strings, &page->module[i].string));
		at = align_up(at + file->size, PAGE_SIZE);
	}
	return OK;
}

static void fill_info(const struct loader *l, struct info_page *page)
{
	struct multiboot_info *info = &page->info;

	info->flags = INFO_MEMORY | INFO_COMMAND_LINE | INFO_MODULES | INFO_MAP | INFO_LOADER;
	info->mem_lower = (uint32_t)(LOAD_EBDA / KIB);
	info->mem_upper = (uint32_t)((l->low_end - LOAD_HIGH) / KIB);
	info->mods_count = (uint32_t)l->config->modules.count;
	info->mods_addr = AT(module);
	info->mmap_addr = AT(map);
	info->mmap_length = l->map_count * (uint32_t)sizeof(page->map[0]);
	info->boot_loader_name = AT(loader_name);
	memcpy(page->loader_name, "Quire", sizeof("Quire"));
	for (unsigned i = 0; i < l->map_count; i++)
		page->map[i] = (struct multiboot_map){ .size = sizeof(page->map[0]) - 4,
						       .base = l->map[i].base,
						       .length = l->map[i].size,
						       .type = l->map[i].usable ? 1 : 2 };
}

enum status load_multiboot(struct loader *l)
{
	struct hv_vcpu *h = l->plan->boot;
	uint64_t entry = 0, top = LOAD_HIGH, strings = LOAD_COMMAND_LINE;
	struct info_page page = { 0 };

	TRY(load_kernel(l, &entry, &top));
	fill_info(l, &page);
	TRY(put_string(l, l->kernel->name, l->config->cmdline, &strings, &page.info.cmdline));
	TRY(load_modules(l, &page, top, &strings));
	TRY(loader_write(l, LOAD_INFO, &page, sizeof(page), "multiboot information"));
	TRY(loader_protected(l, entry, 0x10, 0x18));
	h->gpr[GPR_RAX] = BOOT_MAGIC;
	h->gpr[GPR_RBX] = LOAD_INFO;
	return OK;
}
