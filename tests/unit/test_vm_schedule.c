/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/machine/schedule.c
/* The scheduler's choice of a CPU, the least loaded of those that run what they are given; and who runs beyond a slice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
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

static uint64_t began;
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
bool frame_prezero_step(void)
{
	return false;
}
bool machines_idle_step(void)
{
	return false;
}
void vcpu_unload(struct vcpu *vcpu)
{
}
void machine_vcpu_left(struct machine *m)
{
}
enum vcpu_outcome vcpu_run(struct vcpu *vcpu, uint64_t until)
{
	began = began ? began : rdtsc();
	vcpu->runs++;
	while (rdtsc() < until)
		;
	return VCPU_SLICE_OVER;
}
uint64_t machine_now(const struct machine *m)
{
	return rdtsc() - began;
}

struct pgm_vcpu_counters *pgm_counting[MAX_CPUS];
bool secret_free;
void chunk_map_forget(void)
{
}

static struct machine machine;

static void put(struct vcpu *vcpu, unsigned cpu, unsigned weight)
{
	*vcpu = (struct vcpu){ .machine = &machine, .cpu = cpu, .weight = weight };
	schedule_add(vcpu);
}

static void test_pick(void **state)
{
	static struct vcpu v[6];

	test_cpu_count = 4;
	test_cpus_closed = 10; /* 1 and 3 */
	assert_int_equal(schedule_pick_cpu(), 2);
	put(&v[0], 2, 100);
	assert_int_equal(schedule_pick_cpu(), 0);
	put(&v[1], 0, 200);
	assert_int_equal(schedule_pick_cpu(), 2);
	test_cpus_closed = 0;
	assert_int_equal(schedule_pick_cpu(), 3);
	test_cpus_closed = ~UINT64_C(1);
	assert_int_equal(schedule_pick_cpu(), 0);
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

/* One that measures a clock runs on to the end of that, and then sits out what it got beyond its slice. */
static void test_measurement(void **state)
{
	static struct machine quiet;
	static struct vcpu measures, other;
	uint64_t runs, rounds = 0;

	test_cpu = 1;
	machine.bus.measuring = MEASUREMENT;
	put(&measures, cpu_index(), 1);
	put(&other, cpu_index(), 1);
	other.machine = &quiet;
	go_round();
	assert_true(rdtsc() - began >= MEASUREMENT);
	for (runs = measures.runs; measures.runs == runs; rounds++)
		go_round();
	assert_in_range(rounds, MEASUREMENT / SLICE, UINT32_MAX);
	assert_in_range(other.runs, 1, UINT32_MAX);
	assert_true(other.waited_ticks >= MEASUREMENT && other.preempted);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_pick), cmocka_unit_test(test_measurement) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
