/* SPDX-License-Identifier: Apache-2.0 */
/* The host's clock and timer; host.h has what others use. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct cpu;

/* Measures the TSC (about 20 ms); boot CPU, after acpi_init(). */
void time_init(void);
/* Busy wait; before time_init() it returns at once. */
void time_wait_ns(uint64_t ns);
/* The timer interrupt: arms again what was too far away for the hardware's counter. */
void time_timer_fired(struct cpu *cpu);

/*
 * TSC ticks per second (time_measure.c); 0: cannot be told. Measured by the PM timer, the HPET or the PIT: *source is its name,
 * *sure says whether two runs agreed; about 20 ms, bounded. Told exactly by CPUID; nominally by CPUID or an MSR.
 */
uint64_t time_measured_hz(const char **source, bool *sure);
uint64_t time_told_hz(void);
uint64_t time_nominal_hz(void);

/* They differ by a `part`th at most. */
static inline bool time_agree(uint64_t a, uint64_t b, uint64_t part)
{
	return (a > b ? a - b : b - a) <= a / part;
}
