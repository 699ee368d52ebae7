/* SPDX-License-Identifier: Apache-2.0 */
// sources:
/*
 * What one guest leaves in the processor for the next. What is done about it shows where it can't be carried out: a restore of
 * the FPU's state from a misaligned area faults, so does WRMSR, and the signal's frame has the registers of that moment.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>
#include <cmocka.h>

#include "arch/x86_64/cpu.h"

static const char *vendor; /* as CPUID has it, in three parts: EBX, EDX, ECX */
static bool pointers_bit;
static uint32_t seven_edx, extended8_ebx;

/* A processor with FXSAVE, PAT and NX, no XSAVE. */
static struct cpuid_result old_cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_result r = { 0, 0, 0, 0 };

	if (leaf == 0) {
		r.eax = 7;
		__builtin_memcpy(&r.ebx, vendor, 4);
		__builtin_memcpy(&r.edx, vendor + 4, 4);
		__builtin_memcpy(&r.ecx, vendor + 8, 4);
	} else if (leaf == 1) {
		r.edx = 1u << 16 | 1u << 24;
	} else if (leaf == 0x80000000) {
		r.eax = 0x80000008;
	} else if (leaf == 0x80000001) {
		r.edx = 1u << 20;
	} else if (leaf == 0x80000008) {
		r.ebx = extended8_ebx | (pointers_bit ? 1u << 2 : 0);
	} else if (leaf == 7) {
		r.edx = seven_edx;
	}
	return r;
}
#define cpuid(leaf, subleaf) old_cpuid(leaf, subleaf)
#include "arch/x86_64/features.c"
#include "arch/x86_64/fpu.c"
#include "arch/x86_64/speculation.c"
#undef cpuid

void machine_check_open(void)
{
}
void errata_mend_cpu(void)
{
}
bool errata_tsc_deadline(void)
{
	return false;
}
bool rdmsr_safe(uint32_t msr, uint64_t *value)
{
	return false;
}
bool wrmsr_safe(uint32_t msr, uint64_t value)
{
	return false;
}

static sigjmp_buf back;
static volatile uint64_t pointer, rax, rcx, rdx;

static void on_fault(int signal, siginfo_t *info, void *context)
{
	const mcontext_t *registers = &((ucontext_t *)context)->uc_mcontext;

	pointer = registers->fpregs->rip;
	rax = (uint64_t)registers->gregs[REG_RAX];
	rcx = (uint64_t)registers->gregs[REG_RCX];
	rdx = (uint64_t)registers->gregs[REG_RDX];
	siglongjmp(back, 1);
}

/* The other guest has divided by zero, unmasked: the kind of state in which every processor saves the pointers. */
static void leave_pointers(void)
{
	const uint16_t unmasked = 0x37b;

	__asm__ volatile("fninit; fldcw %0; fld1; fldz; fdivrp" : : "m"(unmasked));
}

static uint64_t pointer_in_restore(void)
{
	static uint8_t area[1024] __attribute__((aligned(64)));

	pointer = 1;
	if (!sigsetjmp(back, 1)) {
		leave_pointers();
		host_fpu_restore(area + 8);
	}
	__asm__ volatile("fninit");
	return pointer;
}

static void test_no_pointers_of_another_guest(void **state)
{
	static const struct {
		const char *vendor;
		bool bit, cleared;
	} cases[] = { { "AuthenticAMD", false, true },
		      { "HygonGenuine", false, true },
		      { "AuthenticAMD", true, false },
		      { "GenuineIntel", false, false } };
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO }, old;

	sigaction(SIGSEGV, &action, &old);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t seen;

		vendor = cases[i].vendor;
		pointers_bit = cases[i].bit;
		features = (struct features){ 0 };
		assert_null(features_init());
		seen = pointer_in_restore();
		assert_int_not_equal(seen, 1); /* it did fault */
		assert_int_equal(seen == 0, cases[i].cleared);
	}
	sigaction(SIGSEGV, &old, NULL);
}

static void forget(void)
{
	rcx = 0;
	if (!sigsetjmp(back, 1))
		host_forget_guest();
}

/* Each vendor has a bit of its own for the barrier, and MSR 0x49 is touched only where one is set. VERW any program may execute. */
static void test_barrier(void **state)
{
	static const struct {
		const char *vendor;
		uint32_t seven, extended;
		bool ibpb, md_clear;
	} cases[] = { { "GenuineIntel", 0, 0, false, false },
		      { "GenuineIntel", 1u << 10, 0, false, true },
		      { "GenuineIntel", 1u << 26 | 1u << 10, 0, true, true },
		      { "AuthenticAMD", 0, 1u << 12, true, false } };
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO }, old;

	sigaction(SIGSEGV, &action, &old);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		vendor = cases[i].vendor;
		seven_edx = cases[i].seven;
		extended8_ebx = cases[i].extended;
		features = (struct features){ 0 };
		assert_null(features_init());
		assert_int_equal(features.md_clear, cases[i].md_clear);
		forget();
		assert_int_equal(rcx == 0x49, cases[i].ibpb);
		if (cases[i].ibpb)
			assert_true((uint32_t)rax == 1 && (uint32_t)rdx == 0);
	}
	sigaction(SIGSEGV, &old, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_pointers_of_another_guest),
		cmocka_unit_test(test_barrier),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
