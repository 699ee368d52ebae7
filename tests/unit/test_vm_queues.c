/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/machine/queue.c vm/machine/queues.c vm/machine/offers.c
/*
 * The scheduler's queues in simulated time: CPUs that take turns of vcpus as schedule.c does, and what must hold whatever
 * they do: a vcpu is in one place; none waits while a CPU that may run it is idle; shares are as weights; nobody waits for ever.
 */
#include "common/queue_world.h"

#include <stdlib.h>
#include <string.h>

#define MOST_CPUS 4u
#define MOST 24u
#define MS UINT64_C(1000000)
#define STEP (MS / 2)
#define SLICE (10 * MS)

struct task {
	struct vcpu v;
	uint64_t ran, busy, asleep; /* it runs for so long, then sleeps for so long; asleep 0: it never sleeps */
	uint64_t left, waits, longest;
	bool runs;
};

static struct machine machines[MOST];
static struct task tasks[MOST];
static unsigned task_count;
static const struct cpu_set all = { { 15 } };
static bool uniform;                     /* all may run everywhere, and none has changed places */
static uint64_t far = UINT64_C(1) << 50; /* later than what was reached in an earlier test */

static struct cpu_state {
	uint64_t now, since, end;
	struct task *task;
	bool rests, kicked;
} cpus[MOST_CPUS];

void host_kick(unsigned cpu, bool nmi)
{
	cpus[cpu].kicked = true;
}

static void set_up(unsigned count)
{
	memset(queues, 0, sizeof(queues));
	for (unsigned i = 0; i < MAX_CPUS; i++) {
		lock_init(&queues[i].lock, RANK_LEAF, "queue");
		(void)offers_end_rest(i);
	}
	memset(machines, 0, sizeof(machines));
	memset(tasks, 0, sizeof(tasks));
	memset(cpus, 0, sizeof(cpus));
	memset(held, 0, sizeof(held));
	task_count = 0;
	uniform = true;
	test_cpu_count = count;
	test_cpus_closed = 0;
	test_cpus_of_a_node = 1024;
}

static struct task *add(struct machine *m, unsigned weight, const struct cpu_set *allowed, uint64_t busy,
			uint64_t asleep)
{
	struct task *t = &tasks[task_count++];

	world_vcpu(&t->v, m, weight, allowed);
	t->busy = t->left = busy;
	t->asleep = asleep;
	test_cpu = 0;
	queues_add(&t->v, cpus[0].now);
	return t;
}

static struct task *task_of(struct vcpu *v)
{
	return v ? (struct task *)((char *)v - offsetof(struct task, v)) : NULL;
}

/* Everybody is in one place, and that a right one. */
static void check_places(void)
{
	unsigned seen = 0;

	for (unsigned i = 0; i < test_cpu_count; i++) {
		unsigned waiting = 0;

		for (struct vcpu *v = queues[i].ready; v; v = v->next, seen++, waiting++) {
			assert_true(v->cpu == i && v->place == PLACE_READY && cpu_set_has(v->allowed, i));
			assert_true(!v->next || !queue_before(v->next->vtime, v->vtime));
		}
		assert_int_equal(waiting, queues[i].info.waiting);
		for (struct vcpu *v = queues[i].asleep; v; v = v->next, seen++)
			assert_true(v->cpu == i && v->place == PLACE_ASLEEP);
		assert_ptr_equal(task_of(queues[i].current), cpus[i].task);
		if (queues[i].current) {
			assert_true(queues[i].current->cpu == i && queues[i].current->place == PLACE_RUNNING);
			assert_true(cpu_set_has(queues[i].current->allowed, i));
			seen++;
		}
	}
	for (unsigned i = 0; i < task_count; i++)
		seen += tasks[i].v.place == PLACE_NONE;
	assert_int_equal(seen, task_count);
}

/* An idle CPU that nobody has called has nothing to run, and nothing to take. */
static void check_idle(void)
{
	for (unsigned i = 0; i < test_cpu_count; i++)
		for (unsigned t = 0; t < task_count && cpus[i].rests && !cpus[i].kicked; t++)
			assert_false(tasks[t].v.place == PLACE_READY &&
				     (tasks[t].v.cpu == i || offers_may_come(&tasks[t].v, i)));
}

static void come_on(struct cpu_state *c)
{
	bool exact = uniform && queues[test_cpu].ready;
	struct task *t;
	uint64_t due;

	/* An idle CPU takes from the longest queue; and of those that a CPU hasn't let go of yet, the next ones are taken. */
	for (unsigned i = 0; i < task_count; i++)
		exact &= !(tasks[i].v.place == PLACE_READY && tasks[i].v.loaded);
	t = task_of(queues_pick(c->now, &due));
	c->kicked = c->rests = false;
	c->task = t;
	if (!t) {
		c->rests = queues_rest();
		return;
	}
	assert_false(t->runs);
	assert_true(!t->v.loaded || held[test_cpu] == &t->v);
	t->runs = true;
	world_load(&t->v);
	t->v.requests = 0;
	c->since = c->now;
	c->end = min_u64(c->now + max_u64(MS, SLICE * t->v.weight / SLICE_WEIGHT), max_u64(due, c->now + STEP));
	/* What could run here instead is not far behind. */
	for (unsigned i = 0; i < task_count; i++) {
		const struct vcpu *w = &tasks[i].v;

		if (w->place == PLACE_READY && w->cpu == test_cpu)
			assert_false(queue_before(w->vtime, t->v.vtime));
		if (exact && queues[test_cpu].looked == c->now && w->place == PLACE_READY && !w->loaded &&
		    queues[w->cpu].ready == w)
			assert_false(queue_before(w->vtime + queues[w->cpu].shift + queue_units(QUEUE_MARGIN),
						  t->v.vtime + queues[test_cpu].shift));
	}
}

static void step(struct cpu_state *c)
{
	struct task *t = c->task;
	bool sleeps;

	if (!t) {
		come_on(c);
		c->now += STEP;
		return;
	}
	c->now += STEP;
	t->ran += STEP;
	sleeps = t->asleep && (t->left -= min_u64(t->left, STEP)) == 0;
	if (c->now < c->end && !sleeps && !t->v.requests)
		return;
	if (sleeps) {
		t->left = t->busy;
		t->v.wakeup = c->now + t->asleep;
	}
	t->runs = false;
	c->task = NULL;
	queues_put(&t->v, sleeps ? VCPU_IDLE : VCPU_SLICE_OVER, c->now - c->since, c->now);
	come_on(c);
}

/* Lets time go on until `until` on all CPUs, the last one first. */
static void run(uint64_t until)
{
	for (;;) {
		struct cpu_state *c = &cpus[0];

		for (unsigned i = 1; i < test_cpu_count; i++)
			if (cpus[i].now < c->now)
				c = &cpus[i];
		if (c->now >= until)
			return;
		test_cpu = (unsigned)(c - cpus);
		step(c);
		check_places();
		check_idle();
		for (unsigned i = 0; i < task_count; i++) {
			tasks[i].waits = tasks[i].v.place == PLACE_READY ? tasks[i].waits + 1 : 0;
			tasks[i].longest = max_u64(tasks[i].longest, tasks[i].waits);
		}
	}
}

static uint64_t ran_by(const struct machine *m)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < task_count; i++)
		sum += tasks[i].v.machine == m ? tasks[i].ran : 0;
	return sum;
}

/* a : b is as want : 1000, to a twentieth. */
static void assert_share(uint64_t a, uint64_t b, unsigned want)
{
	assert_in_range(a * 1000 / b, want - want / 20, want + want / 20);
}

/* A machine's weight is its vcpus' together, over two CPUs and three vcpus: twice 100 for 200, though it has two. */
static void test_weights_across(void **state)
{
	set_up(2);
	add(&machines[0], 200, &all, 0, 0);
	add(&machines[0], 200, &all, 0, 0);
	add(&machines[1], 100, &all, 0, 0);
	run(20000 * MS);
	assert_share(ran_by(&machines[0]), ran_by(&machines[1]), 2000);
	assert_true(tasks[2].v.moves > 0);
}

/* Of seven machines on four CPUs, weights 100 to 400: what they got, by weight, is the same for all. */
static void test_many(void **state)
{
	set_up(4);
	for (unsigned i = 0; i < 7; i++)
		add(&machines[i], 100 * (1 + i % 2), &all, 0, 0);
	run(40000 * MS);
	for (unsigned i = 1; i < 7; i++)
		assert_share(tasks[i].ran * 1000 / tasks[i].v.weight, tasks[0].ran * 1000 / tasks[0].v.weight, 1000);
}

/* Weights hold where vcpus are pinned and the other CPU's time goes faster; those that may go anywhere fill it. */
static void test_pinned(void **state)
{
	static const struct cpu_set first = { { 1 } };
	uint64_t one;

	set_up(2);
	uniform = false;
	add(&machines[0], 300, &first, 0, 0);
	add(&machines[1], 100, &first, 0, 0);
	add(&machines[2], 100, &all, 0, 0);
	run(20000 * MS);
	assert_share(tasks[0].ran, tasks[1].ran, 3000);
	assert_true(tasks[2].ran > 19000 * MS);
	/* One more comes, for whom the pinned ones don't pay more than their part: 500 in all for two CPUs. */
	one = tasks[2].ran;
	add(&machines[3], 100, &all, 0, 0);
	run(40000 * MS);
	assert_share(tasks[2].ran - one, tasks[3].ran, 1000);
	assert_share(tasks[0].ran, tasks[1].ran, 3000);
}

/* It sleeps until somebody wakes it. */
static void fall_asleep(struct task *t)
{
	t->asleep = 1000000 * MS;
	t->left = STEP;
}

/* One that is woken is on at once, if it works little, however many others there are. */
static void test_woken(void **state)
{
	struct task *light;

	set_up(2);
	for (unsigned i = 0; i < 6; i++)
		add(&machines[i], 100, &all, 0, 0);
	light = add(&machines[6], 100, &all, MS, 1000000 * MS);
	run(1000 * MS);
	light->longest = light->ran = 0;
	for (unsigned i = 1; i <= 400; i++) {
		run((1000 + i * 21) * MS);
		test_cpu = i % 2;
		queues_wake(&light->v, false, cpus[test_cpu].now);
	}
	assert_true(light->longest <= 6 * test_cpu_count); /* in steps of any CPU: 3 ms */
	assert_true(light->ran >= 390 * MS);
}

/* A CPU whose vcpus had little time each doesn't make up for it later at others' cost: it is its pinned ones' lot. */
static void test_slow_cpu(void **state)
{
	static const struct cpu_set second = { { 2 } };
	uint64_t p, u;

	set_up(2);
	uniform = false;
	for (unsigned i = 0; i < 4; i++)
		add(&machines[i], 100, &second, 0, 0);
	add(&machines[4], 100, &all, 0, 0);
	run(20000 * MS);
	for (unsigned i = 1; i < 4; i++)
		fall_asleep(&tasks[i]);
	for (unsigned i = 5; i < 8; i++)
		add(&machines[i], 100, &all, 0, 0);
	run(21000 * MS);
	p = tasks[0].ran;
	u = tasks[4].ran;
	run(31000 * MS);
	assert_share(tasks[0].ran - p, tasks[4].ran - u, 1000);
}

/* Who ran much more than his slice pays for it, and who slept long has nothing saved. */
static void test_debt(void **state)
{
	struct task *sleeper;
	uint64_t before;

	set_up(1);
	sleeper = add(&machines[0], 100, &all, 3000 * MS, 30000 * MS);
	add(&machines[1], 100, &all, 0, 0);
	run(36000 * MS); /* it has worked, slept, and is awake again */
	before = sleeper->ran;
	run(38000 * MS);
	assert_in_range(sleeper->ran - before, 0, 1100 * MS);
}

/* An idle CPU takes from the longest queue of its own node before any of another. */
static void test_nodes(void **state)
{
	static const struct cpu_set on[] = { { { 1 } }, { { 2 } } };

	set_up(4);
	test_cpus_of_a_node = 2;
	add(&machines[0], 100, &on[0], 0, 0);
	add(&machines[1], 100, &on[1], 0, 0);
	run(MS);
	/* Three wait on CPU 0, one on CPU 2, which gets another one to run; 1 and 3 say nothing yet. */
	for (unsigned i = 0; i < 4; i++)
		(void)offers_end_rest(i);
	for (unsigned i = 2; i < 7; i++) {
		struct task *t = &tasks[task_count++];

		world_vcpu(&t->v, &machines[i], 100, &all);
		t->v.cpu = i < 5 ? 0 : 2;
		lock_acquire(&queues[t->v.cpu].lock);
		queue_join(&queues[t->v.cpu], &t->v);
		queue_become_ready(&queues[t->v.cpu], &t->v, MS);
		lock_release(&queues[t->v.cpu].lock);
	}
	test_cpu = 3;
	offers_take(true, 0);
	assert_int_equal(queues[2].info.waiting, 1);
	assert_int_equal(queues[3].info.moves, 1);
	test_cpus_of_a_node = 1024;
	offers_take(true, 0);
	assert_int_equal(queues[0].info.waiting, 2);
}

/* The one for which another spins comes before him, wherever it waits; virtual time isn't made by that. */
static void test_spins(void **state)
{
	uint64_t sum, due;

	set_up(2);
	test_cpu = 1;
	for (unsigned i = 0; i < 3; i++) {
		struct task *t = &tasks[task_count++];

		world_vcpu(&t->v, &machines[0], 100, &all);
		t->v.vtime = (far += 1000);
		t->v.cpu = i == 2 ? 0 : 1;
		queue_join(&queues[t->v.cpu], &t->v);
		queue_become_ready(&queues[t->v.cpu], &t->v, 0);
	}
	assert_ptr_equal(queues_pick(0, &due), &tasks[0].v);
	sum = tasks[0].v.vtime + tasks[1].v.vtime;
	assert_true(schedule_spins(&tasks[0].v));
	assert_int_equal(tasks[0].v.vtime + tasks[1].v.vtime, sum);
	queues_put(&tasks[0].v, VCPU_SLICE_OVER, 0, 0);
	assert_ptr_equal(queues_pick(0, &due), &tasks[1].v);
	queues_put(&tasks[1].v, VCPU_LEFT, 0, 0);
	assert_ptr_equal(queues_pick(0, &due), &tasks[0].v);
	assert_true(schedule_spins(&tasks[0].v));
	assert_int_equal(tasks[2].v.cpu, 1);
	queues_put(&tasks[0].v, VCPU_LEFT, 0, 0);
	assert_ptr_equal(queues_pick(0, &due), &tasks[2].v);
	assert_false(schedule_spins(&tasks[2].v));
}

/* One that is to leave doesn't wait for its turn. */
static void test_leaves(void **state)
{
	uint64_t due;

	set_up(1);
	for (unsigned i = 0; i < 3; i++)
		add(&machines[i], 100, &all, 0, 0);
	assert_ptr_equal(queues_pick(0, &due), &tasks[0].v);
	tasks[2].v.requests = REQUEST_LEAVE;
	queues_wake(&tasks[2].v, true, MS);
	assert_true(tasks[0].v.requests & REQUEST_YIELD);
	queues_put(&tasks[0].v, VCPU_SLICE_OVER, MS, MS);
	assert_ptr_equal(queues_pick(0, &due), &tasks[2].v);
}

/* What is asked of one while it goes to sleep is not slept over; and what is asked of one asleep wakes it once. */
static void test_asked_meanwhile(void **state)
{
	uint64_t due;

	set_up(1);
	add(&machines[0], 100, &all, 0, 0);
	assert_ptr_equal(queues_pick(0, &due), &tasks[0].v);
	tasks[0].v.requests = REQUEST_EVENT;
	queues_wake(&tasks[0].v, false, 0);
	queues_put(&tasks[0].v, VCPU_IDLE, 0, 0);
	assert_ptr_equal(queues_pick(0, &due), &tasks[0].v);
	tasks[0].v.requests = 0;
	tasks[0].v.wakeup = 5 * MS;
	queues_put(&tasks[0].v, VCPU_IDLE, 0, 0);
	assert_null(queues_pick(0, &due));
	assert_int_equal(due, 5 * MS);
	queues_wake(&tasks[0].v, false, 0);
	queues_wake(&tasks[0].v, false, 0);
	assert_int_equal(queues[0].info.waiting, 1);
	assert_ptr_equal(queues_pick(0, &due), &tasks[0].v);
	queues_put(&tasks[0].v, VCPU_IDLE, 0, 0);
	assert_ptr_equal(queues_pick(5 * MS, &due), &tasks[0].v);
	queues_put(&tasks[0].v, VCPU_LEFT, 0, 0);
	queues_wake(&tasks[0].v, true, 0);
	assert_null(queues_pick(9 * MS, &due));
	assert_int_equal(machines[0].vcpus_active, 0);
}

/* All of it at random: numbers, weights, sets, sleep, wakes by others, ends. */
static void test_random(void **state)
{
	static struct cpu_set sets[MOST];

	for (unsigned round = 0; round < 60; round++) {
		srand(round);
		set_up(1 + (unsigned)rand() % MOST_CPUS);
		for (unsigned i = 0, count = 1 + (unsigned)rand() % MOST; i < count; i++) {
			uint64_t mask = (unsigned)rand() & (BIT(test_cpu_count) - 1);

			sets[i].word[0] = round % 2 && mask ? mask : BITS(3, 0);
			add(&machines[(unsigned)rand() % MOST], 1 + (unsigned)rand() % 1000,
			    rand() % 2 ? &all : &sets[i], (1 + (unsigned)rand() % 30) * MS,
			    rand() % 2 ? (unsigned)rand() % 100 * MS : 0);
		}
		uniform = !(round % 2);
		for (uint64_t until = 0; until < 600 * MS; until += 3 * MS) {
			struct task *t = &tasks[(unsigned)rand() % task_count];

			run(until);
			test_cpu = (unsigned)rand() % test_cpu_count;
			queues_wake(&t->v, !uniform && rand() % 2, cpus[test_cpu].now);
			cpus[test_cpu].kicked = true; /* who wakes looks by itself */
			if (!uniform && cpus[test_cpu].task && cpus[test_cpu].task->runs)
				(void)schedule_spins(&cpus[test_cpu].task->v);
			check_places();
		}
		run(20000 * MS);
		for (unsigned i = 0; i < task_count; i++)
			assert_true(tasks[i].ran > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_weights_across),  cmocka_unit_test(test_many),     cmocka_unit_test(test_pinned),
		cmocka_unit_test(test_woken),           cmocka_unit_test(test_slow_cpu), cmocka_unit_test(test_debt),
		cmocka_unit_test(test_nodes),           cmocka_unit_test(test_spins),    cmocka_unit_test(test_leaves),
		cmocka_unit_test(test_asked_meanwhile), cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
