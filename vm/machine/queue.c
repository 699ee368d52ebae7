/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who runs next on a CPU: virtual time. A vcpu's is what it ran, divided by its part of its machine's weight (the weight by
 * how many of its vcpus could run); the earliest goes first. A queue holds the vcpus of one CPU: those ready, by virtual time,
 * those asleep, and the one that runs.
 *
 * CPUs may differ in what is pinned to them, and so in how fast their queues' times go. A queue therefore counts its own time,
 * `shift` behind the host's; that grows, by so much that the queue's first is never more than BEHIND behind the farthest. Its own
 * vcpus keep their order; nobody lives on, or pays for, what was long ago on another CPU. For the same reason one that
 * wakes is put at most CREDIT before where this one is.
 */
#include "vm/machine/queue.h"

static uint64_t farthest; /* atomic: the host's virtual time */

uint64_t queue_units(unsigned count)
{
	return host_ns_to_tsc(SLICE_NS) / SLICE_WEIGHT * count;
}

uint64_t queue_charge(const struct vcpu *v, uint64_t ticks)
{
	return (ticks * __atomic_load_n(&v->machine->vcpus_active, __ATOMIC_RELAXED) + v->weight - 1) / v->weight;
}

static void set_place(struct vcpu *v, enum vcpu_place place)
{
	__atomic_store_n(&v->place, place, __ATOMIC_SEQ_CST);
}

/* What other CPUs see of it. */
static void publish(struct queue *q)
{
	const struct vcpu *v = q->ready;

	while (v && !v->movable)
		v = v->next;
	if (v)
		__atomic_store_n(&q->first, v->vtime + q->shift, __ATOMIC_RELAXED);
	__atomic_store_n(&q->offers, v ? q->info.waiting : 0, __ATOMIC_SEQ_CST);
}

void queue_insert(struct queue *q, struct vcpu *v)
{
	struct vcpu **link = &q->ready;

	while (*link && !queue_before(v->vtime, (*link)->vtime))
		link = &(*link)->next;
	v->next = *link;
	*link = v;
	set_place(v, PLACE_READY);
	q->info.waiting++;
	publish(q);
}

static void take_off(struct vcpu **list, const struct vcpu *v)
{
	while (*list != v)
		list = &(*list)->next;
	*list = v->next;
}

void queue_remove(struct queue *q, struct vcpu *v, enum vcpu_place place)
{
	take_off(&q->ready, v);
	q->info.waiting--;
	set_place(v, place);
	publish(q);
}

void queue_become_ready(struct queue *q, struct vcpu *v, uint64_t now)
{
	uint64_t far = __atomic_load_n(&farthest, __ATOMIC_RELAXED) - q->shift, least;

	if (!q->current && !q->ready && queue_before(q->reached, far))
		q->reached = far;
	least = q->reached - queue_units(QUEUE_CREDIT);
	if (queue_before(v->vtime, least))
		v->vtime = least;
	v->waits_since = queue_host_time(now);
	__atomic_fetch_add(&v->machine->vcpus_active, 1, __ATOMIC_RELAXED);
	queue_insert(q, v);
}

void queue_join(struct queue *q, struct vcpu *v)
{
	v->vtime -= q->shift;
	__atomic_fetch_add(&q->weight, v->weight, __ATOMIC_RELAXED);
	q->info.vcpus++;
}

void queue_part(struct queue *q, struct vcpu *v)
{
	v->vtime += q->shift;
	__atomic_fetch_sub(&q->weight, v->weight, __ATOMIC_RELAXED);
	q->info.vcpus--;
}

static uint64_t due_at(const struct vcpu *v)
{
	return v->activity == VCPU_PARKED ? min_u64(v->wakeup, v->parked_until) : v->wakeup;
}

uint64_t queue_wake_due(struct queue *q, uint64_t now)
{
	uint64_t due = UINT64_MAX;

	for (struct vcpu **link = &q->asleep, *v; (v = *link);) {
		if (due_at(v) > now) {
			due = min_u64(due, due_at(v));
			link = &v->next;
			continue;
		}
		*link = v->next;
		queue_become_ready(q, v, now);
	}
	return due;
}

void queue_come_on(struct queue *q, uint64_t now)
{
	struct vcpu *v = q->ready;
	uint64_t time = v->vtime + q->shift, far = __atomic_load_n(&farthest, __ATOMIC_RELAXED);

	if (queue_before(time, far - queue_units(QUEUE_BEHIND)))
		q->shift += far - queue_units(QUEUE_BEHIND) - time;
	while (queue_before(far, time) &&
	       !__atomic_compare_exchange_n(&farthest, &far, time, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	if (queue_before(q->reached, v->vtime))
		q->reached = v->vtime;
	queue_remove(q, v, PLACE_RUNNING);
	q->current = v;
	q->since = queue_host_time(now);
	v->waited_ticks += q->since - v->waits_since;
	v->waits_since = 0;
	__atomic_store_n(&v->preempted, false, __ATOMIC_RELEASE);
}

void queue_wake(struct queue *q, struct vcpu *v)
{
	take_off(&q->asleep, v);
	set_place(v, PLACE_MOVING);
}

void queue_put_to_sleep(struct queue *q, struct vcpu *v)
{
	v->next = q->asleep;
	q->asleep = v;
	set_place(v, PLACE_ASLEEP);
}
