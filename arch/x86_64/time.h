/* SPDX-License-Identifier: Apache-2.0 */
/* The host's clock and timer; host.h has what others use. */
#ifndef ARCH_TIME_H
#define ARCH_TIME_H

#include <stdint.h>

struct cpu;

/* Measures the TSC (at most about 10 ms); boot CPU, after acpi_init(). */
void time_init(void);
/* Busy wait; before time_init() it returns at once. */
void time_wait_ns(uint64_t ns);
/* The timer interrupt: arms again what was too far away for the hardware's counter. */
void time_timer_fired(struct cpu *cpu);

/* TSC ticks per second by the PM timer, the PIT (time_measure.c) or CPUID; 0: cannot be told. */
uint64_t time_measure_pm_timer(uint16_t port);
uint64_t time_measure_pit(void);
uint64_t time_cpuid_hz(void);

#endif
