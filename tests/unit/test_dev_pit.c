/* SPDX-License-Identifier: Apache-2.0 */
// sources: dev/legacy/pit.c dev/legacy/pit_counter.c dev/ports.c dev/tick.c dev/timer.c
/* The 8254's modes and port 0x61, tick by tick as the data sheet draws them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/fake_bus.h"
#include "dev/clock.h"
#include "dev/legacy/pit.h"
#include "dev/legacy/pit_counter.h"

static struct fake_bus fake;
static struct pit *pit;

static int setup(void **state)
{
	fake_bus_open(&fake);
	return pit_create(&fake.bus, &pit) != OK;
}

static int teardown(void **state)
{
	fake_bus_close(&fake);
	return 0;
}

/* OUT for ticks 1..length after a count is written at tick 0, as a string. */
static void expect_wave(unsigned mode, unsigned count, bool trigger, const char *wave)
{
	struct pit_counter counter = { .gate = !trigger };

	pit_counter_control(&counter, (uint8_t)(PIT_LOW << 4 | mode << 1), 0);
	pit_counter_write(&counter, (uint8_t)count, 0);
	if (trigger)
		pit_counter_set_gate(&counter, true, 0);
	for (unsigned i = 0; wave[i]; i++) {
		struct pit_counter copy = counter;
		uint64_t rise = pit_counter_next_rise(&copy, i);
		bool now = pit_counter_output(&counter, i + 1);

		if (now != (wave[i] == '1'))
			fail_msg("mode %u count %u: tick %u is %d, want %c", mode, count, i + 1, now, wave[i]);
		if (i && wave[i] == '1' && wave[i - 1] == '0' && rise != i + 1)
			fail_msg("mode %u: next rise %lu at tick %u", mode, (unsigned long)rise, i + 1);
	}
}

static void waves_of_all_modes(void **state)
{
	expect_wave(0, 4, false, "00001111");
	expect_wave(1, 3, true, "00011111");
	expect_wave(2, 3, false, "110110110");
	expect_wave(3, 4, false, "1100110011");
	expect_wave(3, 5, false, "111001110011");
	expect_wave(4, 3, false, "11101111");
	expect_wave(5, 3, true, "11101111");
	expect_wave(6, 3, false, "110110110"); /* the don't-care bit of modes 2 and 3 */
}

static void counts_halves_and_latches(void **state)
{
	struct pit_counter counter = { .gate = true };

	pit_counter_control(&counter, PIT_LOW_HIGH << 4 | 2 << 1, 0);
	pit_counter_write(&counter, 0x34, 0);
	pit_counter_write(&counter, 0x12, 0);
	assert_int_equal(pit_counter_read(&counter, 1), 0x34);
	assert_int_equal(pit_counter_read(&counter, 1), 0x12);
	pit_counter_latch(&counter, 0x35);  /* 0x34 ticks after the load */
	pit_counter_latch(&counter, 0x100); /* ignored */
	pit_counter_latch_status(&counter, 0x100);
	assert_int_equal(pit_counter_read(&counter, 0x100), 0x80 | 0x30 | 2 << 1);
	assert_int_equal(pit_counter_read(&counter, 0x100), 0x00);
	assert_int_equal(pit_counter_read(&counter, 0x100), 0x12);
	/* a new count waits for the end of the period */
	pit_counter_write(&counter, 2, 0x200);
	pit_counter_write(&counter, 0, 0x200);
	pit_counter_latch_status(&counter, 0x200);
	assert_int_equal(pit_counter_read(&counter, 0x200) & 0x40, 0x40);
	assert_true(pit_counter_next_rise(&counter, 0x200) == 1 + 0x1234);
	assert_true(pit_counter_next_rise(&counter, 1 + 0x1234) == 1 + 0x1234 + 2);

	pit_counter_control(&counter, PIT_LOW_HIGH << 4 | 0 << 1 | 1, 0); /* BCD, 1000 */
	pit_counter_write(&counter, 0x00, 0);
	pit_counter_write(&counter, 0x10, 0);
	assert_int_equal(pit_counter_read(&counter, 2), 0x99);
	assert_int_equal(pit_counter_read(&counter, 2), 0x09);
	assert_int_equal(pit_counter_read(&counter, 1002), 0x99); /* wraps to 9999 */
}

static void mode_3_switches_at_half_period(void **state)
{
	struct pit_counter counter = { .gate = true };

	pit_counter_control(&counter, PIT_LOW << 4 | 3 << 1, 100);
	pit_counter_write(&counter, 10, 100); /* high 101..105, low 106..110 */
	pit_counter_write(&counter, 4, 103);
	assert_true(pit_counter_output(&counter, 105));
	assert_true(pit_counter_next_rise(&counter, 105) == 108);
	assert_false(pit_counter_output(&counter, 106));
	assert_false(pit_counter_output(&counter, 107));
	assert_true(pit_counter_output(&counter, 108));
	assert_true(pit_counter_output(&counter, 109));
	assert_false(pit_counter_output(&counter, 110));
}

static void gate_pauses_mode_0(void **state)
{
	struct pit_counter counter = { .gate = true };

	pit_counter_control(&counter, PIT_LOW << 4, 0);
	pit_counter_write(&counter, 10, 0);
	pit_counter_set_gate(&counter, false, 5); /* 4 counted */
	assert_int_equal(pit_counter_read(&counter, 1000), 6);
	assert_false(pit_counter_output(&counter, 1000));
	pit_counter_set_gate(&counter, true, 1000);
	assert_false(pit_counter_output(&counter, 1005));
	assert_true(pit_counter_output(&counter, 1006));
}

static void interrupts_do_not_drift(void **state)
{
	out8(&fake, 0x43, 0x34);
	out8(&fake, 0x40, 11932 & 0xff);
	out8(&fake, 0x40, 11932 >> 8);
	fake.edges[0] = 0;
	fake_bus_advance(&fake, 1000 * NANOSECONDS);
	assert_int_equal(fake.edges[0], UINT64_C(1193182) * 1000 / 11932);
	out8(&fake, 0x43, 0x34); /* a mode without a count is silent */
	fake_bus_advance(&fake, NANOSECONDS);
	assert_int_equal(fake.edges[0], UINT64_C(1193182) * 1000 / 11932);
}

static void fastest_rate_is_bounded(void **state)
{
	out8(&fake, 0x43, 0x14);
	out8(&fake, 0x40, 1);
	fake_bus_advance(&fake, NANOSECONDS / 100);
	assert_in_range(fake.edges[0], 1, 51);
	assert_true(fake.event == MACHINE_FAST_TIMER && fake.value < 200000 && fake.bus.ticks_owed == 0);
}

static void start_4_ms(void)
{
	out8(&fake, 0x43, 0x34);
	out8(&fake, 0x40, 4773 & 0xff);
	out8(&fake, 0x40, 4773 >> 8);
	(void)fake_bus_take(&fake, 0);
}

/* The machine doesn't run for a while: each edge of it comes, the next one when the guest has taken the one before. */
static void missed_ticks_are_made_up_for(void **state)
{
	start_4_ms();
	fake_bus_stand_still(&fake, 4000300 * 25);
	assert_int_equal(fake_bus_take(&fake, 0), 25);
	assert_int_equal(fake.bus.ticks_made_up, 24);
	fake_bus_advance(&fake, 4000300);
	assert_int_equal(fake_bus_take(&fake, 0), 1);
	/* One that waits when the machine stands still is one of its own. */
	fake_bus_advance(&fake, 4000300);
	fake_bus_stand_still(&fake, 4000300 * 10);
	assert_int_equal(fake_bus_take(&fake, 0), 11);
	assert_false(fake.bus.ticks_owed);
	/* Runs on with interrupts off: lost as on a PC. */
	fake_bus_advance(&fake, 4000300 * 10);
	assert_int_equal(fake_bus_take(&fake, 0), 1);
	assert_true(fake.event != MACHINE_FAST_TIMER && !fake.bus.ticks_lost);
}

static void making_up_is_bounded(void **state)
{
	unsigned taken;

	start_4_ms();
	fake_bus_stand_still(&fake, UINT64_C(4000300) * 2000);
	taken = fake_bus_take(&fake, 0);
	assert_int_equal(taken, 33); /* in a row: the guest must get on */
	assert_int_equal(fake.bus.ticks_lost, 999);
	for (unsigned i = 0; i < 40; i++) {
		fake_bus_advance(&fake, 4000300);
		taken += fake_bus_take(&fake, 0);
	}
	assert_int_equal(taken, 1 + 1000 + 40);
	/* Nobody listens, or the counter is set anew: nothing is owed. */
	fake.deaf = true;
	fake_bus_stand_still(&fake, 4000300 * 10);
	fake.deaf = false;
	fake_bus_advance(&fake, 4000300);
	assert_int_equal(fake_bus_take(&fake, 0), 1);
	fake_bus_stand_still(&fake, 4000300 * 10);
	start_4_ms();
	assert_int_equal(fake_bus_take(&fake, 0), 0);
}

/* A guest for which a tick takes a twentieth of a period: half of its time at most goes for what is owed. */
static void slow_guest_gets_on(void **state)
{
	unsigned taken = 0;

	start_4_ms();
	fake_bus_stand_still(&fake, UINT64_C(4000300) * 200);
	for (unsigned i = 0; i < 19; i++) {
		taken += fake_bus_take_one(&fake, 0);
		fake_bus_advance(&fake, 200000);
	}
	assert_in_range(taken, 10, 12);
	/* If it takes half of one, some come after a gap all the same, so that it sees that there are any. */
	fake_bus_stand_still(&fake, UINT64_C(4000300) * 10);
	for (taken = 0; fake_bus_take_one(&fake, 0); taken++)
		fake.time += 2000000;
	assert_int_equal(taken, 1 + 8);
}

/* Linux: gate off, mode 0 on counter 2, gate on, poll bit 5 of port 0x61. */
static void calibration_by_port_61(void **state)
{
	uint64_t start;

	out8(&fake, 0x61, (in8(&fake, 0x61) & ~2) | 1);
	out8(&fake, 0x43, 0xb0);
	out8(&fake, 0x42, 11931 & 0xff);
	start = fake.time;
	out8(&fake, 0x42, 11931 >> 8);
	while (!(in8(&fake, 0x61) & 0x20))
		fake.time++;
	/* 11931 counts and one to load: 10.0 ms to the tick */
	assert_true(fake.time - start == clock_time(11932, PIT_HZ));
	out8(&fake, 0x61, 0);
	assert_int_equal(in8(&fake, 0x61) & 3, 0);
}

/* While counter 2 counts down to its end, and only then, a clock is being measured by it. */
static void measurement_is_told(void **state)
{
	assert_int_equal(fake.bus.measuring, 0);
	out8(&fake, 0x61, 1);
	out8(&fake, 0x43, 0xb0);
	out8(&fake, 0x42, 11931 & 0xff);
	assert_int_equal(fake.bus.measuring, 0);
	out8(&fake, 0x42, 11931 >> 8);
	assert_true(fake.bus.measuring == clock_time(clock_ticks(fake.time, PIT_HZ) + 11932, PIT_HZ));
	out8(&fake, 0x61, 0);
	assert_int_equal(fake.bus.measuring, 0);
	out8(&fake, 0x61, 1);
	assert_int_not_equal(fake.bus.measuring, 0);
	out8(&fake, 0x43, 0xb6); /* a tone */
	out8(&fake, 0x42, 0);
	out8(&fake, 0x42, 1);
	assert_int_equal(fake.bus.measuring, 0);
}

static void clock_is_exact_both_ways(void **state)
{
	for (uint64_t tick = 0; tick < UINT64_C(1) << 40; tick = tick * 3 + 1) {
		uint64_t time = clock_time(tick, PIT_HZ);

		assert_true(clock_ticks(time, PIT_HZ) == tick);
		assert_true(!time || clock_ticks(time - 1, PIT_HZ) == tick - 1);
	}
	assert_true(clock_time(UINT64_MAX, 1) == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waves_of_all_modes),
		cmocka_unit_test(counts_halves_and_latches),
		cmocka_unit_test(mode_3_switches_at_half_period),
		cmocka_unit_test(gate_pauses_mode_0),
		cmocka_unit_test_setup_teardown(interrupts_do_not_drift, setup, teardown),
		cmocka_unit_test_setup_teardown(fastest_rate_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(missed_ticks_are_made_up_for, setup, teardown),
		cmocka_unit_test_setup_teardown(making_up_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(slow_guest_gets_on, setup, teardown),
		cmocka_unit_test_setup_teardown(calibration_by_port_61, setup, teardown),
		cmocka_unit_test_setup_teardown(measurement_is_told, setup, teardown),
		cmocka_unit_test(clock_is_exact_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
