/* SPDX-License-Identifier: Apache-2.0 */
/* The least a guest can do: a line on COM1, a line on port 0xe9, an end with a value ("value=N" on the command line). */
#include "guest.h"

void guest_main(void)
{
	print("hello from a guest, command line: %s\n", command_line);
	for (const char *text = "hello by port 0xe9\n"; *text; text++)
		out8(0xe9, (uint8_t)*text);
	guest_exit(option_number("value=", EXIT_GOOD));
}
