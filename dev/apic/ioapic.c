/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 24 pins, each with a 64-bit redirection entry. An edge on a masked pin is lost, as the data sheet has it; a level is sent
 * when asserted, unmasked and not waiting for its EOI (remote IRR).
 *
 * Wires here say "asserted" or not. The polarity bit is kept and read back but inverts nothing, so
 * a guest may program a pin by whichever table it believes.
 */
#include "dev/apic/ioapic.h"

#define WINDOW_SELECT 0x00u
#define WINDOW_DATA 0x10u
#define EOI_REGISTER 0x40u
#define INDEX_ID 0u
#define INDEX_VERSION 1u
#define INDEX_ARBITRATION 2u
#define INDEX_TABLE 0x10u
#define VERSION_VALUE (0x20u | (IOAPIC_PINS - 1) << 16)

#define ENTRY_LOGICAL BIT(11)
#define ENTRY_REMOTE_IRR BIT(14)
#define ENTRY_LEVEL BIT(15)
#define ENTRY_MASKED BIT(16)
#define ENTRY_WRITABLE (BITS(63, 56) | BITS(16, 15) | BIT(13) | BITS(11, 0))

_Static_assert(!(ENTRY_WRITABLE & ENTRY_REMOTE_IRR), "remote IRR is ours");

struct ioapic {
	struct bus *bus;
	struct apic_bus *apic_bus;
	uint64_t entries[IOAPIC_PINS];
	uint32_t asserted; /* wires */
	uint8_t id, initial_id, select;
};

static enum irq_fate send(struct ioapic *ioapic, uint64_t entry)
{
	struct apic_message message = {
		.destination = (uint32_t)(entry >> 56),
		.logical = entry & ENTRY_LOGICAL,
		.level = entry & ENTRY_LEVEL,
		.mode = entry >> 8 & 7,
		.vector = (uint8_t)entry,
	};

	return apic_bus_deliver(ioapic->apic_bus, &message, NULL);
}

/* Sends a level pin's interrupt if it is due; it waits for its EOI only if someone took it. */
static void service_level(struct ioapic *ioapic, unsigned pin)
{
	uint64_t entry = ioapic->entries[pin];

	if ((entry & (ENTRY_LEVEL | ENTRY_MASKED | ENTRY_REMOTE_IRR)) != ENTRY_LEVEL || !(ioapic->asserted >> pin & 1))
		return;
	if (send(ioapic, entry) != IRQ_UNHEARD)
		ioapic->entries[pin] |= ENTRY_REMOTE_IRR;
}

enum irq_fate ioapic_set_pin(struct ioapic *ioapic, unsigned pin, bool level)
{
	uint32_t bit = 1u << (pin & 31);
	bool rising;

	if (pin >= IOAPIC_PINS)
		return IRQ_UNHEARD;
	rising = level && !(ioapic->asserted & bit);
	ioapic->asserted = level ? ioapic->asserted | bit : ioapic->asserted & ~bit;
	if (ioapic->entries[pin] & ENTRY_LEVEL)
		service_level(ioapic, pin);
	else if (rising && !(ioapic->entries[pin] & ENTRY_MASKED))
		return send(ioapic, ioapic->entries[pin]);
	return IRQ_UNHEARD;
}

static void end_of_interrupt(void *device, uint8_t vector)
{
	struct ioapic *ioapic = device;

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t entry = ioapic->entries[pin];

		if ((uint8_t)entry != vector || !(entry & ENTRY_REMOTE_IRR))
			continue;
		ioapic->entries[pin] &= ~ENTRY_REMOTE_IRR;
		service_level(ioapic, pin);
	}
}

static void write_entry(struct ioapic *ioapic, unsigned pin, bool high, uint32_t value)
{
	uint64_t old = ioapic->entries[pin], entry;

	entry = high ? (old & 0xffffffff) | (uint64_t)value << 32 : (old & ~UINT64_C(0xffffffff)) | value;
	entry = (entry & ENTRY_WRITABLE) | (old & ENTRY_REMOTE_IRR);
	if (!(entry & ENTRY_LEVEL))
		entry &= ~ENTRY_REMOTE_IRR; /* an edge waits for no EOI; older kernels end a level this way */
	ioapic->entries[pin] = entry;
	service_level(ioapic, pin);
}

static uint32_t read_index(const struct ioapic *ioapic)
{
	unsigned entry = ioapic->select - INDEX_TABLE;

	if (ioapic->select == INDEX_ID || ioapic->select == INDEX_ARBITRATION)
		return (uint32_t)ioapic->id << 24;
	if (ioapic->select == INDEX_VERSION)
		return VERSION_VALUE;
	if (entry < 2 * IOAPIC_PINS)
		return (uint32_t)(ioapic->entries[entry / 2] >> (entry % 2 ? 32 : 0));
	return 0;
}

static void write_index(struct ioapic *ioapic, uint32_t value)
{
	unsigned entry = ioapic->select - INDEX_TABLE;

	if (ioapic->select == INDEX_ID)
		ioapic->id = value >> 24 & 0xf;
	else if (entry < 2 * IOAPIC_PINS)
		write_entry(ioapic, entry / 2, entry % 2, value);
}

static uint64_t page_read(void *device, uint64_t offset, unsigned size)
{
	struct ioapic *ioapic = device;
	uint32_t value = 0;

	if ((offset & ~UINT64_C(3)) == WINDOW_SELECT)
		value = ioapic->select;
	else if ((offset & ~UINT64_C(3)) == WINDOW_DATA)
		value = read_index(ioapic);
	return (uint64_t)value >> (8 * (offset & 3)) & byte_mask(size);
}

static void page_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct ioapic *ioapic = device;

	if (offset == WINDOW_SELECT)
		ioapic->select = (uint8_t)value;
	else if (offset == WINDOW_DATA)
		write_index(ioapic, (uint32_t)value);
	else if (offset == EOI_REGISTER)
		end_of_interrupt(ioapic, (uint8_t)value);
}

static const struct mmio_ops ioapic_ops = { .read = page_read, .write = page_write };

/* The wires keep their levels. */
void ioapic_reset(struct ioapic *ioapic)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		ioapic->entries[pin] = ENTRY_MASKED;
	ioapic->id = ioapic->initial_id;
	ioapic->select = 0;
}

enum status ioapic_create(struct bus *bus, struct apic_bus *apic_bus, uint8_t id, struct ioapic **out)
{
	struct ioapic *ioapic = device_alloc(bus, sizeof(*ioapic));

	if (!ioapic)
		return NO_MEMORY;
	ioapic->bus = bus;
	ioapic->apic_bus = apic_bus;
	ioapic->initial_id = id & 0xf;
	ioapic_reset(ioapic);
	TRY(bus->map_mmio(bus->context, gpa(IOAPIC_BASE), IOAPIC_SIZE, &ioapic_ops, ioapic, "ioapic"));
	apic_bus->eoi = end_of_interrupt;
	apic_bus->ioapic = ioapic;
	*out = ioapic;
	return OK;
}
