/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at memory of its own again and again, without an exit in between: pages=N from 16 MiB on carry their stamps. Now and
 * then one is written anew. A frame that is taken away from under a running guest, and given to another machine, shows as a foreign word.
 * Silent but for the beginning and what is wrong.
 */
#include "guest.h"

#define FIRST (16 * MIB)
#define COM1 0x3f8

static volatile uint32_t *word_of(uint32_t page)
{
	return (volatile uint32_t *)(FIRST + page * PAGE + (page * 4 & (PAGE - 4)));
}

static uint32_t stamp_of(uint32_t page)
{
	return page * 0x01000193u ^ 0x57a1e000u;
}

/* False: something foreign. The rest of a page is looked at in one word that moves. */
static bool look(uint32_t page)
{
	volatile uint32_t *at = word_of(page), *beside = (volatile uint32_t *)((uint32_t)at ^ 0x800u);
	uint32_t seen = *at, other = *beside;

	if (seen == stamp_of(page) && other == 0)
		return true;
	print("STALE page %u: 0x%x, beside it 0x%x\n", page, seen, other);
	return false;
}

void guest_main(void)
{
	uint32_t pages = option_number("pages=", 1024), pace = option_number("pace=", 1000000), round;

	print("ready\n");
	while (!(in8(COM1 + 5) & 1)) /* a key: the operator has switched the log on, so memory comes in single pages */
		;
	for (uint32_t page = 0; page < pages; page++)
		*word_of(page) = stamp_of(page);
	print("stamped %u pages\n", pages);
	for (round = 0; !failures; round++) {
		for (uint32_t page = 0; page < pages; page++)
			if (!look(page))
				failures++;
		/* A write that goes to a frame no longer its own would be lost, or hit another machine. */
		*word_of(round % pages) = stamp_of(round % pages);
		/* Without a touch, so that the blocks can be joined; and without an exit, so that it remembers where they were. */
		for (volatile uint32_t i = 0; i < pace; i++)
			;
	}
}
