/* SPDX-License-Identifier: Apache-2.0 */
/* The IOAPIC (Intel 82093AA data sheet), version 0x20 with the EOI register. */
#pragma once

#include "dev/apic/bus.h"

#define IOAPIC_PINS 24u
#define IOAPIC_BASE UINT64_C(0xfec00000)
#define IOAPIC_SIZE 4096u

struct ioapic;

/* Maps its page at IOAPIC_BASE and takes EOIs from the APIC bus. NO_MEMORY, and what map_mmio gives. */
enum status ioapic_create(struct bus *bus, struct apic_bus *apic_bus, uint8_t id, struct ioapic **out) must_check;
void ioapic_reset(struct ioapic *ioapic);
/* level: whether the device asserts its wire. Pins beyond the last are ignored. */
enum irq_fate ioapic_set_pin(struct ioapic *ioapic, unsigned pin, bool level);
