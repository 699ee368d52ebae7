/* SPDX-License-Identifier: Apache-2.0 */
/* 16550A serial port. */
#pragma once

#include "dev/bus.h"

#define UART_COM1_BASE 0x3f8
#define UART_COM1_LINE 4

struct uart;

/* Eight ports from base, interrupt line 0..23. NO_MEMORY, CONFLICT. The bus must be filled in. */
enum status uart_create(struct bus *bus, uint16_t base, unsigned line, struct uart **out) must_check;
/* As after power-on; input that is still waiting is kept. */
void uart_reset(struct uart *uart);
/* Bytes for the guest; returns how many were taken, the rest is to be offered again later. Under the device lock. */
size_t uart_input(struct uart *uart, const uint8_t *bytes, size_t length);
