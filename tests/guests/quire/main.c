/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quire as a guest, for Quire in Quire: stands in for firmware and the UEFI program. The first module is the kernel (kernel.stripped),
 * the second its quire.conf, those behind it the files that the configuration names, by their modules' names.
 */
#include <elf.h>

#include "guest.h"

#include "../../../boot/boot_info.h"

#define LINK_BASE 0xffffffff80000000ull
#define LOADER_DATA 2u
#define CONVENTIONAL 7u
#define LOW_END 0x9f000u
#define BIOS_START 0xe0000u
#define BIOS_END 0x100000u

struct descriptor {
	uint32_t type, pad;
	uint64_t physical, virtual, pages, attributes;
};

extern uint64_t page_root;

static struct boot_info info __attribute__((aligned(PAGE)));
static struct descriptor map[3];
static uint64_t link_pdpt[512] __attribute__((aligned(PAGE))), link_directory[512] __attribute__((aligned(PAGE)));
static uint8_t stack[16384] __attribute__((aligned(16)));

static uint32_t size_of(const struct module *m)
{
	return m->end - m->start;
}

/* Segments at the same distances as at their link addresses; returns what lies behind. */
static uint64_t load_kernel(const struct module *file, uint64_t base)
{
	const Elf64_Ehdr *header = (const void *)(uintptr_t)file->start;
	const Elf64_Phdr *segments = (const void *)(uintptr_t)(file->start + header->e_phoff);
	uint64_t end = base;

	for (unsigned i = 0; i < header->e_phnum; i++) {
		const Elf64_Phdr *s = &segments[i];
		uint64_t to = s->p_vaddr - LINK_BASE + base;

		if (s->p_type != PT_LOAD)
			continue;
		memset((void *)(uintptr_t)to, 0, s->p_memsz);
		memcpy((void *)(uintptr_t)to, (const void *)(uintptr_t)(file->start + s->p_offset), s->p_filesz);
		if (to + s->p_memsz > end)
			end = to + s->p_memsz;
	}
	return (end + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

static void map_kernel(uint64_t base)
{
	uint64_t *root = (uint64_t *)(uintptr_t)page_root;

	root[511] = (uintptr_t)link_pdpt | 3;
	link_pdpt[510] = (uintptr_t)link_directory | 3;
	for (unsigned i = 0; i < 32; i++)
		link_directory[i] = (base + i * (uint64_t)BLOCK) | 0x83;
}

static void add_files(void)
{
	for (unsigned i = 2; i < module_count; i++) {
		struct boot_file *file = &info.files[info.file_count++];

		for (unsigned n = 0; n < BOOT_FILE_NAME - 1 && modules[i].name[n] > ' '; n++)
			file->name[n] = modules[i].name[n];
		file->address = modules[i].start;
		file->size = size_of(&modules[i]);
	}
}

static uint64_t find_rsdp(void)
{
	for (uint32_t at = BIOS_START; at < BIOS_END; at += 16)
		if (!memcmp((const void *)(uintptr_t)at, "RSD PTR ", 8))
			return at;
	return 0;
}

static void describe_memory(uint64_t taken)
{
	map[0] = (struct descriptor){ CONVENTIONAL, 0, 0, 0, LOW_END / PAGE, 8 };
	map[1] = (struct descriptor){ LOADER_DATA, 0, MIB, 0, (taken - MIB) / PAGE, 8 };
	map[2] = (struct descriptor){ CONVENTIONAL, 0, taken, 0, (memory_end - taken) / PAGE, 8 };
	info.map_address = (uintptr_t)map;
	info.map_size = sizeof(map);
	info.map_descriptor_size = sizeof(map[0]);
	info.map_descriptor_version = 1;
}

void guest_main(void)
{
	const Elf64_Ehdr *header;
	uint64_t base, end;

	if (!check(module_count >= 2))
		return;
	base = (modules[module_count - 1].end + BLOCK - 1ull) & ~(uint64_t)(BLOCK - 1);
	end = load_kernel(&modules[0], base);
	map_kernel(base);
	header = (const void *)(uintptr_t)modules[0].start;
	info.magic = BOOT_INFO_MAGIC;
	info.version = BOOT_INFO_VERSION;
	info.size = sizeof(info);
	info.kernel_address = base;
	info.kernel_size = end - base;
	info.rsdp = find_rsdp();
	info.config_address = modules[1].start;
	info.config_size = size_of(&modules[1]);
	add_files();
	describe_memory(end);
	info.handover_tsc = rdtsc();
	__asm__ volatile("mov %0, %%rsp; xor %%ebp, %%ebp; push $0; jmp *%1"
			 :
			 : "r"(stack + sizeof(stack)), "r"(header->e_entry), "D"(&info)
			 : "memory");
}
