/* SPDX-License-Identifier: Apache-2.0 */
/* A hypercall, by the instruction that the processor's vendor has for it. */
#pragma once

#include "guest.h"

static inline uint32_t hypercall(uint32_t number, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	uint32_t result;

	if (cpuid(0, 0).ecx == 0x444d4163) /* "cAMD" */
		__asm__ volatile("vmmcall" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
	else
		__asm__ volatile("vmcall" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
	return result;
}
