/* SPDX-License-Identifier: Apache-2.0 */
/* MADT, SRAT, FADT and the \_S5 package of the DSDT, byte by byte. ACPI 6.5 sections 5.2.9, 5.2.12, 5.2.16, 7.4.2, 20.2. */
#include "arch/x86_64/acpi_parse.h"

#include <string.h>

uint8_t acpi_sum(const void *bytes, size_t size)
{
	const uint8_t *p = bytes;
	uint8_t sum = 0;

	while (size--)
		sum = (uint8_t)(sum + *p++);
	return sum;
}

void acpi_each_entry(const struct acpi_header *table, uint32_t first,
		     void (*call)(void *context, const uint8_t *entry, unsigned length), void *context)
{
	const uint8_t *bytes = (const uint8_t *)table;
	uint32_t at = first, size = table->length;

	while (size >= 2 && at <= size - 2) {
		unsigned length = bytes[at + 1];

		if (length < 2 || length > size - at)
			return;
		call(context, bytes + at, length);
		at += length;
	}
}

struct affinity {
	uint32_t apic_id, node;
};

/* Sections 5.2.16.1 and 5.2.16.3: the first has its domain in two places, 8 bits and 24. */
static void compare_affinity(void *context, const uint8_t *entry, unsigned length)
{
	struct affinity *wanted = context;
	uint32_t id, node, flags;

	if (entry[0] == SRAT_LOCAL_APIC && length >= 16) {
		id = entry[3];
		node = entry[2] | (uint32_t)entry[9] << 8 | (uint32_t)entry[10] << 16 | (uint32_t)entry[11] << 24;
		memcpy(&flags, entry + 4, 4);
	} else if (entry[0] == SRAT_LOCAL_X2APIC && length >= 24) {
		memcpy(&node, entry + 4, 4);
		memcpy(&id, entry + 8, 4);
		memcpy(&flags, entry + 12, 4);
	} else {
		return;
	}
	if ((flags & SRAT_ENABLED) && id == wanted->apic_id)
		wanted->node = node;
}

uint32_t acpi_find_node(const struct acpi_header *srat, uint32_t apic_id)
{
	struct affinity wanted = { apic_id, 0 };

	acpi_each_entry(srat, SRAT_FIRST, compare_affinity, &wanted);
	return wanted.node;
}

/* Offsets in the FADT, table 5.9. */
enum fadt_field {
	FADT_DSDT = 40,
	FADT_SMI_COMMAND = 48,
	FADT_ACPI_ENABLE = 52,
	FADT_PM1A_STATUS = 56,
	FADT_PM1B_STATUS = 60,
	FADT_PM1A_CONTROL = 64,
	FADT_PM1B_CONTROL = 68,
	FADT_PM_TIMER = 76,
	FADT_FLAGS = 112,
	FADT_RESET = 116,
	FADT_RESET_VALUE = 128,
	FADT_X_DSDT = 140,
	FADT_X_PM1A_STATUS = 148,
	FADT_X_PM1B_STATUS = 160,
	FADT_X_PM1A_CONTROL = 172,
	FADT_X_PM1B_CONTROL = 184,
	FADT_X_PM_TIMER = 208,
	FADT_SLEEP_CONTROL = 244,
};

#define FADT_FLAG_TIMER_32 (1u << 8)
#define FADT_FLAG_RESET (1u << 10)
#define FADT_FLAG_REDUCED (1u << 20)

static uint64_t field(const struct acpi_header *fadt, enum fadt_field offset, unsigned width)
{
	uint64_t value = 0;

	if (offset + width <= fadt->length)
		memcpy(&value, (const uint8_t *)fadt + offset, width);
	return value;
}

static struct acpi_address address_field(const struct acpi_header *fadt, enum fadt_field offset)
{
	struct acpi_address address = { 0 };

	if (offset + sizeof(address) <= fadt->length)
		memcpy(&address, (const uint8_t *)fadt + offset, sizeof(address));
	return address;
}

/* The extended address wins where it tells one; the plain one is always a port. All zero: there is none that we could reach. */
static struct acpi_address register_field(const struct acpi_header *fadt, enum fadt_field plain,
					  enum fadt_field extended)
{
	struct acpi_address address = address_field(fadt, extended);

	if (!address.address)
		address = (struct acpi_address){ .space = ACPI_SPACE_IO, .address = field(fadt, plain, 4) };
	if (address.space == ACPI_SPACE_MEMORY || (address.space == ACPI_SPACE_IO && address.address <= UINT16_MAX))
		return address;
	return (struct acpi_address){ 0 };
}

void acpi_parse_fadt(const struct acpi_header *fadt, struct acpi_power *power)
{
	uint32_t flags = (uint32_t)field(fadt, FADT_FLAGS, 4);
	uint64_t smi = field(fadt, FADT_SMI_COMMAND, 4);

	power->present = true;
	power->hardware_reduced = flags & FADT_FLAG_REDUCED;
	power->pm1_control[0] = register_field(fadt, FADT_PM1A_CONTROL, FADT_X_PM1A_CONTROL);
	power->pm1_control[1] = register_field(fadt, FADT_PM1B_CONTROL, FADT_X_PM1B_CONTROL);
	power->pm1_status[0] = register_field(fadt, FADT_PM1A_STATUS, FADT_X_PM1A_STATUS);
	power->pm1_status[1] = register_field(fadt, FADT_PM1B_STATUS, FADT_X_PM1B_STATUS);
	power->pm_timer = register_field(fadt, FADT_PM_TIMER, FADT_X_PM_TIMER);
	power->pm_timer_32_bits = flags & FADT_FLAG_TIMER_32;
	power->smi_command = smi <= UINT16_MAX ? (uint16_t)smi : 0;
	power->acpi_enable = (uint8_t)field(fadt, FADT_ACPI_ENABLE, 1);
	power->reset = address_field(fadt, FADT_RESET);
	power->reset_value = (uint8_t)field(fadt, FADT_RESET_VALUE, 1);
	power->has_reset = flags & FADT_FLAG_RESET && power->reset.address;
	power->sleep_control = address_field(fadt, FADT_SLEEP_CONTROL);
}

uint64_t acpi_dsdt_address(const struct acpi_header *fadt)
{
	uint64_t extended = field(fadt, FADT_X_DSDT, 8);

	return extended ? extended : field(fadt, FADT_DSDT, 4);
}

#define AML_ZERO 0x00u
#define AML_ONE 0x01u
#define AML_NAME 0x08u
#define AML_BYTE 0x0au
#define AML_PACKAGE 0x12u

/* One small integer of a package; false for any other object or the end. */
static bool take_small(const uint8_t *aml, size_t size, size_t *at, uint8_t *value)
{
	if (*at >= size)
		return false;
	if (aml[*at] == AML_ZERO || aml[*at] == AML_ONE) {
		*value = aml[(*at)++];
		return true;
	}
	if (aml[*at] != AML_BYTE || size - *at < 2)
		return false;
	*value = aml[*at + 1];
	*at += 2;
	return true;
}

/*
 * at stands behind the name: PackageOp, PkgLength (its top two bits tell how many bytes follow), the count, the
 * elements.
 */
static bool s5_package(const uint8_t *aml, size_t size, size_t at, uint8_t *type_a, uint8_t *type_b)
{
	if (size - at < 4 || aml[at] != AML_PACKAGE)
		return false;
	at += 2 + (size_t)(aml[at + 1] >> 6);
	if (at >= size)
		return false;
	at++;
	if (!take_small(aml, size, &at, type_a))
		return false;
	if (!take_small(aml, size, &at, type_b))
		*type_b = 0;
	return true;
}

bool acpi_find_s5(const uint8_t *aml, size_t size, uint8_t *type_a, uint8_t *type_b)
{
	for (size_t at = 1; at + 4 < size; at++) {
		bool named;

		if (memcmp(aml + at, "_S5_", 4))
			continue;
		named = aml[at - 1] == AML_NAME || (at >= 2 && aml[at - 1] == '\\' && aml[at - 2] == AML_NAME);
		if (named && s5_package(aml, size, at + 4, type_a, type_b))
			return true;
	}
	return false;
}
