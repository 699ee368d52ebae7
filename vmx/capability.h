/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a processor's VMX can do, out of its capability MSRs (Intel SDM vol. 3 appendix A). Pure:
 * vmx/cpu.c reads the MSRs, this file judges them, unit tests feed it with those of real models.
 *
 * The result is the set of controls that every VMCS is built from, so a CPU that comes to
 * the same result as the boot processor can run any of its vcpus.
 */
#pragma once

#include "arch/x86_64/hv.h"

#define MSR_FEATURE_CONTROL 0x3au
#define MSR_VMX_BASIC 0x480u
#define MSR_VMX_PIN 0x481u
#define MSR_VMX_PRIMARY 0x482u
#define MSR_VMX_EXIT 0x483u
#define MSR_VMX_ENTRY 0x484u
#define MSR_VMX_MISC 0x485u
#define MSR_VMX_CR0_FIXED0 0x486u
#define MSR_VMX_CR0_FIXED1 0x487u
#define MSR_VMX_CR4_FIXED0 0x488u
#define MSR_VMX_CR4_FIXED1 0x489u
#define MSR_VMX_VMCS_ENUM 0x48au
#define MSR_VMX_SECONDARY 0x48bu
#define MSR_VMX_EPT_VPID 0x48cu
#define MSR_VMX_TRUE_PIN 0x48du
#define MSR_VMX_TRUE_PRIMARY 0x48eu
#define MSR_VMX_TRUE_EXIT 0x48fu
#define MSR_VMX_TRUE_ENTRY 0x490u

/* IA32_FEATURE_CONTROL, section 24.7. */
#define FEATURE_CONTROL_LOCK BIT(0)
#define FEATURE_CONTROL_VMX BIT(2)

/* IA32_VMX_BASIC, section A.1. */
#define BASIC_SIZE(bytes) ((uint64_t)(bytes) << 32)
#define BASIC_WB (UINT64_C(6) << 50)
#define BASIC_STRING_INFO BIT(54) /* exits by INS and OUTS tell of segment and address size */
#define BASIC_REVISION BITS(30, 0)
#define SHADOW_VMCS BIT(31) /* in a region's first word, section 25.2 */
#define BASIC_TRUE_CONTROLS BIT(55)

/* IA32_VMX_EPT_VPID_CAP, section A.10. */
#define EPT_EXECUTE_ONLY BIT(0)
#define EPT_4_LEVELS BIT(6)
#define EPT_UC BIT(8)
#define EPT_WB BIT(14)
#define EPT_2M BIT(16)
#define EPT_1G BIT(17)
#define EPT_INVEPT BIT(20)
#define EPT_ACCESSED_DIRTY BIT(21)
#define EPT_INVEPT_SINGLE BIT(25)
#define EPT_INVEPT_ALL BIT(26)
#define EPT_INVVPID BIT(32)
#define EPT_INVVPID_ADDRESS BIT(40)
#define EPT_INVVPID_SINGLE BIT(41)
#define EPT_INVVPID_ALL BIT(42)
#define EPT_INVVPID_NOT_GLOBAL BIT(43)

/* IA32_VMX_MISC, section A.6. */
#define MISC_TIMER_SHIFT BITS(4, 0)
#define MISC_STORES_LMA BIT(5)
#define MISC_HLT BIT(6)
#define MISC_WAIT_SIPI BIT(8)
#define MISC_CR3_TARGETS(n) ((uint64_t)(n) << 16)
#define MISC_WRITES_ALL BIT(29) /* VMWRITE takes read-only fields, too */
#define MISC_NO_LENGTH BIT(30)  /* a soft event may be injected with length 0 */

/* The MSRs as they were read; those that this processor doesn't have are 0. True controls stand in for plain ones. */
struct vmx_msrs {
	bool cpuid_vmx;     /* CPUID.1:ECX[5] */
	uint32_t signature; /* CPUID.1:EAX */
	uint64_t arch_capabilities;
	uint64_t feature_control, basic, misc;
	uint64_t pin, primary, secondary, exit, entry;
	uint64_t cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
	uint64_t ept_vpid;
};

/* What follows from them; the same on every CPU. */
struct vmx_capability {
	uint32_t revision;
	uint32_t pin, primary, secondary, exit, entry; /* ready for a VMCS; primary without the windows */
	uint32_t timer_shift;                          /* the preemption timer counts TSC >> this */
	uint64_t longest_slice;                        /* TSC ticks that it can count */
	uint64_t cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
	uint64_t ept_vpid;
	uint64_t misc;                       /* the MSR */
	uint32_t may_primary, may_secondary; /* of what a hypervisor as a guest may ask for */
	bool timer, timer_saved, vpid, pat, pml, kick_by_nmi, string_info, shadowing;
};

/*
 * NOT_SUPPORTED: `why` says what is missing; DENIED: the firmware has locked it off, and `why` names the setting.
 * On OK both capability and caps are filled.
 */
enum status vmx_capability_parse(const struct vmx_msrs *msrs, struct vmx_capability *capability, struct hv_caps *caps,
				 struct hv_refusal *why) must_check;

bool vmx_capability_equal(const struct vmx_capability *a, const struct vmx_capability *b);

/*
 * Section A.2: the low half of `msr` are bits that must be 1, the high half those that may be. *value gets
 * what is required, what is wanted and possible, and what must be. Returns the required bits that aren't possible.
 */
uint32_t vmx_adjust_controls(uint64_t msr, uint64_t required, uint64_t wanted, uint32_t *value);
