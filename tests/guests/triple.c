/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Triple faults: an exception without a descriptor table ("ud2": by #UD instead of a page fault's stack). "stack": one with its
 * stack in a device, which on this machine is the end, too.
 */
#include "guest.h"

void guest_main(void)
{
	static const struct {
		uint16_t limit;
		uint32_t base;
	} __attribute__((packed)) nothing = { 0, 0 };

	print("going down\n");
	if (option("stack")) /* the exception's frame would go into the IOAPIC */
		__asm__ volatile("mov $0xfec00800, %esp; ud2");
	__asm__ volatile("lidt %0" : : "m"(nothing));
	if (option("ud2"))
		__asm__ volatile("ud2");
	__asm__ volatile("int3");
	print("FAILED: still here\n");
}
