/* SPDX-License-Identifier: Apache-2.0 */
// sources: dev/legacy/pic.c dev/legacy/pic_chip.c dev/ports.c dev/timer.c
/* The pair of 8259As, by its data sheet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/fake_bus.h"
#include "dev/legacy/pic.h"

static struct fake_bus fake;
static struct pic *pic;
static bool intr;

static void output(void *context, bool level)
{
	intr = level;
}

static void initialise(uint8_t icw4)
{
	out8(&fake, 0x20, 0x11), out8(&fake, 0x21, 0x20), out8(&fake, 0x21, 0x04), out8(&fake, 0x21, icw4);
	out8(&fake, 0xa0, 0x11), out8(&fake, 0xa1, 0x28), out8(&fake, 0xa1, 0x02), out8(&fake, 0xa1, icw4);
}

static int setup(void **state)
{
	intr = false;
	fake_bus_open(&fake);
	if (pic_create(&fake.bus, output, NULL, &pic) != OK)
		return 1;
	initialise(1);
	return 0;
}

static int teardown(void **state)
{
	fake_bus_close(&fake);
	return 0;
}

static void pulse(unsigned line)
{
	pic_set_line(pic, line, true);
	pic_set_line(pic, line, false);
}

static void priorities_and_eoi(void **state)
{
	assert_false(intr);
	pulse(4);
	pulse(3);
	assert_true(intr && pic_pending(pic));
	assert_int_equal(pic_acknowledge(pic), 0x23);
	assert_false(intr); /* 4 waits behind 3 */
	pulse(1);
	assert_true(intr);
	assert_int_equal(pic_acknowledge(pic), 0x21);
	out8(&fake, 0x20, 0x0b);
	assert_int_equal(in8(&fake, 0x20), 0x0a);
	out8(&fake, 0x20, 0x0a);
	assert_int_equal(in8(&fake, 0x20), 0x10);
	out8(&fake, 0x20, 0x20);
	out8(&fake, 0x20, 0x63); /* specific */
	assert_int_equal(pic_acknowledge(pic), 0x24);
	out8(&fake, 0x20, 0x20);
	assert_false(intr);
}

static void slave_masks_and_spurious(void **state)
{
	pulse(12);
	assert_int_equal(pic_acknowledge(pic), 0x2c);
	pulse(8); /* held back by the master's in-service bit 2 */
	assert_false(intr);
	out8(&fake, 0xa0, 0x20);
	out8(&fake, 0x20, 0x20);
	assert_true(intr);
	out8(&fake, 0xa1, 0xff); /* masked before the acknowledge: spurious */
	assert_false(intr);
	assert_int_equal(pic_acknowledge(pic), 0x27);
	out8(&fake, 0x20, 0x0b);
	assert_int_equal(in8(&fake, 0x20), 0); /* sets no in-service bit */
	out8(&fake, 0xa1, 0x00);
	assert_int_equal(pic_acknowledge(pic), 0x28);
	assert_int_equal(in8(&fake, 0xa1), 0);
	pic_set_line(pic, 2, true); /* no such wire */
	pic_set_line(pic, 16, true);
	assert_false(intr);
}

static void level_inputs_come_again(void **state)
{
	out8(&fake, 0x4d1, 0xff);
	assert_int_equal(in8(&fake, 0x4d1), 0xde);
	out8(&fake, 0x4d0, 0xff);
	assert_int_equal(in8(&fake, 0x4d0), 0xf8);
	pic_set_line(pic, 9, true);
	assert_int_equal(pic_acknowledge(pic), 0x29);
	out8(&fake, 0xa0, 0x20), out8(&fake, 0x20, 0x20);
	assert_true(intr);
	pic_set_line(pic, 9, false);
	assert_false(intr);
	assert_int_equal(pic_acknowledge(pic), 0x27);
}

static void rotation(void **state)
{
	pulse(0), pulse(1);
	assert_int_equal(pic_acknowledge(pic), 0x20);
	out8(&fake, 0x20, 0xa0); /* rotate on EOI: 0 is lowest now */
	pulse(0);
	assert_int_equal(pic_acknowledge(pic), 0x21);
	out8(&fake, 0x20, 0x20);
	assert_int_equal(pic_acknowledge(pic), 0x20);
	out8(&fake, 0x20, 0x20);
	out8(&fake, 0x20, 0xc4); /* 4 lowest, 5 highest */
	pulse(4), pulse(5);
	assert_int_equal(pic_acknowledge(pic), 0x25);
	out8(&fake, 0x20, 0xe5); /* rotate on specific EOI */
	pulse(5), pulse(6);
	assert_int_equal(pic_acknowledge(pic), 0x26);
}

static void special_mask_poll_and_automatic_eoi(void **state)
{
	pulse(1);
	assert_int_equal(pic_acknowledge(pic), 0x21);
	out8(&fake, 0x21, 0x02);
	pulse(6);
	assert_false(intr);
	out8(&fake, 0x20, 0x68);
	assert_true(intr);
	out8(&fake, 0x20, 0x0c);
	assert_int_equal(in8(&fake, 0x20), 0x86);
	assert_false(intr);
	out8(&fake, 0x20, 0x0c);
	assert_int_equal(in8(&fake, 0x20), 0);
	initialise(3);
	pulse(5);
	assert_int_equal(pic_acknowledge(pic), 0x25);
	out8(&fake, 0x20, 0x0b);
	assert_int_equal(in8(&fake, 0x20), 0);
}

static void special_fully_nested(void **state)
{
	out8(&fake, 0x20, 0x11), out8(&fake, 0x21, 0x20), out8(&fake, 0x21, 0x04), out8(&fake, 0x21, 0x11);
	pulse(12);
	assert_int_equal(pic_acknowledge(pic), 0x2c);
	pulse(8);
	assert_true(intr);
	assert_int_equal(pic_acknowledge(pic), 0x28);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(priorities_and_eoi, setup, teardown),
		cmocka_unit_test_setup_teardown(slave_masks_and_spurious, setup, teardown),
		cmocka_unit_test_setup_teardown(level_inputs_come_again, setup, teardown),
		cmocka_unit_test_setup_teardown(rotation, setup, teardown),
		cmocka_unit_test_setup_teardown(special_mask_poll_and_automatic_eoi, setup, teardown),
		cmocka_unit_test_setup_teardown(special_fully_nested, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
