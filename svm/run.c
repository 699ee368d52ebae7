/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way into a guest and out again. The common round trip does only what every one needs; whatever is special
 * (an event to inject, a window to wait for, NMI blocking, a flush, another vcpu's state on this CPU) stands apart
 * and is asked for by one test each way. AMD APM vol. 2 sections 15.5 - 15.7, 15.16, 15.20, 15.21.
 *
 * NMI blocking is kept in software: from the injection of an NMI on, IRET exits; that IRET then runs natively,
 * and NMIs are free once RIP has left it. Waiting for an NMI window meanwhile, the exit after the IRET is brought
 * about by an interrupt window, as the handler runs with IF clear; in the rare rest of cases the window is seen
 * with the next exit of any kind, at the latest the host's timer interrupt.
 *
 * A shadow that VMRUN would drop (quirk) keeps windows shut for that one entry; the next exit looks again.
 */
#include "svm/svm.h"

#include "arch/x86_64/cpu.h"
#include "svm/codes.h"
#include "svm/quirks.h"

/* hv_vcpu's copy is as new or newer when its group is valid. */
static void save_breakpoints(struct svm_vcpu *svm)
{
	if (!(svm->hv.valid & REGS_DEBUG))
		svm_read_breakpoints(svm->hv.dr);
}

static void __attribute__((noinline)) store_changed(struct svm_vcpu *svm, struct svm_cpu *cpu)
{
	struct hv_vcpu *vcpu = &svm->hv;

	svm_store_groups(vcpu, svm->vmcb, vcpu->changed);
	if ((vcpu->changed & REGS_DEBUG) && cpu->loaded == svm)
		cpu->loaded = NULL; /* settle() brings the new DR0-3 in */
	if (vcpu->changed & REGS_SHADOW) {
		svm->nmi_blocked = vcpu->nmi_blocked;
		if (!svm->nmi_blocked)
			svm->armed &= ~ARMED_UNBLOCK;
	}
	vcpu->changed = 0;
	if (vcpu->tsc_changed) {
		svm->vmcb->control.tsc_offset = vcpu->tsc_offset;
		svm_dirty(svm->vmcb, CLEAN_INTERCEPTS);
		vcpu->tsc_changed = false;
	}
}

/* Makes this the CPU's vcpu: breakpoints, CR2, a good ASID, and whatever flush is due. The entry must follow. */
static void __attribute__((noinline)) settle(struct svm_vcpu *svm, struct svm_cpu *cpu)
{
	struct vmcb_control *control = &svm->vmcb->control;
	bool fresh = false, flush_all = false;

	if (cpu->loaded != svm) {
		if (cpu->loaded)
			save_breakpoints(cpu->loaded);
		svm_write_breakpoints(svm->hv.dr);
		svm_write_cr2(svm->hv.cr2);
		cpu->loaded = svm;
	}
	if (!asid_valid(&cpu->asids, &svm->asid) || (svm->hv.flush_pending && !svm_features.flush_asid)) {
		flush_all = asid_take(&cpu->asids, &svm->asid);
		fresh = true;
	}
	control->asid = svm->asid.number;
	control->tlb_control = flush_all ? TLB_FLUSH_ALL : svm->hv.flush_pending && !fresh ? TLB_FLUSH_ASID : TLB_KEEP;
	svm->armed |= ARMED_FLUSH;
	svm->hv.flush_pending = false;
	control->clean = 0; /* it may have run elsewhere since */
}

static void arm_window(struct svm_vcpu *svm, bool on)
{
	struct vmcb_control *control = &svm->vmcb->control;

	if (on == !!(svm->armed & ARMED_WINDOW))
		return;
	svm->armed ^= ARMED_WINDOW;
	control->intercept[0] ^= INTERCEPT1_VINTR;
	control->interrupt_control ^= V_IRQ | V_IGNORE_TPR | V_PRIORITY_HIGHEST;
	svm_dirty(svm->vmcb, CLEAN_INTERCEPTS | CLEAN_TPR);
}

static void arm_iret(struct svm_vcpu *svm, bool on)
{
	if (on == !!(svm->armed & ARMED_IRET))
		return;
	svm->armed ^= ARMED_IRET;
	svm->vmcb->control.intercept[0] ^= INTERCEPT1_IRET;
	svm_dirty(svm->vmcb, CLEAN_INTERCEPTS);
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
	svm->entry_rip = vcpu->rip;
}

/* Before an entry with anything out of the ordinary. False: no entry, vcpu->exit says why. */
static bool __attribute__((noinline)) prepare_special(struct svm_vcpu *svm)
{
	struct hv_vcpu *vcpu = &svm->hv;
	const struct vmcb *vmcb = svm->vmcb;
	bool shadow = vmcb->control.interrupt_state & INTERRUPT_SHADOW;
	bool enabled = vmcb->save.rflags & RFLAGS_IF;

	if (vcpu->inject.kind != EVENT_NONE) {
		const char *refused = svm_event_refused(&vcpu->inject);

		if (refused)
			return no_entry(vcpu, EXIT_INVALID_STATE, refused);
		arm_event(svm);
	} else if (!shadow) {
		if (vcpu->want_nmi_window && !svm->nmi_blocked)
			return no_entry(vcpu, EXIT_NMI_WINDOW, NULL);
		if (vcpu->want_interrupt_window && enabled)
			return no_entry(vcpu, EXIT_INTERRUPT_WINDOW, NULL);
	}
	arm_iret(svm, svm->nmi_blocked && !(svm->armed & ARMED_UNBLOCK));

	bool window =
		vcpu->want_interrupt_window || (vcpu->want_nmi_window && (svm->armed & ARMED_UNBLOCK) && !enabled);

	arm_window(svm, window && !(shadow && svm_quirks.entry_drops_shadow));
	return true;
}

/* The event that this exit broke off must come again; what was done for its sake is undone. */
static void finish_event(struct svm_vcpu *svm)
{
	struct hv_vcpu *vcpu = &svm->hv;
	struct hv_event *interrupted = &vcpu->exit.interrupted;
	bool soft;

	svm_event_decode(svm->vmcb->control.exit_interrupt_info, interrupted, &soft);

	bool ours = (svm->armed & ARMED_EVENT) && interrupted->kind != EVENT_NONE &&
		    interrupted->vector == svm->injected.vector && vcpu->rip == svm->entry_rip;

	if (ours) {
		*interrupted = svm->injected;
		if (svm->rip_advanced)
			vcpu->rip -= svm->injected.length;
		if (interrupted->kind == EVENT_NMI)
			svm->nmi_blocked = false;
	} else if (soft || interrupted->kind == EVENT_INTERRUPT || interrupted->kind == EVENT_NMI) {
		/*
		 * Soft: the guest's own, RIP stands at it. The others reach a guest by injection alone, so one that
		 * was not injected just now is a leftover (quirk of Bochs).
		 */
		interrupted->kind = EVENT_NONE;
	}
	svm->vmcb->control.event_inject = 0;
	svm->rip_advanced = false;
	svm->armed &= ~ARMED_EVENT;
}

static void finish_nmi(struct svm_vcpu *svm)
{
	struct hv_vcpu *vcpu = &svm->hv;

	if (vcpu->exit.raw_reason == SVM_EXIT_IRET) {
		arm_iret(svm, false);
		svm->armed |= ARMED_UNBLOCK;
		svm->iret_rip = vcpu->rip;
	} else if ((svm->armed & ARMED_UNBLOCK) && vcpu->rip != svm->iret_rip) {
		svm->armed &= ~ARMED_UNBLOCK;
		svm->nmi_blocked = false;
	}
	if (vcpu->exit.kind == EXIT_INTERRUPT_WINDOW && !vcpu->want_interrupt_window)
		vcpu->exit.kind = vcpu->want_nmi_window && !svm->nmi_blocked ? EXIT_NMI_WINDOW : EXIT_NOTHING;
}

static void __attribute__((noinline)) finish_special(struct svm_vcpu *svm)
{
	svm->vmcb->control.tlb_control = TLB_KEEP;
	svm->armed &= ~ARMED_FLUSH;
	finish_event(svm);
	finish_nmi(svm);
}

/* VMEXIT_INVALID. hv_vcpu keeps what it knew before: the save area may be the host's. */
static void __attribute__((noinline)) finish_refused(struct svm_vcpu *svm)
{
	struct hv_vcpu *vcpu = &svm->hv;
	struct vmcb_control *control = &svm->vmcb->control;

	(void)no_entry(vcpu, EXIT_INVALID_STATE, NULL);
	vcpu->exit.raw_reason = vcpu->exit.failure.code = control->exit_code;
	vcpu->exit.failure.text =
		svm_explain_refusal(svm->vmcb, svm_features.asid_count, !svm_quirks.invalid_shows_host);
	if (svm->rip_advanced)
		vcpu->rip -= svm->injected.length;
	control->tlb_control = TLB_KEEP;
	control->event_inject = 0;
	control->clean = 0;
	svm->rip_advanced = false;
	svm->armed &= ~(ARMED_FLUSH | ARMED_EVENT);
	vcpu->valid = vcpu->changed = REGS_ALL;
}

/* For a page fault that is injected; in the processor, too: see quirks.h. */
static __attribute__((noinline)) void store_cr2(const struct hv_vcpu *vcpu, struct vmcb *vmcb)
{
	vmcb->save.cr2 = vcpu->cr2;
	svm_write_cr2(vcpu->cr2);
	svm_dirty(vmcb, CLEAN_CR2);
}

void svm_run(struct hv_vcpu *vcpu)
{
	struct svm_vcpu *svm = svm_of(vcpu);
	struct vmcb *vmcb = svm->vmcb;
	struct svm_cpu *cpu = &svm_cpus[cpu_index()];

	if (vcpu->changed || vcpu->tsc_changed)
		store_changed(svm, cpu);
	if (unlikely(vcpu->inject.kind | vcpu->want_interrupt_window | vcpu->want_nmi_window | svm->armed |
		     svm->nmi_blocked) &&
	    !prepare_special(svm))
		return;
	if (unlikely(cpu->loaded != svm || vcpu->flush_pending))
		settle(svm, cpu);
	vmcb->save.rax = vcpu->gpr[GPR_RAX];
	vmcb->save.rip = vcpu->rip;
	if (unlikely(vmcb->save.cr2 != vcpu->cr2))
		store_cr2(vcpu, vmcb);

	svm_enter(vcpu->gpr, svm->vmcb_address.v, cpu->host_vmcb_address.v);

	if (unlikely((uint32_t)vmcb->control.exit_code == SVM_EXIT_INVALID_LOW)) {
		finish_refused(svm);
		return;
	}
	vmcb->control.clean = svm_features.clean_mask;
	vcpu->valid = 0;
	vcpu->gpr[GPR_RAX] = vmcb->save.rax;
	vcpu->rip = vmcb->save.rip;
	vcpu->cr2 = vmcb->save.cr2;
	vcpu->exit.interrupted.kind = EVENT_NONE;
	svm_decode_exit(vmcb, &svm_features, &vcpu->exit);
	if (unlikely(svm->armed || (vmcb->control.exit_interrupt_info & INJECT_VALID)))
		finish_special(svm);
	if (unlikely(svm_read_xcr0))
		vcpu->xcr0 = xgetbv(0);
	if (vcpu->exit.kind == EXIT_HOST_INTERRUPT)
		interrupts_window();
}

void svm_unload(struct hv_vcpu *vcpu)
{
	struct svm_vcpu *svm = svm_of(vcpu);
	struct svm_cpu *cpu = &svm_cpus[cpu_index()];

	if (cpu->loaded != svm)
		return;
	save_breakpoints(svm);
	cpu->loaded = NULL;
}

void svm_load(struct hv_vcpu *vcpu, uint32_t groups)
{
	struct svm_vcpu *svm = svm_of(vcpu);

	groups &= ~vcpu->valid;
	svm_fetch_groups(vcpu, svm->vmcb, groups);
	if ((groups & REGS_DEBUG) && svm_cpus[cpu_index()].loaded == svm)
		svm_read_breakpoints(vcpu->dr);
	if (groups & REGS_SHADOW)
		vcpu->nmi_blocked = svm->nmi_blocked;
	vcpu->valid |= groups;
}
