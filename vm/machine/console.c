/* SPDX-License-Identifier: Apache-2.0 */
/* The console ring: see the header. The writer never waits for the reader. */
#include "vm/machine/console.h"

#include "lib/bits.h"

_Static_assert((CONSOLE_RING & (CONSOLE_RING - 1)) == 0, "free-running indices need a power of two");

void console_ring_write(struct console_ring *ring, const uint8_t *bytes, size_t length)
{
	uint32_t head = ring->head;

	for (size_t i = 0; i < length; i++) {
		if (head - __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) == CONSOLE_RING) {
			ring->lost += length - i;
			break;
		}
		ring->bytes[head++ & (CONSOLE_RING - 1)] = bytes[i];
	}
	__atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
}

size_t console_ring_read(struct console_ring *ring, uint8_t *bytes, size_t size)
{
	uint32_t tail = ring->tail;
	uint32_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
	size_t count = 0;

	while (tail != head && count < size)
		bytes[count++] = ring->bytes[tail++ & (CONSOLE_RING - 1)];
	__atomic_store_n(&ring->tail, tail, __ATOMIC_RELEASE);
	return count;
}
