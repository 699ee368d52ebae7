/* SPDX-License-Identifier: Apache-2.0 */
// sources: dev/legacy/rtc.c dev/legacy/rtc_cmos.c dev/legacy/rtc_time.c dev/ports.c dev/tick.c dev/timer.c
/* The MC146818: calendar, number forms, update cycle, interrupts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>

#include "common/fake_bus.h"
#include "dev/clock.h"
#include "dev/legacy/rtc.h"
#include "dev/legacy/rtc_time.h"

#define BASE UINT64_C(1709210096) /* Thursday 2024-02-29 12:34:56 */

static struct fake_bus fake;
static struct rtc *rtc;

static int setup(void **state)
{
	fake_bus_open(&fake);
	fake.time = 5 * NANOSECONDS;
	return rtc_create(&fake.bus, BASE, UINT64_C(3) << 30, UINT64_C(5) << 30, &rtc) != OK;
}

static int teardown(void **state)
{
	fake_bus_close(&fake);
	return 0;
}

static uint8_t get(uint8_t index)
{
	out8(&fake, 0x70, index);
	return in8(&fake, 0x71);
}

static void put(uint8_t index, uint8_t value)
{
	out8(&fake, 0x70, index);
	out8(&fake, 0x71, value);
}

static void calendar_agrees_with_libc(void **state)
{
	for (uint64_t seconds = 0; seconds < UINT64_C(200000000000); seconds += 86399 * 997) {
		struct rtc_time mine = rtc_time_split(seconds);
		time_t value = (time_t)seconds;
		struct tm his;

		gmtime_r(&value, &his);
		assert_int_equal(mine.year, his.tm_year + 1900);
		assert_int_equal(mine.month, his.tm_mon + 1);
		assert_int_equal(mine.day, his.tm_mday);
		assert_int_equal(mine.hour * 3600 + mine.minute * 60 + mine.second,
				 his.tm_hour * 3600 + his.tm_min * 60 + his.tm_sec);
		assert_int_equal(mine.weekday, his.tm_wday + 1);
		assert_true(rtc_time_join(mine) == seconds);
	}
}

static void expect_time(const uint8_t expected[8])
{
	static const uint8_t order[8] = { 0x32, 9, 8, 7, 6, 4, 2, 0 };

	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(get(order[i]), expected[i]);
}

static void forms_of_the_time(void **state)
{
	expect_time((uint8_t[]){ 0x20, 0x24, 0x02, 0x29, 5, 0x12, 0x34, 0x56 });
	put(0x0b, 0x06);
	expect_time((uint8_t[]){ 20, 24, 2, 29, 5, 12, 34, 56 });
	put(0x0b, 0x00);
	assert_int_equal(get(4), 0x92); /* 12 PM */
	fake_bus_advance(&fake, 12 * 3600 * NANOSECONDS);
	assert_int_equal(get(4), 0x12); /* 12 AM */
	put(0x0b, 0x02);
	expect_time((uint8_t[]){ 0x20, 0x24, 0x03, 0x01, 6, 0x00, 0x34, 0x56 });
	assert_int_equal(get(0x0d), 0x80);
}

static void setting_the_time(void **state)
{
	put(0x0b, 0x82);
	fake_bus_advance(&fake, 10 * NANOSECONDS);
	assert_int_equal(get(0), 0x56); /* stopped */
	put(7, 0x31), put(8, 0x12), put(9, 0x99), put(0x32, 0x19), put(4, 0x23), put(2, 0x59), put(0, 0x58);
	put(0x0b, 0x02);
	expect_time((uint8_t[]){ 0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x58 });
	fake_bus_advance(&fake, 2 * NANOSECONDS);
	expect_time((uint8_t[]){ 0x20, 0x00, 0x01, 0x01, 7, 0x00, 0x00, 0x00 });
	put(0x0a, 0x70); /* divider in reset */
	fake_bus_advance(&fake, 3 * NANOSECONDS);
	put(0x0a, 0x26);
	fake_bus_advance(&fake, NANOSECONDS / 2 - 1);
	assert_int_equal(get(0), 0);
	fake_bus_advance(&fake, 1);
	assert_int_equal(get(0), 1);
	put(8, 0xff), put(7, 0xff), put(4, 0xff); /* nonsense is clamped */
	assert_int_equal(get(8), 0x12);
}

/* To the nanosecond; while the guest has stopped it, the whole second that it shows. */
static void wall_clock(void **state)
{
	assert_true(rtc_wall_clock(rtc) == BASE * NANOSECONDS);
	fake_bus_advance(&fake, 3 * NANOSECONDS + 7);
	assert_true(rtc_wall_clock(rtc) == (BASE + 3) * NANOSECONDS + 7);
	put(0x0b, 0x82);
	fake_bus_advance(&fake, NANOSECONDS);
	assert_true(rtc_wall_clock(rtc) == (BASE + 3) * NANOSECONDS);
	put(0x0b, 0x02);
	fake_bus_advance(&fake, 9);
	assert_true(rtc_wall_clock(rtc) % NANOSECONDS != 0);
}

static void update_in_progress(void **state)
{
	assert_int_equal(get(0x0a), 0x26);
	fake_bus_advance(&fake, NANOSECONDS - 244001);
	assert_int_equal(get(0x0a), 0x26);
	fake_bus_advance(&fake, 1);
	assert_int_equal(get(0x0a), 0xa6);
	assert_int_equal(get(0), 0x56);
	fake_bus_advance(&fake, 244000);
	assert_int_equal(get(0x0a), 0x26);
	assert_int_equal(get(0), 0x57);
}

static void periodic_interrupt(void **state)
{
	put(0x0b, 0x42);
	assert_int_equal(get(0x0c) & 0x80, 0);
	fake.edges[8] = 0;
	for (unsigned i = 0; i < 1024; i++) {
		fake_bus_advance(&fake, 976563);
		assert_true(fake.level[8]);
		assert_int_equal(get(0x0c) & 0xc0, 0xc0);
		assert_false(fake.level[8]);
	}
	fake_bus_advance(&fake, NANOSECONDS); /* nobody reads C: one edge only */
	assert_int_equal(fake.edges[8], 1025);
	rtc_reset(rtc);
	assert_false(fake.level[8]);
	fake_bus_advance(&fake, NANOSECONDS);
	assert_int_equal(fake.edges[8], 1025);
	assert_int_equal(get(0x0c) & 0xf0, 0x50); /* flags without interrupt */
}

/* The machine doesn't run: each period comes, the next one when register C has been read. */
static void missed_ticks_are_made_up_for(void **state)
{
	unsigned seen = 0;

	put(0x0a, 0x2a); /* 64 Hz */
	put(0x0b, 0x42);
	(void)get(0x0c);
	fake.edges[8] = 0;
	fake_bus_stand_still(&fake, NANOSECONDS / 64 * 20 + 1000);
	while (fake.level[8]) {
		fake.waiting[8] = false;
		assert_int_equal(get(0x0c) & 0xc0, 0xc0);
		seen++;
	}
	assert_in_range(seen, 20, 21);
	assert_int_equal(fake.edges[8], seen);
	/* Masked at the controllers, or polled: one flag. */
	fake.deaf = true;
	fake_bus_stand_still(&fake, NANOSECONDS / 64 * 20);
	assert_int_equal(get(0x0c) & 0x40, 0x40);
	(void)get(0x0c);
	assert_int_equal(get(0x0c) & 0x40, 0);
}

static void update_and_alarm_interrupts(void **state)
{
	put(0x0b, 0x12);
	fake_bus_advance(&fake, NANOSECONDS - 1);
	assert_false(fake.level[8]);
	fake_bus_advance(&fake, 1);
	assert_int_equal(get(0x0c) & 0xb0, 0x90);
	put(1, 0x05), put(3, 0x35), put(5, 0x12);
	assert_int_equal(fake.events, 0);
	put(0x0b, 0x22);
	fake_bus_advance(&fake, 8 * NANOSECONDS - 1); /* from 12:34:57 to 12:35:05 */
	assert_false(fake.level[8]);
	fake_bus_advance(&fake, 1);
	assert_int_equal(get(0x0c) & 0xa0, 0xa0);
	assert_true(fake.events == 1 && fake.event == MACHINE_ALARM);
	assert_int_equal(get(1), 0x05);
	fake_bus_advance(&fake, 86400 * NANOSECONDS - 1);
	assert_false(fake.level[8]);
	fake_bus_advance(&fake, 1);
	assert_true(fake.level[8]);
	get(0x0c);
	put(5, 0xff), put(3, 0xc0); /* once a minute */
	fake_bus_advance(&fake, 59 * NANOSECONDS);
	assert_false(fake.level[8]);
	fake_bus_advance(&fake, NANOSECONDS);
	assert_true(fake.level[8]);
	get(0x0c);
	put(1, 0x7f); /* never */
	assert_null(fake.bus.timers.first);
}

static void memory_sizes_and_shutdown_byte(void **state)
{
	assert_int_equal(get(0x15) | get(0x16) << 8, 640);
	assert_int_equal(get(0x17) | get(0x18) << 8, 0xffff);
	assert_int_equal(get(0x30) | get(0x31) << 8, 0xffff);
	assert_int_equal(get(0x34) | get(0x35) << 8, (3072 - 16) * 16);
	assert_int_equal(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, 5 << 14);
	put(0x0f, 0x0a);
	put(0x7f, 0x99);
	rtc_reset(rtc);
	assert_int_equal(get(0x0f), 0x0a);
	assert_int_equal(get(0xff), 0x99); /* the NMI bit is no part of the index */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calendar_agrees_with_libc),
		cmocka_unit_test_setup_teardown(forms_of_the_time, setup, teardown),
		cmocka_unit_test_setup_teardown(setting_the_time, setup, teardown),
		cmocka_unit_test_setup_teardown(wall_clock, setup, teardown),
		cmocka_unit_test_setup_teardown(update_in_progress, setup, teardown),
		cmocka_unit_test_setup_teardown(periodic_interrupt, setup, teardown),
		cmocka_unit_test_setup_teardown(missed_ticks_are_made_up_for, setup, teardown),
		cmocka_unit_test_setup_teardown(update_and_alarm_interrupts, setup, teardown),
		cmocka_unit_test_setup_teardown(memory_sizes_and_shutdown_byte, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
