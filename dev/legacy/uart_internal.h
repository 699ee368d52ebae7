/* SPDX-License-Identifier: Apache-2.0 */
/* What the two files of the UART share: uart.c its registers, uart_receive.c its receiver. */
#pragma once

#include "dev/legacy/uart.h"

#define UART_FIFO_SIZE 16u
#define UART_RING_SIZE 1024u

_Static_assert(!(UART_RING_SIZE & (UART_RING_SIZE - 1)), "the ring's indices wrap by masking");

struct uart {
	struct bus *bus;
	uint16_t base;
	uint8_t line;
	bool level; /* what the interrupt line was last set to */
	uint8_t ier, fcr, lcr, mcr, lsr_errors, msr, scratch;
	uint16_t divisor;
	bool transmit_event; /* THRE interrupt is due */
	bool timeout;        /* characters have waited for four character times */
	uint8_t fifo[UART_FIFO_SIZE], fifo_first, fifo_count;
	uint32_t ring_first, ring_count;
	uint8_t ring[UART_RING_SIZE];
	struct dev_timer timer;
};

/* Restarts the character timeout: four character times after the last movement of a FIFO that isn't empty. */
void uart_restart_timeout(struct uart *uart);
/* Moves waiting input into the receiver as far as there is room; true if anything moved. */
bool uart_refill(struct uart *uart);
uint8_t uart_read_receiver(struct uart *uart);
/* A sent character comes back: the only way to overrun the receiver. */
void uart_loop_back(struct uart *uart, uint8_t byte);
