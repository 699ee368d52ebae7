/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way out of firmware: the memory map is taken, boot services end, devices stop writing to memory,
 * the kernel is entered. From the first call of ExitBootServices on only the memory services may be
 * called (UEFI 2.10 section 7.4.6), so nothing is printed after it; the last word of a failure goes to
 * the serial port itself.
 */
#include "boot/efi_loader.h"

#define TRIES 8
#define MAP_SLACK 32 /* descriptors: each allocation may split one into three */

/* One try into the room there is; *needed in bytes. */
static EFI_STATUS fill_map(struct memory_map *map, UINTN *needed, UINTN *key)
{
	UINTN size = map->room, step = 0;
	UINT32 version = 0;
	EFI_STATUS status = BS->GetMemoryMap(&size, (EFI_MEMORY_DESCRIPTOR *)map->address, key, &step, &version);

	*needed = size + MAP_SLACK * max_u64(step, sizeof(EFI_MEMORY_DESCRIPTOR));
	if (EFI_ERROR(status))
		return status;
	if (step < sizeof(EFI_MEMORY_DESCRIPTOR) || size > map->room)
		return EFI_DEVICE_ERROR;
	map->size = size;
	map->step = step;
	map->version = version;
	return EFI_SUCCESS;
}

bool memory_map_read(struct memory_map *map, UINTN *key)
{
	UINTN needed = 0;

	for (unsigned i = 0; i < TRIES; i++) {
		EFI_STATUS status = fill_map(map, &needed, key);

		if (status != EFI_BUFFER_TOO_SMALL)
			return !EFI_ERROR(status);
		/* The pages for it may split a descriptor in turn: hence the slack, and another try. */
		if (map->room)
			(void)BS->FreePages(map->address, map->room / PAGE_SIZE_4K);
		map->room = align_up(needed, PAGE_SIZE_4K);
		map->address = (uint64_t)loader_pages(map->room / PAGE_SIZE_4K);
		if (!map->address)
			map->room = 0;
		if (!map->address)
			return false;
	}
	return false;
}

/* COM1, each byte after a bounded wait: there is no firmware to ask any more. */
static void last_word(const char *text)
{
	for (; *text; text++) {
		uint8_t state = 0;

		for (unsigned wait = 0; wait < 100000 && !(state & 0x20); wait++)
			__asm__ volatile("inb %1, %0" : "=a"(state) : "Nd"((uint16_t)0x3fd));
		__asm__ volatile("outb %0, %1" : : "a"(*text), "Nd"((uint16_t)0x3f8));
	}
}

/*
 * Interrupts off, control-flow enforcement off (the kernel's entry is no marked target), new tables,
 * and away. This code and the stack lie in memory that both sets of tables map alike; the stack is left as after a
 * call.
 */
_Noreturn static void enter_kernel(struct boot_info *info, uint64_t entry, uint64_t root)
{
	__asm__ volatile("cli\n\t"
			 "cld\n\t"
			 "mov %%cr4, %%rax\n\t"
			 "btr $23, %%rax\n\t" /* CR4.CET */
			 "jnc 1f\n\t"
			 "mov %%rax, %%cr4\n"
			 "1:\tmov %2, %%cr3\n\t"
			 "and $-16, %%rsp\n\t"
			 "push $0\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "jmp *%1"
			 :
			 : "D"(info), "S"(entry), "d"(root)
			 : "rax", "memory");
	__builtin_unreachable();
}

static void pass_on(struct boot_info *info, const struct memory_map *map)
{
	info->map_address = map->address;
	info->map_size = map->size;
	info->map_descriptor_size = map->step;
	info->map_descriptor_version = map->version;
}

bool leave_firmware(EFI_HANDLE image, struct boot_info *info, const struct kernel_image *kernel, uint64_t root)
{
	struct memory_map map = { 0 };
	UINTN key = 0;

	if (!memory_map_read(&map, &key)) {
		Print(L"quire: firmware gives no memory map\n");
		return false;
	}
	for (unsigned i = 0; i < TRIES; i++) {
		if (!EFI_ERROR(BS->ExitBootServices(image, key))) {
			info->handover_tsc = __builtin_ia32_rdtsc();
			dma_stop();
			pass_on(info, &map);
			enter_kernel(info, kernel->entry, root);
		}
		/* The key was stale: something allocated in between, perhaps a timer of the firmware. */
		if (!memory_map_read(&map, &key))
			break;
	}
	last_word("quire: firmware does not end its boot services\r\n");
	for (;;)
		__asm__ volatile("cli; hlt");
}
