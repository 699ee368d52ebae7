/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * Attack 14, bounded work: what goes over all of a machine's memory does so in steps, and the machine goes on in between. Counted
 * are the blocks that a step locks.
 */
#include "common/pgm_world.h"

#define BLOCKS 200u
#define FIRST (4 * MIB)

static struct pgm *pgm;
static uint64_t bitmap[(FIRST + BLOCKS * BLOCK_SIZE) / PAGE_SIZE / 64];

static gpa_t place(unsigned block, unsigned page)
{
	return gpa(FIRST + block * BLOCK_SIZE + page * PAGE_SIZE);
}

static void set_up(void)
{
	struct pgm_config config = plain_config(512 * MIB);

	config.large_pages = false;
	config.accessed_dirty = true;
	pgm = make_pgm_of(&config);
	for (unsigned i = 0; i < BLOCKS; i++)
		assert_int_equal(pgm_fault(pgm, place(i, 5), ACCESS_WRITE), PGM_RESUME);
}

static enum status usage(uint64_t *cursor)
{
	static struct pgm_usage u;

	return pgm_usage_step(pgm, cursor, &u);
}

static enum status describe(uint64_t *cursor)
{
	static struct pgm_tables_info info;

	return pgm_tables_describe_step(pgm, cursor, &info);
}

static enum status drop(uint64_t *cursor)
{
	return pgm_tables_drop_step(pgm, cursor);
}

static enum status on(uint64_t *cursor)
{
	(void)cursor;
	return pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT);
}

static enum status off(uint64_t *cursor)
{
	(void)cursor;
	return pgm_dirty_stop(pgm);
}

static void test_bounded(void **state)
{
	static enum status (*const passes[])(uint64_t * cursor) = { usage, describe, on, off, drop };
	struct pgm_check check = { .report = print_finding };
	unsigned steps;

	set_up();
	for (unsigned i = 0; i < ARRAY_SIZE(passes); i++) {
		uint64_t cursor = 0;
		enum status status;

		for (steps = 1; (status = passes[i](&cursor)) == BUSY; steps++)
			;
		assert_int_equal(status, OK);
		assert_int_equal(cursor, 0);
		assert_int_equal(steps, BLOCKS / STEP_RECORDS + 1);
	}
	for (unsigned i = 0; i < BLOCKS; i++)
		assert_int_equal(pgm_fault(pgm, place(i, 5), ACCESS_WRITE), PGM_RESUME);
	for (steps = 1; pgm_check_step(pgm, &check) == BUSY; steps++)
		;
	assert_true(steps > BLOCKS / 4);
	assert_int_equal(check.findings, 0);
	end_pgm(pgm);
}

static bool logged(gpa_t where)
{
	return bitmap[where.v >> PAGE_SHIFT >> 6] >> (where.v >> PAGE_SHIFT & 63) & 1;
}

/* A guest that writes between the steps of a start and of a stop: everywhere, armed already or not yet. */
static void between_steps(enum dirty_mode mode)
{
	enum status status;
	unsigned step = 6;

	set_up();
	while ((status = pgm_dirty_start(pgm, mode)) == BUSY) {
		assert_int_equal(pgm_dirty_read_and_clear(pgm, 0, 64, bitmap), BAD_STATE);
		for (unsigned i = 0; i < BLOCKS; i += 20)
			assert_int_equal(pgm_fault(pgm, place(i, step), ACCESS_WRITE), PGM_RESUME);
		step++;
	}
	assert_int_equal(status, OK);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	assert_int_equal(pgm_dirty_read_and_clear(pgm, 0, sizeof(bitmap) * 8, bitmap), OK);
	for (unsigned i = 0; i < BLOCKS; i += 20)
		for (unsigned page = 6; page < step; page++)
			assert_true(logged(place(i, page)));
	assert_int_equal(pgm_dirty_start(pgm, mode), BAD_STATE);
	while ((status = pgm_dirty_stop(pgm)) == BUSY) {
		assert_int_equal(pgm_dirty_read_and_clear(pgm, 0, 64, bitmap), BAD_STATE);
		for (unsigned i = 0; i < BLOCKS; i += 20)
			assert_int_equal(pgm_fault(pgm, place(i, 5), ACCESS_WRITE), PGM_RESUME);
	}
	assert_int_equal(status, OK);
	end_pgm(pgm);
}

static void test_between_steps(void **state)
{
	between_steps(DIRTY_WRITE_PROTECT);
	between_steps(DIRTY_ACCESSED_DIRTY);
}

/* A stop ends a start that isn't done, and a start first a stop; and a machine may end at any time. */
static void test_turning_back(void **state)
{
	unsigned steps;

	set_up();
	assert_int_equal(pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT), BUSY);
	assert_int_equal(pgm_dirty_stop(pgm), BUSY);
	for (steps = 2; pgm_dirty_start(pgm, DIRTY_ACCESSED_DIRTY) == BUSY; steps++)
		;
	assert_true(steps >= 2 * (BLOCKS / STEP_RECORDS));
	assert_int_equal(dirty_mode(pgm), DIRTY_ACCESSED_DIRTY);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	assert_int_equal(pgm_dirty_stop(pgm), BUSY);
	end_pgm(pgm);
	set_up();
	assert_int_equal(pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT), BUSY);
	end_pgm(pgm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_between_steps),
		cmocka_unit_test(test_turning_back),
	};

	pgm_world_start(64 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
