/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The run loop: deliver, enter, handle the exit, again. Every instruction here is paid at every
 * exit, so the common path asks two words (requests, and what the local APIC has pending) and
 * nothing else; timers are a comparison of the time stamp counter with one deadline.
 *
 * The order that makes flushes and kicks safe: in_guest is set before the requests are looked at. Whoever
 * changes tables first moves the generation on, then sets REQUEST_FLUSH, then looks at in_guest: either
 * this CPU sees the request, or the other sees in_guest and kicks and waits.
 */
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/registers.h"
#include "dev/apic/lapic.h"
#include "pgm/slat/tables.h"
#include "vm/vcpu/vcpu.h"

static enum exit_action exit_again(struct vcpu *vcpu)
{
	(void)vcpu;
	return ACTION_ENTER;
}

static enum exit_action exit_window(struct vcpu *vcpu)
{
	vcpu_deliver(vcpu);
	return ACTION_ENTER;
}

static enum exit_action exit_yield(struct vcpu *vcpu)
{
	(void)vcpu;
	return ACTION_YIELD;
}

static enum exit_action exit_skip(struct vcpu *vcpu)
{
	(void)vcpu_skip(vcpu);
	return ACTION_ENTER;
}

static enum exit_action exit_hlt(struct vcpu *vcpu)
{
	return vcpu_skip(vcpu) ? ACTION_HALT : ACTION_ENTER;
}

static enum exit_action exit_undefined(struct vcpu *vcpu)
{
	vcpu_inject_ud(vcpu);
	return ACTION_ENTER;
}

static enum exit_action exit_exception(struct vcpu *vcpu)
{
	const struct hv_exit *exit = &vcpu->hv->exit;

	/* A machine check is the host's hardware, wherever it was running. */
	if (exit->exception.vector == VECTOR_MC)
		panic("machine check in vm %s at rip %#llx", vcpu->machine->name, (unsigned long long)vcpu->hv->rip);
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

	machine_end(vcpu->machine, END_ERROR, 0, "the processor refused the guest's state: %s (code %#llx)",
		    exit->failure.text ? exit->failure.text : "no detail given",
		    (unsigned long long)exit->failure.code);
	return ACTION_LEAVE;
}

static enum exit_action exit_unknown(struct vcpu *vcpu)
{
	machine_end(vcpu->machine, END_ERROR, 0, "exit that nobody asked for: reason %#llx at rip %#llx",
		    (unsigned long long)vcpu->hv->exit.raw_reason, (unsigned long long)vcpu->hv->rip);
	return ACTION_LEAVE;
}

static enum exit_action exit_task_switch(struct vcpu *vcpu)
{
	machine_end(vcpu->machine, END_ERROR, 0, "hardware task switch at rip %#llx: not supported",
		    (unsigned long long)vcpu->hv->rip);
	return ACTION_LEAVE;
}

static const exit_handler handlers[EXIT_KIND_COUNT] = {
	[EXIT_NOTHING] = exit_again,
	[EXIT_HOST_INTERRUPT] = exit_again,
	[EXIT_SLICE] = exit_again,
	[EXIT_HLT] = exit_hlt,
	[EXIT_PAUSE] = exit_yield,
	[EXIT_CPUID] = exit_cpuid,
	[EXIT_IO] = exit_io,
	[EXIT_MSR_READ] = exit_msr_read,
	[EXIT_MSR_WRITE] = exit_msr_write,
	[EXIT_CR_ACCESS] = exit_cr_access,
	[EXIT_DR_ACCESS] = exit_dr_access,
	[EXIT_XSETBV] = exit_xsetbv,
	[EXIT_CACHE] = exit_skip,
	[EXIT_INVLPG] = exit_skip,
	[EXIT_RDTSC] = exit_undefined,
	[EXIT_RDTSCP] = exit_undefined,
	[EXIT_HYPERCALL] = exit_hypercall,
	[EXIT_UNDEFINED] = exit_undefined,
	[EXIT_SLAT_FAULT] = exit_slat_fault,
	[EXIT_SLAT_MISCONFIG] = exit_slat_misconfig,
	[EXIT_DIRTY_FULL] = exit_again,
	[EXIT_EXCEPTION] = exit_exception,
	[EXIT_INTERRUPT_WINDOW] = exit_window,
	[EXIT_NMI_WINDOW] = exit_window,
	[EXIT_TRIPLE_FAULT] = exit_triple_fault,
	[EXIT_INIT] = exit_unknown,
	[EXIT_SIPI] = exit_unknown,
	[EXIT_TASK_SWITCH] = exit_task_switch,
	[EXIT_INVALID_STATE] = exit_invalid_state,
	[EXIT_UNKNOWN] = exit_unknown,
};

void vcpu_request(struct vcpu *vcpu, uint32_t requests)
{
	__atomic_fetch_or(&vcpu->requests, requests, __ATOMIC_SEQ_CST);
	if (vcpu->cpu != cpu_index())
		host_kick(vcpu->cpu, __atomic_load_n(&vcpu->in_guest, __ATOMIC_SEQ_CST) && hv_capabilities.kick_by_nmi);
}

void machine_timer_moved(struct machine *m)
{
	struct vcpu *first = m->vcpu[0];

	if (first->cpu == cpu_index())
		first->hv->slice_deadline = 0;
	else
		vcpu_request(first, REQUEST_TIMER);
}

/* A guest's timer may be centuries off, and would come round to a moment in the past as a time stamp: an hour, then look again. */
#define LONGEST_WAIT_NS UINT64_C(3600000000000)

/* Timers that are due, and the moment at which to look again. */
static void run_timers(struct vcpu *vcpu, uint64_t slice_end)
{
	struct machine *m = vcpu->machine;
	uint64_t next = UINT64_MAX;

	vcpu->wakeup_ns = UINT64_MAX;
	if (vcpu->id == 0) {
		uint64_t now = machine_now(m);

		lock_acquire(&m->lock);
		if (timer_next(&m->bus.timers) <= now)
			timer_run(&m->bus.timers, now);
		next = timer_next(&m->bus.timers);
		vcpu->wakeup_ns = next;
		lock_release(&m->lock);
		if (next != UINT64_MAX)
			next = rdtsc() + host_ns_to_tsc(next > now ? min_u64(next - now, LONGEST_WAIT_NS) : 0);
	}
	vcpu->wakeup = next;
	vcpu->hv->slice_deadline = next < slice_end ? next : slice_end;
}

/* Where no backend's timer ends the slice, the host's does. */
static void set_host_timer(struct vcpu *vcpu)
{
	uint64_t now = rdtsc(), deadline = vcpu->hv->slice_deadline;

	if (!hv_capabilities.slice_timer)
		host_timer_set(host_now_ns() + host_tsc_to_ns(deadline > now ? deadline - now : 0));
}

static void handle_flush(struct vcpu *vcpu)
{
	struct flush_domain *domain = pgm_flush_domain(vcpu->machine->pgm);
	uint64_t generation = __atomic_load_n(&domain->generation, __ATOMIC_ACQUIRE);

	if (vcpu->flush_seen != generation) {
		vcpu->hv->flush_pending = true;
		__atomic_store_n(&vcpu->flush_seen, generation, __ATOMIC_RELEASE);
	}
}

/* Takes the requests; true: leave the loop. */
static bool take_requests(struct vcpu *vcpu, uint64_t slice_end)
{
	uint32_t requests = __atomic_exchange_n(&vcpu->requests, 0, __ATOMIC_ACQ_REL);

	if (requests & REQUEST_FLUSH)
		handle_flush(vcpu);
	if (requests & REQUEST_A20)
		vcpu_apply_a20(vcpu);
	if (requests & REQUEST_TIMER) {
		run_timers(vcpu, slice_end);
		set_host_timer(vcpu);
	}
	return (requests & REQUEST_LEAVE) != 0;
}

struct first_entry first_entry;

/* How long it took from the firmware to the first instruction of a guest: told once. */
static void note_first_entry(void)
{
	if (first_entry.handover_tsc && !__atomic_exchange_n(&first_entry.told, 1, __ATOMIC_RELAXED))
		log_line("first guest instruction: %llu ticks after the firmware's hand-over",
			 (unsigned long long)(rdtsc() - first_entry.handover_tsc));
}

/* Whose FPU state, XCR0 and TSC_AUX are in each CPU's registers; NULL: nobody's. */
static struct vcpu *loaded[MAX_CPUS];

/* Whose guest each CPU ran last; a machine keeps its place, so this may be one that has ended. */
static const struct machine *served[MAX_CPUS];

static void load_on_cpu(struct vcpu *vcpu)
{
	struct vcpu *other = loaded[vcpu->cpu];

	if (other == vcpu)
		return;
	note_first_entry();
	if (other)
		vcpu_switch_out(other);
	if (served[vcpu->cpu] != vcpu->machine)
		host_forget_guest();
	served[vcpu->cpu] = vcpu->machine;
	host_fpu_restore(vcpu->fpu);
	if (host_xcr0())
		xsetbv(0, vcpu->hv->xcr0);
	if (cpuid_has_tsc_aux(vcpu->machine->cpuid))
		wrmsr(MSR_TSC_AUX, vcpu->msr.tsc_aux);
	loaded[vcpu->cpu] = vcpu;
	vcpu->loaded = true;
	handle_flush(vcpu);
}

void vcpu_switch_out(struct vcpu *vcpu)
{
	if (!vcpu->loaded)
		return;
	if (host_xcr0()) {
		vcpu->hv->xcr0 = xgetbv(0); /* some processors give no exit for a guest's XSETBV */
		xsetbv(0, host_xcr0());
	}
	host_fpu_save(vcpu->fpu);
	loaded[vcpu->cpu] = NULL;
	vcpu->loaded = false;
}

void vcpu_unload(struct vcpu *vcpu)
{
	vcpu_switch_out(vcpu);
	hv->unload(vcpu->hv);
}

/* The deadline has come: timers, and perhaps the slice's end. */
static __attribute__((noinline)) bool slice_is_over(struct vcpu *vcpu, uint64_t slice_end)
{
	uint64_t now = rdtsc();

	run_timers(vcpu, slice_end);
	set_host_timer(vcpu);
	return now >= slice_end;
}

/* Events and windows; whoever raises an interrupt later than this look also sets a request. */
static inline void deliver(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;

	if (unlikely(vcpu->nmi_pending || lapic_pending(vcpu->lapic) != LAPIC_NOTHING || h->want_interrupt_window))
		vcpu_deliver(vcpu);
}

static inline enum exit_action handle_exit(struct vcpu *vcpu)
{
	if (unlikely(vcpu->hv->exit.interrupted.kind != EVENT_NONE))
		vcpu_recover_event(vcpu);
	return handlers[vcpu->hv->exit.kind](vcpu);
}

/*
 * An exit that is measured, or after which the tables are dropped. After a second-level fault they stay: an instruction
 * that needs two pages would never have both.
 */
static __attribute__((noinline)) enum exit_action watched_exit(struct vcpu *vcpu)
{
	uint8_t watch = __atomic_load_n(&vcpu->watch, __ATOMIC_RELAXED);
	enum hv_exit_kind kind = vcpu->hv->exit.kind;
	uint64_t before = rdtsc(), spent;
	enum exit_action action = handle_exit(vcpu);

	spent = rdtsc() - before;
	if (watch & WATCH_CYCLES) {
		vcpu->exit_ticks[kind] += spent;
		if (kind == EXIT_SLAT_FAULT)
			vcpu->counters.cause_ticks[vcpu->counters.last_cause] += spent;
	}
	if ((watch & WATCH_SYNC) && kind != EXIT_SLAT_FAULT)
		pgm_tables_drop(vcpu->machine->pgm);
	return action;
}

/* One entry, to its exit; false: there was none, requests wait. */
static inline bool enter_guest(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;

	__atomic_store_n(&vcpu->in_guest, 1, __ATOMIC_SEQ_CST);
	if (unlikely(__atomic_load_n(&vcpu->requests, __ATOMIC_RELAXED))) {
		__atomic_store_n(&vcpu->in_guest, 0, __ATOMIC_RELEASE);
		return false;
	}
	deliver(vcpu);
	hv->run(h);
	__atomic_store_n(&vcpu->in_guest, 0, __ATOMIC_RELEASE);
	vcpu->exits[h->exit.kind]++;
	return true;
}

bool vcpu_enter_alone(struct vcpu *vcpu)
{
	if (!enter_guest(vcpu))
		return false;
	if (vcpu->hv->exit.interrupted.kind != EVENT_NONE)
		vcpu_recover_event(vcpu);
	return true;
}

enum exit_action vcpu_handle_exit(struct vcpu *vcpu)
{
	return handlers[vcpu->hv->exit.kind](vcpu);
}

/* One entry and its exit. */
static inline enum exit_action enter_once(struct vcpu *vcpu, uint64_t slice_end)
{
	if (unlikely(rdtsc() >= vcpu->hv->slice_deadline) && slice_is_over(vcpu, slice_end))
		return ACTION_YIELD;
	if (unlikely(!enter_guest(vcpu)))
		return take_requests(vcpu, slice_end) ? ACTION_LEAVE : ACTION_ENTER;
	if (unlikely(__atomic_load_n(&vcpu->watch, __ATOMIC_RELAXED)))
		return watched_exit(vcpu);
	return handle_exit(vcpu);
}

/* A vcpu that was asleep: is there a reason to go on? */
static bool wake(struct vcpu *vcpu, uint64_t slice_end, enum vcpu_outcome *outcome)
{
	if (take_requests(vcpu, slice_end)) {
		*outcome = VCPU_LEFT;
		return false;
	}
	run_timers(vcpu, slice_end);
	if (!vcpu_has_wake_event(vcpu)) {
		*outcome = VCPU_IDLE;
		return false;
	}
	vcpu->activity = VCPU_RUNNABLE;
	return true;
}

enum vcpu_outcome vcpu_run(struct vcpu *vcpu, uint64_t slice_end)
{
	enum vcpu_outcome outcome;
	enum exit_action action;

	if (vcpu->activity != VCPU_RUNNABLE && !wake(vcpu, slice_end, &outcome))
		return outcome;
	load_on_cpu(vcpu);
	vcpu->runs++;
	run_timers(vcpu, slice_end);
	set_host_timer(vcpu);
	for (;;) {
		do
			action = enter_once(vcpu, slice_end);
		while (likely(action == ACTION_ENTER));
		if (action == ACTION_LEAVE)
			return VCPU_LEFT;
		if (action == ACTION_YIELD)
			return VCPU_SLICE_OVER;
		if (!vcpu_has_wake_event(vcpu)) {
			if (vcpu->activity == VCPU_RUNNABLE)
				vcpu->activity = VCPU_HALTED;
			return VCPU_IDLE;
		}
	}
}
