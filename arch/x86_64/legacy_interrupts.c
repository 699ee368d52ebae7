/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host takes no device interrupt: its consoles are polled, guests' devices are emulated. So the two PICs are moved
 * away from the exception vectors and masked (they can still raise a spurious one), and each input of each I/O
 * APIC is masked.
 */
#include "arch/x86_64/acpi.h"
#include "arch/x86_64/apic.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/paging.h"
#include "arch/x86_64/traps.h"

#define PIC_MASTER 0x20u
#define PIC_SLAVE 0xa0u

/* ICW1: edge, cascade, ICW4 follows; ICW4: 8086 mode. */
void pic_silence(void)
{
	out8(PIC_MASTER, 0x11);
	out8(PIC_SLAVE, 0x11);
	out8(PIC_MASTER + 1, VECTOR_PIC);
	out8(PIC_SLAVE + 1, VECTOR_PIC + 8);
	out8(PIC_MASTER + 1, 1 << 2);
	out8(PIC_SLAVE + 1, 2);
	out8(PIC_MASTER + 1, 0x01);
	out8(PIC_SLAVE + 1, 0x01);
	out8(PIC_MASTER + 1, 0xff);
	out8(PIC_SLAVE + 1, 0xff);
}

#define IOAPIC_SELECT 0u
#define IOAPIC_WINDOW 4u /* in 32-bit words */
#define IOAPIC_VERSION 1u
#define IOAPIC_REDIRECTION(n) (0x10u + 2 * (n))
#define IOAPIC_MASKED 0x10000u
#define IOAPIC_SIZE 0x20u

static void silence_one(void *context, uint32_t where)
{
	volatile uint32_t *registers = host_map_device(hpa(where), IOAPIC_SIZE, MEMORY_TYPE_UC);
	unsigned inputs;

	if (!registers)
		return;
	registers[IOAPIC_SELECT] = IOAPIC_VERSION;
	inputs = (registers[IOAPIC_WINDOW] >> 16 & 0xff) + 1;
	for (unsigned i = 0; i < inputs; i++) {
		registers[IOAPIC_SELECT] = IOAPIC_REDIRECTION(i);
		registers[IOAPIC_WINDOW] = IOAPIC_MASKED;
	}
	*(unsigned *)context += inputs;
}

void ioapic_silence(void)
{
	unsigned inputs = 0;

	acpi_each(ACPI_IOAPICS, silence_one, &inputs);
	if (inputs)
		log_line(LOG_DEBUG "ioapic: %u inputs masked", inputs);
}
