/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The firmware's ACPI tables, read with suspicion: every length is checked against the bytes that
 * were mapped, every checksum is computed, every loop is bounded. Nothing here executes AML.
 * ACPI 6.5 chapter 5.
 */
#pragma once

#include "arch/x86_64/address.h"

/* Section 5.2.6. */
struct acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision, creator_id, creator_revision;
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_header) == 36, "as firmware writes it");

/* Section 5.2.3.2. */
struct acpi_address {
	uint8_t space, bits, offset, access;
	uint64_t address;
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_address) == 12, "as firmware writes it");

#define ACPI_SPACE_MEMORY 0u
#define ACPI_SPACE_IO 1u

/* What the kernel wants to know from FADT and DSDT; port 0 or address 0: not there. */
struct acpi_power {
	bool present;
	bool hardware_reduced;
	struct acpi_address pm1_control[2], pm1_status[2]; /* a and b; 16 bits each */
	uint16_t smi_command;
	uint8_t acpi_enable;
	bool has_s5;
	uint8_t s5_type_a, s5_type_b;
	struct acpi_address sleep_control;
	bool has_reset;
	struct acpi_address reset;
	uint8_t reset_value;
	struct acpi_address pm_timer;
	bool pm_timer_32_bits;
};

/* Boot CPU, after paging. rsdp 0: there are no tables, everything below says so. */
void acpi_init(hpa_t rsdp);
const struct acpi_power *acpi_power(void);

/* For each I/O APIC of the MADT its address, or for each processor that is enabled its APIC id. */
enum acpi_part { ACPI_IOAPICS, ACPI_PROCESSORS };
void acpi_each(enum acpi_part part, void (*call)(void *context, uint32_t value), void *context);

/* Boot CPU, after acpi_init(): stops the watchdog of the table WDAT, if there is one (watchdog.c). */
void acpi_stop_watchdog(void);

/* A generic address of a space that we know, made accessible once. */
struct acpi_register {
	uint16_t port; /* 0: in memory */
	volatile void *memory;
};
/* bits: 8, 16 or 32. False: address 0, another space, or no room. */
bool acpi_open(const struct acpi_address *where, unsigned bits, struct acpi_register *out);
uint32_t acpi_read(const struct acpi_register *r, unsigned bits);
void acpi_write(const struct acpi_register *r, unsigned bits, uint32_t value);
