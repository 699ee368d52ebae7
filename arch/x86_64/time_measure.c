/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast is the TSC? Measured against the ACPI PM timer or the PIT's channel 2, twice 4 ms; the two
 * are compared because a system management interrupt may fall into one. Every loop is bounded by a count of
 * port reads, so a timer that stands still costs milliseconds, not the machine.
 */
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/time.h"

#define RUNS 2u
#define PM_TIMER_HZ UINT64_C(3579545) /* ACPI 6.5 section 4.8.3.3 */
#define PM_TIMER_MASK 0xffffffu       /* the 24 bits that every one has */
#define PM_TICKS 14318u               /* 4 ms */
#define STUCK_READS 20000u            /* without a change: it doesn't tick */
#define MOST_READS 400000u

#define PIT_HZ UINT64_C(1193182)
#define PIT_TICKS 4773u /* 4 ms */
#define PIT_CHANNEL_2 0x42u
#define PIT_COMMAND 0x43u
#define PIT_CHANNEL_2_MODE_0 0xb0u /* low then high byte, interrupt on terminal count */
#define PORT_B 0x61u
#define PORT_B_GATE 0x01u
#define PORT_B_SPEAKER 0x02u
#define PORT_B_OUT 0x20u
#define PIT_FEWEST_READS 3u

/* The shorter of two runs that differ: an interruption only lengthens one. */
static uint64_t best_of(uint64_t (*run)(uint16_t port), uint16_t port)
{
	uint64_t best = 0;

	for (unsigned i = 0; i < RUNS; i++) {
		uint64_t hz = run(port);

		if (!hz)
			return 0;
		best = !best || hz < best ? hz : best;
	}
	return best;
}

static uint64_t pm_timer_run(uint16_t port)
{
	uint32_t first = in32(port) & PM_TIMER_MASK, last = first, now = first;
	uint64_t start, end;
	unsigned reads = 0, stuck = 0;

	/* Begin on an edge. */
	while (now == first) {
		if (++stuck > STUCK_READS)
			return 0;
		now = in32(port) & PM_TIMER_MASK;
	}
	start = rdtsc();
	first = last = now;
	for (stuck = 0; ((now - first) & PM_TIMER_MASK) < PM_TICKS;) {
		now = in32(port) & PM_TIMER_MASK;
		stuck = now == last ? stuck + 1 : 0;
		last = now;
		if (stuck > STUCK_READS || ++reads > MOST_READS)
			return 0;
	}
	end = rdtsc();
	return (end - start) * PM_TIMER_HZ / ((now - first) & PM_TIMER_MASK);
}

static uint64_t pit_run(uint16_t port)
{
	uint8_t saved = in8(PORT_B);
	uint64_t start, end;
	unsigned reads = 0;

	out8(PORT_B, (uint8_t)((saved & ~PORT_B_SPEAKER) | PORT_B_GATE));
	out8(PIT_COMMAND, PIT_CHANNEL_2_MODE_0);
	out8(port, (uint8_t)PIT_TICKS);
	out8(port, (uint8_t)(PIT_TICKS >> 8));
	start = rdtsc();
	while (!(in8(PORT_B) & PORT_B_OUT) && reads < MOST_READS)
		reads++;
	end = rdtsc();
	out8(PORT_B, saved);
	if (reads < PIT_FEWEST_READS || reads >= MOST_READS)
		return 0;
	return (end - start) * PIT_HZ / PIT_TICKS;
}

uint64_t time_measure_pm_timer(uint16_t port)
{
	return best_of(pm_timer_run, port);
}

uint64_t time_measure_pit(void)
{
	return best_of(pit_run, PIT_CHANNEL_2);
}

/* Intel SDM vol. 3 section 19.7.3: crystal times ratio; leaf 0x16 tells only a nominal frequency and is not used. */
uint64_t time_cpuid_hz(void)
{
	struct cpuid_result r;

	if (features.max_leaf < 0x15)
		return 0;
	r = cpuid(0x15, 0);
	if (!r.eax || !r.ebx || !r.ecx)
		return 0;
	return (uint64_t)r.ecx * r.ebx / r.eax;
}
