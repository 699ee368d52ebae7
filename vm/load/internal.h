/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the loaders: where things lie in a fresh guest, how to write there, and the
 * register states that boot protocols ask for.
 *
 *   0x00000  vectors, BIOS data area (bios.c)   0x9fc00  extended BIOS data area
 *   0x01000  GDT          0x07000  Linux boot_params / multiboot information
 *   0x09000  page tables of a 64-bit start (six pages)
 *   0x20000  command line 0xe0000  ROM with the ACPI tables, and the end of a BIOS
 */
#pragma once

#include "vm/load/load.h"

#define LOAD_GDT UINT64_C(0x1000)
#define LOAD_INFO UINT64_C(0x7000)
#define LOAD_PAGE_TABLES UINT64_C(0x9000)
#define LOAD_PAGE_TABLES_SIZE UINT64_C(0x6000)
#define LOAD_COMMAND_LINE UINT64_C(0x20000)
#define LOAD_ROM UINT64_C(0xe0000)
#define LOAD_ROM_SIZE UINT64_C(0x20000)
#define LOAD_HIGH UINT64_C(0x100000)
#define LOAD_EBDA UINT64_C(0x9fc00)

struct guest_map_entry {
	uint64_t base, size;
	bool usable;
};
#define GUEST_MAP_MAX 8u

struct loader {
	const struct load_plan *plan;
	const struct config_machine *config;
	const struct guest_file *kernel;
	uint64_t low_end; /* end of RAM below the hole */
	struct guest_map_entry map[GUEST_MAP_MAX];
	unsigned map_count;
	uint64_t rsdp;
	char *why;
	size_t why_size;
};

/* The file or NOT_FOUND with the reason in why. */
enum status loader_file(struct loader *l, const char *name, const struct guest_file **file) must_check;
/* Writes guest memory; BAD_ADDRESS with `what` named when it isn't RAM from end to end. */
enum status loader_write(struct loader *l, uint64_t where, const void *data, uint64_t size,
			 const char *what) must_check;
enum status loader_fail(struct loader *l, enum status status, const char *format, ...)
	__attribute__((format(printf, 3, 4))) must_check;

/* For "%lu %s": rounded up to whole KiB, from 1 MiB on to whole MiB. */
#define LOADER_SIZE(bytes)                                                                                             \
	((bytes) < MIB ? ((bytes) + KIB - 1) / KIB : ((bytes) + MIB - 1) / MIB), (bytes) < MIB ? "KiB" : "MiB"

/* Flat 32-bit protected mode, paging off, interrupts off. Selectors: code, then data behind it in the GDT. */
enum status loader_protected(struct loader *l, uint64_t entry, uint16_t code, uint16_t data) must_check;
/* 64-bit mode, the first 4 GiB identity-mapped. */
enum status loader_long(struct loader *l, uint64_t entry) must_check;
void loader_real(struct loader *l, uint64_t entry);

enum status load_linux(struct loader *l) must_check;
enum status load_multiboot(struct loader *l) must_check;
enum status load_flat(struct loader *l) must_check;
bool linux_detect(const struct guest_file *file);
bool multiboot_detect(const struct guest_file *file);

/* bios.c: the data area, vectors and ROM entries that a BIOS leaves; the ROM is there. */
enum status bios_build(struct loader *l) must_check;
/* acpi.c: writes the tables into the ROM, at whose begin the root pointer lies. */
enum status acpi_build(const struct load_plan *plan) must_check;
