/* SPDX-License-Identifier: Apache-2.0 */
/* RSDP, XSDT or RSDT, and the list of tables with good checksums. */

#include <string.h>

#include "arch/x86_64/acpi_parse.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/paging.h"

#define TABLES_MAX 128u

static const struct acpi_header *tables[TABLES_MAX];
static unsigned table_count;
static struct acpi_power power;

/* Section 5.2.5.3. */
struct root_pointer {
	char signature[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum, reserved[3];
} __attribute__((packed));
_Static_assert(sizeof(struct root_pointer) == 36, "as firmware writes it");
#define ROOT_POINTER_V1 20u

/* The whole table, if its length and checksum are good. */
static const struct acpi_header *map_table(uint64_t address)
{
	const struct acpi_header *header = address ? paging_view(hpa(address), sizeof(*header)) : NULL;
	uint32_t length = header ? header->length : 0;

	if (length < sizeof(*header) || length > ACPI_TABLE_MAX)
		return NULL;
	header = paging_view(hpa(address), length);
	/*
	 * The length in use is the one that was checked: firmware's memory doesn't change, but nothing rests on
	 * that.
	 */
	return !header || header->length != length || acpi_sum(header, length) ? NULL : header;
}

static void add_table(uint64_t address)
{
	const struct acpi_header *table = map_table(address);

	if (!table)
		log_line(LOG_WARNING "acpi: the table at %lx has a bad length or checksum; left out", address);
	else if (table_count < TABLES_MAX)
		tables[table_count++] = table;
}

static void add_listed(const struct acpi_header *list, unsigned width)
{
	uint32_t count = (list->length - (uint32_t)sizeof(*list)) / width;

	for (uint32_t i = 0; i < count && i < TABLES_MAX; i++) {
		uint64_t address = 0;

		memcpy(&address, (const uint8_t *)(list + 1) + (size_t)i * width, width);
		add_table(address);
	}
}

static bool read_root(hpa_t where, struct root_pointer *root)
{
	const void *bytes = paging_view(where, ROOT_POINTER_V1);

	memset(root, 0, sizeof(*root));
	if (!bytes || memcmp(bytes, "RSD PTR ", 8) || acpi_sum(bytes, ROOT_POINTER_V1))
		return false;
	memcpy(root, bytes, ROOT_POINTER_V1);
	if (root->revision < 2)
		return true;
	bytes = paging_view(where, sizeof(*root));
	if (bytes && !acpi_sum(bytes, sizeof(*root)))
		memcpy(root, bytes, sizeof(*root));
	return true;
}

static void read_power(void)
{
	const struct acpi_header *fadt = host_acpi_table("FACP");
	const struct acpi_header *dsdt;

	if (!fadt)
		return;
	acpi_parse_fadt(fadt, &power);
	dsdt = map_table(acpi_dsdt_address(fadt));
	power.has_s5 = dsdt && acpi_find_s5((const uint8_t *)(dsdt + 1), dsdt->length - sizeof(*dsdt), &power.s5_type_a,
					    &power.s5_type_b);
}

void acpi_init(hpa_t rsdp)
{
	struct root_pointer root;
	const struct acpi_header *list;

	if (!rsdp.v || !read_root(rsdp, &root)) {
		log_line(LOG_WARNING "acpi: no tables");
		return;
	}
	list = map_table(root.xsdt);
	if (list && !memcmp(list->signature, "XSDT", 4)) {
		add_listed(list, 8);
	} else {
		list = map_table(root.rsdt);
		if (list && !memcmp(list->signature, "RSDT", 4))
			add_listed(list, 4);
	}
	read_power();
	log_line("acpi: %u tables, PM timer %s, S5 %s, reset register %s", table_count,
		 power.pm_timer.address ? "yes" : "no", power.has_s5 ? "yes" : "no", power.has_reset ? "yes" : "no");
}

/* Firmware that puts tables into memory that it calls free loses them in host mode secret-free. */
static bool still_there(const struct acpi_header *table)
{
	return paging_is_mapped((uint64_t)table) && paging_is_mapped((uint64_t)table + sizeof(*table) - 1) &&
	       paging_is_mapped((uint64_t)table + table->length - 1);
}

const void *host_acpi_table(const char signature[4])
{
	for (unsigned i = 0; i < table_count; i++)
		if (still_there(tables[i]) && !memcmp(tables[i]->signature, signature, 4))
			return tables[i];
	return NULL;
}

const struct acpi_power *acpi_power(void)
{
	return &power;
}

struct madt_visit {
	enum acpi_part part;
	void (*call)(void *context, uint32_t value);
	void *context;
};

static void visit_entry(void *context, const uint8_t *entry, unsigned length)
{
	const struct madt_visit *visit = context;
	uint32_t value, flags = MADT_ENABLED;

	if (visit->part == ACPI_IOAPICS && entry[0] == MADT_IOAPIC && length >= 12) {
		memcpy(&value, entry + 4, 4);
	} else if (visit->part == ACPI_PROCESSORS && entry[0] == MADT_LOCAL_APIC && length >= 8) {
		value = entry[3];
		memcpy(&flags, entry + 4, 4);
	} else if (visit->part == ACPI_PROCESSORS && entry[0] == MADT_LOCAL_X2APIC && length >= 16) {
		memcpy(&value, entry + 4, 4);
		memcpy(&flags, entry + 8, 4);
	} else {
		return;
	}
	if (flags & MADT_ENABLED)
		visit->call(visit->context, value);
}

void acpi_each(enum acpi_part part, void (*call)(void *context, uint32_t value), void *context)
{
	struct madt_visit visit = { part, call, context };
	const struct acpi_header *madt = host_acpi_table("APIC");

	if (madt)
		acpi_each_entry(madt, MADT_FIRST, visit_entry, &visit);
}

bool acpi_open(const struct acpi_address *where, unsigned bits, struct acpi_register *out)
{
	*out = (struct acpi_register){ 0 };
	if (where->address && where->space == ACPI_SPACE_IO && where->address <= UINT16_MAX)
		out->port = (uint16_t)where->address;
	else if (where->address && where->space == ACPI_SPACE_MEMORY)
		out->memory = host_map_device(hpa(where->address), bits / 8, MEMORY_TYPE_UC);
	return out->port || out->memory;
}

uint32_t acpi_read(const struct acpi_register *r, unsigned bits)
{
	switch (bits) {
	case 8: return r->port ? in8(r->port) : *(volatile uint8_t *)r->memory;
	case 16: return r->port ? in16(r->port) : *(volatile uint16_t *)r->memory;
	default: return r->port ? in32(r->port) : *(volatile uint32_t *)r->memory;
	}
}

void acpi_write(const struct acpi_register *r, unsigned bits, uint32_t value)
{
	if (bits == 8 && r->port)
		out8(r->port, (uint8_t)value);
	else if (bits == 8)
		*(volatile uint8_t *)r->memory = (uint8_t)value;
	else if (bits == 16 && r->port)
		out16(r->port, (uint16_t)value);
	else if (bits == 16)
		*(volatile uint16_t *)r->memory = (uint16_t)value;
	else if (r->port)
		out32(r->port, value);
	else
		*(volatile uint32_t *)r->memory = value;
}
