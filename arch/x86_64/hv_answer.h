/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers out of a table (hv_vcpu.answers), for the backends' world switches. All that an ordinary exit and entry would look at
 * between is looked at here, by loads only; whoever is in doubt takes the ordinary way, and nothing has changed.
 *
 * Called with part of the guest's state still in the processor, under SVM even its GS: nothing here may use a per-CPU variable,
 * take a lock or call anything.
 */
#pragma once

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/hv.h"

/* After these flags stepping over an instruction is more than moving RIP: a trap to report, RF to end. */
#define HV_STEP_FLAGS (RFLAGS_TF | RFLAGS_RF)

/* Where a step leads; false: not by plain addition (no length known, or by way of a 4 GiB boundary). */
static inline bool hv_step(uint64_t rip, unsigned length, uint64_t *next)
{
	*next = rip + length;
	return likely(length && !((*next ^ rip) >> 32));
}

/* CPUID; RIP is the caller's to move. */
static inline bool hv_answer(struct hv_vcpu *vcpu)
{
	const struct hv_answers *a = vcpu->answers;
	uint32_t leaf = (uint32_t)vcpu->gpr[GPR_RAX];
	const struct cpuid_result *r;

	if (unlikely(!a || leaf > 63 || !(a->leaves >> leaf & 1) || __atomic_load_n(a->requests, __ATOMIC_RELAXED) ||
		     rdtsc() >= vcpu->slice_deadline))
		return false;
	r = &a->cpuid[leaf];
	vcpu->gpr[GPR_RAX] = r->eax;
	vcpu->gpr[GPR_RBX] = r->ebx;
	vcpu->gpr[GPR_RCX] = r->ecx;
	vcpu->gpr[GPR_RDX] = r->edx;
	++*a->count;
	return true;
}
