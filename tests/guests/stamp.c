/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes for the dirty log, without end: in each round some pages of memory, chosen by a generator, get a stamp at a
 * place within them; now and then a run of pages, so that whole lists of written pages fill. It checks that what it wrote is
 * there. pages=N: of memory from 16 MiB on, all by default; rounds=N: then it ends; pace=N: idle loops after each round. Silent
 * after round 64, so that nothing comes between what is typed at the monitor.
 */
#include "guest.h"

#define FIRST (16 * MIB)
#define ROUND_PAGES 64u

static uint32_t state = 1;

static uint32_t next(void)
{
	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state;
}

static void stamp(uint32_t page, uint32_t value)
{
	volatile uint32_t *at = (volatile uint32_t *)(FIRST + page * PAGE + (value * 4 & (PAGE - 4)));

	*at = value;
	if (*at != value)
		check_equal(*at, value);
}

static void one_round(uint32_t round, uint32_t pages)
{
	for (uint32_t i = 0; i < ROUND_PAGES; i++)
		stamp(next() % pages, round + i);
	if (round % 16)
		return;
	for (uint32_t page = next() % pages, i = 0; i < 1024 && page < pages; i++, page++)
		stamp(page, round + i);
}

void guest_main(void)
{
	uint32_t pages = option_number("pages=", (memory_end - FIRST) / PAGE);
	uint32_t rounds = option_number("rounds=", 0), pace = option_number("pace=", 1000);

	print("stamping %u pages\n", pages);
	for (uint32_t round = 1; !rounds || round <= rounds; round++) {
		one_round(round, pages);
		if (round <= 64 && !(round & (round - 1)))
			print("round %u\n", round);
		for (volatile uint32_t i = 0; i < pace; i++)
			;
	}
}
