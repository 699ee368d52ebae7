/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way into a guest and out again. The common round trip does only what every one needs; whatever is special (an event to inject,
 * a window to wait for, NMI blocking, a flush, another vcpu's state on this CPU) stands apart and is asked for by one test
 * each way; most of it in special.c. AMD APM vol. 2 sections 15.5 - 15.7, 15.16.
 */
#include "svm/svm.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/hv_answer.h"
#include "svm/codes.h"

/* hv_vcpu's copy is as new or newer when its group is valid. */
static void save_breakpoints(struct svm_vcpu *svm)
{
	if (!(svm->hv.valid & REGS_DEBUG))
		svm_read_breakpoints(svm->hv.dr);
}

void __attribute__((noinline)) svm_store_changed(struct svm_vcpu *svm)
{
	struct hv_vcpu *vcpu = &svm->hv;
	struct svm_cpu *cpu = &svm_cpus[cpu_index()];

	if (vcpu->tsc_changed) {
		svm->vmcb->control.tsc_offset = vcpu->tsc_offset;
		svm_dirty(svm->vmcb, CLEAN_INTERCEPTS);
		vcpu->tsc_changed = false;
	}
	if (!vcpu->changed)
		return;
	svm_store_groups(vcpu, svm->vmcb, vcpu->changed);
	if ((vcpu->changed & REGS_CONTROL) &&
	    ((svm->vmcb->control.interrupt_control & V_GIF_ENABLE) || svm->vmcb->control.lbr_control))
		svm_set_intercepts(svm); /* EFER.SVME and LMA are among what they go by */
	if (vcpu->changed & REGS_DEBUG) {
		svm_arm_breakpoints(svm);
		if (cpu->loaded == svm)
			cpu->loaded = NULL; /* settle() brings the new DR0-3 in */
	}
	if (vcpu->changed & REGS_SHADOW) {
		svm->nmi_blocked = vcpu->nmi_blocked;
		if (!svm->nmi_blocked)
			svm->armed &= ~ARMED_UNBLOCK;
	}
	vcpu->changed = 0;
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

/* For a page fault that is injected; in the processor, too: see quirks.h. */
static __attribute__((noinline)) void store_cr2(const struct hv_vcpu *vcpu, struct vmcb *vmcb)
{
	vmcb->save.cr2 = vcpu->cr2;
	svm_write_cr2(vcpu->cr2);
	svm_dirty(vmcb, CLEAN_CR2);
}

/*
 * Called by enter.asm at each exit, with the global interrupt flag clear; true: it was a CPUID and is answered, VMRUN may follow.
 * What svm_run() does for an entry has been done for this one's predecessor, unless something was armed.
 */
bool svm_answer(struct hv_vcpu *vcpu)
{
	struct svm_vcpu *svm = svm_of(vcpu);
	struct vmcb *vmcb = svm->vmcb;
	uint64_t next;

	if (vmcb->control.exit_code != SVM_EXIT_CPUID || svm->armed || !svm_features.next_rip ||
	    (vmcb->control.interrupt_state & INTERRUPT_SHADOW) || (vmcb->save.rflags & HV_STEP_FLAGS) ||
	    !hv_step(vmcb->save.rip, instruction_length(vmcb->save.rip, vmcb->control.next_rip), &next))
		return false;
	vcpu->gpr[GPR_RAX] = vmcb->save.rax;
	if (!hv_answer(vcpu))
		return false;
	vmcb->save.rax = vcpu->gpr[GPR_RAX];
	vmcb->save.rip = next;
	vmcb->control.clean = svm_features.clean_mask;
	return true;
}

/* Before an entry that something is to be done for. False: there's an exit instead. */
static bool __attribute__((noinline)) prepare(struct svm_vcpu *svm, struct svm_cpu *cpu)
{
	struct hv_vcpu *vcpu = &svm->hv;

	svm_store_changed(svm);
	if ((vcpu->inject.kind | vcpu->want_interrupt_window | vcpu->want_nmi_window | svm->armed | svm->nmi_blocked |
	     (svm->vmcb->control.interrupt_state & INTERRUPT_SHADOW)) &&
	    !svm_prepare_special(svm))
		return false;
	if (cpu->loaded != svm || vcpu->flush_pending)
		settle(svm, cpu);
	return true;
}

static inline void fetch_step(struct svm_vcpu *svm)
{
	svm->hv.valid |= REGS_RFLAGS | REGS_SHADOW;
	svm->hv.rflags = svm->vmcb->save.rflags;
	svm->hv.interrupt_shadow = svm->vmcb->control.interrupt_state & INTERRUPT_SHADOW;
	svm->hv.nmi_blocked = svm->nmi_blocked;
}

/* The exit as vm/ sees it. */
static void take(struct svm_vcpu *svm)
{
	struct hv_vcpu *vcpu = &svm->hv;
	struct vmcb *vmcb = svm->vmcb;

	vcpu->exit.interrupted.kind = EVENT_NONE;
	svm_decode_exit(vmcb, &svm_features, &vcpu->exit);
	if (unlikely(svm->armed || (vmcb->control.exit_interrupt_info & INJECT_VALID)))
		svm_finish_special(svm);
	/* Whoever steps over an instruction asks for these. */
	fetch_step(svm);
	if (unlikely(svm_read_xcr0))
		vcpu->xcr0 = xgetbv(0);
	if (vcpu->exit.kind == EXIT_HOST_INTERRUPT)
		interrupts_window();
}

/* IN and OUT by the short way. False: the exit, or what is left of it, is exited()'s. */
static inline bool answer_port(struct svm_vcpu *svm)
{
	struct hv_vcpu *vcpu = &svm->hv;
	const struct vmcb *vmcb = svm->vmcb;
	uint64_t info = vmcb->control.exit_info1, next = vmcb->control.exit_info2;

	if (unlikely(!vcpu->answers || svm->armed || (info & IOIO_STRING) || (vmcb->save.rflags & HV_STEP_FLAGS) ||
		     (vmcb->control.interrupt_state & INTERRUPT_SHADOW) ||
		     !hv_step(vcpu->rip, instruction_length(vcpu->rip, next), &next))) {
		take(svm);
		return false;
	}
	vcpu->rip = next;
	vcpu->exit.kind = EXIT_NOTHING;
	vcpu->exit.interrupted.kind = EVENT_NONE;
	return vcpu->answers->port(vcpu, (uint16_t)(info >> IOIO_PORT_SHIFT), info >> IOIO_SIZE_SHIFT & 7,
				   info & IOIO_IN);
}

/* One entry, or none; true: the next may follow at once, false: an exit is filled. */
static inline bool run_once(struct svm_vcpu *svm, struct svm_cpu *cpu)
{
	struct hv_vcpu *vcpu = &svm->hv;
	struct vmcb *vmcb = svm->vmcb;

	if (unlikely(hv_agenda(vcpu) || vcpu->inject.kind || svm->armed || svm->nmi_blocked || cpu->loaded != svm ||
		     (vmcb->control.interrupt_state & INTERRUPT_SHADOW)) &&
	    !prepare(svm, cpu))
		return false;
	vmcb->save.rax = vcpu->gpr[GPR_RAX];
	vmcb->save.rip = vcpu->rip;
	if (unlikely(vmcb->save.cr2 != vcpu->cr2))
		store_cr2(vcpu, vmcb);

	svm_enter(vcpu, svm->vmcb_address.v, cpu->host_vmcb_address.v);

	if (unlikely((uint32_t)vmcb->control.exit_code == SVM_EXIT_INVALID_LOW)) {
		svm_finish_refused(svm);
		return false;
	}
	vmcb->control.clean = svm_features.clean_mask;
	vcpu->valid = 0;
	vcpu->gpr[GPR_RAX] = vmcb->save.rax;
	vcpu->rip = vmcb->save.rip;
	vcpu->cr2 = vmcb->save.cr2;
	if (vmcb->control.exit_code == SVM_EXIT_IOIO)
		return answer_port(svm);
	take(svm);
	return false;
}

void svm_run(struct hv_vcpu *vcpu)
{
	struct svm_cpu *cpu = &svm_cpus[cpu_index()];

	while (run_once(svm_of(vcpu), cpu) || vcpu->exited(vcpu))
		;
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

unsigned svm_code(const struct hv_vcpu *vcpu)
{
	return vcpu->changed ? 0 : svm_code_of(&((const struct svm_vcpu *)vcpu)->vmcb->save);
}
