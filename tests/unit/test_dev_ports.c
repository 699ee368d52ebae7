/* SPDX-License-Identifier: Apache-2.0 */
// sources: dev/ports.c dev/timer.c dev/debug_ports.c
/* Port table, timer queue and the two test ports. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/fake_bus.h"
#include "dev/debug_ports.h"

struct echo {
	uint16_t ports[64];
	uint8_t sizes[64];
	uint32_t values[64];
	unsigned count;
};

static uint32_t echo_read(void *device, uint16_t port, unsigned size)
{
	struct echo *echo = device;

	echo->ports[echo->count] = port;
	echo->sizes[echo->count++] = (uint8_t)size;
	return 0x11223300u | (port & 0xff);
}

static void echo_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct echo *echo = device;

	echo->ports[echo->count] = port;
	echo->sizes[echo->count] = (uint8_t)size;
	echo->values[echo->count++] = value;
}

static const struct port_ops narrow = { .widest = 1, .read = echo_read, .write = echo_write };
static const struct port_ops wide = { .read = echo_read, .write = echo_write };

static void ports_split_and_open(void **state)
{
	struct fake_bus fake;
	struct echo echo = { 0 };

	fake_bus_open(&fake);
	assert_int_equal(port_register(&fake.bus, 0x1fe, 4, &narrow, &echo, "narrow"), OK); /* crosses a page */
	assert_int_equal(port_register(&fake.bus, 0x201, 2, &wide, &echo, "taken"), CONFLICT);
	assert_int_equal(port_register(&fake.bus, 0xffff, 2, &wide, &echo, "end"), BAD_VALUE);
	assert_int_equal(port_register(&fake.bus, 0xffff, 1, &wide, &echo, "end"), OK);
	assert_int_equal(port_read(&fake.bus, 0x1fe, 4), 0x0100fffe);
	assert_int_equal(port_read(&fake.bus, 0x200, 4), 0xffff0100);
	assert_int_equal(port_read(&fake.bus, 0x1fd, 2), 0xfeff);
	assert_int_equal(port_read(&fake.bus, 0xffff, 4), 0x112233ff);
	assert_int_equal(port_read(&fake.bus, 0xffff, 2), 0x33ff);
	assert_int_equal(port_read(&fake.bus, 0x1234, 1), 0xff);
	assert_int_equal(port_read(&fake.bus, 0x1234, 2), 0xffff);
	assert_int_equal(port_read(&fake.bus, 0x1234, 4), 0xffffffff);
	echo.count = 0;
	port_write(&fake.bus, 0x200, 4, 0xddccbbaa);
	assert_int_equal(echo.count, 2);
	assert_int_equal(echo.values[0], 0xaa);
	assert_int_equal(echo.values[1], 0xbb);
	fake_bus_close(&fake);
}

struct ticker {
	struct dev_timer timer;
	struct timer_queue *queue;
	unsigned fired, order;
	int64_t step; /* 0: don't arm again */
};

static unsigned sequence;

static void ticker_fire(void *device, uint64_t now)
{
	struct ticker *ticker = device;

	ticker->fired++;
	ticker->order = ++sequence;
	if (ticker->step)
		timer_arm(ticker->queue, &ticker->timer, ticker->timer.deadline + (uint64_t)ticker->step);
}

static void timers_fire_in_order_and_bounded(void **state)
{
	struct timer_queue queue = { 0 };
	struct ticker t[4] = { 0 };

	sequence = 0;
	for (unsigned i = 0; i < 4; i++) {
		t[i].queue = &queue;
		t[i].timer = (struct dev_timer){ .fire = ticker_fire, .device = &t[i] };
	}
	assert_true(timer_next(&queue) == UINT64_MAX);
	timer_arm(&queue, &t[0].timer, 30);
	timer_arm(&queue, &t[1].timer, 10);
	timer_arm(&queue, &t[2].timer, 20);
	timer_arm(&queue, &t[3].timer, 40);
	timer_cancel(&queue, &t[3].timer);
	timer_cancel(&queue, &t[3].timer);
	assert_int_equal(timer_next(&queue), 10);
	timer_arm(&queue, &t[1].timer, 25); /* moved */
	timer_run(&queue, 24);
	assert_int_equal(t[2].order, 1);
	assert_int_equal(t[1].fired, 0);
	timer_run(&queue, 30);
	assert_int_equal(t[1].order, 2);
	assert_int_equal(t[0].order, 3);
	assert_null(queue.first);

	t[0].step = 1;
	timer_arm(&queue, &t[0].timer, 0);
	timer_arm(&queue, &t[1].timer, 1000);
	timer_run(&queue, 1000000);
	assert_int_equal(t[0].fired, 1 + 64);
	assert_int_equal(t[1].fired, 2); /* not held up */
	timer_run(&queue, 1000000);
	assert_int_equal(t[0].fired, 1 + 128);
}

static void test_ports(void **state)
{
	struct fake_bus fake;

	fake_bus_open(&fake);
	assert_int_equal(debug_ports_create(&fake.bus), OK);
	assert_int_equal(in8(&fake, 0xe9), 0xe9);
	out8(&fake, 0xe9, 'x');
	assert_int_equal(fake.debug_length, 1);
	assert_int_equal(fake.debug[0], 'x');
	out8(&fake, 0xf4, 0x12);
	assert_int_equal(fake.event, MACHINE_EXIT_PORT);
	assert_int_equal(fake.value, 0x12);
	port_write(&fake.bus, 0xf4, 2, 0x1234);
	assert_int_equal(fake.value, 0x1234);
	port_write(&fake.bus, 0xf4, 4, 0x12345678);
	assert_int_equal(fake.value, 0x12345678);
	assert_int_equal(fake.events, 3);
	fake_bus_close(&fake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ports_split_and_open),
		cmocka_unit_test(timers_fire_in_order_and_bounded),
		cmocka_unit_test(test_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
