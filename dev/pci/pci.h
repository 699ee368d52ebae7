/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI bus of a machine: bus 0 with a host bridge in slot 0, and functions that devices embed and open. A function's
 * configuration space is bytes, a mask of what the guest may write, and what both were after power-on; BARs, INTx and MSI-X follow
 * from it after every write. A device that is created here is in place as firmware would leave it: BARs assigned, memory decoded.
 *
 * All under the device lock. Manual: PCI Local Bus 3.0 chapter 6 (configuration), section 6.8.2 (MSI-X); PCI Firmware 3.0 section 4
 * (ECAM). The registers' names are those of linux/pci_regs.h.
 */
#pragma once

#include <linux/pci_regs.h>

#include "dev/bus.h"

/* What the guest's ACPI tables say too (vm/load/acpi.c, vm/load/dsdt.asl): it lies in every machine's hole below 4 GiB. */
#define PCI_WINDOW_BASE UINT64_C(0xfc000000)
#define PCI_ECAM_BASE UINT64_C(0xfeb00000)
#define PCI_ECAM_SIZE UINT64_C(0x100000)
#define PCI_SLOTS 8u
/* INTA of slot n: ISA interrupts that nobody else has, for PICs and IOAPIC alike. */
#define PCI_LINE(slot) (10u + (slot) % 2)

#define PCI_BARS 2u
#define PCI_MSIX_BAR 1u /* where pci_msix_open() puts its table */
#define PCI_MSIX_VECTORS 8u
#define PCI_CONFIG_SIZE 256u

struct pci;

struct pci_identity {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class; /* base, sub, interface */
	uint8_t revision;
	bool interrupt; /* has INTA */
};

/* Registers of configuration space that are the device's own. Either may be NULL. */
struct pci_ops {
	void (*before_read)(void *device, unsigned offset);
	void (*written)(void *device, unsigned offset);
};

struct pci_msix {
	uint8_t capability, vectors; /* 0: the function has none */
	uint32_t pending;
	struct {
		uint64_t address;
		uint32_t data, control;
	} entry[PCI_MSIX_VECTORS];
};

/* Embedded in its device. */
struct pci_function {
	struct pci *pci;
	const struct pci_ops *ops;
	void *device;
	unsigned slot, free; /* the next free byte for a capability */
	bool level;          /* its INTA */
	uint8_t config[PCI_CONFIG_SIZE], writable[PCI_CONFIG_SIZE], initial[PCI_CONFIG_SIZE];
	struct mmio_window bar[PCI_BARS];
	struct pci_msix msix;
};

/* NO_MEMORY, CONFLICT. */
enum status pci_create(struct bus *bus, struct pci **out) must_check;
/* Configuration of all functions as after power-on; their devices are reset by themselves. */
void pci_reset(struct pci *pci);

/*
 * A device's creation: open (LIMIT: no slot is free; ops may be NULL), then its BARs, MSI-X and capabilities, then ready, from where on
 * the guest sees it.
 */
enum status pci_open(struct pci *pci, struct pci_function *f, const struct pci_identity *identity,
		     const struct pci_ops *ops, void *device) must_check;
/* A 32-bit memory BAR of whole pages, a power of two. */
void pci_bar_open(struct pci_function *f, unsigned bar, uint32_t size, const struct mmio_ops *ops, void *device,
		  const char *name);
/* Room for a capability; the place of its first byte. Id and link are filled in, the rest is the caller's. */
unsigned pci_capability(struct pci_function *f, uint8_t id, unsigned size);
void pci_msix_open(struct pci_function *f, unsigned vectors, const char *name);
void pci_ready(struct pci_function *f);

/* May it reach memory, and send messages? */
bool pci_is_master(const struct pci_function *f);
/* INTA, as far as the guest hasn't disabled it. */
void pci_set_line(struct pci_function *f, bool level);
bool pci_msix_enabled(const struct pci_function *f);
/* One message, now or when it is unmasked; without MSI-X, or a vector beyond it, none. */
void pci_msix_raise(struct pci_function *f, unsigned vector);

/* ---- msix.c for function.c ---- */
void pci_msix_flush(struct pci_function *f);
void pci_msix_reset(struct pci_function *f);

/* ---- function.c for pci.c ---- */
struct pci {
	struct bus *bus;
	uint32_t address;     /* of 0xcf8 */
	uint64_t window_free; /* the next free address for BARs */
	struct pci_function *slot[PCI_SLOTS];
	bool level[PCI_SLOTS];
	struct pci_function bridge;
};
/* size 1, 2 or 4, aligned, inside the 4 KiB of a function. */
uint32_t pci_config_read(struct pci_function *f, unsigned offset, unsigned size);
void pci_config_write(struct pci_function *f, unsigned offset, unsigned size, uint32_t value);
void pci_function_reset(struct pci_function *f);

static inline uint32_t pci_get(const struct pci_function *f, unsigned offset, unsigned size)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (uint32_t)f->config[offset + i] << (8 * i);
	return value;
}

static inline void pci_put(uint8_t *bytes, unsigned offset, unsigned size, uint32_t value)
{
	for (unsigned i = 0; i < size; i++)
		bytes[offset + i] = (uint8_t)(value >> (8 * i));
}
