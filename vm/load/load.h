/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest loaders: put the files that the configuration names into a fresh machine's memory and
 * set the boot vcpu's registers as the protocol says.
 */
#pragma once

#include "lib/memory.h"
#include "pgm/pgm.h"
#include "vm/config/config.h"

/* The files that the UEFI program read, by the name in quire.conf. Set once at boot. */
struct guest_file {
	const char *name;
	const void *data; /* NULL: missing; error says why */
	uint64_t size;
	const char *error;
};
void load_set_files(const struct guest_file *files, unsigned count);
const struct guest_file *load_find_file(const char *name);

/* The name of a range of RAM that the memory map doesn't tell of. */
#define LOAD_UNTOLD "plugged"

/* What is loaded into, and by what. */
struct load_plan {
	const struct config_machine *config;
	struct pgm *pgm;
	struct hv_vcpu *boot; /* the boot vcpu's registers; just reset */
	unsigned vcpu_count;
};

/*
 * Loads kernel, initrd, modules and command line by the machine's protocol (or detects it), makes ACPI tables
 * and the memory map, sets the boot vcpu's registers. why: one line for a person, naming the file. BAD_FORMAT, NOT_FOUND,
 * NO_MEMORY, BAD_ADDRESS (doesn't fit).
 */
enum status load_guest(const struct load_plan *plan, char *why, size_t size) must_check;
