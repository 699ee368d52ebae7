/* SPDX-License-Identifier: Apache-2.0 */
/* Code that changes itself: a byte under the next call, a page that alternates between data and code. */
#include "guest.h"

static uint8_t code[2 * PAGE] __attribute__((aligned(4096)));

static uint32_t run(uint8_t *where, uint32_t value)
{
	where[0] = 0xb8;
	memcpy(where + 1, &value, 4);
	where[5] = 0xc3;
	return ((uint32_t(*)(void))where)();
}

/* The instruction behind the store is the one stored to. */
static uint32_t patch_ahead(void)
{
	uint32_t result;

	__asm__ volatile("movl $1f+1, %%ecx\n"
			 "movl $0x77, (%%ecx)\n"
			 "jmp 1f\n"
			 "1: movl $0x11, %0\n"
			 "movl $0x11, (%%ecx)"
			 : "=a"(result)
			 :
			 : "ecx", "memory");
	return result;
}

void guest_main(void)
{
	for (uint32_t i = 0; i < 1000; i++) {
		check_equal(run(code, i), i);
		check_equal(run(code + PAGE - 3, ~i), ~i);
		if (i % 100 == 0)
			cpuid(0, 0);
	}
	for (unsigned i = 0; i < 100; i++)
		check_equal(patch_ahead(), 0x77);
}
