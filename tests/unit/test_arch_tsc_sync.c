/* SPDX-License-Identifier: Apache-2.0 */
// threads
/* Two threads as two CPUs, the second one's time stamp counter ahead, behind, or in step; with and without TSC_ADJUST. */
#define ARCH_CPU_H
#define ARCH_CPU_LOCAL_H
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/registers.h"

struct cpu {
	uint32_t apic_id;
	int64_t tsc_ahead;
};
static struct cpu record;
static struct cpu *this_cpu(void)
{
	return &record;
}

struct features features;
static __thread int64_t skew; /* ticks that this CPU's counter has more than the true one */
static __thread uint64_t adjust;
static bool can_be_set;
static uint64_t pace_once_set; /* 0: it stays */
static unsigned writes;

/*
 * Time passes by looking at it, for both alike; faster where nobody is going to answer, since each look lets all else run that there is
 * on the machine.
 */
static uint64_t pace = 1;
static uint64_t rdtsc(void)
{
	static uint64_t now;

	sched_yield();
	return __atomic_add_fetch(&now, __atomic_load_n(&pace, __ATOMIC_RELAXED), __ATOMIC_SEQ_CST) + (uint64_t)skew;
}

static uint64_t rdmsr(uint32_t msr)
{
	assert_int_equal(msr, 0x3b);
	return adjust;
}

static void wrmsr(uint32_t msr, uint64_t value)
{
	int64_t step = (int64_t)(value - (msr == 0x3b ? adjust : rdtsc()));

	assert_true(msr == 0x3b ? features.tsc_adjust : msr == 0x10);
	adjust = msr == 0x3b ? value : adjust;
	skew += can_be_set ? step : 0;
	writes++;
	if (pace_once_set)
		__atomic_store_n(&pace, pace_once_set, __ATOMIC_RELAXED);
}

uint64_t host_ns_to_tsc(uint64_t ns)
{
	return ns / 10;
}

#include "arch/x86_64/tsc_sync.c"

static int64_t left; /* of the skew */
static uint32_t done;

struct second {
	int64_t skew;
	uint64_t adjust;
};

static void *second_cpu(void *argument)
{
	const struct second *how = argument;

	skew = how->skew;
	adjust = how->adjust;
	tsc_sync_adopt();
	left = skew;
	__atomic_store_n(&done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void start_second(int64_t by, uint64_t its_adjust, bool answered)
{
	struct second how = { by, its_adjust };
	pthread_t thread;

	done = 0;
	writes = 0;
	if (!pace_once_set)
		pace = answered ? 1 : 10000;
	tsc_sync_open();
	assert_int_equal(pthread_create(&thread, NULL, second_cpu, &how), 0);
	while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
		if (answered)
			tsc_sync_answer();
		sched_yield();
	}
	pthread_join(thread, NULL);
}

#define SECOND INT64_C(1000000000)
#define MAY_STAY 500000 /* half of the bounds' width at worst */

static void test_by_counter(void **state)
{
	features.tsc_adjust = false;
	can_be_set = true;
	for (int i = -3; i <= 3; i++) {
		start_second(i * SECOND, 0, true);
		assert_true(llabs(left) <= MAY_STAY);
		assert_true(i ? writes >= 1 : !writes); /* what is in step is not touched */
	}
}

static void test_by_adjust(void **state)
{
	features.tsc_adjust = true;
	can_be_set = true;
	adjust = 500; /* the boot CPU's */
	start_second(2 * SECOND, 500, true);
	assert_true(llabs(left) <= MAY_STAY && writes >= 1);
	start_second(-SECOND, 500 - (uint64_t)SECOND, true); /* taking it over is all that is needed */
	assert_true(left == 0 && writes == 1);
	features.invariant_tsc = false;
	assert_false(host_tsc_in_step());
	features.invariant_tsc = true;
	assert_true(host_tsc_in_step());
}

/* What the first, coarse measurement leaves a fine one proves: that is no counter that can't be set. */
static void test_by_and_by(void **state)
{
	features.tsc_adjust = features.invariant_tsc = true;
	can_be_set = true;
	adjust = 500;
	pace_once_set = 1;
	for (int i = 0; i < 3; i++) {
		pace = 5000;
		start_second(SECOND + i * 777, 500, true);
		assert_true(host_tsc_in_step());
	}
	pace_once_set = 0;
}

/* One that can't be set stays as it is, and others reckon with it; one that gets no answer goes on. */
static void test_in_vain(void **state)
{
	features.tsc_adjust = false;
	can_be_set = false;
	start_second(SECOND, 0, true);
	assert_true(left == SECOND && writes == SETTINGS);
	assert_false(host_tsc_in_step());
	assert_true(llabs(record.tsc_ahead - SECOND) <= MAY_STAY);
	record.tsc_ahead = 0;
	start_second(SECOND, 0, false);
	assert_true(left == SECOND && !writes && !record.tsc_ahead);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_by_counter), cmocka_unit_test(test_by_adjust),
					    cmocka_unit_test(test_by_and_by), cmocka_unit_test(test_in_vain) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
