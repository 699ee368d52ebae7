/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/machine/schedule.c vm/machine/queue.c vm/machine/queues.c vm/machine/offers.c
/* The scheduler's choice of a CPU, the least loaded of those that run what they are given; and who runs beyond a slice. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/percpu.h"
#include "mm/map.h"
#include "vm/machine/board.h"
#include "vm/machine/schedule.h"

extern unsigned test_cpu_count;
extern uint64_t test_cpus_closed;
extern _Thread_local unsigned test_cpu;

#define SLICE 1000000u /* the shortest; a nanosecond is a tick here */
#define MEASUREMENT (5 * SLICE)

static uint64_t began, stall; /* ticks by which the CPU is held up in the guest */
static unsigned short_turns;  /* so many, then out of the loop */
static jmp_buf out;

/* What a loop needs. */
void host_kick(unsigned cpu, bool nmi)
{
}
void host_timer_set(uint64_t deadline_ns)
{
}
uint64_t host_now_ns(void)
{
	return 0;
}
uint64_t host_tsc_to_ns(uint64_t ticks)
{
	return ticks;
}
uint64_t host_ns_to_tsc(uint64_t ns)
{
	return ns;
}
void console_listen(void)
{
}
static unsigned clearings, work; /* done and left, if they are to be counted */
bool frame_prezero_step(void)
{
	clearings++;
	return false;
}
bool machines_idle_step(void)
{
	if (work && !--work)
		longjmp(out, 1);
	return work;
}
void vcpu_unload(struct vcpu *vcpu)
{
}
void vcpu_settle(struct vcpu *vcpu)
{
}
void machine_vcpu_left(struct machine *m)
{
}
enum vcpu_outcome vcpu_run(struct vcpu *vcpu, uint64_t until)
{
	began = began ? began : rdtsc();
	vcpu->runs++;
	if (short_turns && !--short_turns)
		longjmp(out, 1);
	if (short_turns)
		return VCPU_SLICE_OVER;
	until += stall;
	while (rdtsc() < until)
		;
	return VCPU_SLICE_OVER;
}
uint64_t machine_now(const struct machine *m)
{
	return rdtsc() - began;
}

struct pgm_vcpu_counters *pgm_counting[MAX_CPUS];
void pgm_vcpu_leave(const struct pgm_vcpu_counters *counters)
{
}
bool secret_free;
void chunk_map_forget(void)
{
}

struct hv_caps hv_capabilities;
static struct machine machine;
static const struct cpu_set all = { { 15 } };

static void put(struct vcpu *vcpu, struct machine *m, const struct cpu_set *allowed, unsigned weight)
{
	*vcpu = (struct vcpu){ .machine = m, .allowed = allowed, .weight = weight, .wakeup = UINT64_MAX };
	schedule_add(vcpu);
}

static void test_pick(void **state)
{
	static const struct cpu_set two = { { 4 } }, zero = { { 1 } };
	static struct vcpu v[6];

	test_cpus_closed = 10; /* 1 and 3 */
	assert_int_equal(queues_lightest(&all), 2);
	put(&v[0], &machine, &two, 100);
	assert_int_equal(queues_lightest(&all), 0);
	put(&v[1], &machine, &zero, 200);
	assert_int_equal(queues_lightest(&all), 2);
	test_cpus_closed = 0;
	assert_int_equal(queues_lightest(&all), 3);
	test_cpus_closed = ~UINT64_C(1);
	assert_int_equal(queues_lightest(&all), 0);
	assert_int_equal(queues_lightest(&two), CPU_SET_SIZE);
	test_cpus_closed = 0;
}

static bool leave(void)
{
	longjmp(out, 1);
}

static void go_round(void)
{
	if (!setjmp(out))
		schedule_loop(leave, 0);
}

/* One that measures a clock runs on to the end of that, and pays: the other one has as much before it is on again. */
static void test_measurement(void **state)
{
	static const struct cpu_set one = { { 2 } };
	static struct machine quiet;
	static struct vcpu measures, other;
	uint64_t its, got;

	test_cpu = 1;
	machine.bus.measuring = MEASUREMENT;
	put(&measures, &machine, &one, 1);
	put(&other, &quiet, &one, 1);
	while (!measures.runs)
		go_round();
	assert_true(rdtsc() - began >= MEASUREMENT);
	machine.bus.measuring = 0;
	its = measures.runs;
	got = measures.run_ticks;
	while (measures.runs == its)
		go_round();
	assert_true(other.run_ticks + 2 * SLICE >= got);
	assert_true(measures.waited_ticks > 0 && other.waited_ticks >= MEASUREMENT);
}

/* A CPU that was held up costs its vcpu no more than a measurement would. */
static void test_held_up(void **state)
{
	static const struct cpu_set one = { { 4 } };
	static struct machine m;
	static struct vcpu held;
	uint64_t before;

	test_cpu = 2;
	put(&held, &m, &one, 1);
	go_round();
	before = held.vtime;
	stall = 200 * SLICE;
	go_round();
	stall = 0;
	assert_int_equal(held.vtime - before, SLICE + 56 * SLICE);
}

static unsigned house_calls;
static bool house_busy;

static bool house(void)
{
	house_calls++;
	return house_busy;
}

/* The loop's window for interrupts, STI and CLI, is none of a program's. */
static void step_over(int number, siginfo_t *info, void *context)
{
	greg_t *rip = &((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];

	if ((*(const uint8_t *)*rip & 0xfe) != 0xfa)
		abort();
	++*rip;
}

/* For one test. */
static void let_windows_be(void)
{
	const struct sigaction over = { .sa_sigaction = step_over, .sa_flags = SA_SIGINFO };

	sigaction(SIGSEGV, &over, NULL);
}

static unsigned calls_in_turns(unsigned cpu, unsigned turns)
{
	static const struct cpu_set only[] = { { { 4 } }, { { 8 } } };
	static struct vcpu v[2];

	test_cpu = cpu;
	put(&v[cpu - 2], &machine, &only[cpu - 2], 100);
	house_calls = 0;
	short_turns = turns;
	if (!setjmp(out))
		schedule_loop(house, 0);
	return house_calls;
}

/* Turns of no length: the house is looked after now and then; while something is to be done there, behind each. */
static void test_house(void **state)
{
	let_windows_be();
	house_busy = false;
	assert_in_range(calls_in_turns(2, 4000), 1, 1000);
	house_busy = true;
	assert_in_range(calls_in_turns(3, 4000), 3900, 4000);
}

static bool nothing_to_keep(void)
{
	return false;
}

/* Machines for which there is always something to do don't keep free memory from being cleared. */
static void test_free_memory_has_its_turn(void **state)
{
	let_windows_be();
	test_cpu = 4; /* nobody else's */
	clearings = 0;
	work = 100;
	if (!setjmp(out))
		schedule_loop(nothing_to_keep, 0);
	assert_in_range(clearings, 40, 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_pick), cmocka_unit_test(test_measurement),
					    cmocka_unit_test(test_held_up), cmocka_unit_test(test_house),
					    cmocka_unit_test(test_free_memory_has_its_turn) };

	test_cpu_count = 4;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
