/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's other processors, and the local APICs that they talk by. Every processor has a number: 0 is the one that the guest began
 * on, the others are counted as they come. catch_trap() is for one processor at a time.
 */
#pragma once

#include "guest.h"

#define CPUS_MAX 64u
#define CPU_STACK 8192u /* of each but the first */

#define LAPIC_PAGE 0xfee00000u
#define APIC_BASE_MSR 0x1bu
#define APIC_BASE_X2 (1u << 10)
/* Registers: the offset in the page by 16. */
#define LAPIC_ID 0x02u
#define LAPIC_TPR 0x08u
#define LAPIC_EOI 0x0bu
#define LAPIC_LDR 0x0du
#define LAPIC_DFR 0x0eu
#define LAPIC_SVR 0x0fu
#define LAPIC_ISR 0x10u
#define LAPIC_IRR 0x20u
#define LAPIC_ESR 0x28u
#define LAPIC_ICR 0x30u
#define LAPIC_SELF 0x3fu
#define SPURIOUS_VECTOR 0x3fu

/* The ICR's lower half: mode, destination, shorthand. */
#define IPI_LOWEST (1u << 8)
#define IPI_NMI (4u << 8)
#define IPI_INIT (5u << 8 | 1u << 14)
#define IPI_STARTUP (6u << 8)
#define IPI_LOGICAL (1u << 11)
#define IPI_SELF (1u << 18)
#define IPI_ALL (2u << 18)
#define IPI_OTHERS (3u << 18)

/* Of processor n, once it is there. */
extern volatile uint32_t cpu_apic_id[CPUS_MAX];
/* Whether the APICs are in x2APIC mode: each processor switches its own, while none of them uses it. */
extern volatile bool x2apic;

/*
 * INIT and two SIPIs at once to all the others, then waits until there are `count` with this one; each calls main(its number) with its
 * APIC enabled and interrupts off, and halts for ever when that returns. false: they didn't come. Once; x2APIC mode comes afterwards.
 */
bool start_cpus(unsigned count, void (*main)(unsigned cpu));
/* INIT and one SIPI at once: main() begins anew there. Not to the first processor. */
void start_again(uint32_t destination, uint32_t shorthand);
/* The number of this processor. */
unsigned cpu_number(void);

uint32_t lapic_read(uint32_t reg);
void lapic_write(uint32_t reg, uint32_t value);
/* destination: an APIC id, or by IPI_LOGICAL; 8 bits, 32 in x2APIC mode. */
void send_ipi(uint32_t destination, uint32_t low);

static inline void relax(void)
{
	__asm__ volatile("pause" : : : "memory");
}

static inline void spin_lock(volatile uint32_t *lock)
{
	while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE))
		relax();
}

static inline void spin_unlock(volatile uint32_t *lock)
{
	__atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}
