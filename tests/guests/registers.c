/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers that a machine begins with: all as after a reset, or as the protocol says. "fill": leaves a secret in all
 * that outlive it if one forgets them (each XSAVE component, debug registers, MSRs, CR2), and ends. "hold": the same,
 * but stays and looks whether its secret is there, forty times, or ("ever") until it is stopped.
 */
#include "guest.h"

#define SECRET 0x5ec2e700u
#define LEGACY 512u /* x87 and SSE, then 64 bytes of header */
#define AREA 4096u
#define HOLD_ROUNDS 40u
#define HIGH_ZMM 7u /* registers 16 to 31: out of reach of 32-bit code */

static uint8_t image[AREA] __attribute__((aligned(64))), saved[AREA] __attribute__((aligned(64)));
static uint32_t components; /* XCR0; 0: no XSAVE */

/* The bit of CPUID says whether it is there. The base and mask of an MTRR stand for all of them. */
static const struct msr {
	uint32_t number;
	uint64_t reset, secret;
	uint32_t leaf, bit; /* of EDX */
} msrs[] = {
	{ 0x174, 0, SECRET & 0xffff, 1, 11 },
	{ 0x175, 0, SECRET, 1, 11 },
	{ 0x176, 0, SECRET, 1, 11 },
	{ 0x1a0, 0x1801, 0x1800, 0, 3 }, /* Intel's: a bit that AMD's name hasn't got */
	{ 0x200, 0, 0x5ec2e006, 1, 12 },
	{ 0x201, 0, 0xfffff800, 1, 12 },
	{ 0x259, 0, 0x0606060606060606, 1, 12 },
	{ 0x277, 0x0007040600070406, 0x0007010600070106, 1, 16 },
	{ 0x2ff, 0xc06, 0xc00, 1, 12 },
	{ 0xc0000081, 0, SECRET, 0x80000001, 29 },
	{ 0xc0000082, 0, SECRET, 0x80000001, 29 },
	{ 0xc0000083, 0, SECRET, 0x80000001, 29 },
	{ 0xc0000084, 0, SECRET, 0x80000001, 29 },
	{ 0xc0000100, 0, SECRET, 0x80000001, 29 },
	{ 0xc0000101, 0, SECRET, 0x80000001, 29 },
	{ 0xc0000102, 0, SECRET, 0x80000001, 29 },
	{ 0xc0000103, 0, SECRET, 0x80000001, 27 },
};
#define MSRS (sizeof(msrs) / sizeof(msrs[0]))

static bool has(const struct msr *m)
{
	return cpuid(m->leaf, 0).edx >> m->bit & 1;
}

static void floating_point_on(void)
{
	WRITE_CR(0, READ_CR(0) & ~0xcu);
	WRITE_CR(4, READ_CR(4) | 0x600);
	if (!(cpuid(1, 0).ecx >> 26 & 1))
		return;
	WRITE_CR(4, READ_CR(4) | 1u << 18);
	components = cpuid(0xd, 0).eax;
	__asm__ volatile("xsetbv" : : "a"(components), "d"(0), "c"(0));
}

static void save(uint8_t *area)
{
	memset(area, 0, AREA);
	if (components)
		__asm__ volatile("xsave %0" : "+m"(*(uint8_t(*)[AREA])area) : "a"(components), "d"(0));
	else
		__asm__ volatile("fxsave %0" : "+m"(*(uint8_t(*)[AREA])area));
}

/* Offset and size of a component beyond x87 and SSE; false: not there. */
static bool place_of(unsigned component, uint32_t *offset, uint32_t *size)
{
	struct cpuid_result r = cpuid(0xd, component);

	*offset = r.ebx;
	*size = r.eax;
	return (components >> component & 1) && r.ebx + r.eax <= AREA;
}

/* By one image with the secret in every component: what 32-bit code can reach of each. */
static void fill_components(void)
{
	uint32_t offset, size;

	memset(image, 0, sizeof(image));
	for (unsigned i = 32; i < 288; i++)
		image[i] = 0x5e; /* ST0-7 and XMM0-7 */
	*(uint16_t *)image = 0x37f;
	image[4] = 0xff; /* no register of the x87 is empty */
	*(uint32_t *)(image + 24) = 0x1f80;
	for (unsigned i = 2; i < 32; i++)
		if (place_of(i, &offset, &size))
			memset(image + offset, 0x5e, size);
	*(uint32_t *)(image + LEGACY) = components;
	if (components)
		__asm__ volatile("xrstor %0" : : "m"(image), "a"(components), "d"(0));
	else
		__asm__ volatile("fxrstor %0" : : "m"(image));
}

#define SET_DEBUG(n, v) __asm__ volatile("mov %0, %%dr" #n : : "r"(v))
#define GET_DEBUG(n)                                                                                                   \
	({                                                                                                             \
		uint32_t value_;                                                                                       \
		__asm__ volatile("mov %%dr" #n ", %0" : "=r"(value_));                                                 \
		value_;                                                                                                \
	})

static void fill(void)
{
	fill_components();
	for (unsigned i = 0; i < MSRS; i++)
		if (has(&msrs[i]))
			wrmsr(msrs[i].number, msrs[i].secret);
	SET_DEBUG(0, SECRET);
	SET_DEBUG(1, SECRET + 1);
	SET_DEBUG(2, SECRET + 2);
	SET_DEBUG(3, SECRET + 3);
	SET_DEBUG(6, 0xffff4fff);
	SET_DEBUG(7, 0xd5550400); /* lengths and kinds, none enabled */
	WRITE_CR(2, SECRET);
	print("filled, components 0x%x\n", components);
}

/* All that fill() put there is there. */
static void check_secret(const uint8_t *reference)
{
	save(saved);
	check(!memcmp(saved, reference, AREA));
	for (unsigned i = 0; i < MSRS; i++)
		if (has(&msrs[i]) && !check(rdmsr(msrs[i].number) == msrs[i].secret))
			print("MSR 0x%x holds 0x%llx\n", msrs[i].number, rdmsr(msrs[i].number));
	check_equal(GET_DEBUG(0), SECRET);
	check_equal(GET_DEBUG(1), SECRET + 1);
	check_equal(GET_DEBUG(2), SECRET + 2);
	check_equal(GET_DEBUG(3), SECRET + 3);
	check_equal(GET_DEBUG(6), 0xffff4fff);
	check_equal(GET_DEBUG(7), 0xd5550400);
	check_equal(READ_CR(2), SECRET);
}

static void hold(void)
{
	static uint8_t reference[AREA] __attribute__((aligned(64)));
	uint32_t offset, size;

	save(reference);
	for (unsigned i = 2; i < 32; i++)
		if (i != HIGH_ZMM && place_of(i, &offset, &size))
			check(reference[offset] == 0x5e);
	check(reference[32] == 0x5e && reference[160] == 0x5e);
	for (unsigned round = 0; !failures && (round < HOLD_ROUNDS || option("ever")); round++) {
		for (volatile uint32_t i = 0; i < 200000; i++)
			;
		check_secret(reference);
	}
	print("held\n");
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

static void check_components(void)
{
	uint32_t offset, size;

	save(saved);
	print("fcw 0x%x mxcsr 0x%x\n", *(uint16_t *)saved, *(uint32_t *)(saved + 24));
	check(*(uint16_t *)saved == 0x37f || *(uint16_t *)saved == 0x40);
	check_equal(*(uint16_t *)(saved + 2), 0);
	check_equal(*(uint32_t *)(saved + 24), 0x1f80);
	for (unsigned i = 0; i < 8; i++) {
		check(all_zero(saved + 32 + 16 * i, 10));
		check(all_zero(saved + 160 + 16 * i, 16));
	}
	for (unsigned i = 2; i < 32; i++)
		if (place_of(i, &offset, &size) && !check(all_zero(saved + offset, size)))
			print("component %u\n", i);
}

void guest_main(void)
{
	floating_point_on();
	if (option("fill") || option("hold")) {
		fill();
		if (option("hold"))
			hold();
		return;
	}
	check_initial();
	check_components();
	for (unsigned i = 0; i < MSRS; i++)
		if (has(&msrs[i]) && !check(rdmsr(msrs[i].number) == msrs[i].reset))
			print("MSR 0x%x holds 0x%llx\n", msrs[i].number, rdmsr(msrs[i].number));
}
