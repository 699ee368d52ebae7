/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends bus mastering, so that no device that firmware used writes into memory that is the kernel's by now. Twice:
 * through firmware before boot services end, while its drivers may still object; and by configuration ports
 * after, since a driver may switch its device on again while it shuts down (OVMF's xHCI driver does). It's
 * a best effort: other PCI segments, and what has no driver's handle, are for the kernel's IOMMU. PCI 3.0
 * section 6.2.2.
 */
#include "boot/efi_loader.h"

#define PCI_CLASS_REVISION 0x08u /* dword: class in bits 31:24, subclass in 23:16 */
#define PCI_CLASS_DISPLAY 0x03u
#define PCI_HOST_BRIDGE 0x0600u
#define PCI_ISA_BRIDGE 0x0601u
#define PCI_COMMAND 0x04u
#define PCI_COMMAND_BUS_MASTER 0x04u
#define PCI_ADDRESS_PORT 0xcf8
#define PCI_DATA_PORT 0xcfc
#define PCI_ADDRESS_ENABLE 0x80000000u

/*
 * Displays go on fetching the picture from memory; host and ISA bridges have the bit wired, or need it for
 * the serial port as long as firmware lives.
 */
static bool may_keep_dma(EFI_PCI_IO_PROTOCOL *device)
{
	UINT32 word = 0;

	if (EFI_ERROR(device->Pci.Read(device, EfiPciIoWidthUint32, PCI_CLASS_REVISION, 1, &word)))
		return true;
	return word >> 24 == PCI_CLASS_DISPLAY || word >> 16 == PCI_HOST_BRIDGE || word >> 16 == PCI_ISA_BRIDGE;
}

/* Remembers where the device is, for dma_stop_again(). */
static void stop_device(struct dma_devices *stopped, EFI_PCI_IO_PROTOCOL *device)
{
	UINTN segment, bus, slot, function;

	(void)device->Attributes(device, EfiPciIoAttributeOperationDisable, EFI_PCI_ATTRIBUTE_BUS_MASTER, NULL);
	if (EFI_ERROR(device->GetLocation(device, &segment, &bus, &slot, &function)) || segment)
		return;
	if (stopped->count < ARRAY_SIZE(stopped->where))
		stopped->where[stopped->count++] = (uint16_t)((bus & 255) << 8 | (slot & 31) << 3 | (function & 7));
}

void dma_stop(struct dma_devices *stopped)
{
	static EFI_GUID protocol = EFI_PCI_IO_PROTOCOL_GUID;
	EFI_HANDLE *handles = NULL;
	EFI_PCI_IO_PROTOCOL *device;
	UINTN count = 0;

	if (EFI_ERROR(BS->LocateHandleBuffer(ByProtocol, &protocol, NULL, &count, &handles)))
		return;
	for (UINTN i = 0; i < count; i++)
		if (!EFI_ERROR(BS->HandleProtocol(handles[i], &protocol, (void **)&device)) && !may_keep_dma(device))
			stop_device(stopped, device);
	(void)BS->FreePool(handles);
}

static void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static uint32_t in32(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

void dma_stop_again(const struct dma_devices *stopped)
{
	for (uint32_t i = 0; i < stopped->count; i++) {
		uint32_t command;

		out32(PCI_ADDRESS_PORT, PCI_ADDRESS_ENABLE | (uint32_t)stopped->where[i] << 8 | PCI_COMMAND);
		command = in32(PCI_DATA_PORT);
		/* All ones: gone. The upper half is the status register, where a zero changes nothing. */
		if (command != UINT32_MAX && command & PCI_COMMAND_BUS_MASTER)
			out32(PCI_DATA_PORT, command & 0xffff & ~PCI_COMMAND_BUS_MASTER);
	}
}
