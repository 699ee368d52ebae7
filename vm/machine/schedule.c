/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Round robin by weight, one list per host CPU, no migration. A vcpu's slice is 10 ms times weight / 100,
 * but at least 1 ms and at most 100 ms; a halted one costs a look per round. One whose guest measures a clock by another
 * runs on to the end of that, and then sits out what it got beyond its slice. When nobody can run, the CPU clears free
 * memory piece by piece, and then sleeps until the earliest timer or an interrupt.
 *
 * A list is changed only by its own CPU: others leave a vcpu in the inbox.
 */
#include "vm/machine/schedule.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/percpu.h"
#include "mm/map.h"
#include "vm/machine/board.h"

#define SLICE_NS UINT64_C(10000000)
#define SLICE_MIN_NS UINT64_C(1000000)
#define SLICE_MAX_NS UINT64_C(100000000)
#define MEASUREMENT_MAX_NS UINT64_C(56000000) /* the PIT's longest, 65536 ticks */
#define DEFAULT_WEIGHT 100u

struct runner {
	struct vcpu *inbox; /* atomic */
	struct vcpu *list;
	uint64_t weight;              /* atomic */
	const struct machine *served; /* whose memory may be mapped on this CPU; NULL: anybody's */
	struct schedule_info info;
} __attribute__((aligned(64)));

static struct runner runners[MAX_CPUS];

void schedule_wake(unsigned cpu)
{
	if (cpu != cpu_index())
		host_kick(cpu, false);
}

void schedule_add(struct vcpu *vcpu)
{
	struct runner *r = &runners[vcpu->cpu];
	struct vcpu *head = __atomic_load_n(&r->inbox, __ATOMIC_RELAXED);

	__atomic_fetch_add(&vcpu->machine->vcpus_inside, 1, __ATOMIC_ACQ_REL);
	__atomic_fetch_add(&r->weight, vcpu->weight, __ATOMIC_RELAXED);
	do {
		vcpu->next = head;
	} while (!__atomic_compare_exchange_n(&r->inbox, &head, vcpu, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
	schedule_wake(vcpu->cpu);
}

unsigned schedule_pick_cpu(void)
{
	unsigned best = 0;

	/* The last of the least: the boot CPU, which is always open, also carries the monitor. */
	for (unsigned i = 1; i < cpu_count(); i++)
		if (cpu_is_open(i) && __atomic_load_n(&runners[i].weight, __ATOMIC_RELAXED) <=
					      __atomic_load_n(&runners[best].weight, __ATOMIC_RELAXED))
			best = i;
	return best;
}

/* It runs from now on, or could, but doesn't. */
static void note_waiting(struct vcpu *v, bool waits, uint64_t now)
{
	if (v->waits_since)
		v->waited_ticks += now - v->waits_since;
	v->waits_since = waits ? now : 0;
	__atomic_store_n(&v->preempted, waits, __ATOMIC_RELEASE);
}

static void take_inbox(struct runner *r)
{
	struct vcpu *v = __atomic_exchange_n(&r->inbox, NULL, __ATOMIC_ACQUIRE);

	while (v) {
		struct vcpu *next = v->next;

		v->next = r->list;
		r->list = v;
		r->info.vcpus++;
		note_waiting(v, v->activity == VCPU_RUNNABLE, rdtsc());
		v = next;
	}
}

/* The machine's end or pause: this CPU holds the vcpu no more. */
static void let_go(struct runner *r, struct vcpu **link)
{
	struct vcpu *v = *link;

	vcpu_unload(v);
	*link = v->next;
	r->info.vcpus--;
	__atomic_fetch_sub(&r->weight, v->weight, __ATOMIC_RELAXED);
	machine_vcpu_left(v->machine);
	__atomic_fetch_sub(&v->machine->vcpus_inside, 1, __ATOMIC_ACQ_REL);
	schedule_wake(0);
}

static uint64_t slice_ticks(const struct vcpu *v)
{
	uint64_t ns = SLICE_NS * v->weight / DEFAULT_WEIGHT;

	return host_ns_to_tsc(max_u64(SLICE_MIN_NS, min_u64(ns, SLICE_MAX_NS)));
}

/* What this CPU has mapped of others' memory goes before it runs this machine: see mm/map.h. */
static void serve(struct runner *r, const struct machine *m)
{
	if (r->served != m)
		frame_maps_forget();
	r->served = m;
}

/* Until its slice, or what it got beyond, ends. The boot CPU looks after the console's input in between. */
static enum vcpu_outcome run_until(struct vcpu *v, uint64_t end)
{
	uint64_t until = end;
	enum vcpu_outcome outcome;

	do {
		if (v->cpu == 0) {
			console_listen();
			until = min_u64(end, rdtsc() + host_ns_to_tsc(CONSOLE_PATIENCE_NS));
		}
		outcome = vcpu_run(v, until);
	} while (outcome == VCPU_SLICE_OVER && until != end && rdtsc() >= until);
	return outcome;
}

/* Nanoseconds until a measurement that the guest has begun is over: see struct bus. */
static uint64_t measurement_left(const struct machine *m)
{
	uint64_t until = __atomic_load_n(&m->bus.measuring, __ATOMIC_RELAXED), now = until ? machine_now(m) : 0;

	return until > now ? until - now : 0;
}

/* A vcpu that yields gives up the rest, but not a measurement's. */
static enum vcpu_outcome run_slice(struct vcpu *v, uint64_t start)
{
	uint64_t end = start + slice_ticks(v), limit = end + host_ns_to_tsc(MEASUREMENT_MAX_NS), left;
	enum vcpu_outcome outcome;

	pgm_count_for(&v->counters);
	outcome = run_until(v, end);
	while (outcome == VCPU_SLICE_OVER && (left = measurement_left(v->machine)) && rdtsc() < limit)
		outcome = run_until(v, min_u64(limit, rdtsc() + host_ns_to_tsc(left)));
	pgm_count_for(NULL);
	return outcome;
}

/* What it got beyond its slice is taken off, slice by slice. Returns whether this turn is one. */
static bool sits_out(struct vcpu *v)
{
	uint64_t slice = slice_ticks(v);

	if (v->overdrawn < slice)
		return false;
	v->overdrawn -= slice;
	return true;
}

/* One turn of one vcpu; *link moves on. Returns whether it ran, or would have. */
static bool turn(struct runner *r, struct vcpu ***link)
{
	struct vcpu *v = **link;
	uint64_t before = rdtsc(), runs = v->runs, spent;
	enum vcpu_outcome outcome;

	if (sits_out(v)) {
		*link = &v->next;
		return true;
	}
	serve(r, v->machine);
	note_waiting(v, false, before);
	outcome = run_slice(v, before);
	spent = rdtsc() - before;
	if (v->runs != runs) {
		v->run_ticks += spent;
		r->info.guest_ticks += spent;
	}
	if (outcome == VCPU_LEFT) {
		let_go(r, *link);
		return true;
	}
	if (spent > slice_ticks(v))
		v->overdrawn += spent - slice_ticks(v);
	note_waiting(v, outcome == VCPU_SLICE_OVER, before + spent);
	*link = &v->next;
	return outcome == VCPU_SLICE_OVER;
}

/* A moment of the time stamp counter as one of host_now_ns(). */
static uint64_t tsc_moment(uint64_t tsc)
{
	uint64_t now = rdtsc();

	return host_now_ns() + (tsc > now ? host_tsc_to_ns(tsc - now) : 0);
}

static uint64_t next_wakeup(const struct runner *r, uint64_t poll_ns)
{
	uint64_t deadline = poll_ns == UINT64_MAX ? UINT64_MAX : host_now_ns() + poll_ns;

	for (const struct vcpu *v = r->list; v; v = v->next) {
		uint64_t wakeup = v->activity == VCPU_PARKED ? min_u64(v->wakeup, v->parked_until) : v->wakeup;

		if (wakeup != UINT64_MAX)
			deadline = min_u64(deadline, tsc_moment(wakeup));
	}
	return deadline;
}

/* Nothing to run: sleep until a timer or an interrupt. A kick that came since is taken at once. */
static void sleep(struct runner *r, uint64_t poll_ns)
{
	uint64_t before;

	for (const struct vcpu *v = r->list; v; v = v->next)
		if (__atomic_load_n(&v->requests, __ATOMIC_ACQUIRE))
			return;
	if (__atomic_load_n(&r->inbox, __ATOMIC_ACQUIRE))
		return;
	host_timer_set(next_wakeup(r, poll_ns));
	before = rdtsc();
	interrupts_wait();
	r->info.idle_ticks += rdtsc() - before;
}

void schedule_note(enum stretch what, uint64_t since)
{
	uint64_t *longest = &runners[cpu_index()].info.longest[what], ticks = rdtsc() - since;

	if (unlikely(ticks > *longest))
		*longest = ticks;
}

/* One bounded piece of what can wait. */
static bool work_step(void)
{
	uint64_t since = rdtsc();
	bool more = machines_idle_step() || frame_prezero_step();

	schedule_note(STRETCH_WORK, since);
	return more;
}

static bool keep_house(bool (*housekeeping)(void))
{
	uint64_t since = rdtsc();
	bool busy = housekeeping && housekeeping();

	schedule_note(STRETCH_HOUSEKEEPING, since);
	return busy;
}

void schedule_loop(bool (*housekeeping)(void), uint64_t poll_ns)
{
	struct runner *r = &runners[cpu_index()];

	r->info.started = rdtsc();
	for (;;) {
		bool busy = false;

		r->info.loops++;
		take_inbox(r);
		for (struct vcpu **link = &r->list; *link;)
			busy |= turn(r, &link);
		busy |= keep_house(housekeeping);
		interrupts_window();
		/* Housekeeping and idle work turn to any memory. */
		r->served = NULL;
		if (busy || work_step())
			continue;
		sleep(r, poll_ns);
	}
}

void schedule_describe(unsigned cpu, struct schedule_info *info)
{
	*info = runners[cpu].info;
}
