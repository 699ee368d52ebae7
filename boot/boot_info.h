/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the UEFI program hands to the kernel: the one header that both include.
 *
 * The kernel is entered at its ELF entry point in 64-bit mode, interrupts off, RDI = the
 * host-physical address of struct boot_info, on a stack of the loader's, with the loader's
 * page tables: everything below 4 GiB and all memory in the map identity-mapped (but at or above
 * 128 TiB), and the kernel's segments at their link addresses, all of it writable and executable.
 * CR4.LA57 is as the firmware had it: when it is on, these tables have five levels. CR4.CET is off.
 * All addresses here are host-physical. All memory of
 * the loader (this struct, the page tables, the files) is of type EfiLoaderData in the map;
 * the kernel takes back what it doesn't keep.
 */
#pragma once

#include <stdint.h>

#define BOOT_INFO_MAGIC UINT64_C(0x3152494551554951) /* "QIUQEIR1" */
#define BOOT_INFO_VERSION 1u
#define BOOT_MAX_FILES 64u
#define BOOT_MAX_CPUS 256u
#define BOOT_FILE_NAME 64u

struct boot_file {
	char name[BOOT_FILE_NAME]; /* as written in quire.conf, NUL-terminated */
	uint64_t address, size;    /* page-aligned address; size 0 with address 0: missing */
	uint32_t error;            /* 0, or 1 not found, 2 read error, 3 no memory */
	uint32_t reserved;
};

/* As EFI's MP services number them. */
#define BOOT_CPU_BSP 1u
#define BOOT_CPU_ENABLED 2u
#define BOOT_CPU_HEALTHY 4u

struct boot_cpu {
	uint32_t apic_id;
	uint32_t flags; /* BOOT_CPU_* */
};

struct boot_framebuffer {
	uint64_t address; /* 0: none */
	uint64_t size;
	uint32_t width, height, pixels_per_line;
	uint32_t reserved; /* pixels are 32 bits, in whatever order */
};

struct boot_info {
	uint64_t magic;
	uint32_t version;
	uint32_t size; /* of this struct */

	/* The memory map after ExitBootServices, in UEFI's own descriptor format. */
	uint64_t map_address, map_size, map_descriptor_size;
	uint32_t map_descriptor_version;
	uint32_t map_truncated; /* 1: the buffer was too small: refuse. This loader never leaves with such a map. */

	uint64_t kernel_address, kernel_size; /* where the kernel's image lies */
	uint64_t rsdp;                        /* ACPI 2.0's if there is one, else 1.0's, else 0 */
	uint64_t smbios;                      /* 3.0 entry point, else 2.x, else 0 */
	uint64_t handover_tsc;                /* the time stamp counter when boot services had ended */
	struct boot_framebuffer framebuffer;

	uint64_t config_address, config_size; /* quire.conf as read; size 0: none on the volume */
	uint32_t config_embedded;             /* 1: it's the default one that the program carries */
	uint32_t file_count;
	struct boot_file files[BOOT_MAX_FILES];

	uint32_t cpu_count;     /* from EFI's MP services; 0: the firmware has none */
	uint32_t files_dropped; /* how many files were named beyond BOOT_MAX_FILES and not loaded */
	struct boot_cpu cpus[BOOT_MAX_CPUS];
};
