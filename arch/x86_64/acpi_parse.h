/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of ACPI parsing that look at bytes only: no mapping, no port, no state. Tests on the host
 * feed them broken tables. A header passed in has a length that was checked against what is readable.
 */
#pragma once

#include "arch/x86_64/acpi.h"

#define ACPI_TABLE_MAX (UINT32_C(16) << 20)

/* Section 5.2.12, table 5.21. */
#define MADT_LOCAL_APIC 0u
#define MADT_IOAPIC 1u
#define MADT_LOCAL_X2APIC 9u
#define MADT_ENABLED 1u
#define MADT_FIRST 44u
/* Section 5.2.16. */
#define SRAT_LOCAL_APIC 0u
#define SRAT_LOCAL_X2APIC 2u
#define SRAT_ENABLED 1u
#define SRAT_FIRST 48u

/* Sum of all bytes modulo 256; 0 in a good table. */
uint8_t acpi_sum(const void *bytes, size_t size);
/* Calls for each entry of MADT or SRAT whose length stays inside; stops at the first that doesn't. first: MADT_FIRST, SRAT_FIRST. */
void acpi_each_entry(const struct acpi_header *table, uint32_t first,
		     void (*call)(void *context, const uint8_t *entry, unsigned length), void *context);
/* The proximity domain of the processor with this APIC id; 0 if none is told. */
uint32_t acpi_find_node(const struct acpi_header *srat, uint32_t apic_id);
/* Fills what FADT says; fields beyond its length count as zero. */
void acpi_parse_fadt(const struct acpi_header *fadt, struct acpi_power *power);
uint64_t acpi_dsdt_address(const struct acpi_header *fadt);
/* Looks for Name (_S5, Package () { a, b, ... }) in AML. */
bool acpi_find_s5(const uint8_t *aml, size_t size, uint8_t *type_a, uint8_t *type_b);
