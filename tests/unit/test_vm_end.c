/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/machine/end.c lib/format.c lib/status.c
/*
 * A machine's pause, reset and end, with all that it consists of left out: who decides it, in which order its parts go, and that the idle
 * worker, which may have begun a step while the machine still ran, is out of its memory before anything there is taken away.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86_64/host.h"
#include "pgm/fusion.h"
#include "pgm/reset.h"
#include "vm/machine/board.h"
#include "vm/machine/internal.h"
#include "vm/machine/schedule.h"
#include "vm/vcpu/vcpu.h"

static struct machine machine;
static struct config_machine config;
static struct vcpu vcpu;
static char memory, policy;
static struct board *const board = (struct board *)&policy;
static bool working; /* the worker's turn is ours */
static unsigned steps, resets, loads, added, told;
static enum status load_status;
static char last[200];

unsigned machine_count(void)
{
	return 1;
}
struct machine *machine_get(unsigned index)
{
	return index ? NULL : &machine;
}
void machines_worker_enter(void)
{
	assert_false(working);
	working = true;
}
void machines_worker_leave(void)
{
	assert_true(working);
	working = false;
}
static uint64_t now;
static unsigned lefts;
uint64_t host_now_ns(void)
{
	return now;
}
void machine_vcpu_left(struct machine *m)
{
	lefts++;
}
bool machine_postpone(struct machine *m, enum status status)
{
	m->postponed = status_is_shortage(status) ? m->postponed + 1 : 0;
	m->again_at = now + 100;
	return m->postponed;
}
void compact_soon(void)
{
}
enum status pgm_destroy_step(struct pgm *pgm)
{
	assert_ptr_equal(pgm, &memory);
	assert_null(machine.pgm); /* nobody finds it any more */
	return --steps ? BUSY : OK;
}
enum status pgm_reset_step(struct pgm *pgm, bool zero_ram)
{
	assert_ptr_equal(pgm, &memory);
	assert_true(working);
	resets++;
	return --steps ? BUSY : OK;
}
void pgm_fusion_leave(struct pgm *pgm)
{
	assert_true(working);
}
void board_destroy(struct machine *m)
{
	assert_true(working);
}
void board_reset(struct machine *m)
{
	assert_int_equal(steps, 0);
}
enum status board_place_apic(struct machine *m)
{
	return OK;
}
void board_place_windows(struct machine *m)
{
}
void cpuid_policy_destroy(struct cpuid_policy *gone)
{
}
enum status machine_load(struct machine *m, char *why, size_t size)
{
	loads++;
	return load_status;
}
void schedule_add(struct vcpu *v)
{
	added++;
}
void schedule_wake(unsigned cpu)
{
}
void vcpu_destroy(struct vcpu *v)
{
	assert_true(working);
}
void vcpu_move_tsc(struct vcpu *v, uint64_t by)
{
}
void vcpu_request(struct vcpu *v, uint32_t what)
{
}
void vcpu_reset(struct vcpu *v)
{
}

static void ended(struct machine *m, const char *text)
{
	told++;
	strncpy(last, text, sizeof(last) - 1);
}

static int world(void **state)
{
	vcpu = (struct vcpu){ .machine = &machine };
	machine = (struct machine){ .name = "m",
				    .config = &config,
				    .pgm = (struct pgm *)&memory,
				    .board = board,
				    .cpuid = (struct cpuid_policy *)&policy,
				    .vcpu_count = 1,
				    .state = MACHINE_RUNNING,
				    .vcpus_inside = 1 };
	machine.vcpu[0] = &vcpu;
	steps = 40;
	resets = loads = added = told = 0;
	load_status = OK;
	return 0;
}

static unsigned reap(void)
{
	unsigned rounds = 0;

	while (machines_reap(ended))
		assert_true(++rounds < 1000);
	return rounds;
}

static void test_end(void **state)
{
	assert_false(machines_reap(ended));
	assert_int_equal(machine_stop(&machine), OK);
	machine_end(&machine, END_ERROR, 0, "too late");
	assert_false(machines_reap(ended)); /* a vcpu is inside */
	machine.vcpus_inside = 0;
	assert_true(reap() > 1);
	assert_string_equal(last, "vm m: stopped (stopped by the operator)");
	assert_int_equal(machine_state_of(&machine), MACHINE_OFF);
	assert_int_equal(told, 1);
	assert_int_equal(machine_stop(&machine), BAD_STATE);
}

static void test_reset(void **state)
{
	for (unsigned paused = 0; paused < 2; paused++) {
		world(NULL);
		machine.vcpus_inside = !paused;
		machine.state = paused ? MACHINE_PAUSED : MACHINE_RUNNING;
		assert_int_equal(machine_reset(&machine), OK);
		assert_int_equal(machine_reset(&machine), BAD_STATE);
		machine.vcpus_inside = 0;
		reap();
		assert_int_equal(resets, 40);
		assert_int_equal(loads, 1);
		assert_int_equal(added, 1);
		assert_string_equal(last, "vm m: reset");
		assert_int_equal(machine_state_of(&machine), MACHINE_RUNNING);
	}
}

static void test_stopped_while_it_is_reset(void **state)
{
	machine.vcpus_inside = 0;
	assert_int_equal(machine_reset(&machine), OK);
	assert_true(machines_reap(ended));
	assert_int_equal(machine_stop(&machine), OK);
	reap();
	assert_int_equal(loads, 0);
	assert_string_equal(last, "vm m: stopped (stopped by the operator)");
}

static void test_reset_that_fails(void **state)
{
	machine.vcpus_inside = 0;
	load_status = NOT_FOUND;
	steps = 1;
	assert_int_equal(machine_reset(&machine), OK);
	assert_true(machines_reap(ended));
	steps = 3;
	reap();
	assert_int_equal(machine_state_of(&machine), MACHINE_OFF);
	assert_non_null(strstr(last, "stopped (error reset: "));
}

/* Nothing is free: it is done again when pressure has had its time, from memory on, and the clocks stand meanwhile; and may be stopped. */
static void test_reset_is_postponed(void **state)
{
	for (unsigned stop = 0; stop < 2; stop++) {
		world(state);
		machine.vcpus_inside = machine.postponed = loads = lefts = 0;
		load_status = NO_MEMORY;
		steps = 1;
		assert_int_equal(machine_reset(&machine), OK);
		for (unsigned i = 0; i < 5; i++)
			assert_true(machines_reap(ended));
		assert_true(loads == 1 && lefts == 1 && machine.postponed == 1);
		assert_int_equal(machine_state_of(&machine), MACHINE_ENDED);
		now += 100;
		load_status = OK;
		steps = 1;
		if (stop)
			assert_int_equal(machine_stop(&machine), OK);
		assert_true(machines_reap(ended));
		if (stop) {
			steps = 1;
			reap();
		}
		assert_int_equal(loads, 2 - stop);
		assert_int_equal(machine.postponed, 0);
		assert_int_equal(machine_state_of(&machine), stop ? MACHINE_OFF : MACHINE_RUNNING);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_end, world),
		cmocka_unit_test_setup(test_reset, world),
		cmocka_unit_test_setup(test_stopped_while_it_is_reset, world),
		cmocka_unit_test_setup(test_reset_that_fails, world),
		cmocka_unit_test_setup(test_reset_is_postponed, world),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
