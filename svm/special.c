/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What makes an entry more than a bare one, and what becomes of it at the exit: an event to inject, a window to wait for, NMI
 * blocking, an interrupt shadow (shadow.c), breakpoints, a refusal. run.c asks for it by one test each way; each thing is armed as a bit of
 * svm_vcpu.armed and undone by that bit. AMD APM vol. 2 sections 13.1, 15.5 - 15.7, 15.16, 15.20, 15.21.
 *
 * NMI blocking is kept in software: from the injection of an NMI on, IRET exits; that IRET then runs natively, and NMIs are free
 * once it is done. If one waits for that, the IRET is single-stepped, whatever IF is behind it; every exception exits meanwhile, so
 * that none pushes the TF that isn't the guest's. An NMI that waits for nothing but the event injected before it: this CPU
 * interrupts itself, which takes the guest out again right behind the delivery. So it does after an interrupt that may come twice (quirk).
 */
#include "svm/svm.h"

#include "arch/x86_64/host.h"
#include "arch/x86_64/registers.h"
#include "svm/codes.h"
#include "svm/quirks.h"

static void arm_window(struct svm_vcpu *svm, bool on)
{
	struct vmcb_control *control = &svm->vmcb->control;
	uint64_t *interrupts = &control->interrupt_control;

	if (on == !!(svm->armed & ARMED_WINDOW))
		return;
	*interrupts = svm_interrupt_control(svm);
	svm->armed ^= ARMED_WINDOW;
	if (on) {
		svm->interrupts_below = *interrupts;
		*interrupts = (*interrupts & (V_TPR_MASK | V_INTR_MASKING)) | V_IRQ | V_IGNORE_TPR | V_PRIORITY_HIGHEST;
	}
	svm_set_intercepts(svm);
	svm_dirty(svm->vmcb, CLEAN_TPR);
}

static void arm_iret(struct svm_vcpu *svm, bool on)
{
	if (on == !!(svm->armed & ARMED_IRET))
		return;
	svm->armed ^= ARMED_IRET;
	svm_set_intercepts(svm);
}

/* A guest's own TF brings the exit about as well; a task switch by IRET would save ours. */
static void arm_step(struct svm_vcpu *svm)
{
	struct vmcb_save *save = &svm->vmcb->save;

	if (save->rflags & (RFLAGS_TF | RFLAGS_NT))
		return;
	svm->armed |= ARMED_STEP;
	svm->dr6 = save->dr6;
	save->rflags |= RFLAGS_TF;
	svm_set_intercepts(svm);
}

/* Has the IRET run? TF and the trap that ended it are the guest's business no more. */
static bool finish_step(struct svm_vcpu *svm)
{
	struct vmcb *vmcb = svm->vmcb;
	bool trap = vmcb->control.exit_code == SVM_EXIT_EXCEPTION + VECTOR_DB && (vmcb->save.dr6 & DR6_SINGLE_STEP);

	if (!(svm->armed & ARMED_STEP))
		return svm->hv.rip != svm->iret_rip;
	svm->armed &= ~ARMED_STEP;
	svm_set_intercepts(svm);
	if (!trap && svm->hv.rip == svm->iret_rip) {
		vmcb->save.rflags &= ~(uint64_t)RFLAGS_TF;
		return false;
	}
	if (trap && !(vmcb->save.dr6 & DR6_BREAKPOINTS)) {
		vmcb->save.dr6 = svm->dr6;
		svm_dirty(vmcb, CLEAN_DEBUG);
		svm->hv.exit.kind = EXIT_NMI_WINDOW;
	} else if (trap) {
		svm->hv.exit.exception.detail &= ~(uint64_t)DR6_SINGLE_STEP;
		vmcb->save.dr6 &= svm->dr6 | ~(uint64_t)DR6_SINGLE_STEP;
		svm_dirty(vmcb, CLEAN_DEBUG);
	}
	return true;
}

/* An exit without having been in the guest. Always false. */
static bool no_entry(struct hv_vcpu *vcpu, enum hv_exit_kind kind, const char *failure)
{
	vcpu->exit.kind = kind;
	vcpu->exit.raw_reason = 0;
	vcpu->exit.length = vcpu->exit.byte_count = 0;
	vcpu->exit.interrupted.kind = EVENT_NONE;
	if (failure) {
		vcpu->exit.failure.code = 0;
		vcpu->exit.failure.text = failure;
	}
	return false;
}

static void arm_event(struct svm_vcpu *svm)
{
	struct hv_vcpu *vcpu = &svm->hv;
	struct vmcb_control *control = &svm->vmcb->control;
	bool soft = vcpu->inject.kind == EVENT_SOFT_INTERRUPT ||
		    (vcpu->inject.kind == EVENT_EXCEPTION && vcpu->inject.soft);

	svm->injected = vcpu->inject;
	vcpu->inject.kind = EVENT_NONE;
	if (!(svm->vmcb->save.cr0 & CR0_PE))
		svm->injected.has_error_code = false; /* nothing in real mode pushes one, but the processor would */
	control->event_inject = svm_event_encode(&svm->injected);
	svm->armed |= ARMED_EVENT;
	if (svm->injected.kind == EVENT_NMI) {
		svm->injected.vector = VECTOR_NMI;
		svm->nmi_blocked = true;
	}
	if (soft && svm_features.next_rip) {
		control->next_rip = vcpu->rip + svm->injected.length;
	} else if (soft) {
		vcpu->rip += svm->injected.length;
		svm->rip_advanced = true;
	}
}

bool svm_prepare_special(struct svm_vcpu *svm)
{
	struct hv_vcpu *vcpu = &svm->hv;
	const struct vmcb *vmcb = svm->vmcb;
	bool shadow = vmcb->control.interrupt_state & INTERRUPT_SHADOW;
	bool dropped = shadow && svm_quirks.entry_drops_shadow;

	if (vcpu->inject.kind != EVENT_NONE) {
		const char *refused = svm_event_refused(&vcpu->inject);

		if (refused)
			return no_entry(vcpu, EXIT_INVALID_STATE, refused);
		arm_event(svm);
		if ((vcpu->want_nmi_window && !svm->nmi_blocked) ||
		    (svm_quirks.injects_twice && svm->injected.kind == EVENT_INTERRUPT))
			host_kick(cpu_index(), false);
	} else if (!shadow) {
		if (vcpu->want_nmi_window && !svm->nmi_blocked)
			return no_entry(vcpu, EXIT_NMI_WINDOW, NULL);
		if (vcpu->want_interrupt_window && (vmcb->save.rflags & RFLAGS_IF))
			return no_entry(vcpu, EXIT_INTERRUPT_WINDOW, NULL);
		if (vcpu->want_nmi_window && (svm->armed & ARMED_UNBLOCK))
			arm_step(svm);
	}
	svm->entry_rip = vcpu->rip;
	arm_iret(svm, svm->nmi_blocked && !(svm->armed & ARMED_UNBLOCK));
	arm_window(svm, vcpu->want_interrupt_window && !dropped);
	if (dropped)
		svm_hold_shadow(svm);
	if (svm->armed & ARMED_BREAKPOINTS)
		svm_write_dr7(svm->native_dr7);
	svm_give_spec_ctrl(svm);
	return true;
}

/* The event that this exit broke off must come again; what was done for its sake is undone. */
static void finish_event(struct svm_vcpu *svm)
{
	struct hv_vcpu *vcpu = &svm->hv;
	struct hv_event *interrupted = &vcpu->exit.interrupted;
	bool soft, task = vcpu->exit.kind == EXIT_TASK_SWITCH && vcpu->exit.task.source != TASK_IRET &&
			  vcpu->exit.task.source != TASK_JMP;

	svm_event_decode(svm->vmcb->control.exit_interrupt_info, interrupted, &soft);

	/* A task gate's exit comes in the middle of a delivery, and does not always say so. */
	bool same = (interrupted->kind != EVENT_NONE && interrupted->vector == svm->injected.vector) || task;
	bool ours = (svm->armed & ARMED_EVENT) && same && vcpu->rip == svm->entry_rip;

	if (ours) {
		*interrupted = svm->injected;
		if (svm->rip_advanced)
			vcpu->rip -= svm->injected.length;
		if (interrupted->kind == EVENT_NMI)
			svm->nmi_blocked = false;
	} else {
		if (svm->armed & ARMED_EVENT)
			svm->armed &= ~ARMED_SHADOW; /* delivered, which ends it */
		/*
		 * Soft: the guest's own, RIP stands at it. The others reach a guest by injection alone, so one that
		 * was not injected just now is a leftover (quirk of Bochs); but for a guest's guest's virtual interrupt, which
		 * isn't pending any more.
		 */
		if (interrupted->kind == EVENT_INTERRUPT && !(svm->armed & ARMED_WINDOW) &&
		    interrupted->vector == svm->virtual_vector) {
			svm->virtual_vector = -1;
			svm->vmcb->control.interrupt_control &= ~V_IRQ;
			svm_dirty(svm->vmcb, CLEAN_TPR);
		} else if ((soft && !task) || interrupted->kind == EVENT_INTERRUPT || interrupted->kind == EVENT_NMI) {
			interrupted->kind = EVENT_NONE;
		}
	}
	if (task)
		vcpu->exit.task.source = interrupted->kind == EVENT_NONE ? TASK_CALL : TASK_GATE;
	svm->vmcb->control.event_inject = 0;
	svm->rip_advanced = false;
	svm->armed &= ~ARMED_EVENT;
}

static void finish_nmi(struct svm_vcpu *svm)
{
	if (svm->hv.exit.raw_reason == SVM_EXIT_IRET && (svm->armed & ARMED_IRET)) {
		arm_iret(svm, false);
		svm->armed |= ARMED_UNBLOCK;
		svm->iret_rip = svm->hv.rip;
	} else if ((svm->armed & ARMED_UNBLOCK) && finish_step(svm)) {
		svm->armed &= ~ARMED_UNBLOCK;
		svm->nmi_blocked = false;
	}
}

void svm_finish_special(struct svm_vcpu *svm)
{
	svm_take_spec_ctrl(svm);
	if (svm->armed & ARMED_BREAKPOINTS)
		svm_write_dr7(DR7_RESET);
	svm->vmcb->control.tlb_control = TLB_KEEP;
	svm->armed &= ~ARMED_FLUSH;
	svm_give_back_virtual(svm);
	finish_event(svm);
	finish_nmi(svm);
	svm_finish_shadow(svm);
}

void svm_finish_refused(struct svm_vcpu *svm)
{
	struct hv_vcpu *vcpu = &svm->hv;
	struct vmcb_control *control = &svm->vmcb->control;

	svm_take_spec_ctrl(svm);
	if (svm->armed & ARMED_BREAKPOINTS)
		svm_write_dr7(DR7_RESET);
	(void)no_entry(vcpu, EXIT_INVALID_STATE, NULL);
	vcpu->exit.raw_reason = vcpu->exit.failure.code = control->exit_code;
	vcpu->exit.failure.text = svm_explain_refusal(
		svm->vmcb, &(struct svm_limits){ BITS(31, 0), ~UINT64_C(0), svm_features.asid_count, 52 },
		!svm_quirks.invalid_shows_host);
	if (svm->rip_advanced)
		vcpu->rip -= svm->injected.length;
	/* The checks come before the flush (15.5.1, 15.16.1): it is still due, that of a new generation to whoever takes the next ASID. */
	vcpu->flush_pending |= control->tlb_control != TLB_KEEP;
	if (control->tlb_control == TLB_FLUSH_ALL)
		asid_run_out(&svm_cpus[cpu_index()].asids);
	control->tlb_control = TLB_KEEP;
	control->event_inject = 0;
	control->clean = 0;
	svm->rip_advanced = false;
	svm_give_back_virtual(svm);
	svm->armed &= ~(ARMED_FLUSH | ARMED_EVENT | ARMED_STEP | ARMED_SHADOW);
	svm_set_intercepts(svm);
	vcpu->valid = vcpu->changed = REGS_ALL;
}

/*
 * Only below the upper half, where the host itself lives: until the next exit's end they hold for its own accesses, too. GD stays
 * out for the same reason; the accesses it is about exit anyway.
 */
void svm_arm_breakpoints(struct svm_vcpu *svm)
{
	uint64_t dr7 = svm->hv.dr[7] & ~(uint64_t)DR7_GENERAL_DETECT;

	if (!svm_quirks.breakpoints_leak)
		return;
	for (unsigned i = 0; i < 4; i++)
		if (svm->hv.dr[i] >> 47)
			dr7 &= ~(DR7_ENABLE(0) << 2 * i);
	svm->native_dr7 = dr7;
	if (dr7 & DR7_ENABLES)
		svm->armed |= ARMED_BREAKPOINTS;
	else
		svm->armed &= ~ARMED_BREAKPOINTS;
}
