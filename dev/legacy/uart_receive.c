/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 16550A's receiver: the ring of input that waits, the FIFO (or holding register) that the guest reads, and the
 * character timeout. Callers bring the interrupt line up to date afterwards.
 */
#include <linux/serial_reg.h>

#include "dev/legacy/uart_internal.h"

#define CLOCK_HZ 1843200u /* the divisor counts sixteenths: 115200 baud at divisor 1 */
#define BITS_PER_CHARACTER 10u

static unsigned fifo_depth(const struct uart *uart)
{
	return uart->fcr & UART_FCR_ENABLE_FIFO ? UART_FIFO_SIZE : 1;
}

void uart_restart_timeout(struct uart *uart)
{
	uint64_t divisor = uart->divisor ? uart->divisor : 1;
	uint64_t wait = 4 * BITS_PER_CHARACTER * divisor * 16 * UINT64_C(1000000000) / CLOCK_HZ;

	uart->timeout = false;
	if (uart->fcr & UART_FCR_ENABLE_FIFO && uart->fifo_count && uart->ier & UART_IER_RDI)
		timer_arm(&uart->bus->timers, &uart->timer, uart->bus->now(uart->bus->context) + wait);
	else
		timer_cancel(&uart->bus->timers, &uart->timer);
}

static void fifo_push(struct uart *uart, uint8_t byte)
{
	uart->fifo[(uart->fifo_first + uart->fifo_count++) % UART_FIFO_SIZE] = byte;
}

bool uart_refill(struct uart *uart)
{
	bool moved = false;

	if (uart->mcr & UART_MCR_LOOP)
		return false;
	while (uart->ring_count && uart->fifo_count < fifo_depth(uart)) {
		fifo_push(uart, uart->ring[uart->ring_first]);
		uart->ring_first = (uart->ring_first + 1) & (UART_RING_SIZE - 1);
		uart->ring_count--;
		moved = true;
	}
	return moved;
}

uint8_t uart_read_receiver(struct uart *uart)
{
	uint8_t byte = 0;

	if (uart->fifo_count) {
		byte = uart->fifo[uart->fifo_first];
		uart->fifo_first = (uart->fifo_first + 1) % UART_FIFO_SIZE;
		uart->fifo_count--;
	}
	(void)uart_refill(uart);
	uart_restart_timeout(uart);
	return byte;
}

void uart_loop_back(struct uart *uart, uint8_t byte)
{
	if (uart->fifo_count < fifo_depth(uart)) {
		fifo_push(uart, byte);
	} else {
		uart->lsr_errors |= UART_LSR_OE;
		if (fifo_depth(uart) == 1) /* without FIFOs the new character replaces the old one */
			uart->fifo[uart->fifo_first] = byte;
	}
	uart_restart_timeout(uart);
}
