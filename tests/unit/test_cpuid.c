/* SPDX-License-Identifier: Apache-2.0 */
// sources:
/* What a guest is told of a processor that has everything, and of which the hypervisor can't hand on all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "arch/x86_64/cpu.h"

/* Of all leaves, every bit is set. */
static struct cpuid_result full_cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_result r = { UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX };

	if (leaf == 0)
		r.eax = 0x20;
	if (leaf == 0x80000000)
		r.eax = 0x80000020;
	return r;
}
#define cpuid(leaf, subleaf) full_cpuid(leaf, subleaf)
#include "vm/vcpu/cpuid.c"
#undef cpuid

struct features features;
struct hv_caps hv_capabilities;

static void load(struct hv_vcpu *v, uint32_t groups)
{
	v->valid |= groups;
}
static const struct hv_ops ops = { .name = "test", .load = load };
const struct hv_ops *hv = &ops;

uint64_t host_xcr0(void)
{
	return 7;
}
size_t host_fpu_size(void)
{
	return 832;
}
uint64_t host_tsc_hz(void)
{
	return 3000000000;
}
bool vcpu_skip_slowly(struct vcpu *vcpu)
{
	return true;
}

/* A control of VMX that is missing makes the instruction #UD in a guest, whatever the processor has: Intel SDM vol. 3 section 26.3. */
static void test_no_more_than_the_controls_allow(void **state)
{
	static const struct {
		struct hv_caps caps;
		bool rdtscp, invpcid, pcid;
	} cases[] = {
		{ { .slat = SLAT_EPT, .vpid = true, .rdtscp = true, .invpcid = true }, true, true, true },
		{ { .slat = SLAT_EPT, .vpid = true, .rdtscp = false, .invpcid = true }, false, true, true },
		{ { .slat = SLAT_EPT, .vpid = true, .rdtscp = true, .invpcid = false }, true, false, true },
		{ { .slat = SLAT_EPT, .rdtscp = true }, true, false, false },
		{ { .slat = SLAT_NPT, .vpid = true, .rdtscp = true, .invpcid = true }, true, true, true },
	};
	struct machine machine = { .vcpu_count = 1 };

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hv_vcpu h = { 0 };
		struct vcpu vcpu = { .hv = &h, .machine = &machine };

		hv_capabilities = cases[i].caps;
		machine.cpuid = cpuid_policy_create(&machine);
		assert_non_null(machine.cpuid);
		assert_int_equal(answer(&vcpu, 0x80000001, 0).edx >> 27 & 1, cases[i].rdtscp);
		assert_int_equal(answer(&vcpu, 7, 0).ecx >> 22 & 1, cases[i].rdtscp); /* RDPID */
		assert_int_equal(cpuid_has_tsc_aux(machine.cpuid), cases[i].rdtscp);
		assert_int_equal(answer(&vcpu, 7, 0).ebx >> 10 & 1, cases[i].invpcid);
		assert_int_equal(answer(&vcpu, 1, 0).ecx >> 17 & 1, cases[i].pcid);
		assert_int_equal(answer(&vcpu, 0xd, 1).eax, 5); /* XSAVEOPT, XGETBV 1; no XSAVES */
		cpuid_policy_destroy(machine.cpuid);
	}
}

/* AMD's leaves for caches and topology come with the bit that tells of them. */
static void test_caches_of_amd(void **state)
{
	struct machine machine = { .vcpu_count = 1 };
	struct hv_vcpu h = { 0 };
	struct vcpu vcpu = { .hv = &h, .machine = &machine, .id = 0 };
	struct cpuid_result cache;

	hv_capabilities = (struct hv_caps){ .slat = SLAT_NPT, .rdtscp = true };
	machine.cpuid = cpuid_policy_create(&machine);
	assert_non_null(machine.cpuid);
	assert_true(answer(&vcpu, 0x80000001, 0).ecx & BIT(22));
	cache = answer(&vcpu, 0x8000001d, 0);
	assert_int_equal(cache.eax, 0x3fff); /* shared with no other vcpu */
	assert_int_equal(cache.ebx, UINT32_MAX);
	cpuid_policy_destroy(machine.cpuid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_more_than_the_controls_allow),
		cmocka_unit_test(test_caches_of_amd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
