/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What connects a machine's local APICs, its IOAPIC and message-signalled interrupts: a message goes to every APIC
 * that its destination names. Intel SDM vol. 3 section 11.6.2 (destinations), 11.11 (MSI).
 */
#pragma once

#include "dev/bus.h"

#define APIC_IDS 255u /* those of xAPIC; 255 is everybody */

struct lapic;

/* As encoded in the ICR, in IOAPIC entries and in MSI data. */
enum delivery_mode {
	DELIVERY_FIXED,
	DELIVERY_LOWEST,
	DELIVERY_SMI,
	DELIVERY_RESERVED,
	DELIVERY_NMI,
	DELIVERY_INIT,
	DELIVERY_STARTUP,
	DELIVERY_EXTINT,
};

enum destination_shorthand { SHORTHAND_NONE, SHORTHAND_SELF, SHORTHAND_ALL, SHORTHAND_OTHERS };

struct apic_message {
	uint32_t destination;
	bool wide; /* 32-bit destination of an x2APIC; else 8 bits */
	bool logical;
	bool level;   /* level triggered: its EOI goes to the IOAPIC */
	uint8_t mode; /* enum delivery_mode */
	uint8_t vector;
	uint8_t shorthand; /* enum destination_shorthand */
};

/* Who is on it changes only while no processor of the machine runs. */
struct apic_bus {
	struct lapic *first;
	struct lapic *by_id[APIC_IDS];
	struct lapic *last_chosen; /* atomic: lowest priority delivery goes round among equals */
	void (*eoi)(void *ioapic, uint8_t vector);
	void *ioapic;
};

void apic_bus_attach(struct apic_bus *apic_bus, struct lapic *lapic);
/*
 * Any CPU, with or without locks; takes none. sender: on its processor, or NULL (IOAPIC, MSI, where no shorthand needs it). IRQ_UNHEARD:
 * no APIC took it.
 */
enum irq_fate apic_bus_deliver(struct apic_bus *apic_bus, const struct apic_message *message, struct lapic *sender);
/* A write of data to address 0xfeexxxxx. As apic_bus_deliver(). */
enum irq_fate apic_bus_msi(struct apic_bus *apic_bus, uint64_t address, uint32_t data);
/* A level-triggered vector was ended: tells the IOAPIC. Under the devices' lock. */
void apic_bus_eoi(struct apic_bus *apic_bus, uint8_t vector);
