/* SPDX-License-Identifier: Apache-2.0 */
// sources: vmx/capability.c lib/format.c
/* Capability MSRs as read from Bochs 2.7's models, and machines made worse from them one bit at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "vmx/capability.h"
#include "vmx/vmcs.h"

#define COMMON                                                                                                         \
	.cpuid_vmx = true, .feature_control = 5, .basic = 0x00d810000000002b, .pin = 0x0000007f00000016,               \
	.primary = 0xf7f9fffe04006172, .exit = 0x007fffff00036dfb, .entry = 0x0000ffff000011fb,                        \
	.cr0_fixed0 = 0x80000021, .cr0_fixed1 = 0xffffffff, .cr4_fixed0 = 0x2000

static const struct vmx_msrs haswell = { COMMON, .misc = 0x200401e0, .secondary = 0x00047fff00000000,
					 .cr4_fixed1 = 0x1727ff, .ept_vpid = 0x00000f0106334141 };
static const struct vmx_msrs skylake_x = { COMMON, .misc = 0x600401e0, .secondary = 0x02177fff00000000,
					   .cr4_fixed1 = 0x3727ff, .ept_vpid = 0x00000f0106334141 };
static const struct vmx_msrs sandy_bridge = { COMMON, .misc = 0x000401e0, .secondary = 0x000000ff00000000,
					      .cr4_fixed1 = 0x0627ff, .ept_vpid = 0x00000f0106114141 };

static struct vmx_capability capability;
static struct hv_caps caps;
static struct hv_refusal why;

static enum status parse(const struct vmx_msrs *msrs)
{
	memset(&caps, 0xa5, sizeof(caps));
	memset(&why, 0, sizeof(why));
	return vmx_capability_parse(msrs, &capability, &caps, &why);
}

static void adjusting(void **state)
{
	uint32_t value;

	/* low half: must be 1; high half: may be 1 */
	assert_int_equal(vmx_adjust_controls(0x000000ff00000016, 0x01, 0x100, &value), 0);
	assert_int_equal(value, 0x17);
	assert_int_equal(vmx_adjust_controls(0x0000001600000016, 0x09, 0x40, &value), 0x09);
	assert_int_equal(value, 0x16);
	assert_int_equal(vmx_adjust_controls(0xffffffff00000000, 0, 0, &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(vmx_adjust_controls(0, BIT(31), 0, &value), BIT(31));
}

static void a_full_machine(void **state)
{
	assert_int_equal(parse(&skylake_x), OK);
	assert_int_equal(capability.revision, 0x2b);
	assert_int_equal(capability.pin, 0x16 | 0x69);
	assert_int_equal(capability.primary & (PRIMARY_INTERRUPT_WINDOW | PRIMARY_NMI_WINDOW), 0);
	assert_int_equal(capability.primary & (PRIMARY_CR3_LOAD | PRIMARY_CR3_STORE | PRIMARY_INVLPG), 0);
	assert_int_equal(capability.secondary, SECONDARY_EPT | SECONDARY_UNRESTRICTED | SECONDARY_VPID |
						       SECONDARY_RDTSCP | SECONDARY_INVPCID | SECONDARY_WBINVD |
						       SECONDARY_PML | SECONDARY_PAUSE_LOOP);
	assert_int_equal(capability.entry & ENTRYC_IA32E, 0);
	assert_true(capability.timer && capability.vpid && capability.pat);
	assert_int_equal(capability.timer_shift, 0);
	assert_true(caps.slat == SLAT_EPT && caps.slat_levels == 4);
	assert_true(caps.slat_2m && caps.slat_1g && caps.slat_execute_only && caps.slat_accessed_dirty && caps.pml &&
		    caps.tsc_scaling && caps.slice_timer && caps.vpid && caps.misconfig_exit);
	assert_true(caps.rdtscp && caps.invpcid);
	assert_true(caps.kick_by_nmi); /* this is Bochs */
}

static void poorer_machines(void **state)
{
	assert_int_equal(parse(&haswell), OK);
	assert_true(caps.slat_1g && caps.slat_accessed_dirty && !caps.pml && !caps.tsc_scaling);
	assert_true(capability.secondary & SECONDARY_INVPCID);
	assert_int_equal(parse(&sandy_bridge), OK);
	assert_true(caps.slat_2m && caps.slat_execute_only && !caps.slat_1g && !caps.slat_accessed_dirty && !caps.pml);
	assert_int_equal(capability.secondary & SECONDARY_INVPCID, 0);
	assert_true(caps.rdtscp && !caps.invpcid);
}

static void half_a_feature_is_none(void **state)
{
	struct vmx_msrs msrs = skylake_x;

	msrs.entry &= ~(ENTRYC_LOAD_PAT << 32);
	msrs.ept_vpid &= ~EPT_INVVPID;
	msrs.pin &= ~(PIN_PREEMPTION_TIMER << 32);
	msrs.basic = 0x00da040000000004; /* a processor, not Bochs */
	msrs.misc |= 5;
	assert_int_equal(parse(&msrs), OK);
	assert_false(capability.pat || capability.vpid || capability.timer);
	assert_int_equal(capability.exit & (EXITC_SAVE_PAT | EXITC_LOAD_PAT), 0);
	assert_int_equal(capability.secondary & SECONDARY_VPID, 0);
	assert_int_equal(capability.timer_shift, 5);
	assert_int_equal(capability.longest_slice, UINT64_C(0xffffffff) << 5);
	assert_false(caps.vpid || caps.slice_timer || caps.kick_by_nmi);
	assert_int_equal(caps.asid_count, 0);
	msrs = skylake_x;
	msrs.ept_vpid &= ~(EPT_INVVPID_SINGLE | EPT_INVVPID_ALL);
	assert_int_equal(parse(&msrs), OK);
	assert_false(caps.vpid || caps.invpcid);
	msrs = skylake_x;
	msrs.secondary &= ~(SECONDARY_RDTSCP << 32);
	assert_int_equal(parse(&msrs), OK);
	assert_false(caps.rdtscp);
	/* The log of written pages follows the dirty bits. */
	msrs = skylake_x;
	assert_int_equal(parse(&msrs), OK);
	assert_true(caps.pml && (capability.secondary & SECONDARY_PML));
	msrs.ept_vpid &= ~EPT_ACCESSED_DIRTY;
	assert_int_equal(parse(&msrs), OK);
	assert_false(caps.pml || caps.slat_accessed_dirty || (capability.secondary & SECONDARY_PML));
}

static void told_why_not(void **state)
{
	struct vmx_msrs msrs = { .cpuid_vmx = false };

	assert_int_equal(parse(&msrs), NOT_SUPPORTED);
	assert_non_null(strstr(why.text, "VT-x"));
	msrs = skylake_x;
	msrs.feature_control = FEATURE_CONTROL_LOCK;
	assert_int_equal(parse(&msrs), DENIED);
	assert_non_null(strstr(why.text, "firmware"));
	assert_non_null(strstr(why.text, "Intel Virtualization Technology"));
	assert_true(strlen(why.text) + 1 < sizeof(why.text)); /* not cut */
	msrs.feature_control = 0;                             /* unlocked: enable_cpu sets it */
	assert_int_equal(parse(&msrs), OK);
	msrs.feature_control = BIT(1) | FEATURE_CONTROL_LOCK; /* in SMX only */
	assert_int_equal(parse(&msrs), DENIED);
}

/* Each needed bit, taken away, refuses the machine and is named. */
static void each_need_is_named(void **state)
{
	static const struct {
		size_t where;
		unsigned shift;
		uint64_t bit;
		const char *name;
	} needs[] = {
		{ offsetof(struct vmx_msrs, pin), 32, PIN_EXTERNAL_INTERRUPT, "external-interrupt" },
		{ offsetof(struct vmx_msrs, pin), 32, PIN_NMI, "NMI exiting" },
		{ offsetof(struct vmx_msrs, pin), 32, PIN_VIRTUAL_NMIS, "virtual NMIs" },
		{ offsetof(struct vmx_msrs, primary), 32, PRIMARY_HLT, "HLT" },
		{ offsetof(struct vmx_msrs, primary), 32, PRIMARY_MSR_BITMAP, "MSR bitmaps" },
		{ offsetof(struct vmx_msrs, primary), 32, PRIMARY_SECONDARY, "secondary" },
		{ offsetof(struct vmx_msrs, secondary), 32, SECONDARY_EPT, "EPT" },
		{ offsetof(struct vmx_msrs, secondary), 32, SECONDARY_UNRESTRICTED, "unrestricted guest" },
		{ offsetof(struct vmx_msrs, exit), 32, EXITC_HOST_64, "64-bit host" },
		{ offsetof(struct vmx_msrs, exit), 32, EXITC_LOAD_EFER, "EFER" },
		{ offsetof(struct vmx_msrs, entry), 32, ENTRYC_IA32E, "64-bit guests" },
		{ offsetof(struct vmx_msrs, entry), 32, ENTRYC_LOAD_EFER, "EFER" },
		{ offsetof(struct vmx_msrs, ept_vpid), 0, EPT_WB, "write-back" },
		{ offsetof(struct vmx_msrs, ept_vpid), 0, EPT_4_LEVELS, "4-level" },
		{ offsetof(struct vmx_msrs, ept_vpid), 0, EPT_INVEPT, "INVEPT" },
		{ offsetof(struct vmx_msrs, ept_vpid), 0, EPT_INVEPT_SINGLE | EPT_INVEPT_ALL, "INVEPT type" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(needs); i++) {
		struct vmx_msrs msrs = skylake_x;

		*(uint64_t *)((char *)&msrs + needs[i].where) &= ~(needs[i].bit << needs[i].shift);
		assert_int_equal(parse(&msrs), NOT_SUPPORTED);
		if (!strstr(why.text, needs[i].name)) {
			printf("\"%s\" doesn't name \"%s\"\n", why.text, needs[i].name);
			fail();
		}
	}
}

/* What CPUID doesn't tell a guest of must be #UD in it, so its control is off, or there is an exit. */
static void hidden_instructions_are_undefined(void **state)
{
	struct vmx_msrs msrs = skylake_x;

	msrs.secondary |= (SECONDARY_ENCLS | BIT(13) | BIT(26) | BIT(27)) << 32; /* SGX, VMFUNC, TPAUSE, PCONFIG */
	msrs.primary |= BIT(17) << 32;                                           /* tertiary controls */
	assert_int_equal(parse(&msrs), OK);
	assert_int_equal(capability.secondary & (BIT(13) | BIT(20) | BIT(26) | BIT(27)), 0);
	assert_int_equal(capability.secondary & SECONDARY_ENCLS, SECONDARY_ENCLS);
	assert_int_equal(capability.primary & BIT(17), 0);
	msrs.ept_vpid &= ~EPT_INVVPID; /* flushes are not told apart: no PCIDs, so no INVPCID */
	assert_int_equal(parse(&msrs), OK);
	assert_int_equal(capability.secondary & SECONDARY_INVPCID, 0);
	assert_false(caps.invpcid);
}

/* Some processors' preemption timers count wrongly; steppings beside them are right. */
static void timers_with_errata_are_not_used(void **state)
{
	static const struct {
		uint32_t signature;
		bool right;
	} cases[] = { { 0x106a4, false }, { 0x106a2, true },     { 0x206e6, false },
		      { 0x20655, false }, { 0x306a8, false },    { 0x306a9, true },
		      { 0x50654, true },  { 0xf00106e5, false }, { 0x1000c0d5, true } };

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vmx_msrs msrs = skylake_x;

		msrs.signature = cases[i].signature;
		assert_int_equal(parse(&msrs), OK);
		assert_int_equal(caps.slice_timer, cases[i].right);
		assert_int_equal(capability.timer, cases[i].right);
		assert_int_equal((capability.pin & PIN_PREEMPTION_TIMER) != 0, cases[i].right);
		assert_int_equal((capability.exit & EXITC_SAVE_TIMER) != 0, cases[i].right);
	}
}

/* iTLB multihit: large leaves hold code only where the processor says that it is immune. Bochs is. */
static void code_in_large_leaves(void **state)
{
	struct vmx_msrs msrs = skylake_x;

	assert_int_equal(parse(&msrs), OK);
	assert_true(caps.slat_large_execute);
	msrs.basic = 0x00da040000000004;
	assert_int_equal(parse(&msrs), OK);
	assert_false(caps.slat_large_execute);
	msrs.arch_capabilities = BIT(6);
	assert_int_equal(parse(&msrs), OK);
	assert_true(caps.slat_large_execute);
}

static void cpus_are_compared(void **state)
{
	struct vmx_capability first;
	struct vmx_msrs msrs = skylake_x;

	assert_int_equal(parse(&skylake_x), OK);
	first = capability;
	msrs.feature_control = 0;             /* another lock state is no difference */
	msrs.secondary |= BIT(26) << 32;      /* nor is a control that nobody uses, */
	msrs.ept_vpid |= BIT(8) | BIT(22);    /* another form of tables, more told of violations, */
	msrs.cr4_fixed1 |= BIT(23) | BIT(25); /* or a bit of CR4 that no one sets */
	assert_int_equal(parse(&msrs), OK);
	assert_true(vmx_capability_equal(&first, &capability));
	assert_int_equal(parse(&haswell), OK);
	assert_false(vmx_capability_equal(&first, &capability));
	msrs = skylake_x;
	msrs.misc |= 1;
	assert_int_equal(parse(&msrs), OK);
	assert_false(vmx_capability_equal(&first, &capability));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(adjusting),
		cmocka_unit_test(a_full_machine),
		cmocka_unit_test(poorer_machines),
		cmocka_unit_test(half_a_feature_is_none),
		cmocka_unit_test(told_why_not),
		cmocka_unit_test(each_need_is_named),
		cmocka_unit_test(cpus_are_compared),
		cmocka_unit_test(hidden_instructions_are_undefined),
		cmocka_unit_test(timers_with_errata_are_not_used),
		cmocka_unit_test(code_in_large_leaves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
