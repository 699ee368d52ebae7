/* SPDX-License-Identifier: Apache-2.0 */
/* Triple faults: an exception without a descriptor table ("ud2": by #UD instead of a page fault's stack). */
#include "guest.h"

void guest_main(void)
{
	static const struct {
		uint16_t limit;
		uint32_t base;
	} __attribute__((packed)) nothing = { 0, 0 };

	print("going down\n");
	__asm__ volatile("lidt %0" : : "m"(nothing));
	if (option("ud2"))
		__asm__ volatile("ud2");
	__asm__ volatile("int3");
	print("FAILED: still here\n");
}
