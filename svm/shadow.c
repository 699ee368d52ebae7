/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interrupt shadow where VMRUN drops it (quirk). special.c calls this when it arms and when it has come back.
 *
 * A shadow that VMRUN drops (quirk) keeps windows shut until an instruction has run: an exit before it puts the shadow back, or an
 * interrupt would come between STI and HLT, and the guest sleep for ever. A window that is wanted meanwhile opens at the next exit,
 * which the host's timer brings about: the guest might run long without one. So with a virtual interrupt of a guest's guest: taken before
 * the instruction, its hypervisor would ask for that window again for ever. The timer may be there before the instruction is: the next
 * try gets twice the time. As a jump to itself looks the same, tries have an end; an exit before the timer is none, however many come.
 */
#include "svm/svm.h"

#include "arch/x86_64/host.h"

#define SHADOW_TRIES 12u /* in a row at one RIP */
#define SHADOW_NS 5000u  /* until the window is asked for, at the first: an instruction has run */

/* What must not come before an instruction has run waits for the exit behind it. */
void svm_hold_shadow(struct svm_vcpu *svm)
{
	uint64_t *interrupts = &svm->vmcb->control.interrupt_control;

	svm->armed |= ARMED_SHADOW;
	svm->held_virtual = *interrupts & V_IRQ;
	*interrupts &= ~V_IRQ;
	svm_dirty(svm->vmcb, CLEAN_TPR);
	svm->shadow_until = UINT64_MAX;
	if (!svm->hv.want_interrupt_window && !svm->held_virtual)
		return;
	svm->shadow_until = host_now_ns() + ((uint64_t)SHADOW_NS << svm->shadow_tries);
	host_timer_set(svm->shadow_until);
	svm->hv.slice_deadline = 0; /* the run loop sets the timer anew */
}

void svm_give_back_virtual(struct svm_vcpu *svm)
{
	if (!(svm->armed & ARMED_SHADOW))
		return;
	svm->vmcb->control.interrupt_control |= svm->held_virtual;
	svm_dirty(svm->vmcb, CLEAN_TPR);
}

void svm_finish_shadow(struct svm_vcpu *svm)
{
	bool same = (svm->armed & ARMED_SHADOW) && svm->hv.rip == svm->entry_rip;

	svm->armed &= ~ARMED_SHADOW;
	if (same && host_now_ns() >= svm->shadow_until)
		same = ++svm->shadow_tries <= SHADOW_TRIES;
	if (!same) {
		svm->shadow_tries = 0;
		return;
	}
	svm->vmcb->control.interrupt_state = INTERRUPT_SHADOW;
}
