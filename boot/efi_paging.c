/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page tables under which the kernel starts: an identity map of the low 4 GiB, of all memory
 * in the map and of the framebuffer, in 1 GiB or 2 MiB pages, and the kernel's image at its link addresses in 4 KiB
 * pages. Everything is writable and executable; the kernel's own tables, which follow
 * soon, are not. Intel SDM volume 3 section 4.5.
 *
 * The lower half of the address space is enough: memory at or above 128 TiB is left out, and
 * the kernel refuses it. With five levels (CR4.LA57, which can't be changed in long mode) the first and the last
 * entry of the extra page lead to the same fourth level, so that both halves stay where they are.
 */
#include "boot/efi_loader.h"

#define ENTRY_PRESENT UINT64_C(0x1)
#define ENTRY_WRITE UINT64_C(0x2)
#define ENTRY_LARGE UINT64_C(0x80)
#define ENTRY_ADDRESS UINT64_C(0x000ffffffffff000)
#define ENTRIES 512u
#define IDENTITY_LIMIT (UINT64_C(1) << 47)
#define IDENTITY_ALWAYS (UINT64_C(4) << 30)
#define CR4_LA57 (UINT64_C(1) << 12)

_Static_assert(PAGE_SIZE_2M == ENTRIES * PAGE_SIZE_4K, "a table of 4 KiB pages spans 2 MiB");
_Static_assert(PAGE_SIZE_1G == ENTRIES * PAGE_SIZE_2M, "a table of 2 MiB pages spans 1 GiB");
_Static_assert((ENTRY_ADDRESS & (ENTRY_PRESENT | ENTRY_WRITE | ENTRY_LARGE)) == 0, "flags lie outside the address");

/* Index at a level: 1 selects among 4 KiB pages, 4 among 512 GiB pieces. */
static unsigned entry_index(uint64_t address, unsigned level)
{
	return (address >> (12 + 9 * (level - 1))) & (ENTRIES - 1);
}

/*
 * Maps one page at `address`: level 1 is 4 KiB, 2 is 2 MiB, 3 is 1 GiB. What is mapped already stays.
 * false: no memory for a table.
 */
static bool map_page(uint64_t *table, uint64_t address, uint64_t physical, unsigned leaf)
{
	for (unsigned level = 4; level > leaf; level--) {
		uint64_t *entry = &table[entry_index(address, level)];

		if (*entry & ENTRY_LARGE)
			return true;
		if (!*entry) {
			uint64_t *fresh = loader_pages(1);

			if (!fresh)
				return false;
			*entry = (uint64_t)fresh | ENTRY_PRESENT | ENTRY_WRITE;
		}
		table = (uint64_t *)(*entry & ENTRY_ADDRESS);
	}
	if (!table[entry_index(address, leaf)])
		table[entry_index(address, leaf)] =
			physical | ENTRY_PRESENT | ENTRY_WRITE | (leaf > 1 ? ENTRY_LARGE : 0);
	return true;
}

static bool map_identity(uint64_t *root, uint64_t start, uint64_t end, unsigned leaf)
{
	const uint64_t step = leaf == 3 ? PAGE_SIZE_1G : PAGE_SIZE_2M;

	if (end > IDENTITY_LIMIT)
		end = IDENTITY_LIMIT;
	for (uint64_t at = align_down(start, step); at < end; at += step)
		if (!map_page(root, at, at, leaf))
			return false;
	return true;
}

/* Reserved and device space is the kernel's to map, with the right memory type. */
static bool is_memory(UINT32 type)
{
	return type != EfiReservedMemoryType && type != EfiMemoryMappedIO && type != EfiMemoryMappedIOPortSpace &&
	       type != EfiUnusableMemory;
}

static bool map_memory(uint64_t *root, const struct memory_map *map, unsigned leaf)
{
	for (uint64_t at = 0; at + sizeof(EFI_MEMORY_DESCRIPTOR) <= map->size; at += map->step) {
		const EFI_MEMORY_DESCRIPTOR *piece = (const void *)(map->address + at);
		uint64_t start = piece->PhysicalStart;

		/* A piece that wraps is the kernel's to complain about; here it must only do no harm. */
		if (!is_memory(piece->Type) || start >= IDENTITY_LIMIT ||
		    piece->NumberOfPages > IDENTITY_LIMIT / PAGE_SIZE_4K)
			continue;
		if (!map_identity(root, start, start + piece->NumberOfPages * PAGE_SIZE_4K, leaf))
			return false;
	}
	return true;
}

static bool has_1g_pages(void)
{
	uint32_t a = 0x80000000, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	if (a < 0x80000001)
		return false;
	a = 0x80000001;
	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return d & (1u << 26);
}

static bool fill_tables(uint64_t *root, const struct kernel_image *kernel, const struct boot_framebuffer *screen)
{
	struct memory_map map = { 0 }; /* types may change from here on, but not what memory there is */
	const unsigned leaf = has_1g_pages() ? 3 : 2;
	UINTN key;
	bool good;

	if (!memory_map_read(&map, &key))
		return false;
	good = map_identity(root, 0, IDENTITY_ALWAYS, leaf) && map_memory(root, &map, leaf) &&
	       map_identity(root, screen->address, screen->address + screen->size, leaf);
	for (uint64_t at = 0; good && at < kernel->size; at += PAGE_SIZE_4K)
		good = map_page(root, kernel->link_base + at, kernel->physical_base + at, 1);
	(void)BS->FreePages(map.address, map.room / PAGE_SIZE_4K);
	return good;
}

bool paging_build(const struct kernel_image *kernel, const struct boot_framebuffer *screen, uint64_t *root)
{
	uint64_t *level_4 = loader_pages(1), *level_5, cr4;

	if (!level_4 || !fill_tables(level_4, kernel, screen)) {
		Print(L"quire: no memory for page tables\n");
		return false;
	}
	*root = (uint64_t)level_4;
	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	if (!(cr4 & CR4_LA57))
		return true;
	level_5 = loader_pages(1);
	if (!level_5) {
		Print(L"quire: no memory for page tables\n");
		return false;
	}
	level_5[0] = level_5[ENTRIES - 1] = *root | ENTRY_PRESENT | ENTRY_WRITE;
	*root = (uint64_t)level_5;
	return true;
}
