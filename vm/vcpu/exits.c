/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is done at each kind of exit: the table, and the handlers of a few lines. The others stand with their subjects (access,
 * cpuid, msr, control, debug). Called by the run loop with the exit filled and whatever it broke off to be injected again.
 */
#include "arch/x86_64/host.h"
#include "vm/vcpu/nested.h"

static enum exit_action exit_again(struct vcpu *vcpu)
{
	return ACTION_ENTER;
}

static enum exit_action exit_window(struct vcpu *vcpu)
{
	vcpu_deliver(vcpu);
	return ACTION_ENTER;
}

/* By the processor's own count, it spins for a lock that may be held by one that waits to run. */
static enum exit_action exit_pause(struct vcpu *vcpu)
{
	return schedule_spins(vcpu) ? ACTION_YIELD : ACTION_ENTER;
}

static enum exit_action exit_hlt(struct vcpu *vcpu)
{
	return vcpu_skip(vcpu) ? ACTION_HALT : ACTION_ENTER;
}

/* The hardware's own error, while the guest ran: nothing of it is passed on. */
static enum exit_action exit_machine_check(struct vcpu *vcpu)
{
	hpa_t where;

	if (!host_machine_check(&where))
		return ACTION_ENTER;
	return vcpu_fails(vcpu, "its guest met broken memory of the host, at host-physical %#lx%s", where.v,
			  frame_retire(where) == OK ? "" : ", which stays in use");
}

static enum exit_action exit_exception(struct vcpu *vcpu)
{
	const struct hv_exit *exit = &vcpu->hv->exit;

	if (exit->exception.vector == VECTOR_MC)
		return exit_machine_check(vcpu);
	if (exit->exception.vector == VECTOR_DB) {
		hv_note_debug(vcpu->hv, exit->exception.detail);
	} else if (exit->exception.vector == VECTOR_PF) {
		vcpu->hv->cr2 = exit->exception.detail;
	}
	vcpu_inject_exception(vcpu, exit->exception.vector, exit->exception.has_error_code, exit->exception.error_code);
	return ACTION_ENTER;
}

static enum exit_action exit_triple_fault(struct vcpu *vcpu)
{
	machine_end(vcpu->machine, END_TRIPLE_FAULT, 0, NULL);
	return ACTION_LEAVE;
}

static enum exit_action exit_invalid_state(struct vcpu *vcpu)
{
	const struct hv_exit *exit = &vcpu->hv->exit;

	return vcpu_fails(vcpu, "the processor refused the guest's state: %s (code %#lx)",
			  exit->failure.text ? exit->failure.text : "no detail given", exit->failure.code);
}

static enum exit_action exit_unknown(struct vcpu *vcpu)
{
	return vcpu_fails(vcpu, "exit that nobody asked for: reason %#lx at rip %#lx", vcpu->hv->exit.raw_reason,
			  vcpu->hv->rip);
}

exit_handler *const vcpu_exit_handlers[EXIT_KIND_COUNT] = {
	[EXIT_NOTHING... EXIT_SLICE] = exit_again,
	[EXIT_HLT] = exit_hlt,
	[EXIT_PAUSE] = exit_pause,
	[EXIT_CPUID] = exit_cpuid,
	[EXIT_IO] = exit_io,
	[EXIT_MSR_READ] = exit_msr_read,
	[EXIT_MSR_WRITE] = exit_msr_write,
	[EXIT_CR_ACCESS] = exit_cr_access,
	[EXIT_DR_ACCESS] = exit_dr_access,
	[EXIT_XSETBV] = exit_xsetbv,
	[EXIT_CACHE... EXIT_INVLPG] = exit_skip,
	[EXIT_RDTSC... EXIT_RDTSCP] = vcpu_inject_ud,
	[EXIT_HYPERCALL] = exit_hypercall,
	[EXIT_UNDEFINED] = vcpu_inject_ud,
	[EXIT_NESTED] = exit_nested,
	[EXIT_SLAT_FAULT] = exit_slat_fault,
	[EXIT_SLAT_MISCONFIG] = exit_slat_misconfig,
	[EXIT_DIRTY_FULL] = exit_again,
	[EXIT_EXCEPTION] = exit_exception,
	[EXIT_INTERRUPT_WINDOW... EXIT_NMI_WINDOW] = exit_window,
	[EXIT_TRIPLE_FAULT] = exit_triple_fault,
	[EXIT_INIT... EXIT_SIPI] = exit_unknown,
	[EXIT_TASK_SWITCH] = exit_task_switch,
	[EXIT_INVALID_STATE] = exit_invalid_state,
	[EXIT_UNKNOWN] = exit_unknown,
};
