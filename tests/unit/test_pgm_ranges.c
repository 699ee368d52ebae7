/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * The range table while it changes: a device's range below comes and goes, so that those above move in the table, and
 * nobody who goes through all of them may miss one. (Not for the thread sanitizer: readers copy plain words, and look at the
 * generation afterwards.)
 */
#include <pthread.h>

#include "common/pgm_world.h"

#define RAM GIB
#define DEVICE UINT64_C(0xe0000000)
#define FIRST (4 * GIB)
#define BLOCKS 256u
#define ROUNDS 60u

extern __thread unsigned test_cpu;
extern unsigned test_cpu_count;

static struct pgm *pgm;
static uint32_t done; /* atomic */

static void *come_and_go(void *context)
{
	(void)context;
	test_cpu = 1;
	while (!__atomic_load_n(&done, __ATOMIC_RELAXED)) {
		assert_int_equal(range_add(pgm, gpa(DEVICE), PAGE_SIZE, PAGE_MMIO, ""), OK);
		range_remove(pgm, gpa(DEVICE));
	}
	return NULL;
}

static void with_changes(void (*what)(void))
{
	pthread_t thread;

	__atomic_store_n(&done, 0, __ATOMIC_RELAXED);
	assert_int_equal(pthread_create(&thread, NULL, come_and_go, NULL), 0);
	what();
	__atomic_store_n(&done, 1, __ATOMIC_RELAXED);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void make_records(void)
{
	assert_int_equal(blocks_make_detailed(pgm, FIRST, FIRST + BLOCKS * BLOCK_SIZE), OK);
}

static void test_records(void **state)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		with_changes(make_records);
		for (uint64_t at = FIRST; at < FIRST + BLOCKS * BLOCK_SIZE; at += PAGE_SIZE)
			if (page_get_type(*page_of(block_find(pgm, gpa(at)), gpa(at))) != PAGE_RAM)
				fail_msg("round %u: RAM at %#llx is none", round, (unsigned long long)at);
		while (pgm_reset_step(pgm, true) == BUSY)
			;
	}
}

static enum status pass(void *user, struct pgm_access *access)
{
	return NOT_FOUND;
}

static handler_type type;

static void register_over_ram(void)
{
	for (unsigned i = 0; i < ROUNDS * 1000; i++)
		assert_int_equal(
			pgm_handler_register(pgm, type, gpa(FIRST), gpa(FIRST + PAGE_SIZE - 1), NULL, "over RAM"),
			CONFLICT);
}

static void test_handlers(void **state)
{
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_MMIO, 0, pass, "", &type), OK);
	with_changes(register_over_ram);
}

/* RAM goes while a handler comes over it: one of the two is refused. */
#define MORE (8 * GIB)
static handler_type write_type;
static uint32_t turn; /* atomic */

static void *remove_more(void *context)
{
	test_cpu = 1;
	for (unsigned i = 1; i <= ROUNDS * 50; i++) {
		enum status *status = context;

		while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != 2 * i - 1)
			spin_pause();
		do
			*status = pgm_remove_range_step(pgm, gpa(MORE));
		while (*status == BUSY);
		__atomic_store_n(&turn, 2 * i, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void test_removal_and_handler(void **state)
{
	enum status removed, registered;
	pthread_t thread;

	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_WRITE, 0, pass, "", &write_type), OK);
	assert_int_equal(pthread_create(&thread, NULL, remove_more, &removed), 0);
	for (unsigned i = 1; i <= ROUNDS * 50; i++) {
		assert_int_equal(pgm_add_ram(pgm, gpa(MORE), BLOCK_SIZE, "more"), OK);
		__atomic_store_n(&turn, 2 * i - 1, __ATOMIC_RELEASE);
		for (unsigned wait = i % 64; wait; wait--)
			spin_pause();
		registered = pgm_handler_register(pgm, write_type, gpa(MORE), gpa(MORE + PAGE_SIZE - 1), NULL, "");
		while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != 2 * i)
			spin_pause();
		if ((removed == OK) == (registered == OK))
			fail_msg("round %u: removal %u, handler %u", i, removed, registered);
		if (registered == OK) {
			assert_int_equal(pgm_handler_deregister(pgm, gpa(MORE)), OK);
			while (pgm_remove_range_step(pgm, gpa(MORE)) == BUSY)
				;
		}
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_records),
		cmocka_unit_test(test_handlers),
		cmocka_unit_test(test_removal_and_handler),
	};
	struct pgm_config config = plain_config(RAM);
	int failed;

	test_cpu_count = 2;
	pgm_world_start(32 * MIB);
	config.ram_hole = 4080 * MIB;
	pgm = make_pgm_of(&config);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	end_pgm(pgm);
	return failed;
}
