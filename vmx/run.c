/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Into the guest and back. This is the path whose instructions count: an instruction's exit costs five
 * VMREADs, and the entry after it no VMWRITE but RIP's, since a field is written only when its value differs from
 * what the VMCS holds. Everything rarer stands in a function of its own; what is commonest, a CPUID, never gets here.
 *
 * CR2 is not in the VMCS. The host takes no page faults, so a guest's stays in the processor; it is written with an
 * injected event, with a changed register group, and when another vcpu was here.
 */
#include "arch/x86_64/hv_answer.h"
#include "vmx/convert.h"
#include "vmx/exit.h"
#include "vmx/instructions.h"
#include "vmx/vmx.h"

#define RARE __attribute__((noinline, cold))

static RARE void write_event(struct hv_vcpu *vcpu)
{
	uint32_t word = vmx_event_word(&vcpu->inject, vcpu->cr0 & CR0_PE);

	if (word & EVENT_HAS_ERROR)
		vmcs_write(VMCS_ENTRY_ERROR_CODE, vcpu->inject.error_code);
	if (vmx_event_has_length(word))
		vmcs_write(VMCS_ENTRY_INSTRUCTION_LENGTH, vcpu->inject.length);
	vmcs_write(VMCS_ENTRY_EVENT, word);
	vcpu->inject.kind = EVENT_NONE;
	write_cr2(vcpu->cr2); /* a page fault comes with a new one */
}

/*
 * The timer counts in the guest only. Where its value is saved at exits it goes on counting over them, and is written
 * just when the deadline moves or it has run out: it comes late by the time spent in the host since, but vm/ looks at
 * the clock at every exit anyway. Elsewhere it is written at each entry. A count of 0 would exit before the
 * first instruction.
 */
static RARE void write_slice(struct vmx_vcpu *v)
{
	uint64_t now = rdtsc(), deadline = v->hv.slice_deadline;
	uint64_t ticks = deadline > now ? deadline - now : 1;

	v->slice_written = vmx_capability.timer_saved ? deadline : 0;
	if (!vmx_capability.timer)
		return;
	if (ticks > vmx_capability.longest_slice)
		ticks = vmx_capability.longest_slice;
	ticks >>= vmx_capability.timer_shift;
	vmcs_write_hot(VMCS_PREEMPTION_TIMER, ticks | !ticks);
}

/* Windows are bits of the primary controls, written together whichever changed. */
static void write_windows(struct hv_vcpu *vcpu)
{
	uint32_t primary = vmx_of(vcpu)->primary;

	if (vcpu->want_interrupt_window)
		primary |= PRIMARY_INTERRUPT_WINDOW;
	if (vcpu->want_nmi_window)
		primary |= PRIMARY_NMI_WINDOW;
	vmcs_write(VMCS_PRIMARY_CONTROLS, primary);
}

static void no_entry(struct hv_exit *exit, uint32_t code, const char *text)
{
	exit->kind = EXIT_INVALID_STATE;
	exit->raw_reason = 0;
	exit->length = 0;
	exit->interrupted.kind = EVENT_NONE;
	exit->failure.code = code;
	exit->failure.text = text;
}

/* Brings the VMCS and the processor to what vcpu says. False: no entry, and why not stands in its exit. */
static RARE bool prepare(struct vmx_vcpu *v)
{
	struct hv_vcpu *vcpu = &v->hv;

	if (!v->ready)
		vmx_make_ready(v);
	if (vcpu->changed)
		vmx_write_back(v);
	write_windows(vcpu);
	if (vcpu->tsc_changed) {
		vmcs_write(VMCS_TSC_OFFSET, vcpu->tsc_offset);
		if (vcpu->tsc_scale)
			vmcs_write(VMCS_TSC_MULTIPLIER, vcpu->tsc_scale);
		vcpu->tsc_changed = false;
	}
	if (vcpu->flush_pending)
		vmx_flush(vcpu);
	if (unlikely(v->missing)) { /* never again: what the VMCS holds isn't what it should */
		no_entry(&vcpu->exit, v->missing & ~VMX_MISSING, "a VMCS field is missing, its encoding is the code");
		return false;
	}
	write_cr2(vcpu->cr2);
	v->quiet = hv_agenda(vcpu);
	return true;
}

/* Whoever steps over an instruction asks for its shadow and RFLAGS, so these come along; as a rule there is no shadow. */
static inline void take_flags(struct vmx_vcpu *v)
{
	v->hv.valid = REGS_RFLAGS;
	v->hv.rflags = vmcs_read_hot(VMCS_GUEST_RFLAGS);
	if (unlikely(vmcs_read_hot(VMCS_GUEST_INTERRUPTIBILITY)))
		return;
	v->hv.valid = REGS_RFLAGS | REGS_SHADOW;
	v->blocking = 0;
	v->hv.interrupt_shadow = false;
	v->hv.nmi_blocked = false;
}

/* As if the NMI had come right behind the entry, which an exit by it would have told of; what was to be injected comes back. */
static RARE void abandon(struct vmx_vcpu *v)
{
	struct hv_exit *exit = &v->hv.exit;

	take_flags(v); /* all is in the VMCS; or, behind a CPUID, the guest has run */
	v->rip_seen = v->hv.rip;
	exit->kind = EXIT_HOST_INTERRUPT;
	exit->raw_reason = REASON_EXCEPTION_OR_NMI;
	exit->length = 0;
	exit->interrupted =
		vmx_event_from_word((uint32_t)vmcs_read(VMCS_ENTRY_EVENT), (uint32_t)vmcs_read(VMCS_ENTRY_ERROR_CODE),
				    (uint32_t)vmcs_read(VMCS_ENTRY_INSTRUCTION_LENGTH));
	vmcs_write(VMCS_ENTRY_EVENT, 0);
}

/*
 * The entry did not happen; the guest's state is as it was. failed: what vmx_enter() returned. VMCLEAR
 * leaves no doubt whether the next entry is a launch.
 */
static RARE void refused(struct vmx_vcpu *v, uint64_t failed)
{
	uint32_t number = failed == VMX_FAILED_NUMBER ? (uint32_t)vmcs_read(VMCS_INSTRUCTION_ERROR) : 0;

	if (failed == VMX_DONE) {
		v->entry.launched = true;
		return;
	}
	if (failed == VMX_ABANDONED) {
		abandon(v);
		return;
	}
	no_entry(&v->hv.exit, number, number ? vmx_instruction_error_text(number) : "VM entry without a current VMCS");
	v->rip_seen = ~v->hv.rip; /* written or not: write it again */
	vmx_unload(&v->hv);
}

/*
 * A page that the tables don't grant, the commonest exit that may have broken off an event: false when it did, or when an
 * IRET must be undone.
 */
static inline bool take_memory(struct hv_exit *exit, uint64_t reason)
{
	uint64_t q, where = vmcs_read_hot(VMCS_GUEST_PHYSICAL_ADDRESS);

	if (unlikely(vmcs_read_hot(VMCS_VECTORING_EVENT) & EVENT_VALID))
		return false;
	if (reason == REASON_EPT_MISCONFIG) {
		vmx_exit_misconfig(exit, where);
		return true;
	}
	q = vmcs_read_hot(VMCS_EXIT_QUALIFICATION);
	vmx_exit_violation(exit, q, where, vmcs_read_hot(VMCS_GUEST_LINEAR_ADDRESS));
	return likely(!(q & VIOLATION_NMI_UNBLOCKED));
}

_Static_assert(REASON_CPUID == 10 && REASON_IO == 30 && VMCS_EXIT_REASON == 0x4402, "as in vmx/enter.asm");

/* Nothing has come up that vmx_run() would have to do before an entry. */
static inline bool still_quiet(struct vmx_vcpu *v)
{
	return likely(hv_agenda(&v->hv) == v->quiet && v->hv.inject.kind == EVENT_NONE &&
		      v->hv.slice_deadline == v->slice_written);
}

/* Where plain addition leads behind the instruction that exited, unless a trap or an end of RF or of a shadow is due there. */
static inline bool step(uint64_t rflags, uint64_t *next)
{
	return !(rflags & HV_STEP_FLAGS) &&
	       hv_step(vmcs_read_hot(VMCS_GUEST_RIP), (uint8_t)vmcs_read_hot(VMCS_EXIT_INSTRUCTION_LENGTH), next);
}

/* Called by enter.asm at a CPUID. 0: it is answered, and VMRESUME may follow; otherwise its exit is to go the ordinary way. */
uint64_t vmx_answer_cpuid(struct hv_vcpu *vcpu)
{
	uint64_t next;

	if (vmcs_read_hot(VMCS_GUEST_INTERRUPTIBILITY) || !step(vmcs_read_hot(VMCS_GUEST_RFLAGS), &next) ||
	    !hv_answer(vcpu))
		return REASON_CPUID;
	vmcs_write_hot(VMCS_GUEST_RIP, next);
	vcpu->rip = next;
	return 0;
}

/* The same at an access to a port; VMX_DONE: it is done, but vmx_run() has to see to the entry. */
uint64_t vmx_answer_port(struct hv_vcpu *vcpu)
{
	struct vmx_vcpu *v = vmx_of(vcpu);
	uint64_t next, q = vmcs_read_hot(VMCS_EXIT_QUALIFICATION);

	take_flags(v);
	if (unlikely(!vcpu->answers || !(vcpu->valid & REGS_SHADOW) || (q & IO_STRING) || !step(vcpu->rflags, &next)))
		return REASON_IO;
	vmcs_write_hot(VMCS_GUEST_RIP, next);
	vcpu->rip = v->rip_seen = next;
	if (vcpu->answers->port(vcpu, (uint16_t)(q >> 16), (q & IO_SIZE) + 1, q & IO_IN) && still_quiet(v))
		return 0;
	vcpu->exit.kind = EXIT_NOTHING;
	vcpu->exit.interrupted.kind = EVENT_NONE;
	return VMX_DONE;
}

static inline void take(struct vmx_vcpu *v, uint64_t reason)
{
	struct hv_vcpu *vcpu = &v->hv;
	struct hv_exit *exit = &vcpu->exit;

	v->entry.launched = true;
	take_flags(v);
	vcpu->rip = v->rip_seen = vmcs_read_hot(VMCS_GUEST_RIP);
	if ((reason == REASON_EPT_MISCONFIG || reason == REASON_EPT_VIOLATION) && take_memory(exit, reason)) {
		exit->length = 0;
	} else if (reason < REASON_COUNT && vmx_exit_rules[reason].needs == NEED_LENGTH) {
		exit->length = (uint8_t)vmcs_read_hot(VMCS_EXIT_INSTRUCTION_LENGTH);
	} else {
		vmx_take_rest(vcpu, reason);
		return;
	}
	exit->kind = vmx_exit_rules[reason].kind;
	exit->raw_reason = reason;
	exit->interrupted.kind = EVENT_NONE;
}

void vmx_run(struct hv_vcpu *vcpu)
{
	struct vmx_vcpu *v = vmx_of(vcpu);
	uint64_t reason;

	do {
		if (unlikely(hv_agenda(vcpu) != v->quiet) && !prepare(v))
			continue; /* to exited() */
		if (vcpu->rip != v->rip_seen)
			vmcs_write_hot(VMCS_GUEST_RIP, vcpu->rip);
		if (unlikely(vcpu->inject.kind != EVENT_NONE))
			write_event(vcpu);
		if (unlikely(vcpu->slice_deadline != v->slice_written))
			write_slice(v);
		reason = vmx_enter(vcpu, &v->entry);
		vcpu->cr2 = read_cr2();
		if (unlikely(reason >> 32))
			refused(v, reason);
		else
			take(v, reason);
	} while (vcpu->exited(vcpu));
}
