/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Grows at the touch of a key: reads and writes the next 600 pages from 16 MiB on, finds each one zero before, and all
 * that it wrote ever afterwards. Rests in between.
 */
#include "guest.h"

#define FIRST (16 * MIB)
#define ROUND_PAGES 600u
#define UART_DATA 0x3f8
#define UART_STATUS 0x3fd
#define TICK 11932u /* 10 ms */

static void on_tick(struct trap_frame *frame)
{
	pic_eoi(0);
}

static void wait_key(void)
{
	while (!(in8(UART_STATUS) & 1))
		wait_interrupt();
	in8(UART_DATA);
}

static volatile uint32_t *word_of(uint32_t page)
{
	return (volatile uint32_t *)(FIRST + page * PAGE + (page * 52 & (PAGE - 4)));
}

static void grow(uint32_t first, uint32_t end)
{
	for (uint32_t page = first; page < end; page++) {
		check_equal(*word_of(page), 0);
		*word_of(page) = ~page;
	}
	for (uint32_t page = 0; page < end; page++)
		check_equal(*word_of(page), ~page);
}

void guest_main(void)
{
	uint32_t rounds = (memory_end - FIRST) / PAGE / ROUND_PAGES;

	set_handler(IRQ_BASE, on_tick);
	pic_init();
	pic_unmask(0);
	pit_start(2, TICK);
	print("ready for %u rounds\n", rounds);
	for (uint32_t round = 1; round <= rounds; round++) {
		wait_key();
		print("round %u begins\n", round);
		grow((round - 1) * ROUND_PAGES, round * ROUND_PAGES);
		print("round %u %s\n", round, failures ? "is wrong" : "holds");
	}
}
