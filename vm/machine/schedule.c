/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host CPU's life: it runs what its queue gives (queues.c), one vcpu after the other. A slice is 10 ms times weight / 100, but at
 * least 1 ms and at most 100 ms; it ends before when one comes whose turn is earlier. A vcpu whose guest measures a clock by
 * another runs on to the end of that; what it got more is on its account like all that it runs. When nobody can run, the CPU clears free
 * memory piece by piece, and then sleeps until the earliest timer or an interrupt.
 */
#include "vm/machine/schedule.h"

#include "arch/x86_64/host.h"
#include "mm/map.h"
#include "vm/machine/board.h"

#define SLICE_MIN_NS UINT64_C(1000000)
#define SLICE_MAX_NS UINT64_C(100000000)
/* Between looks after the house, while vcpus that wake one another take short turns. */
#define HOUSE_NS CONSOLE_PATIENCE_NS
#define MEASUREMENT_MAX_NS UINT64_C(56000000) /* the PIT's longest, 65536 ticks */

struct runner {
	const struct machine *served; /* whose memory may be mapped on this CPU; NULL: anybody's */
	uint64_t kept;                /* when its house was last looked after, if nothing was to be done */
	bool clears;                  /* free memory is first with what can wait, this time */
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
	vcpu->wakeup = 0; /* its clock may have stood, or its timers be new */
	__atomic_fetch_add(&vcpu->machine->vcpus_inside, 1, __ATOMIC_ACQ_REL);
	queues_add(vcpu, rdtsc());
}

void schedule_woken(struct vcpu *vcpu, bool leaves)
{
	queues_wake(vcpu, leaves, rdtsc());
}

/* The machine's end or pause: no CPU holds the vcpu from now on. */
static void let_go(struct vcpu *v, uint64_t spent)
{
	struct machine *m = v->machine;

	vcpu_unload(v);
	pgm_vcpu_leave(&v->counters);
	queues_put(v, VCPU_LEFT, spent, rdtsc());
	machine_vcpu_left(m);
	__atomic_fetch_sub(&m->vcpus_inside, 1, __ATOMIC_ACQ_REL);
	schedule_wake(0);
}

static uint64_t slice_ticks(const struct vcpu *v)
{
	uint64_t ns = SLICE_NS * v->weight / SLICE_WEIGHT;

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
		if (cpu_index() == 0) {
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

/* Until one asleep here is to be looked at. A vcpu that yields gives up the rest, but not a measurement's. */
static enum vcpu_outcome run_slice(struct vcpu *v, uint64_t end)
{
	uint64_t limit = end + host_ns_to_tsc(MEASUREMENT_MAX_NS), left;
	enum vcpu_outcome outcome;

	pgm_count_for(&v->counters);
	outcome = run_until(v, end);
	while (outcome == VCPU_SLICE_OVER && (left = measurement_left(v->machine)) && rdtsc() < limit)
		outcome = run_until(v, min_u64(limit, rdtsc() + host_ns_to_tsc(left)));
	pgm_count_for(NULL);
	return outcome;
}

/*
 * What a turn costs it. No more than it could have been given: if firmware, or a hypervisor below, held this CPU up for longer, that
 * wasn't its doing, and it would wait as long for its next turn.
 */
static uint64_t cost(uint64_t slice, uint64_t spent)
{
	return min_u64(spent, slice + host_ns_to_tsc(MEASUREMENT_MAX_NS));
}

/* One turn of one vcpu. */
static void turn(struct runner *r, struct vcpu *v, uint64_t start, uint64_t due)
{
	uint64_t runs = v->runs, slice = slice_ticks(v), now;
	enum vcpu_outcome outcome;

	serve(r, v->machine);
	outcome = run_slice(v, min_u64(start + slice, due));
	now = rdtsc();
	if (v->runs != runs) {
		v->run_ticks += now - start;
		r->info.guest_ticks += now - start;
	}
	if (outcome == VCPU_LEFT) {
		let_go(v, now - start);
		return;
	}
	vcpu_settle(v);
	queues_put(v, outcome, cost(slice, now - start), now);
}

/* A moment of the time stamp counter as one of host_now_ns(). */
static uint64_t tsc_moment(uint64_t tsc)
{
	uint64_t now = rdtsc();

	return host_now_ns() + (tsc > now ? host_tsc_to_ns(tsc - now) : 0);
}

/* Nothing to run: sleep until a timer or an interrupt. A kick that came since is taken at once. */
static void sleep(struct runner *r, uint64_t poll_ns)
{
	uint64_t before, due, deadline = poll_ns == UINT64_MAX ? UINT64_MAX : host_now_ns() + poll_ns;

	if (!queues_nothing(&due))
		return;
	host_timer_set(due == UINT64_MAX ? deadline : min_u64(deadline, tsc_moment(due)));
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

/* One bounded piece of what can wait: of machines' or of free memory, in turn. */
static bool work_step(struct runner *r)
{
	uint64_t since = rdtsc();
	bool more;

	r->clears = !r->clears;
	more = (r->clears && frame_prezero_step()) || machines_idle_step() || frame_prezero_step();
	schedule_note(STRETCH_WORK, since);
	return more;
}

/* Housekeeping and idle work turn to any memory. */
static bool keep_house(struct runner *r, bool (*housekeeping)(void))
{
	uint64_t since = rdtsc();
	bool busy;

	r->served = NULL;
	busy = housekeeping && housekeeping();
	r->kept = busy ? 0 : since;
	schedule_note(STRETCH_HOUSEKEEPING, since);
	return busy;
}

void schedule_loop(bool (*housekeeping)(void), uint64_t poll_ns)
{
	struct runner *r = &runners[cpu_index()];

	r->info.started = rdtsc();
	for (;;) {
		uint64_t due, now = rdtsc();
		struct vcpu *v = queues_pick(now, &due);
		bool busy = v;

		r->info.loops++;
		if (v)
			turn(r, v, now, due);
		if (!v || (housekeeping && rdtsc() - r->kept >= host_ns_to_tsc(HOUSE_NS)))
			busy |= keep_house(r, housekeeping);
		interrupts_window();
		/* (wake.pml: REST, WAIT) */
		if (!busy && queues_rest() && !work_step(r))
			sleep(r, poll_ns);
	}
}

void schedule_describe(unsigned cpu, struct schedule_info *info)
{
	*info = runners[cpu].info;
	queues_describe(cpu, &info->queue);
}
