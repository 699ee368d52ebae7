/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's console output on its way to the monitor: a ring with one writer at a time (under the
 * machine's lock) and one reader (the boot CPU). When it is full what comes is dropped and counted.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define CONSOLE_RING 32768u

struct console_ring {
	uint32_t head, tail; /* atomic; free-running; head is written to */
	uint64_t lost;
	uint8_t bytes[CONSOLE_RING];
};

void console_ring_write(struct console_ring *ring, const uint8_t *bytes, size_t length);
size_t console_ring_read(struct console_ring *ring, uint8_t *bytes, size_t size);
