/* SPDX-License-Identifier: Apache-2.0 */
/* Writes one byte in each 2 MiB of memory, and finds it there later, with zeros around it. */
#include "guest.h"

void guest_main(void)
{
	uint32_t first = 16 * MIB, count = 0;

	for (uint32_t at = first; at + BLOCK <= memory_end; at += BLOCK, count++)
		*(volatile uint8_t *)(at + 0x1234) = (uint8_t)(at >> 21);
	for (uint32_t at = first; at + BLOCK <= memory_end; at += BLOCK) {
		check_equal(*(volatile uint8_t *)(at + 0x1234), at >> 21 & 0xff);
		check_equal(*(volatile uint8_t *)(at + 0x1235), 0);
		check_equal(*(volatile uint8_t *)(at + 0x1fffff), 0);
	}
	print("touched %u blocks\n", count);
}
