/* SPDX-License-Identifier: Apache-2.0 */
/* MSRs: what a processor has is there, what it hasn't raises #GP, and so do reserved bits. */
#include "guest.h"

#define EFER 0xc0000080u
#define APIC_BASE 0x1bu
#define PAT 0x277u
#define LSTAR 0xc0000082u

struct access {
	uint32_t msr;
	uint64_t value;
};

static void do_read(void *argument)
{
	struct access *a = argument;

	a->value = rdmsr(a->msr);
}

static void do_write(void *argument)
{
	struct access *a = argument;

	wrmsr(a->msr, a->value);
}

static bool faults(void (*function)(void *), uint32_t msr, uint64_t value)
{
	struct access a = { msr, value };

	return catch_trap(function, &a) && caught.vector == VECTOR_GP && caught.error == 0;
}

/* A processor without counters: each number is out of range. */
static void do_read_counter(void *argument)
{
	__asm__ volatile("rdpmc" : : "c"(0) : "eax", "edx");
}

static void check_unknown(void)
{
	check(faults(do_read_counter, 0, 0));
	check(faults(do_read, 0x12345678, 0));
	check(faults(do_write, 0x12345678, 0));
	check(faults(do_read, 0xc0020000, 0));
	check(faults(do_read, 0x480, 0)); /* VMX: the machine has none */
}

static void check_efer(void)
{
	bool nx = cpuid(0x80000001, 0).edx >> 20 & 1;
	uint64_t was = rdmsr(EFER);

	print("efer 0x%llx\n", was);
	check(was == 0);
	check(faults(do_write, EFER, was | 2)); /* reserved */
	check(faults(do_write, EFER, was | 1ull << 40));
	check(faults(do_write, EFER, was | 1ull << 12)); /* SVME: the machine has no SVM */
	if (nx) {
		wrmsr(EFER, was | 1 << 11);
		check(rdmsr(EFER) == (was | 1 << 11));
		wrmsr(EFER, was);
	}
	check(rdmsr(EFER) == was);
}

static void do_paging(void *argument)
{
	WRITE_CR(0, READ_CR(0) | 0x80000000);
}

/* Intel's processors refuse long mode with a 16-bit TSS in TR. AMD's don't, and there are no tables here to go on with. */
static void check_long_mode_tss(void)
{
	static uint64_t table[16];
	struct __attribute__((packed)) {
		uint16_t limit;
		uint32_t base;
	} was, now = { sizeof(table) - 1, (uint32_t)table };
	uint32_t cr4 = READ_CR(4);

	if (cpuid(0, 0).ebx != 0x756e6547) /* "Genu" */
		return;
	__asm__ volatile("sgdt %0" : "=m"(was));
	memcpy(table, (void *)was.base, was.limit + 1u);
	table[15] = 0x000081000000002bull;
	__asm__ volatile("lgdt %0; ltr %w1" : : "m"(now), "r"(15 * 8) : "memory");
	WRITE_CR(4, cr4 | 0x20);
	wrmsr(EFER, 0x100);
	check(catch_trap(do_paging, NULL) && caught.vector == VECTOR_GP && caught.error == 0);
	wrmsr(EFER, 0);
	WRITE_CR(4, cr4);
	__asm__ volatile("lgdt %0" : : "m"(was));
	print("16-bit TSS refused\n");
}

static void check_system(void)
{
	static const uint32_t kept[] = { 0xc0000081, LSTAR, 0xc0000084, 0xc0000102, 0x174, 0x175, 0x176 };

	for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		wrmsr(kept[i], 0x00001234 + i);
		cpuid(0, 0); /* an exit between */
		check(rdmsr(kept[i]) == 0x1234 + i);
		wrmsr(kept[i], 0);
	}
	wrmsr(PAT, 0x0007040600070406ull);
	check(rdmsr(PAT) == 0x0007040600070406ull);
	check(faults(do_write, PAT, 2)); /* a type that doesn't exist */
	check(rdmsr(PAT) == 0x0007040600070406ull);
	check(faults(do_read, 0x803, 0)); /* x2APIC registers without x2APIC mode */
}

static void check_tsc(void)
{
	uint64_t first = rdtsc(), second;

	wrmsr(0x10, first + (1ull << 40));
	second = rdtsc();
	check(second - first >= 1ull << 40 && second - first < 1ull << 41);
	check(rdmsr(0x10) >= second);
}

void guest_main(void)
{
	uint64_t base = rdmsr(APIC_BASE);

	print("apic base 0x%llx\n", base);
	check(base == 0xfee00900);
	if ((cpuid(0x80000008, 0).eax & 0xff) < 52)
		check(faults(do_write, APIC_BASE, base | 1ull << (cpuid(0x80000008, 0).eax & 0xff)));
	check_unknown();
	check_efer();
	check_system();
	check_tsc();
	check_long_mode_tss();
}
