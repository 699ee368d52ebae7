/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions of every sort on memory that nobody answers, on ROM, and, the moves, on a device's registers. As on a PC
 * a hole reads as ones and takes no write, and a ROM stays what it is. "named": one that no device's register
 * can take, which ends the machine.
 */
#include "guest.h"

#define HOLE 0x40000000u
#define SCREEN 0xb8000u
#define ROM 0xf0000u
#define CODE_ROM 0xfff40u
#define IOAPIC 0xfec00000u
#define WINDOW (IOAPIC + 0x10)
#define REDIRECTION 0x16u
#define MASKED 0x00010000u

static uint8_t rom_copy[128], bytes[64] __attribute__((aligned(64))), pattern[64] __attribute__((aligned(64)));

#define STORE(text, to) __asm__ volatile(text : : "r"(to), "a"(0x12345678) : "memory", "cc")
#define LOAD(text, from)                                                                                               \
	do {                                                                                                           \
		__asm__ volatile("movups %0, %%xmm1\n movq %0, %%mm1" : : "m"(pattern));                               \
		__asm__ volatile(text "\n movups %%xmm1, %0" : "=m"(bytes) : "r"(from) : "memory", "cc");              \
	} while (0)

static void enable(void)
{
	WRITE_CR(0, READ_CR(0) & ~0xcu);
	WRITE_CR(4, READ_CR(4) | 0x600);
	__asm__ volatile("fninit");
}

static void check_nothing_written(uint32_t to)
{
	bool hole = to != ROM;

	for (unsigned i = 0; i < sizeof(rom_copy); i++)
		if (((volatile uint8_t *)to)[i] != (hole ? 0xff : rom_copy[i])) {
			print("FAILED: 0x%x was written\n", to + i);
			failures++;
			return;
		}
}

static unsigned x87_top(void)
{
	uint16_t status;

	__asm__ volatile("fnstsw %0" : "=m"(status));
	return status >> 11 & 7;
}

static void check_stores(uint32_t to)
{
	uint16_t control;

	__asm__ volatile("movups %0, %%xmm0\n movq %0, %%mm0" : : "m"(pattern));
	STORE("movups %%xmm0, (%0)", to);
	STORE("movaps %%xmm0, (%0)", to);
	STORE("movupd %%xmm0, (%0)", to);
	STORE("movdqa %%xmm0, (%0)", to);
	STORE("movdqu %%xmm0, 3(%0)", to);
	STORE("movss %%xmm0, (%0)", to);
	STORE("movsd %%xmm0, (%0)", to);
	STORE("movhps %%xmm0, (%0)", to);
	STORE("movntps %%xmm0, (%0)", to);
	STORE("movnti %%eax, (%0)", to);
	STORE("movd %%xmm0, (%0)", to);
	STORE("movq %%mm0, (%0)", to);
	STORE("movntq %%mm0, (%0)", to);
	STORE("emms\n stmxcsr (%0)", to);
	STORE("fxsave (%0)", to);
	STORE("smsw (%0)", to);
	STORE("sgdt (%0)", to);
	STORE("sidt (%0)", to);
	STORE("str (%0)", to);
	STORE("fninit\n fnstcw (%0)", to);
	STORE("fld1\n fsts (%0)", to);
	check_equal(x87_top(), 7);
	STORE("fstpt (%0)", to);
	check_equal(x87_top(), 0);
	STORE("fld1\n fistpl (%0)", to);
	check_equal(x87_top(), 0);
	control = 0x372;
	__asm__ volatile("fldcw %0" : : "m"(control));
	STORE("fnstenv (%0)", to);
	__asm__ volatile("fnstcw %0" : "=m"(control));
	check_equal(control, 0x37f);
	STORE("fldz\n fnsave (%0)", to);
	check_equal(x87_top(), 0);
	STORE("mov %%esp, %%edx\n lea 96(%0), %%esp\n pusha\n enter $8, $0\n leave\n mov %%edx, %%esp", to);
	STORE("clflush (%0)", to);
	check_nothing_written(to);
}

static bool all_ones(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (bytes[i] != 0xff)
			return false;
	return true;
}

/* What the processor itself finds there. */
static void check_loads(uint32_t from)
{
	uint32_t eax;
	bool zero;

	LOAD("movups (%1), %%xmm1", from);
	check(all_ones(16));
	LOAD("movhps (%1), %%xmm1", from);
	check(bytes[8] == 0xff && bytes[0] == pattern[0]);
	LOAD("movd (%1), %%xmm1", from);
	check(all_ones(4) && bytes[4] == 0);
	LOAD("pcmpeqd (%1), %%xmm1", from); /* not a move */
	check(bytes[0] == 0);
	LOAD("por (%1), %%xmm1", from);
	check(all_ones(16));
	LOAD("movq (%1), %%mm1\n movq2dq %%mm1, %%xmm1\n emms", from);
	check(all_ones(8) && bytes[8] == 0);
	__asm__ volatile("fninit\n fildl (%1)\n fistpl %0" : "=m"(eax) : "r"(from));
	check_equal(eax, 0xffffffff);
	__asm__ volatile("lar (%2), %1\n setz %0" : "=q"(zero), "=r"(eax) : "r"(from));
	check(!zero);
	check_nothing_written(from);
}

static void load_ss(void *from)
{
	__asm__ volatile("mov (%0), %%ss" : : "r"(from));
}

static void load_tr(void *from)
{
	__asm__ volatile("ltr (%0)" : : "r"(from));
}

static void jump_far(void *from)
{
	__asm__ volatile("ljmp *(%0)" : : "r"(from));
}

static void check_faults(void)
{
	check(catch_trap(load_ss, (void *)HOLE) && caught.vector == VECTOR_GP);
	check_equal(caught.error, 0xfffc);
	check(catch_trap(load_tr, (void *)HOLE) && caught.vector == VECTOR_GP);
	check(catch_trap(jump_far, (void *)HOLE) && caught.vector == VECTOR_GP);
}

static void check_device(void)
{
	uint32_t value = MASKED | 0x35, other = REDIRECTION;

	__asm__ volatile("movd %0, %%xmm0\n movd %%xmm0, (%1)" : : "r"(other), "r"(IOAPIC));
	check_equal(read32(IOAPIC), REDIRECTION);
	__asm__ volatile("movd %0, %%mm0\n movd %%mm0, (%1)\n emms" : : "r"(value), "r"(WINDOW));
	check_equal(read32(WINDOW), value);
	__asm__ volatile("movss (%1), %%xmm2\n movd %%xmm2, %0" : "=r"(other) : "r"(WINDOW));
	check_equal(other, value);
	__asm__ volatile("movd (%1), %%mm2\n movd %%mm2, %0\n emms" : "=r"(other) : "r"(WINDOW));
	check_equal(other, value);
	STORE("clflush (%0)", WINDOW);
}

void guest_main(void)
{
	for (unsigned i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(0x40 + i);
	memcpy(rom_copy, (void *)ROM, sizeof(rom_copy));
	enable();
	if (option("named"))
		__asm__ volatile("fildl 0xfec00010");
	check_stores(HOLE);
	check_stores(SCREEN);
	check_stores(ROM);
	check_loads(HOLE);
	check_loads(SCREEN + 0x1000);
	check_stores(HOLE); /* now that its ones are there to be read */
	check_faults();
	LOAD("movups (%1), %%xmm1", CODE_ROM);
	check(memcmp(bytes, (void *)CODE_ROM, 16) == 0 && bytes[0] == 0x55);
	check_device();
}
