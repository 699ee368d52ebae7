/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ends a sleep through ACPI's fixed events: the clock's alarm, and with "button" the power button, after which it switches
 * itself off. The clock's own interrupt stays masked.
 */
#include "guest.h"

#define PM_STATUS 0x600
#define PM_ENABLE 0x602
#define PM_CONTROL 0x604
#define RTC_EVENT 0x400u
#define BUTTON_EVENT 0x100u
#define SCI_LINE 9

static volatile unsigned events;

static void on_sci(struct trap_frame *frame)
{
	uint16_t status = in16(PM_STATUS);

	events |= status;
	out16(PM_STATUS, status);
	pic_eoi(SCI_LINE);
}

static void cmos_write(uint8_t index, uint8_t value)
{
	out8(0x70, index);
	out8(0x71, value);
}

static void sleep_until(unsigned event)
{
	events = 0;
	out16(PM_STATUS, 0xffff);
	out16(PM_ENABLE, (uint16_t)event);
	while (!(events & event))
		wait_interrupt();
	check_equal(events & (RTC_EVENT | BUTTON_EVENT), event);
}

void guest_main(void)
{
	pic_init();
	set_handler(IRQ_BASE + SCI_LINE, on_sci);
	out8(0x4d1, 1u << (SCI_LINE - 8)); /* level triggered */
	pic_unmask(SCI_LINE);
	cmos_write(1, 0xff), cmos_write(3, 0xff), cmos_write(5, 0xff); /* every second */
	out8(0x70, 0x0c);
	(void)in8(0x71);
	cmos_write(0x0b, 0x22);
	sleep_until(RTC_EVENT);
	cmos_write(0x0b, 0x02);
	print("woken by the clock\n");
	if (!option("button"))
		return;
	print("waiting for the button\n");
	sleep_until(BUTTON_EVENT);
	if (!failures)
		out16(PM_CONTROL, 5u << 10 | 1u << 13);
}
