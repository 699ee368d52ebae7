/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtual CPU at work: the run loop and what its exits need. Internal to vm/.
 * Everything here runs on the vcpu's own host CPU unless it says otherwise.
 */
#pragma once

#include "arch/x86_64/hv_answer.h"
#include "vm/emulate/emulate.h"
#include "vm/machine.h"

/* Why the run loop came back to the scheduler. */
enum vcpu_outcome {
	VCPU_SLICE_OVER, /* still runnable */
	VCPU_IDLE,       /* halted, parked or waiting for a SIPI, until a request or a timer */
	VCPU_LEFT,       /* the machine ended or pauses */
};

/* Set at boot, before any vcpu runs. handover_tsc: when the firmware's boot services had ended; 0: not known. */
extern struct first_entry {
	uint64_t handover_tsc;
	uint32_t told;
} first_entry;

enum status vcpu_create(struct machine *machine, unsigned id, struct vcpu **out) must_check;
void vcpu_destroy(struct vcpu *vcpu);
/* Registers and MSRs as after power-on; the boot vcpu runs, others wait for a SIPI. */
void vcpu_reset(struct vcpu *vcpu);
/* Registers as after INIT (Intel SDM vol. 3 table 10-1): the boot vcpu runs from its reset vector, others wait for a SIPI. */
void vcpu_init(struct vcpu *vcpu);
/* signal.c: by another processor, or itself. Any CPU. */
void vcpu_send_nmi(struct vcpu *vcpu);
void vcpu_send_init(struct vcpu *vcpu);
void vcpu_send_startup(struct vcpu *vcpu, uint8_t vector);
/* What has been sent takes effect: with REQUEST_EVENT, between two instructions. */
void vcpu_take_signals(struct vcpu *vcpu);
/* The vcpu whose exit this CPU handles; only while it does. */
struct vcpu *vcpu_current(void);
/* Its A20 gate opens or closes: at once for what the hypervisor does for it, before the next entry for itself. Any CPU. */
void vcpu_set_a20(struct vcpu *vcpu, bool open);
/* REQUEST_A20, on its own CPU: the second-level root that goes with the gate. */
void vcpu_apply_a20(struct vcpu *vcpu);
/* Runs until the slice ends (host TSC), or there's nothing to run. */
enum vcpu_outcome vcpu_run(struct vcpu *vcpu, uint64_t slice_end);
/* The backend's exit: handles it; true: the guest goes on. */
bool vcpu_exited(struct hv_vcpu *h);
/* An exit of either level, to its handler; an event that it broke off comes again. */
enum exit_action vcpu_handle_exit(struct vcpu *vcpu);
/* load.c: FPU state, XCR0 and TSC_AUX come into this CPU, for whomever was there before; he can be taken elsewhere, if he is movable. */
void vcpu_switch_in(struct vcpu *vcpu);
/* FPU state and XCR0 are saved. It keeps them in the registers until another vcpu comes to run on its CPU, or it leaves it. */
void vcpu_switch_out(struct vcpu *vcpu);
/* The backend lets go of this CPU, for both levels. */
void vcpu_release(struct vcpu *vcpu);
/* After its turn: what a look at it without running may have loaded goes, so that it can be taken elsewhere. */
void vcpu_settle(struct vcpu *vcpu);
/* Lets go of the host CPU altogether, the backend too. */
void vcpu_unload(struct vcpu *vcpu);
/* A device timer comes earlier than vcpu 0, which runs them, knows. */
void machine_timer_moved(struct machine *machine);
/* After any access to a device, under the machine's lock. */
static inline void machine_look_at_timers(struct machine *m)
{
	const struct dev_timer *first = m->bus.timers.first;

	if (unlikely(first && first->deadline < m->vcpu[0]->wakeup_ns))
		machine_timer_moved(m);
}
/* Sets request bits and makes the vcpu see them soon. Any CPU. */
void vcpu_request(struct vcpu *vcpu, uint32_t requests);
/* On its own CPU: the flush that its machine's generation asks for, if it hasn't done it, before the next entry. */
void vcpu_flush_late(struct vcpu *vcpu);

/* ---- exits (each file handles its subject) ---- */
/* What the run loop does next. */
enum exit_action {
	ACTION_ENTER,
	ACTION_SWITCH, /* as ENTER, but vcpu->hv may be another */
	ACTION_YIELD,
	ACTION_HALT,
	ACTION_LEAVE
};
typedef enum exit_action exit_handler(struct vcpu *vcpu);

/*
 * For an exit that is to see the next one itself (test_call.c): one entry without the run loop; false: requests wait, and
 * nothing was run. Its exit goes to its handler if it isn't the caller's.
 */
bool vcpu_enter_alone(struct vcpu *vcpu);
/* exits.c */
extern exit_handler *const vcpu_exit_handlers[EXIT_KIND_COUNT];

/* Moves rip behind the instruction that exited, decoding it if need be; on a fetch fault that fault is to be injected. */
bool vcpu_skip_slowly(struct vcpu *vcpu);
static inline bool vcpu_skip(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;
	uint64_t next;

	if (unlikely((~h->valid & (REGS_SHADOW | REGS_RFLAGS)) || h->interrupt_shadow || (h->rflags & HV_STEP_FLAGS) ||
		     !hv_step(h->rip, h->exit.length, &next)))
		return vcpu_skip_slowly(vcpu);
	h->rip = next;
	return true;
}
/* The length of the instruction at rip into exit.length. false: an exception is to be injected. */
bool vcpu_find_length(struct vcpu *vcpu);
/* The same, 0 if it can't be told. false: it's an instruction that nobody knows, and that is all that happens. */
bool vcpu_measure(struct vcpu *vcpu);
/* The time stamp counter of the guest jumps by so many ticks, for both levels. */
void vcpu_move_tsc(struct vcpu *vcpu, uint64_t by);
struct instruction;
/* The instruction at rip, for processors that don't say which register it names. false: an exception is to be injected. */
bool vcpu_decode(struct vcpu *vcpu, struct instruction *in);
void vcpu_inject_exception(struct vcpu *vcpu, uint8_t vector, bool has_error, uint32_t error);
/* For the end of a handler, as the next two: an exception, the step over its instruction, or that the machine can't go on. */
exit_handler vcpu_inject_gp, vcpu_inject_ud;
static inline enum exit_action exit_skip(struct vcpu *vcpu)
{
	(void)vcpu_skip(vcpu);
	return ACTION_ENTER;
}
#define vcpu_fails(vcpu, ...) (machine_end((vcpu)->machine, END_ERROR, 0, __VA_ARGS__), ACTION_LEAVE)

/* cpuid.c, msr.c, control.c, debug.c, port.c, access.c, task.c, pv_call.c */
exit_handler exit_cpuid, exit_msr_read, exit_msr_write, exit_cr_access, exit_xsetbv, exit_dr_access, exit_io;
exit_handler exit_slat_fault, exit_slat_misconfig, exit_emulate, exit_task_switch, exit_hypercall;
/* A second-level fault, of either level: by what the access was, and whether there was an entry. */
static inline void vcpu_count_fault(struct vcpu *vcpu)
{
	const struct hv_exit *exit = &vcpu->hv->exit;
	bool write = exit->slat.access & ACCESS_WRITE;
	enum fault_error error = write ? FAULT_ABSENT_WRITE : FAULT_ABSENT_READ;

	if (exit->slat.rights)
		error = write ? FAULT_WRITE : exit->slat.access & ACCESS_EXECUTE ? FAULT_EXECUTE : FAULT_READ;
	vcpu->counters.error[error]++;
}
/* test_call.c: true, and what to do next, if it is a call of a test guest's; REGS_CODE are there. */
bool test_call(struct vcpu *vcpu, enum exit_action *action);
enum exit_action test_call_slat(struct vcpu *vcpu, gpa_t block); /* test_slat.c */
/* What this vcpu reads, as its registers are. */
struct cpuid_result vcpu_cpuid(struct vcpu *vcpu, uint32_t leaf, uint32_t subleaf);
/* What RDMSR or WRMSR does, of the level that runs. NOT_FOUND: there's no such MSR; DENIED: not that value. */
enum status vcpu_msr(struct vcpu *vcpu, uint32_t msr, bool write, uint64_t *value) must_check;
/* MOV to CR3 by the guest; false: it is #GP, and nothing has changed. REGS_CONTROL are there; the caller says they changed. */
bool vcpu_write_cr3(struct vcpu *vcpu, uint64_t value);
/*
 * No memory for what the guest did: the vcpu sleeps and does it again ten times a second, until memory has come back.
 * Told once.
 */
enum exit_action vcpu_park(struct vcpu *vcpu, const char *why);
/* What it was parked for has been had: told, if the parking was. */
void vcpu_got_on(struct vcpu *vcpu);

/* port.c: for the emulator, whose context is the vcpu; and hv_answers.port. */
uint32_t vcpu_port_in(void *context, uint16_t port, unsigned size);
void vcpu_port_out(void *context, uint16_t port, unsigned size, uint32_t value);
bool vcpu_port(struct hv_vcpu *h, uint16_t port, unsigned size, bool in);
/* access.c: the emulator's world for this vcpu. */
void vcpu_emulate_env(struct vcpu *vcpu, struct emulate_env *env);
/* Linear to guest-physical by the guest's page tables. GUEST_FAULT: *fault. */
enum status vcpu_walk(struct vcpu *vcpu, gva_t where, unsigned access, gpa_t *to, struct hv_event *fault,
		      uint64_t *fault_address) must_check;
/* The same for one access within a page, in any mode; without paging there's nothing to walk. */
static inline must_check enum status vcpu_translate(struct vcpu *vcpu, gva_t where, unsigned access, gpa_t *to,
						    struct hv_event *fault, uint64_t *fault_address)
{
	hv_need(vcpu->hv, REGS_CONTROL);
	if ((vcpu->hv->cr0 & CR0_PG) || vcpu->hv != vcpu->l1)
		return vcpu_walk(vcpu, where, access, to, fault, fault_address);
	*to = gpa(where.v & BITS(31, 0) & ~__atomic_load_n(&vcpu->a20_mask, __ATOMIC_RELAXED));
	return OK;
}
/* Reads guest-linear memory as the debugger: no rights, nothing set. For the monitor and messages. */
enum status vcpu_peek(struct vcpu *vcpu, gva_t where, void *to, unsigned size) must_check;

/* nobody.c: the emulator's vector registers; and an instruction that it doesn't know, decoded into env->bytes. */
void vcpu_vector(void *context, unsigned number, bool write, uint8_t value[VECTOR_MAX]);
enum exit_action exit_unhandled(struct vcpu *vcpu, struct emulate_env *env);

/* empty.c: at the end of a slice. */
void vcpu_look_for_emptiness(struct vcpu *vcpu);

/* mmio.c: the access to a device that made this exit, if it is a plain one. False: the emulator is to do it. */
bool vcpu_mmio(struct vcpu *vcpu);

/* interrupts.c: before each entry: what is to be injected, which windows are wanted. */
void vcpu_deliver(struct vcpu *vcpu);
/* Is there something that ends HLT? */
bool vcpu_has_wake_event(struct vcpu *vcpu);
/* After an exit: an event whose delivery was broken off comes again. */
void vcpu_recover_event(struct vcpu *vcpu);

/* cpuid.c */
/* The leaves whose answers never change, for the backend. */
void cpuid_answers(const struct cpuid_policy *policy, struct hv_answers *answers);
struct cpuid_policy *cpuid_policy_create(const struct machine *machine);
void cpuid_policy_destroy(struct cpuid_policy *policy);
uint8_t cpuid_physical_bits(const struct cpuid_policy *policy);
bool cpuid_has_1g(const struct cpuid_policy *policy);
/* Of these registers, the bits that this guest has by what CPUID tells it; 0: there is no such MSR. */
enum cpuid_limit {
	CPUID_CR4,
	CPUID_EFER,
	CPUID_XCR0,
	CPUID_SPEC_CTRL,
	CPUID_PRED_CMD,
	CPUID_FLUSH_CMD,
	CPUID_ARCH_CAPABILITIES, /* its value */
	CPUID_LIMITS
};
uint64_t cpuid_limit(const struct cpuid_policy *policy, enum cpuid_limit limit);
bool cpuid_has_tsc_aux(const struct cpuid_policy *policy);

/* msr.c */
void msr_reset(struct vcpu *vcpu);
/* Hot MSRs that the entry switches, and the commands that this guest has: no exit for them. Once, before it runs. */
void msr_pass_through(struct vcpu *vcpu);

/* The lowest physical address bits, walk context from the registers. */
struct walk_context;
void vcpu_walk_context(struct vcpu *vcpu, struct walk_context *context);
/* The four top entries of PAE paging; the context's cr3 and a20_mask are there. Any CPU. */
void vcpu_fetch_pdptes(const struct vcpu *vcpu, struct walk_context *context, enum pgm_origin origin);
