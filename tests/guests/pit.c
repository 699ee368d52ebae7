/* SPDX-License-Identifier: Apache-2.0 */
/* IRQ 0 of the PIT through the PIC: twenty ticks, each waking the processor out of HLT, then a one-shot. */
#include "guest.h"

static volatile unsigned ticks;

static void on_tick(struct trap_frame *frame)
{
	ticks++;
	pic_eoi(0);
}

void guest_main(void)
{
	unsigned wakes = 0;

	set_handler(IRQ_BASE, on_tick);
	pic_init();
	pit_start(2, 1193); /* 1 ms */
	pic_unmask(0);
	while (ticks < 20) {
		wait_interrupt();
		wakes++;
	}
	print("%u ticks\n", ticks);
	check(wakes <= ticks);
	ticks = 0;
	pit_start(0, 2000);
	while (!ticks)
		wait_interrupt();
	/* A handler that runs in a loop without HLT is reached as well. */
	ticks = 0;
	pit_start(2, 1193);
	interrupts_on();
	while (ticks < 3)
		__asm__ volatile("pause");
	interrupts_off();
	check(ticks >= 3);
}
