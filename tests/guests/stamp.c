/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes for the dirty log, without end: in each round some pages of memory, chosen by a generator, get a stamp at a
 * place within them; now and then a run of pages, so that whole lists of written pages fill. It checks that what it wrote is
 * there. pages=N: of memory from 16 MiB on, all by default; rounds=N: then it ends; pace=N: idle loops after each round; cpus=N, a
 * power of two: so many processors do so, all over the same pages, each in words of its own. Silent after round 64, so that nothing
 * comes between what is typed at the monitor.
 */
#include "smp.h"

#define FIRST (16 * MIB)
#define ROUND_PAGES 64u

static uint32_t pages, rounds, pace, cpus;

/* One processor's generator. */
struct dice {
	uint32_t state, cpu;
};

static uint32_t next(struct dice *d)
{
	d->state ^= d->state << 13;
	d->state ^= d->state >> 17;
	d->state ^= d->state << 5;
	return d->state;
}

static void stamp(uint32_t page, uint32_t value, uint32_t cpu)
{
	volatile uint32_t *at = (volatile uint32_t *)(FIRST + page * PAGE + ((value * cpus + cpu) * 4 & (PAGE - 4)));

	*at = value;
	if (*at != value)
		check_equal(*at, value);
}

static void one_round(struct dice *d, uint32_t round)
{
	for (uint32_t i = 0; i < ROUND_PAGES; i++)
		stamp(next(d) % pages, round + i, d->cpu);
	if (round % 16)
		return;
	for (uint32_t page = next(d) % pages, i = 0; i < 1024 && page < pages; i++, page++)
		stamp(page, round + i, d->cpu);
}

static void play(unsigned cpu)
{
	struct dice dice = { 1 + cpu, cpu };

	for (uint32_t round = 1; !rounds || round <= rounds; round++) {
		one_round(&dice, round);
		if (!cpu && round <= 64 && !(round & (round - 1)))
			print("round %u\n", round);
		for (volatile uint32_t i = 0; i < pace; i++)
			;
	}
}

void guest_main(void)
{
	pages = option_number("pages=", (memory_end - FIRST) / PAGE);
	rounds = option_number("rounds=", 0);
	pace = option_number("pace=", 1000);
	cpus = option_number("cpus=", 1);
	print("stamping %u pages\n", pages);
	if (cpus > 1)
		check(start_cpus(cpus, play));
	play(0);
}
