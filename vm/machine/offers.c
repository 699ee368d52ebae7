/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CPUs do for one another: one that has nothing to run says so, and takes from others; one that lets somebody wait looks for
 * such. So none is idle for long while a vcpu waits that could run there.
 */
#include "vm/machine/queue.h"

static struct cpu_set idle; /* atomic words */

bool offers_end_rest(unsigned cpu)
{
	uint64_t bit = BIT(cpu % 64);

	return (__atomic_load_n(&idle.word[cpu / 64], __ATOMIC_SEQ_CST) & bit) &&
	       (__atomic_fetch_and(&idle.word[cpu / 64], ~bit, __ATOMIC_SEQ_CST) & bit);
}

/* (wake.pml: REST) */
bool queues_rest(void)
{
	uint64_t bit = BIT(cpu_index() % 64);

	return __atomic_fetch_or(&idle.word[cpu_index() / 64], bit, __ATOMIC_SEQ_CST) & bit;
}

static bool claim_near(const struct cpu_set *allowed, unsigned *cpu, bool same_node)
{
	uint32_t node = host_node(*cpu);

	for (unsigned w = CPU_SET_SIZE / 64; w-- > 0;) {
		uint64_t left = __atomic_load_n(&idle.word[w], __ATOMIC_SEQ_CST) & allowed->word[w];

		while (left) {
			unsigned found = w * 64 + 63 - (unsigned)__builtin_clzll(left);

			left &= ~BIT(found % 64);
			if ((!same_node || host_node(found) == node) && offers_end_rest(found)) {
				*cpu = found;
				return true;
			}
		}
	}
	return false;
}

bool offers_claim(const struct cpu_set *allowed, unsigned *cpu)
{
	return claim_near(allowed, cpu, true) || claim_near(allowed, cpu, false);
}

void schedule_freed(const struct cpu_set *allowed)
{
	unsigned cpu = cpu_index();

	if (__atomic_load_n(&queues[cpu].offers, __ATOMIC_SEQ_CST) && offers_claim(allowed, &cpu))
		host_kick(cpu, false);
}

bool offers_may_come(const struct vcpu *v, unsigned cpu)
{
	return v->movable && cpu_set_has(v->allowed, cpu) && !__atomic_load_n(&v->loaded, __ATOMIC_ACQUIRE);
}

void offers_call(const struct queue *q)
{
	for (const struct vcpu *v = q->ready; v; v = v->next) {
		unsigned cpu = v->cpu;

		if (v->movable && !__atomic_load_n(&v->loaded, __ATOMIC_ACQUIRE) && offers_claim(v->allowed, &cpu))
			host_kick(cpu, false);
	}
}

/* What this CPU has for itself, and where it has looked for more. */
struct search {
	bool empty;
	uint64_t own; /* else: the host's virtual time of its first */
	struct cpu_set seen;
};

/*
 * The queue from which this CPU should take: with none of its own the longest, of its node first; else the one that is the
 * farthest behind. MAX_CPUS: none.
 */
static unsigned best_offer(const struct search *s, unsigned self)
{
	unsigned best = MAX_CPUS;
	uint64_t most = 0;

	for (unsigned i = 0; i < cpu_count(); i++) {
		uint64_t offers = __atomic_load_n(&queues[i].offers, __ATOMIC_SEQ_CST), worth = offers;

		if (!offers || cpu_set_has(&s->seen, i))
			continue;
		if (s->empty && host_node(i) == host_node(self))
			worth += BIT(32);
		if (!s->empty)
			worth = s->own - __atomic_load_n(&queues[i].first, __ATOMIC_RELAXED) -
				queue_units(QUEUE_MARGIN);
		if ((int64_t)worth > (int64_t)most) {
			most = worth;
			best = i;
		}
	}
	return best;
}

/* Its first that may come here; false: there's none, or it's not worth it any more. */
static bool take_from(unsigned cpu, const struct search *s, unsigned self)
{
	struct queue *q = &queues[cpu];
	struct vcpu *v;
	bool takes;

	lock_acquire(&q->lock);
	for (v = q->ready; v && !offers_may_come(v, self);)
		v = v->next;
	takes = v && (s->empty || queue_before(v->vtime + q->shift + queue_units(QUEUE_MARGIN), s->own));
	if (takes) {
		queue_remove(q, v, PLACE_MOVING);
		q = queues_move(q, v, self);
		queue_insert(q, v);
	}
	lock_release(&q->lock);
	return takes;
}

void offers_take(bool empty, uint64_t own)
{
	unsigned self = cpu_index(), other;
	struct search s = { .empty = empty, .own = own, .seen = { { 0 } } };

	cpu_set_add(&s.seen, self, self);
	while ((other = best_offer(&s, self)) != MAX_CPUS && !take_from(other, &s, self))
		cpu_set_add(&s.seen, other, other);
}
