/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BOOTX64.EFI: from firmware to the kernel, one step after another, one line of text for each.
 * Nothing here survives but struct boot_info and what it names; when a step fails before the end of boot
 * services, the program says why and gives the machine back to the firmware.
 */
#include "boot/efi_loader.h"

static EFI_STATUS failed(EFI_STATUS status)
{
	Print(L"quire: cannot start; the firmware takes over again\n");
	return status;
}

EFI_STATUS efi_main(EFI_HANDLE handle, EFI_SYSTEM_TABLE *system);

EFI_STATUS efi_main(EFI_HANDLE handle, EFI_SYSTEM_TABLE *system)
{
	static EFI_GUID protocol = EFI_LOADED_IMAGE_PROTOCOL_GUID;
	struct kernel_image kernel = { 0 };
	EFI_LOADED_IMAGE *image = NULL;
	struct boot_info *info;
	EFI_FILE_HANDLE volume;
	uint64_t root = 0;

	InitializeLib(handle, system);
	Print(L"quire: starting\n");
	/* Files may take longer than the five minutes that firmware grants. */
	(void)BS->SetWatchdogTimer(0, 0, 0, NULL);
	info = loader_pages(align_up(sizeof(*info), PAGE_SIZE_4K) / PAGE_SIZE_4K);
	if (!info || EFI_ERROR(BS->HandleProtocol(handle, &protocol, (void **)&image)))
		return failed(EFI_OUT_OF_RESOURCES);
	info->magic = BOOT_INFO_MAGIC;
	info->version = BOOT_INFO_VERSION;
	info->size = sizeof(*info);

	volume = volume_open(image);
	config_load(image, volume, info);
	if (volume)
		(void)volume->Close(volume);
	firmware_tables(info);
	firmware_framebuffer(info);
	firmware_processors(info);
	if (!kernel_load(&kernel))
		return failed(EFI_LOAD_ERROR);
	info->kernel_address = kernel.physical_base;
	info->kernel_size = kernel.size;
	if (!paging_build(&kernel, &info->framebuffer, &root))
		return failed(EFI_OUT_OF_RESOURCES);
	Print(L"quire: leaving the firmware\n");
	if (!leave_firmware(handle, info, &kernel, root))
		return failed(EFI_DEVICE_ERROR);
	return EFI_SUCCESS;
}
