/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processors ("cpus=") that stop and start one another ("storms=" lives in all) while all of them touch fresh memory: INIT and SIPI
 * at random moments, in a fault, halted, waiting for a SIPI. The first one isn't stopped. When it is calm again, an INIT with a SIPI right behind it
 * ("calls=" times) starts each of the others, none lost; and their memory holds what they wrote.
 */
#include "smp.h"

#define FIRST (16 * MIB)
#define SPAN (2 * MIB)
#define PATIENCE (1ull << 34)

static unsigned cpus, storms;
static volatile uint32_t lives[CPUS_MAX], bad[CPUS_MAX], next[CPUS_MAX], dice[CPUS_MAX], quiet[CPUS_MAX];
static volatile bool begun, calm; /* who strikes before all are there would strike the first, whose id is 0 */

static uint32_t stamp(unsigned cpu, uint32_t page)
{
	return (cpu << 24 | page) * 2654435761u | 1;
}

/* What is written depends on the place alone, so that it doesn't matter where an INIT strikes. */
static void touch_some(unsigned cpu)
{
	for (unsigned i = 0; i < 8; i++) {
		uint32_t page = next[cpu]++ % (SPAN / PAGE), where = FIRST + cpu * SPAN + page * PAGE;

		if (read32(where) && read32(where) != stamp(cpu, page))
			bad[cpu]++;
		write32(where, stamp(cpu, page));
	}
}

static uint32_t roll(unsigned cpu)
{
	return dice[cpu] = dice[cpu] * 1664525 + 1013904223 + cpu;
}

static void strike(unsigned cpu)
{
	unsigned whom = 1 + (roll(cpu) >> 16) % (cpus - 1);

	if (whom != cpu)
		start_again(cpu_apic_id[whom], 0);
}

static void other(unsigned cpu)
{
	lives[cpu]++;
	for (;;) {
		touch_some(cpu);
		quiet[cpu] = calm;
		if (calm && roll(cpu) >> 31)
			__asm__ volatile("hlt"); /* interrupts are off: INIT alone ends it */
		else if (begun && !calm && roll(cpu) >> 28 == 0)
			strike(cpu);
	}
}

static bool all_live_again(const uint32_t *before)
{
	uint64_t start = rdtsc();

	for (unsigned cpu = 1; cpu < cpus; cpu++)
		while (lives[cpu] == before[cpu])
			if (rdtsc() - start > PATIENCE)
				return false;
	return true;
}

/*
 * Until each has seen that it is calm: one may be amid a strike still, or wait for the SIPI of another that was stopped between its INIT
 * and that.
 */
static void calm_down(void)
{
	calm = true;
	for (unsigned cpu = 1; cpu < cpus; cpu++) {
		uint64_t start = rdtsc();

		start_again(cpu_apic_id[cpu], 0);
		while (!quiet[cpu])
			if (rdtsc() - start > PATIENCE / 64) {
				start = rdtsc();
				start_again(cpu_apic_id[cpu], 0);
			}
	}
}

/* Nobody else sends now: each INIT with its SIPI makes one life. */
static void call_all(unsigned calls)
{
	uint32_t before[CPUS_MAX];

	for (unsigned i = 0; i < calls; i++) {
		for (unsigned cpu = 1; cpu < cpus; cpu++)
			before[cpu] = lives[cpu];
		if (i % 2)
			start_again(0, IPI_OTHERS);
		else
			for (unsigned cpu = 1; cpu < cpus; cpu++)
				start_again(cpu_apic_id[cpu], 0);
		if (!check(all_live_again(before)))
			return;
	}
}

static uint32_t sum_of(const volatile uint32_t *counts)
{
	uint32_t sum = 0;

	for (unsigned cpu = 0; cpu < cpus; cpu++)
		sum += counts[cpu];
	return sum;
}

void guest_main(void)
{
	cpus = option_number("cpus=", 4);
	storms = option_number("storms=", 200);
	if (!check(start_cpus(cpus, other)))
		return;
	begun = true;
	while (sum_of(lives) < storms) {
		touch_some(0);
		if (roll(0) >> 28 == 0)
			strike(0);
	}
	calm_down();
	call_all(option_number("calls=", 50));
	check_equal(sum_of(bad), 0);
	print("storm: %u lives or more\n", storms);
}
