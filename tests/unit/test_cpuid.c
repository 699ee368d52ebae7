/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/config/topology.c
/* What a guest is told of a processor that has everything, and of which the hypervisor can't hand on all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "arch/x86_64/cpu.h"

static struct cpuid_result absent; /* bits of the register file's words that this host lacks, in every leaf */

static uint32_t extended_max = 0x80000020;

/* Of all leaves, every bit is set; caches are one of each level. */
static struct cpuid_result full_cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_result r = { UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX };

	r.eax &= ~absent.eax;
	r.ebx &= ~absent.ebx;
	r.ecx &= ~absent.ecx;
	r.edx &= ~absent.edx;
	if (leaf == 4 || leaf == 0x8000001d)
		r.eax = (subleaf + 1) << 5 | (subleaf < 3);
	if (leaf == 0)
		r.eax = 0x20;
	if (leaf == 0x80000000)
		r.eax = extended_max;
	return r;
}
#define cpuid(leaf, subleaf) full_cpuid(leaf, subleaf)
#include "vm/vcpu/cpuid.c"
#include "vm/vcpu/cpuid_policy.c"
#include "vm/vcpu/cpuid_limits.c"
#include "vm/vcpu/cpuid_topology.c"
#undef cpuid

struct features features;
struct hv_caps hv_capabilities;

static void load(struct hv_vcpu *v, uint32_t groups)
{
	v->valid |= groups;
}
static const struct hv_ops ops = { .name = "test", .load = load };
const struct hv_ops *hv = &ops;

static uint64_t xcr0 = 7;
uint64_t host_xcr0(void)
{
	return xcr0;
}
size_t host_fpu_size(void)
{
	return 832;
}
static uint64_t tsc_hz = 3000000000;
uint64_t host_tsc_hz(void)
{
	return tsc_hz;
}
bool vcpu_skip_slowly(struct vcpu *vcpu)
{
	return true;
}

static struct config_machine config = { .topology = TOPOLOGY(1, 1, 1) };
static struct machine machine;
static struct hv_vcpu h;
static struct lapic lapic;
static struct vcpu vcpu;
static const struct hv_caps whole = { .slat = SLAT_NPT, .vpid = true, .rdtscp = true, .invpcid = true };

/* A fresh vcpu of a machine with a fresh policy, which the caller destroys. */
static void begin(struct hv_caps caps)
{
	machine = (struct machine){ .vcpu_count = 1 };
	h = (struct hv_vcpu){ 0 };
	lapic = (struct lapic){ .base = 0xfee00900 };
	machine.config = &config;
	vcpu = (struct vcpu){ .hv = &h, .l1 = &h, .machine = &machine, .lapic = &lapic };
	hv_capabilities = caps;
	machine.cpuid = cpuid_policy_create(&machine);
	assert_non_null(machine.cpuid);
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
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin(cases[i].caps);
		assert_int_equal(vcpu_cpuid(&vcpu, 0x80000001, 0).edx >> 27 & 1, cases[i].rdtscp);
		assert_int_equal(vcpu_cpuid(&vcpu, 7, 0).ecx >> 22 & 1, cases[i].rdtscp); /* RDPID */
		assert_int_equal(cpuid_has_tsc_aux(machine.cpuid), cases[i].rdtscp);
		assert_int_equal(vcpu_cpuid(&vcpu, 7, 0).ebx >> 10 & 1, cases[i].invpcid);
		assert_int_equal(vcpu_cpuid(&vcpu, 1, 0).ecx >> 17 & 1, cases[i].pcid);
		assert_int_equal(vcpu_cpuid(&vcpu, 0xd, 1).eax, 5); /* XSAVEOPT, XGETBV 1; no XSAVES */
		cpuid_policy_destroy(machine.cpuid);
	}
}

/* Of SPEC_CTRL and its kin a guest has what it is told of, and is told of no MSR that it hasn't got. */
static void test_speculation(void **state)
{
	features = (struct features){ .amd = false, .capabilities_value = ~UINT64_C(0) };
	begin(whole);
	assert_int_equal(vcpu_cpuid(&vcpu, 7, 0).edx & ~0x1cu, 0xbc000400);
	assert_int_equal(vcpu_cpuid(&vcpu, 7, 0).eax, 2);
	assert_int_equal(vcpu_cpuid(&vcpu, 7, 2).edx, 0x3f);
	assert_int_equal(vcpu_cpuid(&vcpu, 0x80000008, 0).ebx >> 25 & 1, 0); /* VIRT_SSBD */
	assert_int_equal(cpuid_limit(machine.cpuid, CPUID_SPEC_CTRL), 0x5ff);
	assert_int_equal(cpuid_limit(machine.cpuid, CPUID_PRED_CMD), 1);
	assert_int_equal(cpuid_limit(machine.cpuid, CPUID_FLUSH_CMD), 1);
	/* TSX_CTRL, MCU_OPT_CTRL, FB_CLEAR_CTRL, GDS_CTRL: MSRs that are not there. */
	assert_int_equal(cpuid_limit(machine.cpuid, CPUID_ARCH_CAPABILITIES) & (BIT(7) | BIT(9) | BIT(18) | BIT(25)),
			 0);
	assert_int_equal(cpuid_limit(machine.cpuid, CPUID_ARCH_CAPABILITIES) & 0x7f, 0x7f);
	cpuid_policy_destroy(machine.cpuid);

	absent = (struct cpuid_result){ .eax = ~0u & ~0x80000021u, .ebx = ~0u, .edx = ~0u };
	begin(whole);
	for (unsigned limit = CPUID_SPEC_CTRL; limit < CPUID_LIMITS; limit++)
		assert_int_equal(cpuid_limit(machine.cpuid, limit), 0);
	cpuid_policy_destroy(machine.cpuid);

	/* AMD's bits for the same; and what only an attempt has shown, on processors whose leaves end before. */
	absent.ebx = (uint32_t) ~(BIT(12) | BIT(24));
	features = (struct features){ .amd = true, .sbpb = true, .ibpb_forgets_types = true };
	begin(whole);
	assert_int_equal(cpuid_limit(machine.cpuid, CPUID_SPEC_CTRL), BIT(2));
	assert_int_equal(cpuid_limit(machine.cpuid, CPUID_PRED_CMD), 0x81);
	assert_int_equal(vcpu_cpuid(&vcpu, 0x80000000, 0).eax, 0x80000021);
	assert_int_equal(vcpu_cpuid(&vcpu, 0x80000021, 0).eax >> 27 & 3, 3);
	cpuid_policy_destroy(machine.cpuid);
	absent = (struct cpuid_result){ 0 };
}

/* Bits that follow the processor's state. */
static void test_bits_that_follow(void **state)
{
	for (unsigned amd = 0; amd < 2; amd++) {
		features = (struct features){ .amd = amd };
		xcr0 = 0x207;
		begin(whole);
		assert_int_equal(vcpu_cpuid(&vcpu, 1, 0).ecx >> 27 & 1, 0);
		assert_int_equal(vcpu_cpuid(&vcpu, 7, 0).ecx >> 4 & 1, 0);
		h.cr4 = CR4_OSXSAVE | CR4_PKE;
		assert_int_equal(vcpu_cpuid(&vcpu, 1, 0).ecx >> 27 & 1, 1);
		assert_int_equal(vcpu_cpuid(&vcpu, 7, 0).ecx >> 4 & 1, 1);
		assert_int_equal(vcpu_cpuid(&vcpu, 7, 1).ecx, 0);
		assert_int_equal(vcpu_cpuid(&vcpu, 1, 0).ecx >> 3 & 1, 0); /* MONITOR: none */
		assert_int_equal(vcpu_cpuid(&vcpu, 1, 0).edx >> 9 & 1, 1);
		assert_int_equal(vcpu_cpuid(&vcpu, 0x80000001, 0).edx >> 9 & 1, 1);
		lapic.base = 0xfee00000;
		assert_int_equal(vcpu_cpuid(&vcpu, 1, 0).edx >> 9 & 1, 0);
		assert_int_equal(vcpu_cpuid(&vcpu, 0x80000001, 0).edx >> 9 & 1, 0);
		assert_int_equal(vcpu_cpuid(&vcpu, 0x80000001, 0).edx >> 11 & 1,
				 amd); /* SYSCALL, outside 64-bit mode */
		h.efer = EFER_LMA | EFER_LME;
		assert_int_equal(vcpu_cpuid(&vcpu, 0x80000001, 0).edx >> 11 & 1, amd);
		h.segment[SEG_CS].attributes = SEG_ATTR_L;
		assert_int_equal(vcpu_cpuid(&vcpu, 0x80000001, 0).edx >> 11 & 1, 1);
		cpuid_policy_destroy(machine.cpuid);
		xcr0 = 7;
	}
}

/* Leaf 15h says what the TSC and the APIC timer are to each other, to a few parts in a million; Linux must not overflow. */
static void test_frequencies(void **state)
{
	static const uint64_t hz[] = {
		40000000, 100000000, 1000000000, 2096123000, 2100408000, 3000000000, 3791999000
	};

	features = (struct features){ .amd = false };
	for (unsigned i = 0; i < sizeof(hz) / sizeof(hz[0]); i++) {
		struct cpuid_result r, timing;
		double told;

		tsc_hz = hz[i];
		begin(whole);
		r = vcpu_cpuid(&vcpu, 0x15, 0);
		timing = vcpu_cpuid(&vcpu, 0x40000010, 0);
		assert_true(r.eax && r.ebx && r.ecx == LAPIC_TIMER_HZ);
		assert_true((uint64_t)r.ecx / 1000 * r.ebx <= UINT32_MAX);
		told = (double)r.ecx * r.ebx / r.eax;
		assert_true(told / (double)hz[i] < 1.000003 && told / (double)hz[i] > 0.999997);
		assert_int_equal(timing.eax, hz[i] / 1000);
		assert_int_equal(timing.ebx, LAPIC_TIMER_HZ / 1000);
		assert_int_equal(vcpu_cpuid(&vcpu, 0, 0).eax, 0x1f);
		cpuid_policy_destroy(machine.cpuid);
	}
}

/* Six vcpus as two sockets of three cores, twelve with two threads to each; the old leaves' way, and the new ones'. */
static void test_topology(void **state)
{
	for (unsigned amd = 0; amd < 2; amd++)
		for (unsigned threads = 1; threads < 3; threads++) {
			const unsigned cores = threads - 1, socket = cores + 2;

			features = (struct features){ .amd = amd };
			config.topology = TOPOLOGY(2, 3, threads);
			extended_max = 0x80000019;
			begin(whole);
			assert_int_equal(vcpu_cpuid(&vcpu, 1, 0).edx >> 28 & 1, 1);
			assert_int_equal(vcpu_cpuid(&vcpu, 1, 0).ebx >> 16 & 0xff, 1u << socket);
			assert_int_equal(vcpu_cpuid(&vcpu, 4, 0).eax >> 14 & 0xfff, (1u << cores) - 1);
			assert_int_equal(vcpu_cpuid(&vcpu, 4, 2).eax >> 14 & 0xfff, (1u << socket) - 1);
			assert_int_equal(vcpu_cpuid(&vcpu, 4, 2).eax >> 26, 3);
			assert_int_equal(vcpu_cpuid(&vcpu, 4, 3).eax >> 14, 3 << 12); /* none */
			assert_int_equal(vcpu_cpuid(&vcpu, 0x80000008, 0).ecx, socket << 12 | (3 * threads - 1));
			assert_int_equal(vcpu_cpuid(&vcpu, 0x80000000, 0).eax,
					 amd && threads > 1 ? 0x8000001e : 0x80000019);
			assert_int_equal(vcpu_cpuid(&vcpu, 0x80000001, 0).ecx >> 1 & 1, amd);
			assert_int_equal(vcpu_cpuid(&vcpu, 0, 0).eax, amd ? 0x16 : 0x1f);
			for (vcpu.id = 0; vcpu.id < 6 * threads; vcpu.id++) {
				unsigned id = vcpu.id / threads / 3 << socket | vcpu.id / threads % 3 << cores |
					      vcpu.id % threads;

				assert_int_equal(vcpu_cpuid(&vcpu, 1, 0).ebx >> 24, id);
				for (unsigned leaf = 0xb; leaf <= 0x1f; leaf += 0x14) {
					bool there = leaf == 0xb || !amd;

					assert_int_equal(vcpu_cpuid(&vcpu, leaf, 0).eax, there ? cores : 0);
					assert_int_equal(vcpu_cpuid(&vcpu, leaf, 0).ebx, there ? threads : 0);
					assert_int_equal(vcpu_cpuid(&vcpu, leaf, 0).ecx, there ? 0x100 : 0);
					assert_int_equal(vcpu_cpuid(&vcpu, leaf, 1).eax, there ? socket : 0);
					assert_int_equal(vcpu_cpuid(&vcpu, leaf, 1).ebx, there ? 3 * threads : 0);
					assert_int_equal(vcpu_cpuid(&vcpu, leaf, 1).ecx, there ? 0x201 : 0);
					assert_int_equal(vcpu_cpuid(&vcpu, leaf, 2).ecx, there ? 2 : 0);
					assert_int_equal(vcpu_cpuid(&vcpu, leaf, 2).edx, there ? id : 0);
				}
				if (amd && threads > 1) {
					struct cpuid_result r = vcpu_cpuid(&vcpu, 0x8000001e, 0);

					assert_int_equal(r.eax, id);
					assert_int_equal(r.ebx, 1 << 8 | vcpu.id / 2 % 3);
					assert_int_equal(r.ecx, vcpu.id / 6);
				}
			}
			cpuid_policy_destroy(machine.cpuid);
		}
	config.topology = TOPOLOGY(1, 1, 1);
	extended_max = 0x80000020;
}

/* Linux' leaves stand behind our own, and only where they are wanted. */
void pv_tell(struct cpuid_result leaves[2])
{
	leaves[0].eax = 0x40000101;
	leaves[1].eax = 77;
}
static void test_pv_leaves(void **state)
{
	for (config.pv = 0; config.pv < 2; config.pv++) {
		begin(whole);
		assert_int_equal(vcpu_cpuid(&vcpu, 0x40000000, 0).eax, 0x40000010);
		assert_memory_equal(&(uint32_t){ vcpu_cpuid(&vcpu, 0x40000000, 0).ebx }, "Quir", 4);
		assert_int_equal(vcpu_cpuid(&vcpu, 0x40000100, 0).eax, config.pv ? 0x40000101 : 0);
		assert_int_equal(vcpu_cpuid(&vcpu, 0x40000101, 0).eax, config.pv ? 77 : 0);
		assert_int_equal(vcpu_cpuid(&vcpu, 0x400000ff, 0).eax, 0);
		assert_int_equal(vcpu_cpuid(&vcpu, 0x40000102, 0).eax, 0);
		cpuid_policy_destroy(machine.cpuid);
	}
	config.pv = 0;
}

/* Vector instructions whose state the host does not switch. */
static void test_no_state_no_instructions(void **state)
{
	features = (struct features){ .amd = true };
	xcr0 = 3;
	begin(whole);
	assert_int_equal(vcpu_cpuid(&vcpu, 1, 0).ecx & (BIT(28) | BIT(12) | BIT(29)), 0);
	assert_int_equal(vcpu_cpuid(&vcpu, 7, 0).ebx & (BIT(5) | BIT(16)), 0);
	assert_int_equal(vcpu_cpuid(&vcpu, 0x80000001, 0).ecx & (BIT(11) | BIT(16)), 0);
	assert_int_equal(vcpu_cpuid(&vcpu, 1, 0).ecx >> 26 & 1, 1);
	assert_int_equal(vcpu_cpuid(&vcpu, 0x8000001d, 3).ebx, UINT32_MAX); /* TOPOEXT, and its caches */
	assert_int_equal(vcpu_cpuid(&vcpu, 0x80000001, 0).ecx >> 22 & 1, 1);
	cpuid_policy_destroy(machine.cpuid);
	xcr0 = 7;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_more_than_the_controls_allow),
		cmocka_unit_test(test_speculation),
		cmocka_unit_test(test_bits_that_follow),
		cmocka_unit_test(test_frequencies),
		cmocka_unit_test(test_no_state_no_instructions),
		cmocka_unit_test(test_topology),
		cmocka_unit_test(test_pv_leaves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
