/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's ACPI tables: RSDP, XSDT, FADT, FACS, MADT, MCFG, the DSDT that iasl made, and an SSDT with a device for each processor. They
 * lie in the ROM below 1 MiB, the root pointer first, where a guest without a boot protocol also finds it.
 *
 * Manual: ACPI 6.4 sections 5.2.5 (RSDP), 5.2.8 (XSDT), 5.2.9 (FADT), 5.2.10 (FACS), 5.2.12 (MADT); PCI Firmware 3.0 section 4.1.2 (MCFG).
 */
#include <string.h>

#include "arch/x86_64/acpi.h"
#include "dev/apic/ioapic.h"
#include "dev/apic/lapic.h"
#include "dev/pci/pci.h"
#include "dev/pm.h"
#include "vm/config/topology.h"
#include "vm/load/dsdt.hex"
#include "vm/load/internal.h"
#include "vm/load/processors.hex"

struct acpi_rsdp {
	char signature[8];
	uint8_t checksum;
	char oem[6];
	uint8_t revision;
	uint32_t rsdt, length;
	uint64_t xsdt;
	uint8_t extended_checksum, reserved[3];
} __attribute__((packed));

struct acpi_xsdt {
	struct acpi_header header;
	uint64_t table[4];
} __attribute__((packed));

struct acpi_facs {
	char signature[4];
	uint32_t length, hardware, waking, lock, flags;
	uint64_t extended_waking;
	uint8_t version, reserved[31];
} __attribute__((packed));

struct acpi_fadt {
	struct acpi_header header;
	uint32_t facs, dsdt;
	uint8_t model, profile;
	uint16_t sci;
	uint32_t smi_command;
	uint8_t acpi_enable, acpi_disable, s4bios, pstate;
	uint32_t pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer, gpe0, gpe1;
	uint8_t pm1_event_length, pm1_control_length, pm2_control_length, pm_timer_length;
	uint8_t gpe0_length, gpe1_length, gpe1_base, cst;
	uint16_t c2_latency, c3_latency, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	uint16_t boot_flags;
	uint8_t reserved;
	uint32_t flags;
	struct acpi_address reset;
	uint8_t reset_value;
	uint16_t arm_flags;
	uint8_t minor;
	uint64_t x_facs, x_dsdt;
	struct acpi_address x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control, x_pm2, x_pm_timer, x_gpe0,
		x_gpe1;
} __attribute__((packed));

struct madt_lapic {
	uint8_t type, length, processor, apic;
	uint32_t flags;
} __attribute__((packed));

struct madt_ioapic {
	uint8_t type, length, id, reserved;
	uint32_t address, base;
} __attribute__((packed));

struct madt_override {
	uint8_t type, length, bus, source;
	uint32_t interrupt;
	uint16_t flags;
} __attribute__((packed));

struct madt_nmi {
	uint8_t type, length, processor;
	uint16_t flags;
	uint8_t lint;
} __attribute__((packed));

struct acpi_madt {
	struct acpi_header header;
	uint32_t lapic_address, flags;
	struct madt_ioapic ioapic;
	struct madt_override timer, sci;
	struct madt_nmi nmi;
	struct madt_lapic lapic[MACHINE_MAX_VCPUS];
} __attribute__((packed));

struct acpi_mcfg {
	struct acpi_header header;
	uint64_t reserved, base;
	uint16_t segment;
	uint8_t first_bus, last_bus;
	uint32_t reserved_2;
} __attribute__((packed));

_Static_assert(sizeof(struct acpi_rsdp) == 36, "ACPI header layouts");
_Static_assert(sizeof(struct acpi_fadt) == 244 && sizeof(struct acpi_facs) == 64 && sizeof(struct acpi_mcfg) == 60,
	       "FADT revision 4, FACS, MCFG");
_Static_assert(sizeof(struct madt_lapic) == 8 && sizeof(struct madt_ioapic) == 12 &&
		       sizeof(struct madt_override) == 10 && sizeof(struct madt_nmi) == 6,
	       "MADT entry layouts");

/* In this order from the start of the ROM; FACS wants 64 bytes of alignment. */
struct acpi_image {
	struct acpi_rsdp rsdp;
	uint8_t pad[28];
	struct acpi_facs facs;
	struct acpi_xsdt xsdt;
	struct acpi_fadt fadt;
	struct acpi_madt madt;
	uint8_t processors[sizeof(processors_aml_code)];
	struct acpi_mcfg mcfg;
	uint8_t dsdt[sizeof(dsdt_aml_code)];
};
_Static_assert(offsetof(struct acpi_image, facs) % 64 == 0, "FACS is aligned");
_Static_assert(sizeof(struct acpi_image) <= LOAD_ROM_SIZE / 2, "the tables end below the BIOS segment");

/* The devices have one length: fewer of them are the table's beginning. */
#define PROCESSOR_LENGTH ((sizeof(processors_aml_code) - sizeof(struct acpi_header)) / MACHINE_MAX_VCPUS)
_Static_assert(sizeof(struct acpi_header) + MACHINE_MAX_VCPUS * PROCESSOR_LENGTH == sizeof(processors_aml_code),
	       "a device for each processor that there can be, and nothing else");

#define AT(member) ((uint32_t)(LOAD_ROM + offsetof(struct acpi_image, member)))
#define FADT_WBINVD BIT(0)
#define FADT_PROC_C1 BIT(2)
#define FADT_SLEEP_BUTTON BIT(5)
#define FADT_TIMER_32 BIT(8)
#define FADT_RESET BIT(10)
#define BOOT_LEGACY BIT(0)
#define BOOT_8042 BIT(1)
#define BOOT_NO_VGA BIT(2)
#define RESET_PORT 0xcf9u

static uint8_t checksum(const void *data, size_t size)
{
	const uint8_t *bytes = data;
	uint8_t sum = 0;

	for (size_t i = 0; i < size; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return (uint8_t)-sum;
}

static void finish(struct acpi_header *h, const char *signature, uint32_t length, uint8_t revision)
{
	memcpy(h->signature, signature, 4);
	h->length = length;
	h->revision = revision;
	memcpy(h->oem_id, "QUIRE ", 6);
	memcpy(h->oem_table_id, "QUIRE   ", 8);
	h->oem_revision = 1;
	memcpy(&h->creator_id, "QUIR", 4);
	h->creator_revision = 1;
	h->checksum = 0;
	h->checksum = checksum(h, length);
}

static struct acpi_address io(uint64_t port, uint8_t bits)
{
	return (struct acpi_address){ .space = ACPI_SPACE_IO,
				      .bits = bits,
				      .access = (uint8_t)(bits == 8    ? 1
							  : bits == 16 ? 2
								       : 3),
				      .address = port };
}

static void fill_fadt(struct acpi_fadt *f)
{
	f->facs = AT(facs);
	f->dsdt = AT(dsdt);
	f->x_dsdt = AT(dsdt);
	f->sci = PM_SCI_LINE;
	f->pm1a_event = PM_EVENT_BLOCK;
	f->pm1_event_length = PM_EVENT_LENGTH;
	f->pm1a_control = PM_CONTROL_BLOCK;
	f->pm1_control_length = PM_CONTROL_LENGTH;
	f->pm_timer = PM_TIMER_BLOCK;
	f->pm_timer_length = 4;
	f->c2_latency = 0xffff;
	f->c3_latency = 0xffff;
	f->century = 0x32;
	f->boot_flags = BOOT_LEGACY | BOOT_8042 | BOOT_NO_VGA;
	f->flags = FADT_WBINVD | FADT_PROC_C1 | FADT_SLEEP_BUTTON | FADT_TIMER_32 | FADT_RESET;
	f->reset = io(RESET_PORT, 8);
	f->reset_value = 6;
	f->x_pm1a_event = io(PM_EVENT_BLOCK, 32);
	f->x_pm1a_control = io(PM_CONTROL_BLOCK, 16);
	f->x_pm_timer = io(PM_TIMER_BLOCK, 32);
	finish(&f->header, "FACP", sizeof(*f), 4);
}

/* A processor is known by its number to ACPI, and by its APIC id to the APICs. */
static void fill_madt(struct acpi_madt *m, unsigned vcpus, struct topology t)
{
	uint32_t length = (uint32_t)(offsetof(struct acpi_madt, lapic) + vcpus * sizeof(m->lapic[0]));

	m->lapic_address = (uint32_t)LAPIC_DEFAULT_BASE;
	m->flags = 1; /* there are 8259s too */
	m->ioapic = (struct madt_ioapic){
		.type = 1, .length = sizeof(m->ioapic), .id = (uint8_t)vcpus, .address = (uint32_t)IOAPIC_BASE
	};
	m->timer = (struct madt_override){ .type = 2, .length = sizeof(m->timer), .source = 0, .interrupt = 2 };
	m->sci = (struct madt_override){
		.type = 2, .length = sizeof(m->sci), .source = PM_SCI_LINE, .interrupt = PM_SCI_LINE, .flags = 0xd
	}; /* level, active high */
	m->nmi = (struct madt_nmi){ .type = 4, .length = sizeof(m->nmi), .processor = 0xff, .lint = 1 };
	for (unsigned i = 0; i < vcpus; i++)
		m->lapic[i] = (struct madt_lapic){ .length = sizeof(m->lapic[0]),
						   .processor = (uint8_t)i,
						   .flags = 1,
						   .apic = (uint8_t)topology_apic_id(&t, i) };
	finish(&m->header, "APIC", length, 4);
}

static void fill_processors(void *table, unsigned vcpus)
{
	memcpy(table, processors_aml_code, sizeof(processors_aml_code));
	finish(table, "SSDT", (uint32_t)(sizeof(struct acpi_header) + vcpus * PROCESSOR_LENGTH), 2);
}

static void fill_rsdp(struct acpi_rsdp *r)
{
	memcpy(r->signature, "RSD PTR ", 8);
	memcpy(r->oem, "QUIRE ", 6);
	r->revision = 2;
	r->length = sizeof(*r);
	r->xsdt = AT(xsdt);
	r->checksum = checksum(r, 20);
	r->extended_checksum = checksum(r, sizeof(*r));
}

enum status acpi_build(const struct load_plan *plan)
{
	struct acpi_image *image = heap_alloc(sizeof(*image));
	enum status status;

	if (!image)
		return NO_MEMORY;
	fill_rsdp(&image->rsdp);
	memcpy(image->facs.signature, "FACS", 4);
	image->facs.length = sizeof(image->facs);
	image->facs.version = 2;
	fill_fadt(&image->fadt);
	fill_madt(&image->madt, plan->vcpu_count, topology_of(plan->config));
	fill_processors(image->processors, plan->vcpu_count);
	memcpy(image->dsdt, dsdt_aml_code, sizeof(image->dsdt));
	image->xsdt.table[0] = AT(fadt);
	image->xsdt.table[1] = AT(madt);
	image->xsdt.table[2] = AT(processors);
	image->xsdt.table[3] = AT(mcfg);
	image->mcfg.base = PCI_ECAM_BASE; /* bus 0 alone */
	finish(&image->mcfg.header, "MCFG", sizeof(image->mcfg), 1);
	finish(&image->xsdt.header, "XSDT", sizeof(image->xsdt), 1);
	status = pgm_rom_load(plan->pgm, gpa(LOAD_ROM), image, sizeof(*image));
	heap_free(image, sizeof(*image));
	return status;
}
