/* SPDX-License-Identifier: Apache-2.0 */
/* Fills all memory that is its own with a pattern; "again": resets itself then, so that it begins anew. */
#include "guest.h"

void guest_main(void)
{
	uint32_t *at = (uint32_t *)image_end, *end = (uint32_t *)memory_end;
	uint32_t count = (uint32_t)(end - at);

	__asm__ volatile("rep stosl" : "+D"(at), "+c"(count) : "a"(0x5ec2e75e) : "memory");
	print("filled up to 0x%x\n", memory_end);
	if (option("again"))
		out8(0xcf9, 6);
}
