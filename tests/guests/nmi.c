/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NMIs that a processor sends to itself. While one is handled the next one waits, and comes right behind the IRET, with
 * interrupts off all the time, within a loop that gives the hypervisor no other reason to look.
 */
#include "guest.h"

#define LAPIC 0xfee00000u
#define ICR_LOW (LAPIC + 0x300)
#define ICR_HIGH (LAPIC + 0x310)
#define NMI_TO_SELF 0x4400u /* by physical destination 0: the shorthand isn't for NMIs */
#define VECTOR_NMI 2

static volatile unsigned count, depth, deepest, wanted;

static void send_nmi(void)
{
	write32(ICR_HIGH, 0);
	write32(ICR_LOW, NMI_TO_SELF);
}

static void on_nmi(struct trap_frame *frame)
{
	depth++;
	deepest = depth > deepest ? depth : deepest;
	if (++count < wanted)
		send_nmi();
	depth--;
}

/* How often it has come by the time that a thousand rounds are over. */
static unsigned chain(unsigned length)
{
	count = 0;
	wanted = length;
	send_nmi();
	__asm__ volatile("mov $1000, %%ecx; 1: loop 1b" : : : "ecx");
	return count;
}

void guest_main(void)
{
	set_handler(VECTOR_NMI, on_nmi);
	check_equal(chain(1), 1);
	check_equal(chain(2), 2);
	check_equal(chain(20), 20);
	check_equal(deepest, 1);
}
