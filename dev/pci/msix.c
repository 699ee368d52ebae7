/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSI-X: a table of messages in a BAR of its own, with the bits of those that wait because the guest has masked them.
 * A message goes out by bus->msi(), when it is raised or as soon as nothing holds it back. Manual: PCI Local Bus 3.0 section 6.8.2.
 */
#include <string.h>

#include "dev/pci/pci.h"

#define TABLE_SIZE 4096u
#define PENDING_AT 2048u

_Static_assert(sizeof(((struct pci_msix *)0)->entry) == PCI_MSIX_VECTORS * PCI_MSIX_ENTRY_SIZE &&
		       PCI_MSIX_VECTORS * PCI_MSIX_ENTRY_SIZE <= PENDING_AT,
	       "entries as the guest sees them");

static uint32_t control(const struct pci_function *f)
{
	return f->msix.vectors ? pci_get(f, f->msix.capability + PCI_MSIX_FLAGS, 2) : 0;
}

bool pci_msix_enabled(const struct pci_function *f)
{
	return control(f) & PCI_MSIX_FLAGS_ENABLE;
}

void pci_msix_flush(struct pci_function *f)
{
	struct pci_msix *m = &f->msix;
	struct bus *bus = f->pci->bus;

	if (!m->pending || !pci_msix_enabled(f) || (control(f) & PCI_MSIX_FLAGS_MASKALL) || !pci_is_master(f))
		return;
	for (unsigned i = 0; i < m->vectors; i++) {
		if (!(m->pending & BIT(i)) || (m->entry[i].control & PCI_MSIX_ENTRY_CTRL_MASKBIT))
			continue;
		m->pending &= (uint32_t)~BIT(i);
		(void)bus->msi(bus->context, m->entry[i].address, m->entry[i].data); /* unheard: so it is on a PC */
	}
}

void pci_msix_raise(struct pci_function *f, unsigned vector)
{
	if (vector >= f->msix.vectors || !pci_msix_enabled(f))
		return;
	f->msix.pending |= (uint32_t)BIT(vector);
	pci_msix_flush(f);
}

void pci_msix_reset(struct pci_function *f)
{
	f->msix.pending = 0;
	memset(f->msix.entry, 0, sizeof(f->msix.entry));
	for (unsigned i = 0; i < f->msix.vectors; i++)
		f->msix.entry[i].control = PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

static uint64_t table_read(void *device, uint64_t offset, unsigned size)
{
	const struct pci_msix *m = &((struct pci_function *)device)->msix;
	uint64_t value = 0, end = m->vectors * (uint64_t)PCI_MSIX_ENTRY_SIZE;

	if (offset + size <= end)
		memcpy(&value, (const uint8_t *)m->entry + offset, size);
	else if (offset >= PENDING_AT && offset + size <= PENDING_AT + sizeof(value))
		value = (uint64_t)m->pending >> (8 * (offset - PENDING_AT));
	return value;
}

/* Words of 32 or 64 bits; what else the guest writes is undefined there, and changes those bytes here. */
static void table_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_function *f = device;

	if (offset + size > f->msix.vectors * (uint64_t)PCI_MSIX_ENTRY_SIZE)
		return;
	memcpy((uint8_t *)f->msix.entry + offset, &value, size);
	f->msix.entry[offset / PCI_MSIX_ENTRY_SIZE].control &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
	pci_msix_flush(f);
}

static const struct mmio_ops table_ops = { .read = table_read, .write = table_write };

void pci_msix_open(struct pci_function *f, unsigned vectors, const char *name)
{
	unsigned at = pci_capability(f, PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);

	f->msix.capability = (uint8_t)at;
	f->msix.vectors = (uint8_t)vectors;
	pci_put(f->config, at + PCI_MSIX_FLAGS, 2, vectors - 1);
	pci_put(f->writable, at + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	pci_put(f->config, at + PCI_MSIX_TABLE, 4, PCI_MSIX_BAR);
	pci_put(f->config, at + PCI_MSIX_PBA, 4, PENDING_AT | PCI_MSIX_BAR);
	pci_bar_open(f, PCI_MSIX_BAR, TABLE_SIZE, &table_ops, f, name);
}
