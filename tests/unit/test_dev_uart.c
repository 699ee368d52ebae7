/* SPDX-License-Identifier: Apache-2.0 */
// sources: dev/legacy/uart.c dev/legacy/uart_receive.c dev/ports.c dev/timer.c
/* The 16550A, as its data sheet and Linux's probe expect it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/serial_reg.h>

#include "common/fake_bus.h"
#include "dev/legacy/uart.h"

#define COM 0x3f8

static struct fake_bus fake;
static struct uart *uart;

static int setup(void **state)
{
	fake_bus_open(&fake);
	return uart_create(&fake.bus, COM, 4, &uart) != OK;
}

static int teardown(void **state)
{
	fake_bus_close(&fake);
	return 0;
}

static uint8_t get(unsigned index)
{
	return in8(&fake, (uint16_t)(COM + index));
}

static void put(unsigned index, uint8_t value)
{
	out8(&fake, (uint16_t)(COM + index), value);
}

static void linux_sees_a_16550a(void **state)
{
	put(UART_IER, 0);
	assert_int_equal(get(UART_IER), 0);
	put(UART_IER, 0x0f);
	assert_int_equal(get(UART_IER), 0x0f);
	put(UART_IER, 0x40); /* no XScale unit-enable bit */
	assert_int_equal(get(UART_IER), 0);
	put(UART_MCR, UART_MCR_LOOP | 0x0a);
	assert_int_equal(get(UART_MSR) & 0xf0, 0x90);
	put(UART_MCR, 0);
	put(UART_FCR, UART_FCR_ENABLE_FIFO);
	assert_int_equal(get(UART_IIR) >> 6, 3);
	put(UART_LCR, 0xbf); /* an EFR would read 0 */
	assert_int_not_equal(get(UART_EFR), 0);
	put(UART_LCR, UART_LCR_DLAB);
	put(UART_FCR, UART_FCR_ENABLE_FIFO | 0x20); /* a 16750 would show bit 5 */
	assert_int_equal(get(UART_IIR) & 0x20, 0);
	put(UART_DLL, 0x34);
	put(UART_DLM, 0x12);
	assert_int_equal(get(UART_DLL), 0x34);
	assert_int_equal(get(UART_DLM), 0x12);
	put(UART_LCR, UART_LCR_WLEN8);
	put(UART_SCR, 0xa5);
	assert_int_equal(get(UART_SCR), 0xa5);
	assert_int_equal(get(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
}

static void transmit_interrupt(void **state)
{
	put(UART_LCR, UART_LCR_WLEN8);
	put(UART_MCR, UART_MCR_OUT2);
	put(UART_IER, UART_IER_THRI);
	assert_true(fake.level[4]);
	assert_int_equal(get(UART_IIR), UART_IIR_THRI);
	assert_false(fake.level[4]); /* reading it took it back */
	assert_int_equal(get(UART_IIR), UART_IIR_NO_INT);
	put(UART_TX, 'A');
	assert_int_equal(fake.console_length, 1);
	assert_int_equal(fake.console[0], 'A');
	assert_true(fake.level[4]);
	put(UART_MCR, 0); /* OUT2 gates the line */
	assert_false(fake.level[4]);
}

static void receive_trigger_and_timeout(void **state)
{
	put(UART_LCR, UART_LCR_WLEN8);
	put(UART_MCR, UART_MCR_OUT2);
	put(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_8);
	put(UART_IER, UART_IER_RDI);
	assert_int_equal(uart_input(uart, (const uint8_t *)"abc", 3), 3);
	assert_false(fake.level[4]);
	assert_int_equal(get(UART_LSR) & UART_LSR_DR, UART_LSR_DR);
	fake_bus_advance(&fake, 347221); /* 4 characters of 10 bits at 115200 baud: 347222 ns */
	assert_false(fake.level[4]);
	fake_bus_advance(&fake, 2);
	assert_true(fake.level[4]);
	assert_int_equal(get(UART_IIR) & 0x0f, UART_IIR_RX_TIMEOUT);
	assert_int_equal(get(UART_RX), 'a');
	assert_false(fake.level[4]);
	assert_int_equal(uart_input(uart, (const uint8_t *)"defghi", 6), 6);
	assert_int_equal(get(UART_IIR) & 0x0f, UART_IIR_RDI);
	for (char c = 'b'; c <= 'i'; c++)
		assert_int_equal(get(UART_RX), c);
	assert_int_equal(get(UART_LSR) & UART_LSR_DR, 0);
	assert_int_equal(get(UART_RX), 0);
}

static void paste_is_never_lost(void **state)
{
	uint8_t bytes[2000];
	size_t taken;

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7);
	put(UART_FCR, UART_FCR_ENABLE_FIFO);
	taken = uart_input(uart, bytes, sizeof(bytes));
	assert_in_range(taken, 256, sizeof(bytes) - 1);
	for (size_t i = 0; i < taken; i++) {
		assert_int_equal(get(UART_LSR), UART_LSR_DR | UART_LSR_THRE | UART_LSR_TEMT);
		assert_int_equal(get(UART_RX), bytes[i]);
	}
	assert_int_equal(get(UART_LSR) & UART_LSR_DR, 0);
}

static void loopback_modem_and_overrun(void **state)
{
	put(UART_LCR, UART_LCR_WLEN8);
	assert_int_equal(get(UART_MSR), UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
	put(UART_IER, UART_IER_MSI | UART_IER_RLSI);
	put(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT1);
	assert_int_equal(get(UART_IIR), UART_IIR_MSI);
	assert_int_equal(get(UART_MSR), UART_MSR_RI | UART_MSR_DCTS | UART_MSR_DDSR | UART_MSR_DDCD);
	put(UART_MCR, UART_MCR_LOOP);
	assert_int_equal(get(UART_MSR), UART_MSR_TERI);
	assert_int_equal(uart_input(uart, (const uint8_t *)"z", 1), 1); /* from outside: waits until loopback ends */
	assert_int_equal(get(UART_LSR) & UART_LSR_DR, 0);
	put(UART_TX, 1);
	put(UART_TX, 2);
	assert_int_equal(fake.console_length, 0);
	assert_int_equal(get(UART_IIR), UART_IIR_RLSI);
	assert_int_equal(get(UART_LSR) & (UART_LSR_OE | UART_LSR_DR), UART_LSR_OE | UART_LSR_DR);
	assert_int_equal(get(UART_LSR) & UART_LSR_OE, 0);
	assert_int_equal(get(UART_RX), 2);
	put(UART_LCR, UART_LCR_WLEN5);
	put(UART_TX, 0xff);
	assert_int_equal(get(UART_RX), 0x1f);
	put(UART_MCR, 0);
	assert_int_equal(get(UART_RX), 'z');
	(void)get(UART_MSR);
	assert_false(fake.level[4]);
}

static void reset_is_power_on(void **state)
{
	put(UART_MCR, UART_MCR_OUT2);
	put(UART_IER, 0x0f);
	assert_true(fake.level[4]);
	uart_reset(uart);
	assert_false(fake.level[4]);
	assert_int_equal(get(UART_IER), 0);
	assert_int_equal(get(UART_IIR), UART_IIR_NO_INT);
	assert_int_equal(get(UART_MCR), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(linux_sees_a_16550a, setup, teardown),
		cmocka_unit_test_setup_teardown(transmit_interrupt, setup, teardown),
		cmocka_unit_test_setup_teardown(receive_trigger_and_timeout, setup, teardown),
		cmocka_unit_test_setup_teardown(paste_is_never_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(loopback_modem_and_overrun, setup, teardown),
		cmocka_unit_test_setup_teardown(reset_is_power_on, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
