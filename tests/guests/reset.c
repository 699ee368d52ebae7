/* SPDX-License-Identifier: Apache-2.0 */
/* The ways to reset a PC: "cf9", "i8042", "port92". */
#include "guest.h"

void guest_main(void)
{
	print("resetting\n");
	if (option("cf9")) {
		out8(0xcf9, 2);
		out8(0xcf9, 6);
	} else if (option("i8042")) {
		out8(0x64, 0xfe);
	} else {
		out8(0x92, (uint8_t)(in8(0x92) & ~1));
		out8(0x92, (uint8_t)(in8(0x92) | 1));
	}
	print("FAILED: still here\n");
	failures++;
}
