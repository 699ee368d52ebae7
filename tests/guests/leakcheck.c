/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds what an earlier machine left: writes a word into each page, so that it gets a frame, and looks at the rest of the page.
 * All memory outside the image and below the loader's area must be zero.
 */
#include "guest.h"

static unsigned leaks;

static void check_page(uint32_t page)
{
	uint32_t *at = (uint32_t *)page + 1, left = PAGE / 4 - 1;
	bool same;

	*(volatile uint32_t *)page = 1;
	__asm__ volatile("repe scasl; sete %2" : "+D"(at), "+c"(left), "=q"(same) : "a"(0) : "cc", "memory");
	if (same)
		return;
	if (!leaks)
		print("LEAK at 0x%x: 0x%x\n", (uint32_t)(at - 1), at[-1]);
	leaks++;
}

void guest_main(void)
{
	for (uint32_t page = (uint32_t)image_end; page + PAGE <= memory_end; page += PAGE)
		check_page(page);
	for (uint32_t page = 0x30000; page < 0x90000; page += PAGE)
		check_page(page);
	print("%u pages leak\n", leaks);
	check_equal(leaks, 0);
}
