/* SPDX-License-Identifier: Apache-2.0 */
// sources: dev/legacy/a20.c dev/legacy/port92.c dev/legacy/i8042.c dev/legacy/reset_port.c dev/pm.c dev/fw_cfg.c dev/ports.c dev/timer.c
/* The small devices: A20, resets, keyboard controller, ACPI registers, fw_cfg. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/fake_bus.h"
#include "dev/clock.h"
#include "dev/fw_cfg.h"
#include "dev/legacy/i8042.h"
#include "dev/pm.h"
#include "dev/legacy/port92.h"
#include "dev/legacy/reset_port.h"

static struct fake_bus fake;
static struct a20 a20;
static struct port92 *port92;
static struct i8042 *i8042;
static struct reset_port *reset_port;
static struct pm *pm;
static struct fw_cfg *fw_cfg;

static int setup(void **state)
{
	fake_bus_open(&fake);
	a20_init(&a20, &fake.bus);
	return port92_create(&fake.bus, &a20, &port92) != OK || i8042_create(&fake.bus, &a20, &i8042) != OK ||
	       reset_port_create(&fake.bus, &reset_port) != OK || pm_create(&fake.bus, &pm) != OK ||
	       fw_cfg_create(&fake.bus, UINT64_C(0x123456789a), 3, 7, &fw_cfg) != OK;
}

static int teardown(void **state)
{
	fake_bus_close(&fake);
	return 0;
}

static void a20_has_one_state(void **state)
{
	assert_int_equal(in8(&fake, 0x92), 0x02);
	out8(&fake, 0x92, 0);
	assert_int_equal(fake.event, MACHINE_A20);
	assert_int_equal(fake.value, 0);
	out8(&fake, 0x64, 0xd0);
	assert_int_equal(in8(&fake, 0x60) & 3, 1);
	out8(&fake, 0x64, 0xd1), out8(&fake, 0x60, 0xdf);
	assert_int_equal(fake.value, 1);
	assert_int_equal(in8(&fake, 0x92), 0x02);
	out8(&fake, 0x64, 0xdd);
	assert_false(a20.open);
	out8(&fake, 0x64, 0xdf);
	assert_int_equal(fake.events, 4);
	out8(&fake, 0x92, 2); /* no change, no event */
	assert_int_equal(fake.events, 4);
}

static void four_ways_to_reset(void **state)
{
	out8(&fake, 0x92, 3);
	assert_int_equal(fake.event, MACHINE_RESET);
	out8(&fake, 0x92, 3); /* no rising edge */
	assert_int_equal(fake.events, 1);
	out8(&fake, 0x64, 0xfe);
	assert_int_equal(fake.events, 2);
	out8(&fake, 0x64, 0xff); /* pulses nothing */
	assert_int_equal(fake.events, 2);
	out8(&fake, 0x64, 0xd1), out8(&fake, 0x60, 0x02);
	assert_int_equal(fake.events, 3);
	out8(&fake, 0xcf9, 0x02);
	out8(&fake, 0xcf9, 0x06);
	assert_int_equal(fake.events, 4);
	assert_int_equal(in8(&fake, 0xcf9), 0x06);
	reset_port_reset(reset_port);
	port92_reset(port92);
	assert_int_equal(in8(&fake, 0xcf9), 0);
}

static void expect_keyboard(const uint8_t *bytes, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(in8(&fake, 0x64) & 0x21, 1);
		assert_true(fake.level[1]);
		assert_int_equal(in8(&fake, 0x60), bytes[i]);
	}
	assert_int_equal(in8(&fake, 0x64) & 1, 0);
	assert_false(fake.level[1]);
}

static void keyboard_probe(void **state)
{
	static const struct {
		uint8_t command, count, answer[3];
	} steps[] = {
		{ 0xff, 2, { 0xfa, 0xaa } }, { 0xf2, 3, { 0xfa, 0xab, 0x83 } },
		{ 0xed, 1, { 0xfa } },       { 0x02, 1, { 0xfa } },
		{ 0xf3, 1, { 0xfa } },       { 0x00, 1, { 0xfa } },
		{ 0xf4, 1, { 0xfa } },       { 0xf5, 1, { 0xfa } },
		{ 0xee, 1, { 0xee } },       { 0xf0, 1, { 0xfa } },
		{ 0x00, 2, { 0xfa, 0x02 } }, { 0x12, 1, { 0xfe } },
		{ 0xed, 1, { 0xfa } },       { 0xf2, 3, { 0xfa, 0xab, 0x83 } }, /* a command in place of the lamps */
	};

	assert_int_equal(in8(&fake, 0x64), 0x14);
	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		out8(&fake, 0x60, steps[i].command);
		expect_keyboard(steps[i].answer, steps[i].count);
	}
	assert_int_equal(fake.edges[1], 20); /* one for each byte */
	out8(&fake, 0x64, 0xaa);
	assert_int_equal(in8(&fake, 0x64) & 8, 8);
	expect_keyboard((uint8_t[]){ 0x55 }, 1);
	out8(&fake, 0x64, 0xab);
	expect_keyboard((uint8_t[]){ 0x00 }, 1);
	out8(&fake, 0x64, 0xa9); /* no auxiliary port */
	expect_keyboard((uint8_t[]){ 0x01 }, 1);
	out8(&fake, 0x64, 0xd3), out8(&fake, 0x60, 0x5a);
	expect_keyboard((uint8_t[]){ 0x5a }, 1);
	out8(&fake, 0x64, 0x60), out8(&fake, 0x60, 0x44);
	out8(&fake, 0x64, 0x20);
	assert_false(fake.level[1]); /* interrupt off */
	assert_int_equal(in8(&fake, 0x60), 0x44);
}

static void acpi_sleep_and_button(void **state)
{
	assert_int_equal(port_read(&fake.bus, 0x604, 2), 1);
	port_write(&fake.bus, 0x602, 2, 0x0100);
	pm_power_button(pm);
	assert_true(fake.level[9]);
	assert_int_equal(port_read(&fake.bus, 0x600, 4), 0x01000100);
	port_write(&fake.bus, 0x600, 2, 0x0001); /* another bit */
	assert_true(fake.level[9]);
	out8(&fake, 0x601, 0x01);
	assert_false(fake.level[9]);
	pm_alarm(pm); /* told, and no interrupt as long as nobody wants it */
	assert_int_equal(port_read(&fake.bus, 0x600, 2), 0x0400);
	assert_false(fake.level[9]);
	port_write(&fake.bus, 0x602, 2, 0x0400);
	assert_true(fake.level[9]);
	port_write(&fake.bus, 0x600, 2, 0x0400);
	assert_false(fake.level[9]);
	port_write(&fake.bus, 0x604, 2, 3 << 10 | 1 << 13);
	assert_int_equal(fake.events, 0);
	port_write(&fake.bus, 0x604, 2, 5 << 10);
	assert_int_equal(fake.events, 0);
	port_write(&fake.bus, 0x604, 2, 5 << 10 | 1 << 13);
	assert_int_equal(fake.event, MACHINE_POWEROFF);
	assert_int_equal(fake.events, 1);
	assert_int_equal(port_read(&fake.bus, 0x604, 2), 5 << 10 | 1); /* the sleep bit reads 0 */
}

static void acpi_timer(void **state)
{
	uint64_t half = clock_time(UINT64_C(1) << 31, 3579545);

	fake.time = NANOSECONDS;
	assert_int_equal(port_read(&fake.bus, 0x608, 4), 3579545);
	assert_int_equal(port_read(&fake.bus, 0x609, 1), 3579545 >> 8 & 0xff);
	assert_int_equal(port_read(&fake.bus, 0x606, 4), (3579545u & 0xffff) << 16);
	port_write(&fake.bus, 0x602, 2, 1);
	fake_bus_advance(&fake, half - 1 - fake.time);
	assert_false(fake.level[9]);
	fake_bus_advance(&fake, 1);
	assert_true(fake.level[9]);
	port_write(&fake.bus, 0x600, 2, 1);
	assert_false(fake.level[9]);
	fake_bus_advance(&fake, half);
	assert_true(fake.level[9]);
	port_write(&fake.bus, 0x602, 2, 0);
}

static uint64_t fw_read(uint16_t key, unsigned bytes)
{
	uint64_t value = 0;

	port_write(&fake.bus, 0x510, 2, key);
	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)in8(&fake, 0x511) << (8 * i);
	return value;
}

static void fw_cfg_items(void **state)
{
	assert_true(fw_read(0, 8) == 0x554d4551);
	assert_true(fw_read(1, 4) == 1);
	assert_true(fw_read(3, 8) == UINT64_C(0x123456789a));
	assert_true(fw_read(5, 4) == 3);
	assert_true(fw_read(0xf, 2) == 7);
	assert_true(fw_read(0x19, 8) == 0);
	assert_true(fw_read(0x20, 4) == 0);
	assert_true(fw_read(0xffff, 4) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a20_has_one_state, setup, teardown),
		cmocka_unit_test_setup_teardown(four_ways_to_reset, setup, teardown),
		cmocka_unit_test_setup_teardown(keyboard_probe, setup, teardown),
		cmocka_unit_test_setup_teardown(acpi_sleep_and_button, setup, teardown),
		cmocka_unit_test_setup_teardown(acpi_timer, setup, teardown),
		cmocka_unit_test_setup_teardown(fw_cfg_items, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
