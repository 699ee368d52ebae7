/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI bus and its host bridge: the two ways to configuration space. By ports: an address at 0xcf8 (32 bits only: byte 0xcf9 is the
 * reset port), data at 0xcfc to 0xcff. By memory: 4 KiB for each function of bus 0. Where no function is, reads are all ones.
 *
 * Manual: PCI Local Bus 3.0 section 3.2.2.3.2 (ports); PCI Express Base section 7.2.2 (memory).
 */
#include "dev/pci/pci.h"

#define ADDRESS_PORT 0xcf8
#define DATA_PORT 0xcfc
#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_BITS 0x80fffffcu
#define LEVEL_PORT 0x4d1 /* of the second PIC's inputs, 8 to 15 */
#define ECAM_SHIFT 12    /* of device and function */

/* A bridge of no maker's: nothing but its class says anything to anybody. */
static const struct pci_identity bridge_identity = {
	.vendor = 0x1b36, .device = 0x0008, .class = 0x060000, .subsystem_vendor = 0x1af4, .subsystem = 0x1100
};

/* device: slot, then three bits of function number; NULL: nothing is there. */
static struct pci_function *find(struct pci *pci, unsigned device)
{
	return device % 8 || device / 8 >= PCI_SLOTS ? NULL : pci->slot[device / 8];
}

static struct pci_function *addressed(struct pci *pci)
{
	if (!(pci->address & ADDRESS_ENABLE) || (pci->address >> 16 & 0xff))
		return NULL;
	return find(pci, pci->address >> 8 & 0xff);
}

static uint32_t address_read(void *device, uint16_t port, unsigned size)
{
	return size == 4 ? ((struct pci *)device)->address : UINT32_MAX;
}

static void address_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	if (size == 4)
		((struct pci *)device)->address = value & ADDRESS_BITS;
}

/* Aligned, or the table would have to split it; a misaligned access is none. */
static bool is_one_word(uint16_t port, unsigned size)
{
	return port % size == 0;
}

static uint32_t data_read(void *device, uint16_t port, unsigned size)
{
	struct pci *pci = device;
	struct pci_function *f = addressed(pci);

	return f && is_one_word(port, size) ? pci_config_read(f, (pci->address & 0xfc) + port % 4, size) : UINT32_MAX;
}

static void data_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct pci *pci = device;
	struct pci_function *f = addressed(pci);

	if (f && is_one_word(port, size))
		pci_config_write(f, (pci->address & 0xfc) + port % 4, size, value);
}

static const struct port_ops address_ops = { .widest = 4, .read = address_read, .write = address_write };
static const struct port_ops data_ops = { .widest = 4, .read = data_read, .write = data_write };

static uint64_t ecam_read(void *device, uint64_t offset, unsigned size)
{
	struct pci_function *f = find(device, (unsigned)(offset >> ECAM_SHIFT));
	unsigned at = offset & (BIT(ECAM_SHIFT) - 1);

	if (!f)
		return UINT64_MAX;
	if (size == 8)
		return pci_config_read(f, at, 4) | (uint64_t)pci_config_read(f, at + 4, 4) << 32;
	return pci_config_read(f, at, size);
}

static void ecam_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_function *f = find(device, (unsigned)(offset >> ECAM_SHIFT));
	unsigned at = offset & (BIT(ECAM_SHIFT) - 1);

	if (!f)
		return;
	pci_config_write(f, at, size == 8 ? 4 : size, (uint32_t)value);
	if (size == 8)
		pci_config_write(f, at + 4, 4, (uint32_t)(value >> 32));
}

static const struct mmio_ops ecam_ops = { .read = ecam_read, .write = ecam_write };

/* As firmware leaves the PICs: the lines of INTA are level-triggered. */
static void route(struct pci *pci)
{
	port_write(pci->bus, LEVEL_PORT, 1, (uint32_t)(BIT(PCI_LINE(0) - 8) | BIT(PCI_LINE(1) - 8)));
}

static enum status build(struct pci *pci)
{
	struct bus *bus = pci->bus;

	TRY(port_register(bus, ADDRESS_PORT, 1, &address_ops, pci, "pci address"));
	TRY(port_register(bus, DATA_PORT, 4, &data_ops, pci, "pci data"));
	TRY(bus->map_mmio(bus->context, gpa(PCI_ECAM_BASE), PCI_ECAM_SIZE, &ecam_ops, pci, "pci configuration"));
	TRY(pci_open(pci, &pci->bridge, &bridge_identity, NULL, NULL));
	pci_ready(&pci->bridge);
	route(pci);
	return OK;
}

enum status pci_create(struct bus *bus, struct pci **out)
{
	struct pci *pci = device_alloc(bus, sizeof(*pci));

	if (!pci)
		return NO_MEMORY;
	pci->bus = bus;
	pci->window_free = PCI_WINDOW_BASE;
	TRY(build(pci));
	*out = pci;
	return OK;
}

void pci_reset(struct pci *pci)
{
	pci->address = 0;
	route(pci);
	for (unsigned i = 0; i < PCI_SLOTS; i++)
		if (pci->slot[i])
			pci_function_reset(pci->slot[i]);
}
