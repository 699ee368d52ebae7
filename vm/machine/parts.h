/* SPDX-License-Identifier: Apache-2.0 */
/* A board's parts, for the files that put it together: board.c, bus.c. */
#pragma once

#include "dev/apic/lapic.h"
#include "dev/debug_ports.h"
#include "dev/fw_cfg.h"
#include "dev/irq.h"
#include "dev/legacy/i8042.h"
#include "dev/legacy/pit.h"
#include "dev/legacy/port92.h"
#include "dev/legacy/reset_port.h"
#include "dev/legacy/rtc.h"
#include "dev/legacy/uart.h"
#include "dev/pm.h"
#include "pgm/handlers.h"
#include "vm/machine.h"

#define MAX_WINDOWS 8u

/* Devices that are plain: X(kind) for each struct kind *, kind_reset(). */
#define BOARD_DEVICES(X)                                                                                               \
	X(pic)                                                                                                         \
	X(ioapic)                                                                                                      \
	X(balloon) X(vmem) X(pci) X(pit) X(rtc) X(uart) X(i8042) X(port92) X(reset_port) X(pm) X(fw_cfg)
#define BOARD_DEVICE_MEMBER(kind) struct kind *kind;

struct board {
	struct machine *machine;
	struct a20 a20;
	struct irq_router irq;
	struct apic_bus apic_bus;
	struct lapic *lapic[MACHINE_MAX_VCPUS];
	BOARD_DEVICES(BOARD_DEVICE_MEMBER)
	struct mmio_window window[MAX_WINDOWS];
	unsigned windows;
	struct mmio_window *apic_window; /* where the boot vcpu's is; each finds its own there */
	struct mmio_window *moving;      /* BARs: windows.c */
	uint32_t placing;                /* atomic: somebody is at it */
	handler_type mmio_type;
};

/* bus.c: the bus as the machine's devices see it, without a device yet. */
void board_open_bus(struct machine *m);
/* balloon.c: if the machine is to have one. */
enum status board_open_balloon(struct machine *m) must_check;
/* plug.c: and memory to grow by. */
enum status board_open_vmem(struct machine *m) must_check;
/* windows.c: of the bus. */
void bus_window_open(void *context, struct mmio_window *window);
void bus_windows_moved(void *context);
/* All MMIO of the board is of one type. */
enum status board_open_mmio(struct machine *m) must_check;
