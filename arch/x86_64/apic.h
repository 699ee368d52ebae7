/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's own local APIC, x2APIC where offered; and the silencing of PICs and I/O APICs. Intel SDM vol. 3
 * chapter 11.
 */
#pragma once

#include <stdint.h>

#include "lib/status.h"

/* Boot CPU, after paging: chooses the mode and maps the registers. NOT_SUPPORTED: no local APIC. */
enum status apic_init(void) must_check;
/* Any CPU: enables its APIC in the chosen mode, everything masked. Returns its APIC id. */
uint32_t apic_enable(void);
bool apic_is_x2(void);
extern volatile uint32_t *apic_registers; /* NULL in x2APIC mode */

void apic_end_of_interrupt(void);
/* Is this vector being served by the calling CPU's APIC? */
bool apic_in_service(unsigned vector);

/* Start of other CPUs; by APIC id. page: the start page's number, 1-255. */
void apic_send_init(uint32_t apic_id);
void apic_send_startup(uint32_t apic_id, uint8_t page);

/* One-shot timer. apic_timer_calibrate: boot CPU, once, after the TSC is known; at most 5 ms. */
void apic_timer_calibrate(void);
/* An interrupt after `ticks` TSC ticks from now or at absolute TSC `when` (both tell the same moment). */
void apic_timer_arm(uint64_t when, uint64_t ticks);
void apic_timer_disarm(void);

/* Remaps the PICs away from the exceptions and masks them. */
void pic_silence(void);
/* Masks every input of the I/O APICs in the MADT. After acpi_init(). */
void ioapic_silence(void);
