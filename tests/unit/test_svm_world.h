/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A processor with SVM played by the test: svm_enter() is a script that looks at the VMCB as VMRUN would find it and writes what
 * #VMEXIT would. For programs with svm/run.c, special.c, spec_ctrl.c, vcpu.c and what these need.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/registers.h"
#include "mm/map.h"
#include "svm/codes.h"
#include "svm/quirks.h"
#include "svm/svm.h"

uint8_t *direct_map = (uint8_t *)PAGE_SIZE; /* anywhere but at 0, from where a compiler counts no address */
struct svm_features svm_features;
struct svm_cpu svm_cpus[MAX_CPUS];
struct svm_quirks svm_quirks;
bool svm_read_xcr0;
extern __thread unsigned test_cpu;

enum status svm_probe(struct hv_caps *caps, struct hv_refusal *why)
{
	return NOT_SUPPORTED;
}
enum status svm_enable_cpu(struct hv_refusal *why)
{
	return NOT_SUPPORTED;
}
void svm_disable_cpu(void)
{
}

static uint64_t breakpoints[4]; /* the processor's */
void svm_read_breakpoints(uint64_t *dr)
{
	memcpy(dr, breakpoints, sizeof(breakpoints));
}
void svm_write_breakpoints(const uint64_t *dr)
{
	memcpy(breakpoints, dr, sizeof(breakpoints));
}

static uint64_t native_dr7, entered_with; /* the processor's, now and at the last entry */
void svm_write_dr7(uint64_t value)
{
	native_dr7 = value;
}

struct features features;
static uint64_t spec_ctrl; /* the processor's */
static unsigned spec_ctrl_accesses;
bool rdmsr_safe(uint32_t msr, uint64_t *value)
{
	assert_int_equal(msr, MSR_SPEC_CTRL);
	spec_ctrl_accesses++;
	*value = spec_ctrl;
	return true;
}
bool wrmsr_safe(uint32_t msr, uint64_t value)
{
	assert_int_equal(msr, MSR_SPEC_CTRL);
	spec_ctrl_accesses++;
	spec_ctrl = value;
	return true;
}

__attribute__((unused)) static unsigned kicks; /* of this CPU by itself */
__attribute__((unused)) static uint64_t timer_set_to, now_ns = 1000;

uint64_t host_now_ns(void)
{
	return now_ns;
}

void host_timer_set(uint64_t deadline_ns)
{
	timer_set_to = deadline_ns;
}

void host_kick(unsigned cpu, bool nmi)
{
	assert_true(cpu == test_cpu && !nmi);
	kicks++;
}

static uint64_t page_fault_address; /* the processor's CR2 */
void svm_write_cr2(uint64_t value)
{
	page_fault_address = value;
}

static struct vmcb seen; /* as VMRUN found it */
static unsigned entries;
static struct {
	uint64_t code, info1, info2, interrupted, rip, rflags;
	void (*act)(struct vmcb *vmcb);
} script;

void svm_enter(struct hv_vcpu *entering, uint64_t guest_vmcb, uint64_t host_vmcb)
{
	struct vmcb *vmcb = direct_pointer(hpa(guest_vmcb));

	assert_true(host_vmcb == 0x7000 + test_cpu);
	seen = *vmcb;
	entered_with = native_dr7;
	entries++;
	vmcb->control.exit_code = script.code;
	vmcb->control.exit_info1 = script.info1;
	vmcb->control.exit_info2 = script.info2;
	vmcb->control.exit_interrupt_info = script.interrupted;
	if (script.rip)
		vmcb->save.rip = script.rip;
	if (script.rflags)
		vmcb->save.rflags = script.rflags;
	if (script.act)
		script.act(vmcb);
}

static struct hv_vcpu *vcpu;

static bool exited(struct hv_vcpu *which)
{
	return false;
}

static void run_until(struct hv_vcpu *which, uint64_t code, uint64_t rip)
{
	unsigned before = entries;

	script.code = code;
	script.rip = rip;
	which->exited = exited;
	svm_ops.run(which);
	assert_int_equal(entries, before + 1);
	memset(&script, 0, sizeof(script));
}

/* CPUs and vcpu afresh. */
__attribute__((unused)) static void svm_world_begin(void)
{
	memset(svm_cpus, 0, sizeof(svm_cpus));
	memset(&svm_quirks, 0, sizeof(svm_quirks));
	memset(&script, 0, sizeof(script));
	svm_features = (struct svm_features){ .asid_count = 16 };
	for (unsigned i = 0; i < 2; i++) {
		svm_cpus[i].host_vmcb_address = hpa(0x7000 + i);
		asid_open(&svm_cpus[i].asids, i, 16);
	}
	test_cpu = 0;
	assert_int_equal(svm_ops.create(&vcpu), OK);
	svm_ops.set_slat(vcpu, hpa(0x123000));
}
