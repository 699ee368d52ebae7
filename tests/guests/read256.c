/* SPDX-License-Identifier: Apache-2.0 */
/* Reads 256 MiB of memory that nobody has written ("mib=N": so many): all zero, and it costs the host no frame. */
#include "guest.h"

#define FIRST (16 * MIB)

void guest_main(void)
{
	uint32_t mib = option_number("mib=", 256), sum = 0;
	const uint32_t *at = (const uint32_t *)FIRST, *end = at + mib * (MIB / 4);

	if (!check(memory_end >= FIRST + mib * MIB))
		return;
	for (; at < end; at += 8)
		sum |= at[0] | at[1] | at[2] | at[3] | at[4] | at[5] | at[6] | at[7];
	print("read %u MiB, sum %u\n", mib, sum);
	check_equal(sum, 0);
}
