/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c lib/format.c
/* With overcommit the last of the memory is for machines of higher priority; without it each gets what it was promised. */
#include "test_mm_world.h"

#define WORLD (272 * MIB)
#define BLOCKS_MOST 136u
#define KEPT 4u /* one chunk in 32 */

static struct account accounts_of[3];
static hpa_t held[3][BLOCKS_MOST];
static unsigned count[3];

/* Takes all chunks that this machine can have; returns how many more came. */
static unsigned take_all(enum machine_priority priority)
{
	unsigned before = count[priority];
	bool zero;

	while (count[priority] < BLOCKS_MOST && block_alloc(&accounts_of[priority], gpa(count[priority] * BLOCK_SIZE),
							    &held[priority][count[priority]], &zero) == OK)
		count[priority]++;
	return count[priority] - before;
}

static void open_all(void)
{
	char why[256] = "";

	for (unsigned p = 0; p < 3; p++) {
		struct account_request request = { .pages = { 10000, 40, 0 }, .priority = p };

		assert_int_equal(account_open(&accounts_of[p], &request, why, sizeof(why)), OK);
	}
}

static void close_all(void)
{
	assert_int_equal(frame_check(print_finding, NULL), 0);
	for (unsigned p = 0; p < 3; p++) {
		while (count[p])
			free_block(&accounts_of[p], held[p][--count[p]]);
		assert_int_equal(account_close(&accounts_of[p]), OK);
	}
}

static void test_last_chunks(void **state)
{
	hpa_t frame;

	account_policy(OVERCOMMIT_RATIO, 1000);
	/* Quotas that can't bind: what binds is the memory. */
	for (unsigned p = 0; p < 3; p++) {
		struct account_request request = { .pages = { 70000, 40, 0 }, .priority = p };
		char why[256];

		assert_int_equal(account_open(&accounts_of[p], &request, why, sizeof(why)), OK);
	}
	assert_true(take_all(PRIORITY_LOW) > 100);
	assert_int_equal(frame_alloc(&accounts_of[PRIORITY_LOW], ACCOUNT_BASE, gpa(GIB), &frame), NO_MEMORY);
	assert_int_equal(take_all(PRIORITY_NORMAL), KEPT / 2);
	assert_int_equal(take_all(PRIORITY_LOW), 0);
	assert_int_equal(take_all(PRIORITY_HIGH), KEPT / 2);
	assert_int_equal(take_all(PRIORITY_NORMAL), 0);
	close_all();
}

static void test_promises(void **state)
{
	unsigned all;

	account_policy(OVERCOMMIT_NONE, 100);
	open_all();
	all = take_all(PRIORITY_LOW) + take_all(PRIORITY_NORMAL) + take_all(PRIORITY_HIGH);
	assert_int_equal(all, 3 * (10000 / 512));
	close_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_last_chunks), cmocka_unit_test(test_promises) };

	world_start(WORLD);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
