/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Periodic interrupts beside a clock: by the ACPI timer's time, every tick has come, and none too many, however many
 * machines share the processor. Each of the three sources in turn.
 */
#include "guest.h"

#define PM_TIMER 0x608
#define PM_HZ 3579545u
#define LENGTH (PM_HZ / 1000 * 400) /* 0.4 s */
#define LAPIC 0xfee00000u
#define APIC_VECTOR 0x30u
#define RTC_LINE 8
#define LATE 20u /* interrupts that may still come behind the end */

static volatile unsigned ticks;

static uint8_t cmos(uint8_t index)
{
	out8(0x70, index);
	return in8(0x71);
}

static void cmos_write(uint8_t index, uint8_t value)
{
	out8(0x70, index);
	out8(0x71, value);
}

static void on_pit(struct trap_frame *frame)
{
	ticks++;
	pic_eoi(0);
}

static void on_apic(struct trap_frame *frame)
{
	ticks++;
	write32(LAPIC + 0xb0, 0);
}

static void on_rtc(struct trap_frame *frame)
{
	if (cmos(0x0c) & 0x40)
		ticks++;
	pic_eoi(RTC_LINE);
}

static uint32_t due(uint32_t pm_ticks, uint32_t hz)
{
	return pm_ticks / 1000 * hz / (PM_HZ / 1000);
}

/* From an edge on, when no more come for what has been: three in a row a period apart. The time of the last. */
static uint32_t settle(void)
{
	uint32_t last = in32(PM_TIMER), now;

	for (unsigned good = 0; good < 3; last = now) {
		wait_interrupt();
		ticks = 0;
		now = in32(PM_TIMER);
		good = now - last > PM_HZ / 1000 && now - last < PM_HZ / 1000 * 5 ? good + 1 : 0;
	}
	return last;
}

static void count(const char *name, uint32_t hz)
{
	uint32_t start = settle(), over, wanted;

	interrupts_on();
	while (in32(PM_TIMER) - start < LENGTH)
		__asm__ volatile("pause");
	over = in32(PM_TIMER) - start;
	interrupts_off();
	wanted = due(over, hz);
	for (unsigned i = 0; ticks < wanted && i < LATE; i++)
		wait_interrupt();
	if (!check(ticks + 1 >= wanted))
		print("%s: %u ticks of %u\n", name, ticks, wanted);
	over = in32(PM_TIMER) - start;
	wanted = due(over, hz);
	if (!check(ticks <= wanted + 2))
		print("%s: %u ticks, there were but %u\n", name, ticks, wanted);
}

void guest_main(void)
{
	pic_init();
	set_handler(IRQ_BASE, on_pit);
	set_handler(IRQ_BASE + RTC_LINE, on_rtc);
	set_handler(APIC_VECTOR, on_apic);
	pit_start(2, 4773);
	pic_unmask(0);
	count("PIT", 250);
	pit_start(0, 1);
	out8(0x21, 0xff);

	cmos_write(0x0a, 0x28); /* 256 Hz */
	cmos_write(0x0b, 0x42);
	(void)cmos(0x0c);
	pic_unmask(RTC_LINE);
	count("RTC", 256);
	cmos_write(0x0b, 0x02);
	(void)cmos(0x0c);
	out8(0xa1, 0xff);

	write32(LAPIC + 0xf0, 0x1ff);
	write32(LAPIC + 0x3e0, 0xb);
	write32(LAPIC + 0x320, 1u << 17 | APIC_VECTOR);
	write32(LAPIC + 0x380, cpuid(0x40000010, 0).ebx * 4);
	count("APIC", 250);
	write32(LAPIC + 0x320, 1u << 16);
}
