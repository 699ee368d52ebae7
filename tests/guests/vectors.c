/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole extended state, filled with a pattern of this guest's own, must stay through everything that other guests on
 * the same processor do meanwhile. "pattern=N rounds=N": a round is a stretch of waiting and one comparison. The
 * state is also kept in the compacted form and taken back from there, as kernels do.
 */
#include "guest.h"

#define LEAF1_XSAVE 26
#define SUBLEAF1_XSAVEC 1
#define CR4_OSXSAVE (1u << 18)
#define LEGACY 512u
#define MXCSR_AT 24u
#define HEADER_SIZE 64u

static uint8_t wanted[4096] __attribute__((aligned(64)));
static uint8_t found[4096] __attribute__((aligned(64)));
static uint8_t compact[4096] __attribute__((aligned(64)));
static uint32_t states;

static void enable_all_states(void)
{
	states = cpuid(0xd, 0).eax;

	WRITE_CR(0, READ_CR(0) & ~0xcu);
	WRITE_CR(4, READ_CR(4) | 0x600 | CR4_OSXSAVE);
	__asm__ volatile("xsetbv" : : "a"(states), "d"(0), "c"(0));
}

static void save(uint8_t *area)
{
	__asm__ volatile("xsave (%0)" : : "r"(area), "a"(states), "d"(0) : "memory");
}

static void restore(const uint8_t *area)
{
	__asm__ volatile("xrstor (%0)" : : "r"(area), "a"(states), "d"(0) : "memory");
}

static void save_compact(uint8_t *area)
{
	__asm__ volatile("xsavec (%0)" : : "r"(area), "a"(states), "d"(0) : "memory");
}

static void fill(uint8_t pattern)
{
	static const uint32_t mxcsr = 0x1f80;

	memset(wanted, pattern, sizeof(wanted));
	memset(wanted + LEGACY, 0, HEADER_SIZE);
	memcpy(wanted + MXCSR_AT, &mxcsr, sizeof(mxcsr));
	memcpy(wanted + LEGACY, &states, sizeof(states));
	restore(wanted);
	save(wanted); /* as the processor writes it */
	memcpy(found, wanted, sizeof(found));
}

static void wait(void)
{
	for (volatile unsigned i = 0; i < 5000; i++)
		;
}

void guest_main(void)
{
	uint32_t rounds = option_number("rounds=", 1000);
	bool compacts = cpuid(0xd, 1).eax >> SUBLEAF1_XSAVEC & 1;
	unsigned bad = 0;

	if (!(cpuid(1, 0).ecx >> LEAF1_XSAVE & 1)) {
		print("no XSAVE\n");
		return;
	}
	enable_all_states();
	fill((uint8_t)option_number("pattern=", 0x5a));
	print("spinning, states 0x%x%s\n", states, compacts ? ", compacted too" : "");
	for (uint32_t i = 0; i < rounds; i++) {
		wait();
		save(found);
		bad += memcmp(found, wanted, sizeof(found)) != 0;
		if (!compacts)
			continue;
		save_compact(compact);
		wait();
		restore(compact);
	}
	check_equal(bad, 0);
}
