/* SPDX-License-Identifier: Apache-2.0 */
/* An interrupt comes once: never in the handler that its delivery has begun, at no moment of which the host's timer or another tick is kept from coming. */
#include "guest.h"

#define LAPIC 0xfee00000u
#define REG_EOI 0xb0u
#define REG_SVR 0xf0u
#define REG_LVT_TIMER 0x320u
#define REG_INITIAL 0x380u
#define REG_DIVIDE 0x3e0u
#define PERIODIC (1u << 17)
#define VECTOR 0x30u
#define SPURIOUS 0x3fu
#define ROUNDS 3000u

static volatile unsigned ticks, nested;
static volatile bool inside;
static uint32_t seed = 1;

static uint32_t random_below(uint32_t limit)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % limit;
}

static void on_tick(struct trap_frame *frame)
{
	if (inside) {
		nested++;
		return; /* its end is the first one's business */
	}
	inside = true;
	ticks++;
	for (uint32_t i = random_below(4000); i; i--)
		__asm__ volatile("");
	inside = false;
	if (ticks == ROUNDS)
		write32(LAPIC + REG_INITIAL, 0);
	write32(LAPIC + REG_EOI, 0);
}

void guest_main(void)
{
	pic_init();
	set_handler(VECTOR, on_tick);
	write32(LAPIC + REG_SVR, 0x100 | SPURIOUS);
	write32(LAPIC + REG_DIVIDE, 0xb); /* by one */
	write32(LAPIC + REG_LVT_TIMER, PERIODIC | VECTOR);
	write32(LAPIC + REG_INITIAL, 20000);
	interrupts_on();
	while (ticks < ROUNDS)
		__asm__ volatile("pause");
	interrupts_off();
	print("%d ticks, %d in their own handler\n", (int)ticks, (int)nested);
	check_equal(nested, 0);
}
