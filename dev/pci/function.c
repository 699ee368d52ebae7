/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PCI function: its configuration space, and what follows from it. A write changes the bytes that may be written, and then
 * everything that depends on them is brought up to date, whatever was written: where the BARs are wanted, INTA, messages that waited.
 */
#include "dev/pci/pci.h"

#include <string.h>

#define COMMAND_WRITABLE (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE)
#define FIRST_CAPABILITY 0x40u
#define NOTHING_THERE 0u /* beyond 256 bytes: the end of an empty list of extended capabilities */

static uint32_t command(const struct pci_function *f)
{
	return pci_get(f, PCI_COMMAND, 2);
}

bool pci_is_master(const struct pci_function *f)
{
	return command(f) & PCI_COMMAND_MASTER;
}

static unsigned bar_at(unsigned bar)
{
	return PCI_BASE_ADDRESS_0 + 4 * bar;
}

/* Address 0 is where BARs are before anybody has assigned them. */
static void update_bars(struct pci_function *f)
{
	bool moved = false;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		uint64_t at = pci_get(f, bar_at(i), 4) & PCI_BASE_ADDRESS_MEM_MASK;
		uint64_t wanted = (command(f) & PCI_COMMAND_MEMORY) && at ? at : MMIO_NOWHERE;

		if (!f->bar[i].size || f->bar[i].wanted == wanted)
			continue;
		__atomic_store_n(&f->bar[i].wanted, wanted, __ATOMIC_RELAXED);
		moved = true;
	}
	if (moved)
		f->pci->bus->windows_moved(f->pci->bus->context);
}

/* The line is the sum of all that share it. */
static void update_line(struct pci_function *f)
{
	struct pci *pci = f->pci;
	bool sum = false;

	pci_put(f->config, PCI_STATUS, 1,
		(pci_get(f, PCI_STATUS, 1) & ~(uint32_t)PCI_STATUS_INTERRUPT) | (f->level ? PCI_STATUS_INTERRUPT : 0));
	pci->level[f->slot] = f->level && !(command(f) & PCI_COMMAND_INTX_DISABLE);
	for (unsigned i = f->slot % 2; i < PCI_SLOTS; i += 2)
		sum |= pci->level[i];
	pci->bus->set_irq(pci->bus->context, PCI_LINE(f->slot), sum);
}
_Static_assert(PCI_LINE(0) == PCI_LINE(2) && PCI_LINE(0) != PCI_LINE(1), "every other slot shares a line");

void pci_set_line(struct pci_function *f, bool level)
{
	if (f->level == level)
		return;
	f->level = level;
	update_line(f);
}

uint32_t pci_config_read(struct pci_function *f, unsigned offset, unsigned size)
{
	if (offset >= PCI_CONFIG_SIZE)
		return NOTHING_THERE;
	if (f->ops && f->ops->before_read)
		f->ops->before_read(f->device, offset);
	return pci_get(f, offset, size);
}

void pci_config_write(struct pci_function *f, unsigned offset, unsigned size, uint32_t value)
{
	if (offset >= PCI_CONFIG_SIZE)
		return;
	for (unsigned i = 0; i < size; i++, value >>= 8) {
		uint8_t may = f->writable[offset + i], *byte = &f->config[offset + i];

		*byte = (uint8_t)((*byte & ~may) | (value & may));
	}
	update_bars(f);
	update_line(f);
	pci_msix_flush(f);
	if (f->ops && f->ops->written)
		f->ops->written(f->device, offset);
}

void pci_function_reset(struct pci_function *f)
{
	memcpy(f->config, f->initial, sizeof(f->config));
	f->level = false;
	pci_msix_reset(f);
	update_bars(f);
	update_line(f);
}

enum status pci_open(struct pci *pci, struct pci_function *f, const struct pci_identity *identity,
		     const struct pci_ops *ops, void *device)
{
	unsigned slot = 0;

	while (slot < PCI_SLOTS && pci->slot[slot])
		slot++;
	if (slot == PCI_SLOTS)
		return LIMIT;
	*f = (struct pci_function){ .pci = pci, .ops = ops, .device = device, .slot = slot, .free = FIRST_CAPABILITY };
	pci_put(f->config, PCI_VENDOR_ID, 2, identity->vendor);
	pci_put(f->config, PCI_DEVICE_ID, 2, identity->device);
	pci_put(f->config, PCI_CLASS_REVISION, 4, identity->class << 8 | identity->revision);
	pci_put(f->config, PCI_SUBSYSTEM_VENDOR_ID, 2, identity->subsystem_vendor);
	pci_put(f->config, PCI_SUBSYSTEM_ID, 2, identity->subsystem);
	pci_put(f->writable, PCI_COMMAND, 2, COMMAND_WRITABLE);
	pci_put(f->writable, PCI_CACHE_LINE_SIZE, 1, 0xff);
	if (identity->interrupt) {
		pci_put(f->config, PCI_INTERRUPT_PIN, 1, 1);
		pci_put(f->config, PCI_INTERRUPT_LINE, 1, PCI_LINE(slot));
		pci_put(f->writable, PCI_INTERRUPT_LINE, 1, 0xff);
	}
	pci->slot[slot] = f;
	return OK;
}

/* Firmware's part: the next place in the window that is aligned. What finds no room stays at 0. */
static uint64_t assign(struct pci *pci, uint32_t size)
{
	uint64_t at = align_up(pci->window_free, size);

	if (at + size > PCI_ECAM_BASE)
		return 0;
	pci->window_free = at + size;
	return at;
}

void pci_bar_open(struct pci_function *f, unsigned bar, uint32_t size, const struct mmio_ops *ops, void *device,
		  const char *name)
{
	f->bar[bar] = (struct mmio_window){
		.ops = ops, .device = device, .name = name, .size = size, .wanted = MMIO_NOWHERE, .base = MMIO_NOWHERE
	};
	pci_put(f->config, bar_at(bar), 4, (uint32_t)assign(f->pci, size));
	pci_put(f->writable, bar_at(bar), 4, ~(size - 1));
	pci_put(f->config, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	f->pci->bus->window_open(f->pci->bus->context, &f->bar[bar]);
}

unsigned pci_capability(struct pci_function *f, uint8_t id, unsigned size)
{
	unsigned at = f->free;

	f->config[at] = id;
	f->config[at + PCI_CAP_LIST_NEXT] = f->config[PCI_CAPABILITY_LIST];
	f->config[PCI_CAPABILITY_LIST] = (uint8_t)at;
	pci_put(f->config, PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
	f->free = (unsigned)align_up(at + size, 4);
	return at;
}

void pci_ready(struct pci_function *f)
{
	memcpy(f->initial, f->config, sizeof(f->initial));
	pci_function_reset(f);
}
