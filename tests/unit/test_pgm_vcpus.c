/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
// threads
/*
 * What each vcpu has of its own: frames kept ready and counters. They come in batches out of the common stock and go back when it
 * leaves; another vcpu finds them when there is nothing else; every frame is charged once, wherever it is.
 */
#include <pthread.h>
#include <sched.h>

#define WORLD_STRICT 17u
#include "common/pgm_world.h"
#include "pgm/dirty/dirty.h"

#define VCPUS 4u
#define RAM (32 * MIB)
#define AT(block, page) (BLOCK_SIZE * (block) + PAGE_SIZE * (page))

extern __thread unsigned test_cpu;
extern unsigned test_cpu_count;

static struct pgm *pgm;
static struct pgm_vcpu_counters vcpus[VCPUS];

static void start(unsigned n)
{
	struct pgm_config config = plain_config(RAM);

	config.large_pages = false;
	pgm = make_pgm_of(&config);
	memset(vcpus, 0, sizeof(vcpus));
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(pgm_vcpu_open(pgm, &vcpus[i]), OK);
}

static void be(unsigned cpu)
{
	test_cpu = cpu;
	pgm_count_for(&vcpus[cpu]);
}

static void nobody(void)
{
	for (test_cpu = VCPUS; test_cpu-- > 0;)
		pgm_count_for(NULL);
	test_cpu = 0;
}

static enum pgm_verdict touch(uint64_t where)
{
	return pgm_guest_fault(pgm, gpa(where), ACCESS_WRITE);
}

static void end(void)
{
	for (unsigned i = 0; i < VCPUS; i++)
		pgm_vcpu_leave(&vcpus[i]);
	end_pgm(pgm);
}

static void test_batches(void **state)
{
	struct pgm_counters sum;

	start(2);
	be(0);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(touch(AT(4, i)), PGM_RESUME);
	be(1);
	assert_int_equal(touch(AT(5, 0)), PGM_RESUME);
	nobody();
	assert_in_range(vcpus[0].local->handy.count, 1, HANDY_REFILL);
	assert_in_range(vcpus[1].local->handy.count, 1, HANDY_REFILL);
	assert_int_equal(base_pages(pgm), 11);
	pgm_counters_sum(pgm, &sum);
	assert_int_equal(sum.allocated, 11);
	assert_int_equal(sum.handy_allocs, 11);
	assert_int_equal(vcpus[0].local->counters.allocated, 10);
	assert_int_equal(pgm->common.counters.allocated, 0);
	check_silent(pgm);
	/* A device's write takes of the stock, and counts for nobody. */
	assert_int_equal(pgm_write(pgm, gpa(AT(6, 0)), "", 1, ORIGIN_DEVICE, NULL), OK);
	assert_int_equal(pgm->common.counters.allocated, 1);
	end_pgm(pgm); /* with what they still have */
}

/* What it had goes to the stock as far as there is room, and the rest to mm; the machine's end finds nothing. */
static void test_leaves(void **state)
{
	unsigned had;

	start(2);
	be(0);
	assert_int_equal(touch(AT(4, 0)), PGM_RESUME);
	nobody();
	had = handy_count(pgm);
	pgm_vcpu_leave(&vcpus[0]);
	assert_int_equal(vcpus[0].local->handy.count, 0);
	assert_int_equal(handy_count(pgm), had);
	check_silent(pgm);
	be(0);
	assert_int_equal(touch(AT(4, 1)), PGM_RESUME);
	assert_int_equal(touch(AT(4, 2)), PGM_RESUME);
	nobody();
	assert_true(vcpus[0].local->handy.count > 0);
	while (handy_refill(pgm))
		;
	assert_int_equal(pgm->common.handy.count, HANDY_SIZE);
	pgm_vcpu_leave(&vcpus[0]);
	assert_int_equal(handy_count(pgm), HANDY_SIZE);
	assert_int_equal(pgm->account.allocated[ACCOUNT_BASE], HANDY_SIZE + 3);
	end();
}

/* With no memory left but what other vcpus have: that is found before anyone is told to wait. */
static void test_found_in_need(void **state)
{
	unsigned left, taken = 0;

	start(VCPUS);
	for (unsigned i = 0; i < VCPUS; i++) {
		be(i);
		assert_int_equal(touch(AT(4 + i, 0)), PGM_RESUME);
	}
	inject_arm(MM_SITE_HANDY, 0, 1, 0);
	left = handy_count(pgm);
	assert_true(left > 3 * (HANDY_REFILL - 8));
	be(0);
	while (taken < 500 && touch(AT(4, 1 + taken)) == PGM_RESUME)
		taken++;
	assert_int_equal(taken, left);
	assert_int_equal(handy_count(pgm), 0);
	inject_disarm(MM_SITE_HANDY);
	assert_int_equal(touch(AT(4, 1 + taken)), PGM_RESUME);
	nobody();
	end();
}

/* All of RAM can be had by one vcpu while the others' frames stand ready. */
static void test_all_of_ram(void **state)
{
	unsigned first = (unsigned)(MIB / PAGE_SIZE);

	start(VCPUS);
	account_policy(OVERCOMMIT_RATIO, 10000);
	for (unsigned i = 1; i < VCPUS; i++) {
		be(i);
		assert_int_equal(touch(AT(4 + i, 0)), PGM_RESUME);
	}
	be(0);
	for (unsigned i = 0; i < 160; i++)
		assert_int_equal(touch(AT(0, i)), PGM_RESUME);
	for (unsigned i = first; i < RAM / PAGE_SIZE; i++)
		assert_int_equal(touch(AT(0, i)), PGM_RESUME);
	nobody();
	assert_int_equal(base_pages(pgm), RAM / PAGE_SIZE - first + 160);
	end();
}

/* Another machine's vcpu on this CPU: what the host does for ours is for none of ours. */
static void test_of_another(void **state)
{
	static struct pgm_vcpu_counters strange;
	struct pgm *other = make_pgm(RAM);

	start(1);
	assert_int_equal(pgm_vcpu_open(other, &strange), OK);
	pgm_count_for(&strange);
	assert_int_equal(pgm_write(pgm, gpa(AT(6, 0)), "", 1, ORIGIN_DEVICE, NULL), OK);
	pgm_count_for(NULL);
	assert_int_equal(strange.local->counters.allocated, 0);
	assert_int_equal(strange.local->handy.count, 0);
	assert_int_equal(pgm->common.counters.allocated, 1);
	end_pgm(other);
	end();
}

/* No memory for its own, or no quota: nothing has changed. */
static void test_open_fails(void **state)
{
	struct pgm_vcpu_counters counters = { 0 };
	uint64_t reserved;
	int64_t more = 0;

	start(0);
	reserved = pgm->account.reserved[ACCOUNT_BASE];
	inject_arm(MM_SITE_HEAP, 0, 1, 0);
	assert_int_equal(pgm_vcpu_open(pgm, &counters), NO_MEMORY);
	inject_disarm(MM_SITE_HEAP);
	account_policy(OVERCOMMIT_NONE, 100);
	while (account_adjust(&pgm->account, ACCOUNT_BASE, HANDY_REFILL / 2) == OK)
		more += HANDY_REFILL / 2;
	assert_int_equal(pgm_vcpu_open(pgm, &counters), NO_MEMORY);
	assert_int_equal(account_adjust(&pgm->account, ACCOUNT_BASE, -more), OK);
	account_policy(OVERCOMMIT_RATIO, 10000);
	assert_null(counters.local);
	assert_int_equal(pgm->account.reserved[ACCOUNT_BASE], reserved);
	assert_int_equal(pgm_vcpu_open(pgm, &counters), OK);
	assert_int_equal(pgm->account.reserved[ACCOUNT_BASE], reserved + HANDY_REFILL);
	end();
}

#define ROUNDS 12u

static uint32_t running; /* atomic */
static pthread_barrier_t barrier;

/* A vcpu's life, again and again: its own block's pages, some of a block that all share, a pause now and then. */
static void *one_vcpu(void *context)
{
	unsigned cpu = (unsigned)(uintptr_t)context;

	be(cpu);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned page = 0; page < 40; page++) {
			uint64_t own = AT(2 + cpu, round * 40 + page), shared = AT(8, round * 40 + page);

			if (touch(own) != PGM_RESUME || (page & 1 && touch(shared) != PGM_RESUME))
				abort();
		}
		if (round % 3 == 2)
			pgm_vcpu_leave(&vcpus[cpu]);
	}
	pthread_barrier_wait(&barrier);
	__atomic_fetch_sub(&running, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* A CPU of the host's beside them: refills, sums, and the check of the reserve. */
static void *beside(void *context)
{
	struct pgm_usage usage;

	test_cpu = VCPUS;
	while (__atomic_load_n(&running, __ATOMIC_ACQUIRE)) {
		struct pgm_counters sum;
		uint64_t cursor = 0;

		(void)pgm_idle_step(pgm);
		pgm_counters_sum(pgm, &sum);
		while (pgm_usage_step(pgm, &cursor, &usage) == BUSY)
			;
		sched_yield();
	}
	return context;
}

static void test_together(void **state)
{
	pthread_t threads[VCPUS + 1];
	struct pgm_counters sum;

	start(VCPUS);
	running = VCPUS;
	assert_int_equal(pthread_barrier_init(&barrier, NULL, VCPUS), 0);
	for (uintptr_t i = 0; i < VCPUS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, one_vcpu, (void *)i), 0);
	assert_int_equal(pthread_create(&threads[VCPUS], NULL, beside, NULL), 0);
	for (unsigned i = 0; i <= VCPUS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	pgm_counters_sum(pgm, &sum);
	assert_int_equal(sum.allocated, VCPUS * ROUNDS * 40 + ROUNDS * 20);
	assert_int_equal(base_pages(pgm), sum.allocated);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_batches),       cmocka_unit_test(test_leaves),
		cmocka_unit_test(test_found_in_need), cmocka_unit_test(test_all_of_ram),
		cmocka_unit_test(test_of_another),    cmocka_unit_test(test_open_fails),
		cmocka_unit_test(test_together),
	};

	test_cpu_count = VCPUS + 1;
	pgm_world_start(64 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
