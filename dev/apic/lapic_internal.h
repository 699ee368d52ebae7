/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the local APIC share. */
#pragma once

#include "dev/apic/lapic.h"

#define SVR_NO_EOI_BROADCAST 0x1000u
#define SVR_WRITABLE 0x11ffu
#define LVT_MODE(entry) ((entry) >> 8 & 7u)
#define LVT_TIMER_MODE(entry) ((entry) >> 17 & 3u)
#define ESR_SEND_ILLEGAL 0x20u
#define ESR_RECEIVE_ILLEGAL 0x40u
#define ESR_ILLEGAL_REGISTER 0x80u
#define FIRST_LEGAL_VECTOR 16u

/* Version 0x14, six entries in the LVT, EOI broadcasts can be suppressed. */
#define VERSION_VALUE (0x14u | (LVT_COUNT - 1) << 16 | 1u << 24)

enum timer_mode { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE };

/* Of members that the owner writes and others read. */
#define READ(member) __atomic_load_n(&(member), __ATOMIC_RELAXED)
#define WRITE(member, value) __atomic_store_n(&(member), (value), __ATOMIC_RELAXED)

static inline bool lapic_enabled(const struct lapic *lapic)
{
	return READ(lapic->base) & APIC_BASE_ENABLE;
}

static inline bool lapic_x2apic(const struct lapic *lapic)
{
	return (READ(lapic->base) & (APIC_BASE_ENABLE | APIC_BASE_X2APIC)) == (APIC_BASE_ENABLE | APIC_BASE_X2APIC);
}

/* Section 11.12.10.2: follows from the id. */
static inline uint32_t lapic_x2apic_logical_id(const struct lapic *lapic)
{
	return (lapic->id >> 4) << 16 | 1u << (lapic->id & 15);
}

/* ISR or TPR has changed. The owner's. */
void lapic_update_priority(struct lapic *lapic);
/* An event of the APIC's own: timer, pins, error. own: as for lapic_receive(). */
enum irq_fate lapic_raise_lvt(struct lapic *lapic, enum apic_lvt entry, bool own);
void lapic_error(struct lapic *lapic, uint32_t bit, bool own);

/* lapic_timer.c: the owner's. */
enum irq_fate lapic_timer_tick(void *device);
void lapic_timer_stop(struct lapic *lapic);
void lapic_timer_set_count(struct lapic *lapic, uint32_t count);
void lapic_timer_set_divide(struct lapic *lapic, uint32_t value);
/* The timer's LVT entry changed from old. */
void lapic_timer_mode_changed(struct lapic *lapic, uint32_t old);
uint32_t lapic_timer_current(const struct lapic *lapic);
void lapic_timer_set_deadline(struct lapic *lapic, uint64_t deadline);
