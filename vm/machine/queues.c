/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vcpus on many CPUs. A CPU that has none ready takes one of the longest queue, of its own memory node first; one whose own are all
 * ahead of another's by more than MARGIN takes that. So where vcpus may run on any CPU, one that a busy CPU goes on with is ahead of those
 * that wait by at most MARGIN and a slice: their shares are as their weights, wherever they are.
 *
 * vcpu->place and ->cpu change under the lock of the queue of ->cpu; MOVING belongs to who made it that. A vcpu is on one list,
 * or runs on one CPU, or is nowhere. Only one that its CPU holds nothing of (->loaded) is taken away. No wake-up is lost:
 *   who wants something sets the request, then looks at the place; who puts one to sleep sets the place, then looks at the requests;
 *   who leaves something waiting says so, then looks for idle CPUs; a CPU says that it is idle, then looks at what waits.
 * That is the model tests/models/wake.pml, whose steps are named in comments.
 */
#include "vm/machine/queue.h"

#define LOOK_NS UINT64_C(1000000)

_Static_assert(MAX_CPUS <= CPU_SET_SIZE, "a set holds all CPUs");

struct queue queues[MAX_CPUS] = { [0 ... MAX_CPUS - 1] = { .lock = SPINLOCK(RANK_LEAF, "queue") } };
/* Something waits that this CPU, idle or busy with one that is to wait for it, should look at. */
static void disturb(unsigned cpu, const struct queue *q, const struct vcpu *v, uint64_t now)
{
	struct vcpu *running = q->current;
	bool nmi = false;

	if (running) {
		if (!queue_before(v->vtime, running->vtime) &&
		    !queue_before(v->vtime, running->vtime + queue_charge(running, queue_host_time(now) - q->since)))
			return;
		__atomic_fetch_or(&running->requests, REQUEST_YIELD, __ATOMIC_SEQ_CST);
		nmi = hv_capabilities.kick_by_nmi && __atomic_load_n(&running->in_guest, __ATOMIC_SEQ_CST);
	}
	if (cpu != cpu_index())
		host_kick(cpu, nmi);
}

static unsigned cpu_of(const struct vcpu *v)
{
	return __atomic_load_n(&v->cpu, __ATOMIC_SEQ_CST);
}

static struct queue *lock_queue_of(const struct vcpu *v)
{
	for (;;) {
		unsigned cpu = cpu_of(v);

		lock_acquire(&queues[cpu].lock);
		if (cpu_of(v) == cpu)
			return &queues[cpu];
		lock_release(&queues[cpu].lock);
	}
}

struct queue *queues_move(struct queue *from, struct vcpu *v, unsigned cpu)
{
	struct queue *to = &queues[cpu];

	queue_part(from, v);
	__atomic_store_n(&v->cpu, cpu, __ATOMIC_SEQ_CST);
	lock_release(&from->lock);
	lock_acquire(&to->lock);
	queue_join(to, v);
	v->moves++;
	to->info.moves++;
	return to;
}

/* Where one that wakes should go. */
static unsigned best_cpu(const struct vcpu *v)
{
	unsigned cpu = v->cpu;

	if (!offers_end_rest(cpu) && v->movable && !__atomic_load_n(&v->loaded, __ATOMIC_ACQUIRE))
		(void)offers_claim(v->allowed, &cpu);
	return cpu;
}

/* ---- its CPU ---- */

/* Before it goes on with what it has. While turns are short, not each time: it is a look at all CPUs' queues. */
static void look_around(struct queue *q, uint64_t now)
{
	bool empty = !q->ready;
	uint64_t own = empty ? 0 : q->ready->vtime + q->shift;

	if (!empty && now - q->looked < host_ns_to_tsc(LOOK_NS))
		return;
	q->looked = now;
	lock_release(&q->lock);
	offers_take(empty, own);
	lock_acquire(&q->lock);
}

/* (wake.pml: PICK, STEAL) */
struct vcpu *queues_pick(uint64_t now, uint64_t *due)
{
	unsigned self = cpu_index();
	struct queue *q = &queues[self];
	struct vcpu *v;

	lock_acquire(&q->lock);
	*due = queue_wake_due(q, now);
	look_around(q, now);
	v = q->ready;
	if (v) {
		queue_come_on(q, now);
		(void)offers_end_rest(self);
		offers_call(q);
	}
	lock_release(&q->lock);
	return v;
}

void queues_put(struct vcpu *v, enum vcpu_outcome outcome, uint64_t spent, uint64_t now)
{
	struct queue *q = &queues[cpu_index()];

	HOLD(&q->lock);
	v->vtime += queue_charge(v, spent);
	q->current = NULL;
	if (outcome == VCPU_SLICE_OVER) {
		v->waits_since = queue_host_time(now);
		__atomic_store_n(&v->preempted, true, __ATOMIC_RELEASE);
		queue_insert(q, v);
		return;
	}
	__atomic_fetch_sub(&v->machine->vcpus_active, 1, __ATOMIC_RELAXED);
	if (outcome == VCPU_LEFT) {
		queue_part(q, v);
		__atomic_store_n(&v->place, PLACE_NONE, __ATOMIC_SEQ_CST);
	} else {
		queue_put_to_sleep(q, v); /* (wake.pml: SLEEP, RECHECK) */
		if (__atomic_load_n(&v->requests, __ATOMIC_SEQ_CST)) {
			queue_wake(q, v);
			queue_become_ready(q, v, now);
		}
	}
}

/* ---- who wakes, and who comes ---- */

static void arrive(struct queue *q, struct vcpu *v, uint64_t now)
{
	queue_become_ready(q, v, now);
	disturb(v->cpu, q, v, now);
}

void queues_add(struct vcpu *v, uint64_t now)
{
	struct queue *q;

	__atomic_store_n(&v->cpu, queues_lightest(v->allowed), __ATOMIC_SEQ_CST);
	__atomic_store_n(&v->cpu, best_cpu(v), __ATOMIC_SEQ_CST);
	q = &queues[v->cpu];
	HOLD(&q->lock);
	queue_join(q, v);
	arrive(q, v, now);
}

/* Before all others here. */
static void come_first(struct queue *q, struct vcpu *v, uint64_t time, uint64_t now)
{
	queue_remove(q, v, PLACE_MOVING);
	v->vtime = time;
	queue_insert(q, v);
	disturb(v->cpu, q, v, now);
}

/* (wake.pml: WAKE) */
void queues_wake(struct vcpu *v, bool leaves, uint64_t now)
{
	uint8_t place = __atomic_load_n(&v->place, __ATOMIC_SEQ_CST);
	struct queue *q;
	unsigned cpu;

	if (place != PLACE_ASLEEP && !(leaves && place == PLACE_READY))
		return;
	q = lock_queue_of(v);
	if (v->place == PLACE_READY && leaves) {
		come_first(q, v, q->ready->vtime - 1, now);
	} else if (v->place == PLACE_ASLEEP) {
		cpu = best_cpu(v);
		queue_wake(q, v);
		if (cpu != v->cpu)
			q = queues_move(q, v, cpu);
		arrive(q, v, now);
	}
	lock_release(&q->lock);
}

bool schedule_yield_to(struct vcpu *v, struct vcpu *other)
{
	unsigned self = cpu_index();
	struct queue *q;
	bool can;

	if (v == other || __atomic_load_n(&other->place, __ATOMIC_SEQ_CST) != PLACE_READY)
		return false;
	q = lock_queue_of(other);
	can = other->place == PLACE_READY && (other->cpu == self || offers_may_come(other, self));

	if (can) {
		queue_remove(q, other, PLACE_MOVING);
		if (other->cpu != self)
			q = queues_move(q, other, self);
		if (queue_before(v->vtime, other->vtime)) {
			uint64_t time = v->vtime;

			v->vtime = other->vtime;
			other->vtime = time;
		}
		queue_insert(q, other);
	}
	lock_release(&q->lock);
	return can;
}

bool schedule_spins(struct vcpu *v)
{
	struct machine *m = v->machine;

	for (unsigned i = 1; i < m->vcpu_count; i++)
		if (schedule_yield_to(v, m->vcpu[(v->id + i) % m->vcpu_count]))
			return true;
	return false;
}

bool queues_nothing(uint64_t *due)
{
	struct queue *q = &queues[cpu_index()];

	HOLD(&q->lock);
	*due = queue_wake_due(q, 0);
	return !q->ready;
}

unsigned queues_lightest(const struct cpu_set *set)
{
	unsigned best = CPU_SET_SIZE;
	uint64_t least = UINT64_MAX;

	/* The last of the least: the boot CPU, which is always open, also carries the monitor. */
	for (unsigned i = 0; i < cpu_count(); i++) {
		uint64_t weight = __atomic_load_n(&queues[i].weight, __ATOMIC_RELAXED);

		if (!cpu_is_open(i) || !cpu_set_has(set, i) || weight > least)
			continue;
		least = weight;
		best = i;
	}
	return best;
}

void queues_describe(unsigned cpu, struct queue_info *info)
{
	HOLD(&queues[cpu].lock);
	*info = queues[cpu].info;
}
