/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processor's instructions as C functions, one each. Only kernel code includes this.
 * By the name of its guard a test keeps this out and puts a processor of its own in place.
 */
#ifndef ARCH_CPU_H
#define ARCH_CPU_H

#include "arch/x86_64/registers.h"

struct cpuid_result {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid_result cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_result r;

	__asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
	return r;
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (uint64_t)high << 32 | low;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

#define CONTROL_REGISTER(name)                                                                                         \
	static inline uint64_t read_##name(void)                                                                       \
	{                                                                                                              \
		uint64_t v;                                                                                            \
		__asm__ volatile("mov %%" #name ", %0" : "=r"(v));                                                     \
		return v;                                                                                              \
	}                                                                                                              \
	static inline void write_##name(uint64_t v)                                                                    \
	{                                                                                                              \
		__asm__ volatile("mov %0, %%" #name : : "r"(v) : "memory");                                            \
	}
CONTROL_REGISTER(cr0)
CONTROL_REGISTER(cr2)
CONTROL_REGISTER(cr3)
CONTROL_REGISTER(cr4)

#define PORT_ACCESS(bits, suffix)                                                                                      \
	static inline uint##bits##_t in##bits(uint16_t port)                                                           \
	{                                                                                                              \
		uint##bits##_t v;                                                                                      \
		__asm__ volatile("in" suffix " %1, %0" : "=a"(v) : "Nd"(port));                                        \
		return v;                                                                                              \
	}                                                                                                              \
	static inline void out##bits(uint16_t port, uint##bits##_t v)                                                  \
	{                                                                                                              \
		__asm__ volatile("out" suffix " %0, %1" : : "a"(v), "Nd"(port));                                       \
	}
PORT_ACCESS(8, "b")
PORT_ACCESS(16, "w")
PORT_ACCESS(32, "l")

static inline void interrupts_off(void)
{
	__asm__ volatile("cli" : : : "memory");
}
/* Lets pending interrupts in, here and nowhere else. */
static inline void interrupts_window(void)
{
	__asm__ volatile("sti; nop; nop; cli" : : : "memory");
}
/* Sleeps until an interrupt has been taken; none can slip in between. */
static inline void interrupts_wait(void)
{
	__asm__ volatile("sti; hlt; cli" : : : "memory");
}

static inline void invlpg(uint64_t where)
{
	__asm__ volatile("invlpg (%0)" : : "r"(where) : "memory");
}
static inline void xsetbv(uint32_t index, uint64_t v)
{
	__asm__ volatile("xsetbv" : : "c"(index), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)));
}
static inline uint64_t xgetbv(uint32_t index)
{
	uint32_t low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(index));
	return (uint64_t)high << 32 | low;
}
/* Where CR4.PKE is off in the host (host_use_protection_keys()), it is on for this one instruction. */
static inline uint32_t rdpkru(void)
{
	uint64_t cr4 = read_cr4();
	uint32_t value;

	if (likely(cr4 & CR4_PKE))
		__asm__ volatile("rdpkru" : "=a"(value) : "c"(0) : "edx", "memory");
	else
		__asm__ volatile("mov %3, %%cr4; rdpkru; mov %2, %%cr4"
				 : "=&a"(value)
				 : "c"(0), "r"(cr4), "r"(cr4 | CR4_PKE)
				 : "edx", "memory");
	return value;
}

#endif
