/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends bus mastering, so that no device that firmware used writes into memory that is the kernel's by now: after boot
 * services, because until then firmware's drivers may still poll their devices, and while they shut down they may switch
 * them on again. All of segment 0 is walked by the configuration ports, bridges included; other segments are for the kernel's
 * IOMMU. PCI 3.0 sections 3.2.2.3.2 and 6.2.
 */
#include "boot/efi_loader.h"

#define PCI_VENDOR 0x00u
#define PCI_COMMAND 0x04u
#define PCI_CLASS 0x08u       /* dword: class in bits 31:24, subclass in 23:16 */
#define PCI_HEADER_TYPE 0x0cu /* dword: in bits 23:16 */
#define PCI_MULTIFUNCTION (1u << 23)
#define PCI_CLASS_DISPLAY 0x03u
#define PCI_HOST_BRIDGE 0x0600u
#define PCI_ISA_BRIDGE 0x0601u
#define PCI_COMMAND_BUS_MASTER 0x04u
#define PCI_ADDRESS_PORT 0xcf8
#define PCI_DATA_PORT 0xcfc
#define PCI_ADDRESS_ENABLE 0x80000000u
#define DEVICES (256u * 32u)

static void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

/* where: bus << 8 | device << 3 | function. All ones: nothing is there. */
static uint32_t configuration(uint32_t where, uint32_t offset)
{
	uint32_t value;

	out32(PCI_ADDRESS_PORT, PCI_ADDRESS_ENABLE | where << 8 | offset);
	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"((uint16_t)PCI_DATA_PORT));
	return value;
}

/* Displays go on fetching the picture from memory; host and ISA bridges have the bit wired. */
static bool may_keep_dma(uint32_t where)
{
	uint32_t word = configuration(where, PCI_CLASS);

	return word >> 24 == PCI_CLASS_DISPLAY || word >> 16 == PCI_HOST_BRIDGE || word >> 16 == PCI_ISA_BRIDGE;
}

static void stop(uint32_t where)
{
	uint32_t command;

	if (configuration(where, PCI_VENDOR) == UINT32_MAX || may_keep_dma(where))
		return;
	command = configuration(where, PCI_COMMAND);
	/* The upper half is the status register, where a zero changes nothing. */
	if (command & PCI_COMMAND_BUS_MASTER)
		out32(PCI_DATA_PORT, command & 0xffff & ~PCI_COMMAND_BUS_MASTER);
}

void dma_stop(void)
{
	for (uint32_t device = 0; device < DEVICES; device++) {
		uint32_t where = device << 3;

		if (configuration(where, PCI_VENDOR) == UINT32_MAX)
			continue;
		stop(where);
		if (configuration(where, PCI_HEADER_TYPE) & PCI_MULTIFUNCTION)
			for (uint32_t function = 1; function < 8; function++)
				stop(where | function);
	}
}
