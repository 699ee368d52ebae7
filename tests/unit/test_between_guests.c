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
static uint32_t seven_edx, extended8_ebx, extended33_eax, signature;

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
		r.eax = signature;
		r.edx = 1u << 16 | 1u << 24;
	} else if (leaf == 0x80000000) {
		r.eax = 0x80000021;
	} else if (leaf == 0x80000001) {
		r.edx = 1u << 20;
	} else if (leaf == 0x80000008) {
		r.ebx = extended8_ebx | (pointers_bit ? 1u << 2 : 0);
	} else if (leaf == 0x80000021) {
		r.eax = extended33_eax;
	} else if (leaf == 7) {
		r.edx = seven_edx;
	}
	return r;
}
#define cpuid(leaf, subleaf) old_cpuid(leaf, subleaf)
#include "arch/x86_64/features.c"
#include "arch/x86_64/fpu.c"
#include "arch/x86_64/speculation.c"
#include "arch/x86_64/errata.c"
#undef cpuid

void machine_check_open(void)
{
}

/* The CPU's MSRs: those that it has, and what may be set in them. */
static struct fake_msr {
	uint32_t msr;
	uint64_t value, settable;
} msrs[8];

static struct fake_msr *find_msr(uint32_t msr)
{
	for (unsigned i = 0; i < sizeof(msrs) / sizeof(msrs[0]); i++)
		if (msrs[i].msr == msr)
			return &msrs[i];
	return NULL;
}

bool rdmsr_safe(uint32_t msr, uint64_t *value)
{
	if (find_msr(msr))
		*value = find_msr(msr)->value;
	return find_msr(msr) != NULL;
}

bool wrmsr_safe(uint32_t msr, uint64_t value)
{
	struct fake_msr *found = find_msr(msr);

	if (!found || ((value ^ found->value) & ~found->settable))
		return false;
	found->value = value;
	return true;
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

static void open_cpu(const char *of, uint32_t family_model)
{
	vendor = of;
	signature = family_model;
	features = (struct features){ 0 };
	assert_null(features_init());
	errata_mend_cpu();
	speculation_open_cpu();
}

/* LFENCE serialises where DE_CFG says so, which is asked for on each CPU; guests are told what came of it. */
static void test_lfence(void **state)
{
	static const struct {
		const char *vendor;
		uint32_t signature, always;
		uint64_t value, settable, after;
		bool serialises;
	} cases[] = {
		{ "AuthenticAMD", 0x00800f12, 0, 0, ~UINT64_C(0), 2, true },  /* Zen */
		{ "AuthenticAMD", 0x00800f12, 0, 0, 0, 0, false },            /* a hypervisor below says no */
		{ "AuthenticAMD", 0x00800f12, 0, 2, 0, 2, true },             /* or has it already */
		{ "AuthenticAMD", 0x00200f30, 0, 0, ~UINT64_C(0), 0, false }, /* family 11h */
		{ "AuthenticAMD", 0x00a10f11, 4, 0, 0, 0, true },             /* Zen 4 always does */
		{ "GenuineIntel", 0x000506e3, 0, 0, ~UINT64_C(0), 0, false },
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		msrs[0] = (struct fake_msr){ MSR_DE_CFG, cases[i].value, cases[i].settable };
		extended33_eax = cases[i].always;
		open_cpu(cases[i].vendor, cases[i].signature);
		assert_int_equal(msrs[0].value, cases[i].after);
		assert_int_equal(features.lfence_serialises, cases[i].serialises);
	}
	extended33_eax = 0;
}

/* Bits that errata ask for, by model, and by microcode where newer mends it. */
static void test_errata(void **state)
{
	static const struct {
		uint32_t signature, microcode;
		uint64_t de_cfg, dc_cfg;
	} cases[] = {
		{ 0x00100f42, 0x010000db, 2, UINT64_C(1) << 47 }, /* family 10h: erratum 383 */
		{ 0x00600f12, 0x0600063e, 2, 0 },
		{ 0x00830f10, 0x08301039, 2 | 1 << 9, 0 }, /* Zen 2, old and new */
		{ 0x00830f10, 0x0830107a, 2, 0 },
		{ 0x00870f10, 0x08701030, 2 | 1 << 9, 0 },
		{ 0x00870f10, 0x08701033, 2, 0 },
		{ 0x00800f12, 0x08001138, 2, 0 }, /* Zen */
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		msrs[0] = (struct fake_msr){ MSR_DE_CFG, 0, ~UINT64_C(0) };
		msrs[1] = (struct fake_msr){ MSR_DC_CFG, 0, ~UINT64_C(0) };
		msrs[2] = (struct fake_msr){ MSR_BIOS_SIGN_ID, cases[i].microcode, 0 };
		open_cpu("AuthenticAMD", cases[i].signature);
		assert_int_equal(msrs[0].value, cases[i].de_cfg);
		assert_int_equal(msrs[1].value, cases[i].dc_cfg);
		assert_int_equal(features.microcode, cases[i].microcode);
	}
}

/* IBRS is set where it protects by being left alone, and the host's SPEC_CTRL is its own on each CPU, whatever the firmware's was. */
static void test_host_ibrs(void **state)
{
	static const struct {
		const char *vendor;
		uint32_t seven, extended8, extended33;
		uint64_t capabilities, spec_ctrl, efer;
	} cases[] = {
		{ "GenuineIntel", 1u << 26 | 1u << 29, 0, 0, 2, 1, 0 },
		{ "GenuineIntel", 1u << 26 | 1u << 29, 0, 0, 1, 0, 0 }, /* would have to be written at each exit */
		{ "GenuineIntel", 0, 0, 0, 2, 4, 0 },                   /* no such MSR */
		{ "AuthenticAMD", 0, 1u << 14, 0, 0, 0, 0 },
		{ "AuthenticAMD", 0, 1u << 14 | 1u << 16, 0, 0, 1, 0 },
		{ "AuthenticAMD", 0, 1u << 14, 1u << 8, 0, 0, 1 << 21 },
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		msrs[3] = (struct fake_msr){ MSR_SPEC_CTRL, 4, 7 };
		msrs[4] = (struct fake_msr){ MSR_ARCH_CAPABILITIES, cases[i].capabilities, 0 };
		msrs[5] = (struct fake_msr){ MSR_EFER, 0, ~UINT64_C(0) };
		seven_edx = cases[i].seven;
		extended8_ebx = cases[i].extended8;
		extended33_eax = cases[i].extended33;
		open_cpu(cases[i].vendor, 0x00a20f10);
		assert_int_equal(msrs[3].value, cases[i].spec_ctrl);
		assert_int_equal(msrs[5].value, cases[i].efer);
	}
	seven_edx = extended8_ebx = extended33_eax = 0;
}

/* The selective barrier of Zen 3 and 4 shows by an attempt only. */
static void test_selective_barrier(void **state)
{
	msrs[6] = (struct fake_msr){ MSR_PRED_CMD, 0, 1 };
	open_cpu("AuthenticAMD", 0x00a20f10);
	assert_false(features.sbpb || features.ibpb_forgets_types);
	msrs[6] = (struct fake_msr){ MSR_PRED_CMD, 0, 0x81 };
	open_cpu("AuthenticAMD", 0x00a20f10);
	assert_true(features.sbpb && features.ibpb_forgets_types);
	msrs[6] = (struct fake_msr){ MSR_PRED_CMD, 0, 0x81 };
	open_cpu("AuthenticAMD", 0x00830f10); /* Zen 2 has none, and its IBPB forgets the types */
	assert_false(features.sbpb || features.ibpb_forgets_types || msrs[6].value);
	extended8_ebx = 1u << 12;
	open_cpu("AuthenticAMD", 0x00830f10);
	assert_true(!features.sbpb && features.ibpb_forgets_types);
	extended8_ebx = 0;
	msrs[6] = (struct fake_msr){ 0, 0, 0 };
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_pointers_of_another_guest),
		cmocka_unit_test(test_barrier),
		cmocka_unit_test(test_lfence),
		cmocka_unit_test(test_errata),
		cmocka_unit_test(test_host_ibrs),
		cmocka_unit_test(test_selective_barrier),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
