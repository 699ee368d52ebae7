/* SPDX-License-Identifier: Apache-2.0 */
/*
 * L2's clocks: the time stamp counter, which is L1's, scaled and moved as L1 asks for (Intel SDM vol. 3 section 26.3), and the VMX-preemption
 * timer, which Quire keeps by the host's (section 26.5.1).
 */
#include "vmx/nested/nested.h"

#include "arch/x86_64/cpu.h"

void vmx_nested_set_clock(struct vmx_nested *n)
{
	const union vmcs12 *v = &n->vmcs12;
	struct hv_vcpu *l2 = n->base.l2;
	bool moved = AT(v, PRIMARY_CONTROLS) & PRIMARY_TSC_OFFSET;
	unsigned shift = vmx_offered(&n->offer, MSR_VMX_MISC) & MISC_TIMER_SHIFT;

	l2->tsc_scale = moved && (vmcs12_secondary(v) & SECONDARY_TSC_SCALING) ? AT(v, TSC_MULTIPLIER) : 0;
	l2->tsc_offset = hv_tsc_scaled(l2, n->base.l1->tsc_offset) + (moved ? AT(v, TSC_OFFSET) : 0);
	l2->tsc_changed = true;
	n->base.timer = UINT64_MAX;
	if (AT(v, PIN_CONTROLS) & PIN_PREEMPTION_TIMER)
		n->base.timer = rdtsc() + (AT(v, PREEMPTION_TIMER) << shift);
	n->base.deadline = n->base.timer;
}

void vmx_nested_save_timer(struct vmx_nested *n)
{
	union vmcs12 *v = &n->vmcs12;
	unsigned shift = vmx_offered(&n->offer, MSR_VMX_MISC) & MISC_TIMER_SHIFT;
	uint64_t now = rdtsc(), left = n->base.timer > now ? n->base.timer - now : 0;

	if (AT(v, EXIT_CONTROLS) & EXITC_SAVE_TIMER)
		AT(v, PREEMPTION_TIMER) = AT(v, EXIT_REASON) == REASON_PREEMPTION_TIMER ? 0 : left >> shift;
}
