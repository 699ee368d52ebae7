/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The run loop: deliver, enter, handle the exit, again. The backend calls vcpu_exited() at each exit and goes on while it says so,
 * so every instruction there is paid at every exit: the common path asks two words (requests, and what the local APIC has pending) and
 * nothing else; timers are a comparison of the time stamp counter with one deadline. What is rarer comes back to vcpu_run().
 */
#include "arch/x86_64/host.h"
#include "pgm/slat/tables.h"
#include "vm/vcpu/enter.h"
#include "vm/vcpu/nested.h"

/* (wake.pml: REQUEST, LOOK, KICK) */
void vcpu_request(struct vcpu *vcpu, uint32_t requests)
{
	unsigned cpu;

	/* Who has set them before wakes or kicks it, if it hasn't taken them since. */
	if (!(requests & ~__atomic_fetch_or(&vcpu->requests, requests, __ATOMIC_SEQ_CST)))
		return;
	if (!__atomic_load_n(&vcpu->in_guest, __ATOMIC_SEQ_CST)) {
		schedule_woken(vcpu, requests & REQUEST_LEAVE);
		return;
	}
	/* If it leaves its guest meanwhile, it sees the request itself. */
	cpu = __atomic_load_n(&vcpu->cpu, __ATOMIC_SEQ_CST);
	if (cpu != cpu_index())
		host_kick(cpu, hv_capabilities.kick_by_nmi);
}

void machine_timer_moved(struct machine *m)
{
	vcpu_request(m->vcpu[0], REQUEST_TIMER);
}

/* A guest's timer may be centuries off, and would come round to a moment in the past as a time stamp: an hour, then look again. */
#define LONGEST_WAIT_NS UINT64_C(3600000000000)

/* The boot vcpu runs the machine's timers, too. Under the lock, for others look there at when it does so next. */
static uint64_t run_machine_timers(struct vcpu *vcpu, uint64_t now)
{
	struct machine *m = vcpu->machine;
	uint64_t next;

	HOLD(&m->lock);
	if (timer_next(&m->bus.timers) <= now)
		timer_run(&m->bus.timers, now);
	next = min_u64(timer_next(&m->bus.timers), vcpu->lapic->deadline);
	vcpu->wakeup_ns = next;
	return next;
}

/* Timers that are due, and the moment at which to look again. */
static void run_timers(struct vcpu *vcpu, uint64_t slice_end)
{
	uint64_t now = machine_now(vcpu->machine), next;

	lapic_timer_run(vcpu->lapic, now);
	if (vcpu->id == 0)
		next = run_machine_timers(vcpu, now);
	else
		next = vcpu->wakeup_ns = vcpu->lapic->deadline;
	if (next != UINT64_MAX)
		next = rdtsc() + host_ns_to_tsc(next > now ? min_u64(next - now, LONGEST_WAIT_NS) : 0);
	vcpu->wakeup = next;
	vcpu->hv->slice_deadline = next < slice_end ? next : slice_end;
	if (unlikely(vcpu->nested != NULL))
		vcpu_nested_deadline(vcpu);
}

/* A turn begins. What moved a deadline meanwhile has set a request, or it is the APIC's own. */
static void begin_slice(struct vcpu *vcpu, uint64_t slice_end)
{
	if (rdtsc() >= vcpu->wakeup || vcpu->lapic->deadline < vcpu->wakeup_ns || vcpu->nested ||
	    unlikely(vcpu->tsc_ahead != host_tsc_ahead()))
		run_timers(vcpu, slice_end);
	else
		vcpu->hv->slice_deadline = min_u64(vcpu->wakeup, slice_end);
}

/* Where no backend's timer ends the slice, the host's does. */
static void set_host_timer(struct vcpu *vcpu)
{
	uint64_t now = rdtsc(), deadline = vcpu->hv->slice_deadline;

	if (!hv_capabilities.slice_timer)
		host_timer_set(host_now_ns() + host_tsc_to_ns(deadline > now ? deadline - now : 0));
}

void vcpu_flush_late(struct vcpu *vcpu)
{
	struct flush_domain *domain = pgm_flush_domain(vcpu->machine->pgm);
	uint64_t generation = __atomic_load_n(&domain->generation, __ATOMIC_ACQUIRE);

	if (vcpu->flush_seen != generation) {
		vcpu->l1->flush_pending = true;
		if (vcpu->nested)
			vcpu->nested->state->l2->flush_pending = true;
		__atomic_store_n(&vcpu->flush_seen, generation, __ATOMIC_RELEASE);
	}
}

/* Takes the requests, and looks at what they tell of afterwards (wake.pml: TAKE), (flush.pml: TAKE, SEEN). True: leave the loop. */
static __attribute__((noinline)) bool take_what_came(struct vcpu *vcpu, uint64_t slice_end)
{
	uint32_t requests = __atomic_exchange_n(&vcpu->requests, 0, __ATOMIC_ACQ_REL);

	if (requests & REQUEST_FLUSH)
		vcpu_flush_late(vcpu);
	if (requests & REQUEST_EVENT) {
		lapic_update(vcpu->lapic);
		if (__atomic_load_n(&vcpu->signals, __ATOMIC_RELAXED) || vcpu->init_pending)
			vcpu_take_signals(vcpu);
	}
	if (requests & REQUEST_A20)
		vcpu_apply_a20(vcpu);
	if (requests & REQUEST_WINDOWS)
		board_place_windows(vcpu->machine);
	if (requests & REQUEST_TIMER) {
		run_timers(vcpu, slice_end);
		set_host_timer(vcpu);
	}
	if (requests & REQUEST_YIELD)
		vcpu->yields = true;
	return (requests & REQUEST_LEAVE) != 0;
}

static inline bool take_requests(struct vcpu *vcpu, uint64_t slice_end)
{
	return __atomic_load_n(&vcpu->requests, __ATOMIC_RELAXED) && take_what_came(vcpu, slice_end);
}

/* The deadline has come: timers, and perhaps the slice's end. */
static __attribute__((noinline)) bool slice_is_over(struct vcpu *vcpu, uint64_t slice_end)
{
	uint64_t now = rdtsc();

	run_timers(vcpu, slice_end);
	set_host_timer(vcpu);
	if (now < slice_end)
		return false;
	vcpu_look_for_emptiness(vcpu);
	return true;
}

static inline enum exit_action handle_exit(struct vcpu *vcpu)
{
	if (unlikely(vcpu->hv->exit.interrupted.kind != EVENT_NONE))
		vcpu_recover_event(vcpu);
	return vcpu_exit_handlers[vcpu->hv->exit.kind](vcpu);
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
	/* As many as one step does; after the next exit it goes on with the others. */
	if ((watch & WATCH_SYNC) && kind != EXIT_SLAT_FAULT &&
	    pgm_tables_drop_step(vcpu->machine->pgm, &vcpu->sync_cursor) == OK)
		vcpu->sync_cursor = 0;
	return action;
}

enum exit_action vcpu_handle_exit(struct vcpu *vcpu)
{
	return likely(!__atomic_load_n(&vcpu->watch, __ATOMIC_RELAXED)) ? handle_exit(vcpu) : watched_exit(vcpu);
}

bool vcpu_exited(struct hv_vcpu *h)
{
	struct vcpu *vcpu = h->owner;

	come_back(vcpu, h->exit.kind);
	vcpu->action = vcpu_handle_exit(vcpu);
	return likely(vcpu->action == ACTION_ENTER) && go_on(vcpu);
}

static bool exited_alone(struct hv_vcpu *h)
{
	struct vcpu *vcpu = h->owner;

	come_back(vcpu, h->exit.kind);
	settle_offer(vcpu);
	return false;
}

bool vcpu_enter_alone(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;

	if (!set_out(vcpu))
		return false;
	h->answers = NULL;
	h->exited = exited_alone;
	hv->run(h);
	h->exited = vcpu_exited;
	if (h->exit.interrupted.kind != EVENT_NONE)
		vcpu_recover_event(vcpu);
	return true;
}

/* Entries, until one of the exits says otherwise. */
static enum exit_action enter(struct vcpu *vcpu, uint64_t slice_end)
{
	do {
		settle_offer(vcpu);
		if (take_requests(vcpu, slice_end))
			return ACTION_LEAVE;
		if (unlikely(vcpu->activity != VCPU_RUNNABLE)) /* INIT has come */
			return ACTION_HALT;
		if (unlikely(vcpu->yields)) /* its next turn begins with its timers */
			return ACTION_YIELD;
		if (unlikely(rdtsc() >= vcpu->hv->slice_deadline) && slice_is_over(vcpu, slice_end))
			return ACTION_YIELD;
		/* Whoever watches exits wants to see all of them. */
		vcpu->l1->answers = __atomic_load_n(&vcpu->watch, __ATOMIC_RELAXED) ? NULL : &vcpu->answers;
		vcpu->action = ACTION_ENTER;
		if (set_out(vcpu))
			hv->run(vcpu->hv);
	} while (vcpu->action <= ACTION_SWITCH);
	return vcpu->action;
}

/* A vcpu that was asleep: is there a reason to go on? */
static bool wake(struct vcpu *vcpu, uint64_t slice_end, enum vcpu_outcome *outcome)
{
	/* What has come may lead to L1, which has MSRs loaded then: into this CPU. */
	if (unlikely(vcpu->nested != NULL))
		vcpu_switch_in(vcpu);
	if (take_requests(vcpu, slice_end)) {
		*outcome = VCPU_LEFT;
		return false;
	}
	begin_slice(vcpu, slice_end);
	if (vcpu->activity != VCPU_RUNNABLE && !vcpu_has_wake_event(vcpu)) {
		*outcome = VCPU_IDLE;
		return false;
	}
	vcpu->activity = VCPU_RUNNABLE;
	return true;
}

/* From its first entry until it stops running. */
static enum vcpu_outcome run_on(struct vcpu *vcpu, uint64_t slice_end)
{
	enum exit_action action;

	for (;;) {
		action = enter(vcpu, slice_end);
		if (action == ACTION_LEAVE)
			return VCPU_LEFT;
		if (action == ACTION_YIELD)
			return VCPU_SLICE_OVER;
		if (vcpu->activity == VCPU_RUNNABLE)
			vcpu->activity = VCPU_HALTED;
		/* A timer may have moved: when it wakes is to be known before it sleeps. A SIPI may have come, too. */
		if (take_requests(vcpu, slice_end))
			return VCPU_LEFT;
		if (vcpu->lapic->deadline < vcpu->wakeup_ns)
			run_timers(vcpu, slice_end);
		if (vcpu->activity != VCPU_RUNNABLE && !vcpu_has_wake_event(vcpu))
			return VCPU_IDLE;
		vcpu->activity = VCPU_RUNNABLE;
	}
}

enum vcpu_outcome vcpu_run(struct vcpu *vcpu, uint64_t slice_end)
{
	bool asleep = vcpu->activity != VCPU_RUNNABLE;
	enum vcpu_outcome outcome;

	if (asleep && !wake(vcpu, slice_end, &outcome))
		return outcome;
	vcpu_switch_in(vcpu);
	vcpu->runs++;
	vcpu->yields = false;
	if (!asleep) /* wake() has done it */
		begin_slice(vcpu, slice_end);
	set_host_timer(vcpu);
	if (vcpu->pv.steal)
		pv_steal_begin(vcpu);
	outcome = run_on(vcpu, slice_end);
	if (vcpu->pv.steal)
		pv_steal_end(vcpu);
	return outcome;
}
