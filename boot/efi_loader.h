/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The UEFI program's own seams. It runs once, on the boot processor, under boot services: each
 * file here does one step of efi_main(), which puts the results into struct boot_info.
 *
 * Firmware is not trusted: what it reports is bounded and checked, and what it lacks is left
 * empty in boot_info. A step that returns false has said why on the console; only what the kernel
 * cannot do without is such a failure.
 */
#pragma once

#include <efi.h>
#include <efilib.h>
#include <stdbool.h>

#include "boot/boot_info.h"
#include "lib/bits.h"

#define PAGE_SIZE_4K UINT64_C(0x1000)
#define PAGE_SIZE_2M UINT64_C(0x200000)
#define PAGE_SIZE_1G UINT64_C(0x40000000)

/* ---- efi_file.c ---- */
/* Zeroed pages of type EfiLoaderData, identity-addressed; NULL when there are none. */
void *loader_pages(uint64_t count);
/* The root folder of the volume that the program was started from; NULL when it has none. */
EFI_FILE_HANDLE volume_open(EFI_LOADED_IMAGE *image);
/*
 * Reads the file named in file->name (ASCII, / or \ between folders) into pages of its own; fills in
 * address, size and error. volume may be NULL: not found.
 */
void file_read(EFI_FILE_HANDLE volume, struct boot_file *file);

/* ---- efi_config.c ---- */
/* Reads the configuration, then every file it names, into boot_info. */
void config_load(EFI_LOADED_IMAGE *image, EFI_FILE_HANDLE volume, struct boot_info *info);

/* ---- efi_firmware.c ---- */
/* What firmware knows and nobody else: ACPI, SMBIOS, framebuffer, processors. */
void firmware_tables(struct boot_info *info);
void firmware_framebuffer(struct boot_info *info);
void firmware_processors(struct boot_info *info);

/* ---- efi_elf.c ---- */
/* The kernel in memory. Link address + offset = physical address, the same offset for every byte. */
struct kernel_image {
	uint64_t link_base, physical_base; /* both 2 MiB-aligned */
	uint64_t size;                     /* in bytes, whole pages */
	uint64_t entry;                    /* link address */
};
bool kernel_load(struct kernel_image *kernel);

/* ---- efi_paging.c ---- */
/*
 * The tables that boot_info.h promises; *root is what CR3 takes. With CR4.LA57 on the root is a
 * fifth-level page over the same tables.
 */
bool paging_build(const struct kernel_image *kernel, const struct boot_framebuffer *screen, uint64_t *root);

/* ---- efi_dma.c ---- */
/* After boot services. */
void dma_stop(void);

/* ---- efi_exit.c ---- */
/* Starts all zero. All in bytes; room is what the pages at address hold, step the distance between descriptors. */
struct memory_map {
	uint64_t address, room, size, step;
	uint32_t version;
};
/* Reads the map, again and again into the same pages while they suffice; *key is ExitBootServices'. */
bool memory_map_read(struct memory_map *map, UINTN *key);
/* Ends DMA and boot services and enters the kernel; returns false only while firmware still lives. */
bool leave_firmware(EFI_HANDLE image, struct boot_info *info, const struct kernel_image *kernel, uint64_t root);

/* ---- efi_kernel.asm ---- */
extern const uint8_t kernel_image_start[], kernel_image_end[];
extern const char default_config_start[], default_config_end[];
