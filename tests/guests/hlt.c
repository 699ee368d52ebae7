/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HLT: the interrupt that comes just before, at and just after it ends it, never is one lost, and time passes.
 * An NMI doesn't end it within the handler of another, where NMIs are blocked until an IRET.
 * "dead": HLT with interrupts off, for good: the machine idles until the operator stops it.
 */
#include "guest.h"

#define LAPIC 0xfee00000u
#define VECTOR_DB 1
#define VECTOR_NMI 2
#define TF 0x100u

static volatile unsigned ticks, nmis, nmis_at_tick, nmis_at_debug;

static void on_tick(struct trap_frame *frame)
{
	ticks++;
	nmis_at_tick = nmis;
	pic_eoi(0);
}

static void send_nmi(void)
{
	write32(LAPIC + 0x310, 0); /* to itself */
	write32(LAPIC + 0x300, 0x4400);
}

/* The second one is held off; what ends HLT is the tick, whose IRET lets the NMI in. */
static void on_nmi(struct trap_frame *frame)
{
	if (++nmis > 1)
		return;
	send_nmi();
	ticks = 0;
	pit_start(0, 20000);
	wait_interrupt();
	check_equal(ticks, 1);
	check_equal(nmis_at_tick, 1);
	check_equal(nmis, 2);
}

static void on_debug(struct trap_frame *frame)
{
	nmis_at_debug = nmis;
	frame->eflags &= ~TF;
}

/* The instruction that sends it is stepped over: the trap is delivered first, and the NMI before anything of its handler. */
static void check_nmi_behind_trap(void)
{
	nmis = 1;
	set_handler(VECTOR_DB, on_debug);
	write32(LAPIC + 0x310, 0);
	__asm__ volatile("pushf; orl %1, (%%esp); popf; movl $0x4400, %0"
			 : "=m"(*(uint32_t *)(LAPIC + 0x300))
			 : "i"(TF));
	check_equal(nmis_at_debug, 2);
	check_equal(nmis, 2);
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
	set_handler(VECTOR_NMI, on_nmi);
	send_nmi();
	check_equal(nmis, 2);
	check_nmi_behind_trap();
}
