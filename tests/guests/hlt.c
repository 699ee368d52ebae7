/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HLT: the interrupt that comes just before, at and just after it ends it, never is one lost, and time passes.
 * "dead": HLT with interrupts off, for good: the machine idles until the operator stops it.
 */
#include "guest.h"

static volatile unsigned ticks;

static void on_tick(struct trap_frame *frame)
{
	ticks++;
	pic_eoi(0);
}

void guest_main(void)
{
	uint64_t before = rdtsc(), now;

	if (option("dead")) {
		print("halting for good\n");
		for (;;)
			__asm__ volatile("cli; hlt");
	}
	set_handler(IRQ_BASE, on_tick);
	pic_init();
	pic_unmask(0);
	for (unsigned count = 1; count < 400; count += 7) {
		ticks = 0;
		pit_start(0, (uint16_t)count);
		while (!ticks)
			wait_interrupt();
		check_equal(ticks, 1);
		now = rdtsc();
		check(now > before);
		before = now;
	}
}
