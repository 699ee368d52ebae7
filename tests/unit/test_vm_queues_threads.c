/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/machine/queue.c vm/machine/queues.c vm/machine/offers.c
// threads
/*
 * Four threads as host CPUs over the scheduler's queues. Vcpus pass tokens to one another: who has one runs, hands it on and
 * sleeps; each token is a request, and a CPU with nothing to do sleeps until it is kicked. A wake-up that is lost would leave all asleep; a
 * vcpu on two CPUs would be seen. Some are pinned, some spin, each leaves at the end.
 */
#include "common/queue_world.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#define CPUS 4u
#define VCPUS 10u
#define TOKENS 5u
#define PASSES 30000u

static struct machine machine;
static struct vcpu vcpus[VCPUS];
static uint32_t on[VCPUS]; /* atomic: a CPU runs it */
static uint32_t kicked[CPUS], passes, gone;
static uint64_t ticks;

void host_kick(unsigned cpu, bool nmi)
{
	__atomic_store_n(&kicked[cpu], 1, __ATOMIC_SEQ_CST);
}

/* As vcpu_request() does it, for one that looks at its requests wherever it runs. */
static void ask(struct vcpu *v, uint32_t what, uint64_t now)
{
	if (what & ~__atomic_fetch_or(&v->requests, what, __ATOMIC_SEQ_CST))
		queues_wake(v, what & REQUEST_LEAVE, now);
}

/* Hands its token to one that has none; so none of them melts into another. */
static void pass(struct vcpu *v, unsigned *seed, uint64_t now)
{
	for (;;) {
		struct vcpu *to = &vcpus[(unsigned)rand_r(seed) % VCPUS];

		if (to != v && !(__atomic_fetch_or(&to->requests, REQUEST_EVENT, __ATOMIC_SEQ_CST) & REQUEST_EVENT)) {
			queues_wake(to, false, now);
			return;
		}
		sched_yield();
	}
}

static void end_all(uint64_t now)
{
	for (unsigned i = 0; i < VCPUS; i++)
		ask(&vcpus[i], REQUEST_LEAVE, now);
}

static enum vcpu_outcome turn(struct vcpu *v, unsigned *seed, uint64_t now)
{
	uint32_t requests;

	assert_int_equal(__atomic_exchange_n(&on[v->id], 1, __ATOMIC_SEQ_CST), 0);
	assert_true(cpu_set_has(v->allowed, test_cpu));
	world_load(v);
	requests = __atomic_exchange_n(&v->requests, 0, __ATOMIC_SEQ_CST);
	if (rand_r(seed) % 8 == 0)
		(void)schedule_spins(v);
	if ((requests & REQUEST_EVENT) && !(requests & REQUEST_LEAVE)) {
		if (__atomic_add_fetch(&passes, 1, __ATOMIC_SEQ_CST) == PASSES)
			end_all(now);
		else if (__atomic_load_n(&passes, __ATOMIC_SEQ_CST) < PASSES)
			pass(v, seed, now);
	}
	__atomic_store_n(&on[v->id], 0, __ATOMIC_SEQ_CST);
	if (requests & REQUEST_LEAVE)
		return VCPU_LEFT;
	return rand_r(seed) % 4 ? VCPU_IDLE : VCPU_SLICE_OVER;
}

static void let_go(struct vcpu *v)
{
	held[test_cpu] = NULL;
	__atomic_store_n(&v->loaded, false, __ATOMIC_RELEASE);
	schedule_freed(v->allowed);
}

static void rest(void)
{
	uint64_t due;

	while (queues_nothing(&due) && !__atomic_exchange_n(&kicked[test_cpu], 0, __ATOMIC_SEQ_CST) &&
	       __atomic_load_n(&gone, __ATOMIC_SEQ_CST) < VCPUS)
		sched_yield();
}

static void *cpu(void *argument)
{
	unsigned seed;

	test_cpu = (unsigned)(uintptr_t)argument;
	seed = test_cpu;
	while (__atomic_load_n(&gone, __ATOMIC_SEQ_CST) < VCPUS) {
		uint64_t due, now = __atomic_add_fetch(&ticks, 1000, __ATOMIC_RELAXED);
		struct vcpu *v = queues_pick(now, &due);
		enum vcpu_outcome outcome;

		if (!v) {
			if (queues_rest())
				rest();
			continue;
		}
		outcome = turn(v, &seed, now);
		if (outcome == VCPU_LEFT)
			let_go(v);
		queues_put(v, outcome, 1000, now + 1000);
		if (outcome == VCPU_LEFT)
			__atomic_add_fetch(&gone, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void test_tokens(void **state)
{
	static const struct cpu_set sets[] = { { { 15 } }, { { 15 } }, { { 6 } }, { { 1 } }, { { 9 } } };
	pthread_t thread[CPUS];

	test_cpu_count = CPUS;
	test_cpus_of_a_node = 2;
	for (unsigned i = 0; i < VCPUS; i++) {
		world_vcpu(&vcpus[i], &machine, 100, &sets[i % ARRAY_SIZE(sets)]);
		vcpus[i].requests = i < TOKENS ? REQUEST_EVENT : 0;
	}
	for (unsigned i = 0; i < VCPUS; i++)
		queues_add(&vcpus[i], 0);
	for (unsigned i = 0; i < CPUS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, cpu, (void *)(uintptr_t)i), 0);
	for (unsigned i = 0; i < CPUS; i++)
		pthread_join(thread[i], NULL);
	assert_true(passes >= PASSES);
	assert_int_equal(machine.vcpus_active, 0);
	for (unsigned i = 0; i < CPUS; i++) {
		struct queue_info info;

		queues_describe(i, &info);
		assert_true(!info.vcpus && !info.waiting);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_tokens) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
