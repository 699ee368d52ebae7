/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only firmware knows: where the ACPI and SMBIOS tables start (UEFI 2.10 section 4.6), the
 * framebuffer it has set up (section 12.9), and the processors (PI 1.7 volume 2, MP services). All of it may be
 * missing.
 */
#include "boot/efi_loader.h"

/* Of the PI specification, which gnu-efi leaves out: EFI_MP_SERVICES_PROTOCOL. */
#define MP_SERVICES_GUID                                                                                               \
	{                                                                                                              \
		0x3fdda605, 0xa76e, 0x4f46,                                                                            \
		{                                                                                                      \
			0xad, 0x29, 0x12, 0xf4, 0x53, 0x1b, 0x3d, 0x08                                                 \
		}                                                                                                      \
	}

struct processor_information {
	UINT64 processor_id; /* the APIC id */
	UINT32 flags;        /* 1 boot processor, 2 enabled, 4 healthy: as boot_cpu's */
	UINT32 package, core, thread;
	UINT8 extended[64]; /* newer firmware may write a location with more levels */
};

struct mp_services {
	EFI_STATUS(EFIAPI *count)(struct mp_services *this, UINTN *all, UINTN *enabled);
	EFI_STATUS(EFIAPI *information)(struct mp_services *this, UINTN number, struct processor_information *out);
	/* Five more that start work on processors: not used. */
};

static uint64_t find_table(const EFI_GUID *wanted)
{
	for (UINTN i = 0; i < ST->NumberOfTableEntries; i++)
		if (!CompareGuid(&ST->ConfigurationTable[i].VendorGuid, (EFI_GUID *)wanted))
			return (uint64_t)ST->ConfigurationTable[i].VendorTable;
	return 0;
}

void firmware_tables(struct boot_info *info)
{
	static const EFI_GUID acpi_2 = ACPI_20_TABLE_GUID, acpi_1 = ACPI_TABLE_GUID;
	static const EFI_GUID smbios_3 = SMBIOS3_TABLE_GUID, smbios_2 = SMBIOS_TABLE_GUID;

	info->rsdp = find_table(&acpi_2);
	if (!info->rsdp)
		info->rsdp = find_table(&acpi_1);
	info->smbios = find_table(&smbios_3);
	if (!info->smbios)
		info->smbios = find_table(&smbios_2);
	Print(L"quire: ACPI at %lx, SMBIOS at %lx\n", info->rsdp, info->smbios);
}

/* Does a pixel take 32 bits? With masks, its size is that up to the highest bit of any: UEFI 2.10 section 12.9.2. */
static bool is_32_bits(const EFI_GRAPHICS_OUTPUT_MODE_INFORMATION *shape)
{
	const EFI_PIXEL_BITMASK *m = &shape->PixelInformation;

	return shape->PixelFormat == PixelRedGreenBlueReserved8BitPerColor ||
	       shape->PixelFormat == PixelBlueGreenRedReserved8BitPerColor ||
	       (shape->PixelFormat == PixelBitMask &&
		(m->RedMask | m->GreenMask | m->BlueMask | m->ReservedMask) >> 24);
}

/*
 * false: not a linear buffer of 32-bit pixels, or its figures contradict one another. Writing is in grey, so the order of
 * colours matters to nobody. Some firmware tells too short a size: what is on the screen counts.
 */
static bool take_mode(const EFI_GRAPHICS_OUTPUT_PROTOCOL *output, struct boot_framebuffer *out)
{
	const EFI_GRAPHICS_OUTPUT_PROTOCOL_MODE *mode = output->Mode;
	const EFI_GRAPHICS_OUTPUT_MODE_INFORMATION *shape = mode ? mode->Info : NULL;

	if (!shape || !mode->FrameBufferBase || !is_32_bits(shape))
		return false;
	if (!shape->HorizontalResolution || shape->PixelsPerScanLine < shape->HorizontalResolution ||
	    shape->PixelsPerScanLine > 65536 || !shape->VerticalResolution || shape->VerticalResolution > 65536)
		return false;
	out->address = mode->FrameBufferBase;
	out->size = max_u64(mode->FrameBufferSize, (uint64_t)shape->PixelsPerScanLine * shape->VerticalResolution * 4);
	out->width = shape->HorizontalResolution;
	out->height = shape->VerticalResolution;
	out->pixels_per_line = shape->PixelsPerScanLine;
	return true;
}

void firmware_framebuffer(struct boot_info *info)
{
	static EFI_GUID protocol = EFI_GRAPHICS_OUTPUT_PROTOCOL_GUID;
	EFI_GRAPHICS_OUTPUT_PROTOCOL *output = NULL;
	EFI_HANDLE *handles = NULL;
	UINTN count = 0;
	bool found = false;

	/* The console's own output first: that is the screen somebody looks at. */
	if (ST->ConsoleOutHandle && !EFI_ERROR(BS->HandleProtocol(ST->ConsoleOutHandle, &protocol, (void **)&output)))
		found = take_mode(output, &info->framebuffer);
	if (!found && !EFI_ERROR(BS->LocateHandleBuffer(ByProtocol, &protocol, NULL, &count, &handles))) {
		for (UINTN i = 0; i < count && !found; i++)
			found = !EFI_ERROR(BS->HandleProtocol(handles[i], &protocol, (void **)&output)) &&
				take_mode(output, &info->framebuffer);
		(void)BS->FreePool(handles);
	}
	if (found)
		Print(L"quire: framebuffer %dx%d at %lx\n", info->framebuffer.width, info->framebuffer.height,
		      info->framebuffer.address);
	else
		Print(L"quire: no framebuffer\n");
}

void firmware_processors(struct boot_info *info)
{
	static EFI_GUID protocol = MP_SERVICES_GUID;
	struct mp_services *services = NULL;
	UINTN count = 0, enabled = 0;

	if (EFI_ERROR(BS->LocateProtocol(&protocol, NULL, (void **)&services)) ||
	    EFI_ERROR(services->count(services, &count, &enabled))) {
		Print(L"quire: firmware lists no processors\n");
		return;
	}
	for (UINTN i = 0; i < count && info->cpu_count < BOOT_MAX_CPUS; i++) {
		struct processor_information cpu = { 0 };

		if (EFI_ERROR(services->information(services, i, &cpu)) || cpu.processor_id > UINT32_MAX)
			continue;
		info->cpus[info->cpu_count].apic_id = (uint32_t)cpu.processor_id;
		info->cpus[info->cpu_count++].flags = cpu.flags & (BOOT_CPU_BSP | BOOT_CPU_ENABLED | BOOT_CPU_HEALTHY);
	}
	Print(L"quire: %d processors, %ld enabled\n", info->cpu_count, enabled);
}
