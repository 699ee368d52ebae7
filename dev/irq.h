/* SPDX-License-Identifier: Apache-2.0 */
/* Where a machine's interrupt wires go: to the PICs and to the IOAPIC, as on every PC. */
#pragma once

#include "dev/apic/ioapic.h"
#include "dev/legacy/pic.h"

/* Embedded in the machine. Either may still be NULL while the machine is put together. */
struct irq_router {
	struct pic *pic;
	struct ioapic *ioapic;
};

/* line 0..23; ISA interrupts 0..15 reach both, and 0 the IOAPIC's pin 2. What bus->set_irq is to call. */
enum irq_fate irq_router_set(struct irq_router *router, unsigned line, bool level);
