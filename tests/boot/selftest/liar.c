/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Firmware that lies: starts \quire.efi from its own volume, and to what the real firmware's memory map says adds entries as they have been
 * seen, or feared: empty, misaligned, ending nowhere, told twice, reserved or a device's where memory is. With a file
 * \mtrroff it also leaves the MTRRs switched off.
 */
#include <efi.h>
#include <efilib.h>

#define MTRR_DEFAULT 0x2ff
#define MTRR_ENABLE (1u << 11)
#define LIES 8

static EFI_GET_MEMORY_MAP honest;
static BOOLEAN mtrrs_off;

static EFI_MEMORY_DESCRIPTOR *at(void *map, UINTN step, UINTN index)
{
	return (EFI_MEMORY_DESCRIPTOR *)((UINT8 *)map + index * step);
}

static void lie(void *map, UINTN step, UINTN count)
{
	EFI_MEMORY_DESCRIPTOR largest = { 0 };
	UINT64 middle;

	for (UINTN i = 0; i < count; i++)
		if (at(map, step, i)->Type == EfiConventionalMemory &&
		    at(map, step, i)->NumberOfPages > largest.NumberOfPages)
			largest = *at(map, step, i);
	middle = largest.PhysicalStart + largest.NumberOfPages / 2 * EFI_PAGE_SIZE;
	const struct {
		UINT32 type;
		UINT64 base, pages;
	} lies[LIES] = {
		{ EfiConventionalMemory, 0x1000000, 0 },
		{ EfiConventionalMemory, 0x1000800, 1 },
		{ EfiConventionalMemory, 0xfffffffffffff000, 4 },
		{ EfiReservedMemoryType, 0xfffffffffffff000, 4 },
		{ EfiConventionalMemory, (UINT64)1 << 60, 16 },
		{ EfiConventionalMemory, largest.PhysicalStart, largest.NumberOfPages },
		{ EfiReservedMemoryType, middle, 3 },
		{ EfiMemoryMappedIO, middle + 64 * EFI_PAGE_SIZE, 2 },
	};
	for (UINTN i = 0; i < LIES; i++) {
		EFI_MEMORY_DESCRIPTOR *entry = at(map, step, count + i);

		*entry = largest;
		entry->Type = lies[i].type;
		entry->PhysicalStart = lies[i].base;
		entry->NumberOfPages = lies[i].pages;
	}
}

static EFI_STATUS EFIAPI get_memory_map(UINTN *size, EFI_MEMORY_DESCRIPTOR *map, UINTN *key, UINTN *step,
					UINT32 *version)
{
	UINTN room = *size;
	EFI_STATUS status = honest(size, map, key, step, version);
	UINTN real = *size;

	if (EFI_ERROR(status) && status != EFI_BUFFER_TOO_SMALL)
		return status;
	*size += LIES * *step;
	if (status == EFI_BUFFER_TOO_SMALL || *size > room)
		return EFI_BUFFER_TOO_SMALL;
	lie(map, *step, real / *step);
	if (mtrrs_off) {
		UINT32 low, high;

		__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(MTRR_DEFAULT));
		__asm__ volatile("wrmsr" : : "a"(low & ~MTRR_ENABLE), "d"(high), "c"(MTRR_DEFAULT));
	}
	return status;
}

EFI_STATUS efi_main(EFI_HANDLE handle, EFI_SYSTEM_TABLE *system);

EFI_STATUS efi_main(EFI_HANDLE handle, EFI_SYSTEM_TABLE *system)
{
	static EFI_GUID protocol = EFI_LOADED_IMAGE_PROTOCOL_GUID;
	EFI_LOADED_IMAGE *image;
	EFI_HANDLE quire;
	EFI_FILE_HANDLE volume, file;
	EFI_STATUS status;

	InitializeLib(handle, system);
	BS->HandleProtocol(handle, &protocol, (void **)&image);
	volume = LibOpenRoot(image->DeviceHandle);
	mtrrs_off = !EFI_ERROR(volume->Open(volume, &file, L"\\mtrroff", EFI_FILE_MODE_READ, 0));
	status = BS->LoadImage(FALSE, handle, FileDevicePath(image->DeviceHandle, L"\\quire.efi"), NULL, 0, &quire);
	if (EFI_ERROR(status)) {
		Print(L"liar: no quire.efi: %r\n", status);
		return status;
	}
	honest = BS->GetMemoryMap;
	BS->GetMemoryMap = get_memory_map;
	return BS->StartImage(quire, NULL, NULL);
}
