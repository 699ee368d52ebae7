/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CPUID says, on processors made up here: one whose firmware has limited it, and second ones that have less than the
 * first.
 */
#define ARCH_CPU_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86_64/registers.h"

struct cpuid_result {
	uint32_t eax, ebx, ecx, edx;
};

static struct {
	bool intel;
	uint64_t misc_enable;
	uint32_t leaf1_edx, leaf7_ebx, xcr0;
} cpu;

static struct cpuid_result cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_result r = { 0 };

	switch (leaf) {
	case 0:
		r.eax = cpu.misc_enable >> 22 & 1 ? 3 : 0xd;
		memcpy(&r.ebx, cpu.intel ? "Genu" : "Auth", 4);
		memcpy(&r.edx, cpu.intel ? "ineI" : "enti", 4);
		memcpy(&r.ecx, cpu.intel ? "ntel" : "cAMD", 4);
		break;
	case 1:
		r.ecx = 1u << 26;
		r.edx = cpu.leaf1_edx;
		break;
	case 7: r.ebx = cpu.leaf7_ebx; break;
	case 0xd: r.eax = subleaf ? 0 : cpu.xcr0; break;
	case 0x80000000: r.eax = 0x80000008; break;
	case 0x80000001: r.edx = cpu.misc_enable >> 34 & 1 ? 0 : 1u << 20; break;
	case 0x80000008: r.eax = 0x3028; break;
	}
	return r;
}

static uint64_t rdmsr(uint32_t msr)
{
	return 0;
}
static void wrmsr(uint32_t msr, uint64_t value)
{
}
static void write_cr0(uint64_t v)
{
}
static void write_cr4(uint64_t v)
{
}
static void xsetbv(uint32_t index, uint64_t v)
{
}
bool rdmsr_safe(uint32_t msr, uint64_t *value);
bool wrmsr_safe(uint32_t msr, uint64_t value);
void machine_check_open(void)
{
}
void speculation_open_cpu(void)
{
}
void errata_mend_cpu(void)
{
}
bool errata_tsc_deadline(void)
{
	return false;
}
uint64_t host_xcr0(void)
{
	return 7;
}

#include "arch/x86_64/features.c"

bool rdmsr_safe(uint32_t msr, uint64_t *value)
{
	assert_true(cpu.intel && msr == MSR_MISC_ENABLE); /* AMD has no such register */
	*value = cpu.misc_enable;
	return true;
}

bool wrmsr_safe(uint32_t msr, uint64_t value)
{
	assert_int_equal(msr, MSR_MISC_ENABLE);
	cpu.misc_enable = value;
	return true;
}

static void start(bool intel, uint64_t misc_enable)
{
	cpu.intel = intel;
	cpu.misc_enable = misc_enable;
	cpu.leaf1_edx = 1u << 16 | 1u << 24;
	cpu.leaf7_ebx = 1u << 7 | 1u << 20;
	cpu.xcr0 = 7;
	memset(&features, 0, sizeof(features));
}

static void test_limits_undone(void **state)
{
	start(true, BIT(22) | BIT(34) | BIT(0));
	assert_null(features_init());
	assert_int_equal(cpu.misc_enable, BIT(0));
	assert_int_equal(features.max_leaf, 0xd);
	assert_true(features.smep && features.nx && features.xsave && features.xd_was_off);

	start(true, BIT(0));
	assert_null(features_init());
	assert_false(features.xd_was_off);
	start(false, 0);
	assert_null(features_init());
}

static void test_second_lacks(void **state)
{
	start(true, 0);
	assert_null(features_init());
	assert_null(features_missing_here());
	cpu.misc_enable = BIT(22) | BIT(34); /* undone on each CPU */
	assert_null(features_missing_here());
	assert_int_equal(cpu.misc_enable, 0);
	cpu.leaf7_ebx |= 1u; /* more is no harm */
	assert_null(features_missing_here());
	cpu.leaf7_ebx = 1u << 7;
	assert_string_equal(features_missing_here(), "smap");
	cpu.leaf7_ebx |= 1u << 20;
	cpu.xcr0 = 3;
	assert_non_null(features_missing_here());
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_limits_undone), cmocka_unit_test(test_second_lacks) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
