/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts the kernel's ELF file, which this program carries, at its place: one piece of physical
 * memory, 2 MiB-aligned, in which the segments lie at the same distances as at their link addresses.
 * The file is our own, yet a broken build must end in a line of text, so every offset is checked.
 */
#include <elf.h>

#include "boot/efi_loader.h"

/* The kernel is linked into the top 2 GiB and is never larger than this. */
#define LINK_BASE_MIN UINT64_C(0xffffffff80000000)
#define KERNEL_LIMIT (UINT64_C(64) << 20)

static bool header_good(const Elf64_Ehdr *header, uint64_t size)
{
	return size >= sizeof(*header) && header->e_ident[EI_MAG0] == ELFMAG0 && header->e_ident[EI_MAG1] == ELFMAG1 &&
	       header->e_ident[EI_MAG2] == ELFMAG2 && header->e_ident[EI_MAG3] == ELFMAG3 &&
	       header->e_ident[EI_CLASS] == ELFCLASS64 && header->e_ident[EI_DATA] == ELFDATA2LSB &&
	       header->e_type == ET_EXEC && header->e_machine == EM_X86_64 &&
	       header->e_phentsize == sizeof(Elf64_Phdr) && header->e_phoff % 8 == 0 && header->e_phoff <= size &&
	       header->e_phnum <= (size - header->e_phoff) / sizeof(Elf64_Phdr);
}

static bool segment_good(const Elf64_Phdr *segment, uint64_t size)
{
	return segment->p_offset <= size && segment->p_filesz <= size - segment->p_offset &&
	       segment->p_filesz <= segment->p_memsz && segment->p_memsz <= KERNEL_LIMIT &&
	       segment->p_vaddr >= LINK_BASE_MIN && segment->p_vaddr <= UINT64_MAX - KERNEL_LIMIT;
}

/* Lowest and highest link address, checked; false: not a kernel of ours. */
static bool measure(const Elf64_Ehdr *header, uint64_t size, struct kernel_image *kernel)
{
	const Elf64_Phdr *segments = (const void *)((const uint8_t *)header + header->e_phoff);
	uint64_t low = UINT64_MAX, high = 0;

	for (unsigned i = 0; i < header->e_phnum; i++) {
		if (segments[i].p_type != PT_LOAD)
			continue;
		if (!segment_good(&segments[i], size))
			return false;
		low = min_u64(low, segments[i].p_vaddr);
		high = max_u64(high, segments[i].p_vaddr + segments[i].p_memsz);
	}
	if (low >= high || high - align_down(low, PAGE_SIZE_2M) > KERNEL_LIMIT)
		return false;
	kernel->link_base = align_down(low, PAGE_SIZE_2M);
	kernel->size = align_up(high - kernel->link_base, PAGE_SIZE_4K);
	kernel->entry = header->e_entry;
	return kernel->entry >= low && kernel->entry < high;
}

/* Pages with 2 MiB alignment, below 4 GiB if there are any: what is cut off at both ends goes back. */
static uint64_t allocate_aligned(uint64_t size)
{
	uint64_t pages = size / PAGE_SIZE_4K, slack = PAGE_SIZE_2M / PAGE_SIZE_4K, base, before;
	EFI_PHYSICAL_ADDRESS where = UINT64_C(0xffffffff);

	if (EFI_ERROR(BS->AllocatePages(AllocateMaxAddress, EfiLoaderData, pages + slack, &where)) &&
	    EFI_ERROR(BS->AllocatePages(AllocateAnyPages, EfiLoaderData, pages + slack, &where)))
		return 0;
	base = align_up(where ? where : 1, PAGE_SIZE_2M);
	before = (base - where) / PAGE_SIZE_4K;
	if (before)
		(void)BS->FreePages(where, before);
	if (before < slack)
		(void)BS->FreePages(base + size, slack - before);
	return base;
}

bool kernel_load(struct kernel_image *kernel)
{
	const Elf64_Ehdr *header = (const void *)kernel_image_start;
	const uint64_t size = (uint64_t)(kernel_image_end - kernel_image_start);
	const Elf64_Phdr *segments;

	if (!header_good(header, size) || !measure(header, size, kernel)) {
		Print(L"quire: the kernel inside this program is damaged\n");
		return false;
	}
	kernel->physical_base = allocate_aligned(kernel->size);
	if (!kernel->physical_base) {
		Print(L"quire: no memory for the kernel (%ld KiB)\n", kernel->size / 1024);
		return false;
	}
	ZeroMem((void *)kernel->physical_base, kernel->size);
	segments = (const void *)(kernel_image_start + header->e_phoff);
	for (unsigned i = 0; i < header->e_phnum; i++)
		if (segments[i].p_type == PT_LOAD)
			CopyMem((void *)(segments[i].p_vaddr - kernel->link_base + kernel->physical_base),
				(void *)(kernel_image_start + segments[i].p_offset), segments[i].p_filesz);
	Print(L"quire: kernel of %ld KiB at %lx\n", kernel->size / 1024, kernel->physical_base);
	return true;
}
