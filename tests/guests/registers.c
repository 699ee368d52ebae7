/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers that a machine begins with. "fill": leaves as much as it can in registers that outlive
 * it if one forgets them, and ends; without: finds everything as after a reset, or as the protocol says.
 */
#include "guest.h"

static uint8_t area[4096] __attribute__((aligned(64)));
static uint8_t junk[64] __attribute__((aligned(64)));

static const uint32_t kept_msrs[] = { 0x174, 0x175, 0x176, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102 };

static bool has_avx(void)
{
	uint32_t ecx = cpuid(1, 0).ecx;

	return (ecx >> 26 & 1) && (ecx >> 28 & 1);
}

static void floating_point_on(void)
{
	WRITE_CR(0, READ_CR(0) & ~0xcu);
	WRITE_CR(4, READ_CR(4) | 0x600 | (has_avx() ? 1u << 18 : 0));
	if (has_avx())
		__asm__ volatile("xsetbv" : : "a"(7), "d"(0), "c"(0));
}

static void fill(void)
{
	memset(junk, 0x5e, sizeof(junk));
	floating_point_on();
	__asm__ volatile("fninit; fldpi; fldpi; fldl2t; fldl2e; fldlg2; fldln2; fldpi; fldpi");
#define LOAD(n) __asm__ volatile("movups %0, %%xmm" #n : : "m"(junk))
	LOAD(0);
	LOAD(1);
	LOAD(2);
	LOAD(3);
	LOAD(4);
	LOAD(5);
	LOAD(6);
	LOAD(7);
	if (has_avx()) {
#define LOAD_WIDE(n) __asm__ volatile("vmovups %0, %%ymm" #n : : "m"(junk))
		LOAD_WIDE(0);
		LOAD_WIDE(1);
		LOAD_WIDE(2);
		LOAD_WIDE(3);
		LOAD_WIDE(4);
		LOAD_WIDE(5);
		LOAD_WIDE(6);
		LOAD_WIDE(7);
	}
	for (unsigned i = 0; i < sizeof(kept_msrs) / sizeof(kept_msrs[0]); i++)
		wrmsr(kept_msrs[i], 0x5ec2e75e);
#define DEBUG(n) __asm__ volatile("mov %0, %%dr" #n : : "r"(0x5ec2e700))
	DEBUG(0);
	DEBUG(1);
	DEBUG(2);
	DEBUG(3);
	__asm__ volatile("mov %0, %%cr2" : : "r"(0x5ec2e75e));
	print("filled\n");
}

static void check_initial(void)
{
	check_equal(initial.eax, 0x2badb002);
	check_equal(initial.ecx | initial.edx | initial.ebp | initial.esi | initial.edi, 0);
	check_equal(initial.eflags & ~0x46u,
		    0); /* flags of arithmetic may be there: POP comes after an addition of none */
	check_equal(initial.cr0, 0x11);
	check_equal(initial.cr2, 0);
	check_equal(initial.cr3, 0);
	check_equal(initial.cr4, 0);
	for (unsigned i = 0; i < 4; i++)
		check_equal(initial.dr[i], 0);
	check_equal(initial.dr6, 0xffff0ff0);
	check_equal(initial.dr7, 0x400);
}

static bool all_zero(const uint8_t *from, unsigned size)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < size; i++)
		bits |= from[i];
	return !bits;
}

static void check_floating_point(void)
{
	floating_point_on();
	memset(area, 0, sizeof(area));
	__asm__ volatile("fxsave %0" : "=m"(area));
	print("fcw 0x%x mxcsr 0x%x\n", *(uint16_t *)area, *(uint32_t *)(area + 24));
	check(*(uint16_t *)area == 0x37f || *(uint16_t *)area == 0x40);
	check_equal(*(uint16_t *)(area + 2), 0);
	check_equal(*(uint32_t *)(area + 24), 0x1f80);
	for (unsigned i = 0; i < 8; i++) {
		check(all_zero(area + 32 + 16 * i, 10));
		check(all_zero(area + 160 + 16 * i, 16));
	}
	if (!has_avx())
		return;
	memset(area, 0, sizeof(area));
	__asm__ volatile("xsave %0" : "+m"(area) : "a"(7), "d"(0));
	check(all_zero(area + 576, 256));
}

void guest_main(void)
{
	if (option("fill")) {
		fill();
		return;
	}
	check_initial();
	check_floating_point();
	for (unsigned i = 0; i < sizeof(kept_msrs) / sizeof(kept_msrs[0]); i++)
		check(rdmsr(kept_msrs[i]) == 0);
}
