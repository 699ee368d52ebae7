/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/machine/idle.c
/* Idle CPUs' work for machines: whatever is due has its turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "arch/x86_64/host.h"
#include "vm/machine/internal.h"

#define MACHINES 3u
#define CALLS 600u

enum { FUSE, COMPACT, KINDS };
static struct machine machine[MACHINES];
static bool due[KINDS];
static unsigned done[KINDS], served[MACHINES];
static bool busy; /* machines have something to do */

uint64_t host_ns_to_tsc(uint64_t ns)
{
	return ns * 1000; /* far beyond this test */
}
unsigned machine_count(void)
{
	return MACHINES;
}
struct machine *machine_get(unsigned index)
{
	return index < MACHINES ? &machine[index] : NULL;
}
bool pgm_idle_step(struct pgm *pgm)
{
	served[(uintptr_t)pgm - 1]++;
	return busy;
}
bool fuse_is_due(void)
{
	return due[FUSE];
}
bool compact_is_due(void)
{
	return due[COMPACT];
}
void fuse_idle_step(void)
{
	done[FUSE]++;
}
void compact_idle_step(void)
{
	done[COMPACT]++;
}

static unsigned steps(bool fuse, bool compact, bool machines)
{
	unsigned worked = 0;

	due[FUSE] = fuse;
	due[COMPACT] = compact;
	busy = machines;
	done[FUSE] = done[COMPACT] = served[0] = served[1] = served[2] = 0;
	for (unsigned i = 0; i < CALLS; i++)
		worked += machines_idle_step();
	return worked;
}

/* Pages to look at without end, say because one's like is in a machine that is at work: that one's work is done all the same. */
static void test_nobody_waits_for_ever(void **state)
{
	assert_int_equal(steps(true, true, true), CALLS);
	assert_in_range(done[FUSE], CALLS / 3 - 1, CALLS / 3 + 1);
	assert_in_range(done[COMPACT], CALLS / 3 - 1, CALLS / 3 + 1);
	for (unsigned i = 0; i < MACHINES; i++)
		assert_in_range(served[i], CALLS / 9 - 1, CALLS / 9 + 1);
	assert_int_equal(steps(true, false, true), CALLS);
	assert_in_range(done[FUSE], CALLS / 2 - 1, CALLS / 2 + 1);
	assert_int_equal(steps(false, true, true), CALLS);
	assert_in_range(done[COMPACT], CALLS / 2 - 1, CALLS / 2 + 1);
}

/* A round over machines that had nothing to do is the last one for some time, and takes nothing from the others. */
static void test_rest(void **state)
{
	assert_int_equal(steps(false, false, true), CALLS);
	assert_int_equal(steps(false, false, false), MACHINES);
	assert_int_equal(steps(true, false, true), CALLS);
	assert_int_equal(done[FUSE], CALLS);
	assert_int_equal(steps(false, false, true), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nobody_waits_for_ever),
		cmocka_unit_test(test_rest),
	};

	for (unsigned i = 0; i < MACHINES; i++) {
		machine[i].state = MACHINE_RUNNING;
		machine[i].pgm = (struct pgm *)(uintptr_t)(i + 1);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
