/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * What is kept about memory, in bytes: at most 32 in pgm per 2 MiB that is untouched or large; pgm and mm together (tables
 * apart) at most 0.01 % of such memory, and at most 0.4 % of memory that was touched in pages of 4 KiB.
 */
#define WORLD_STRICT 17u
#include "common/pgm_world.h"

#define RAM (512 * MIB)
#define BEGIN (2 * MIB) /* the blocks below it are cut by the hole */
#define BLOCKS ((RAM - BEGIN) / BLOCK_SIZE)

/* Of one machine and of the frames behind it: what mm has more than before, and the records of its chunks. */
static uint64_t record_bytes(struct pgm *pgm, uint64_t mm_before)
{
	struct frame_totals totals = totals_now();
	struct pgm_usage usage;

	pgm_usage(pgm, &usage);
	return usage.record_bytes + (totals.record_bytes - mm_before) +
	       (totals.large_chunks + totals.split_chunks) * sizeof(struct chunk);
}

static void test_untouched(void **state)
{
	struct pgm_config config = plain_config(KIB * GIB);
	struct pgm_usage usage;
	struct pgm *pgm;
	hpa_t before;

	account_policy(OVERCOMMIT_RATIO, 100000000);
	pgm = make_pgm_of(&config);
	for (uint64_t a = 4 * GIB; a < 68 * GIB; a += BLOCK_SIZE) {
		assert_int_equal(pgm_fault(pgm, gpa(a), ACCESS_READ), PGM_RESUME);
		assert_int_equal(granted(pgm, a, &before), RX);
	}
	pgm_usage(pgm, &usage);
	assert_int_equal(usage.record_bytes, 64 * GIB / BLOCK_SIZE * 32);
	assert_true(usage.record_bytes * 10000 <= 64 * GIB);
	assert_int_equal(usage.private_pages, 0);
	end_pgm(pgm);
	account_policy(OVERCOMMIT_RATIO, 10000);
}

static void test_large(void **state)
{
	struct pgm_config config = plain_config(RAM);
	uint64_t before = totals_now().record_bytes;
	struct pgm *pgm = make_pgm_of(&config);
	struct pgm_usage usage;

	for (uint64_t a = BEGIN; a < RAM; a += BLOCK_SIZE)
		assert_int_equal(pgm_fault(pgm, gpa(a), ACCESS_WRITE), PGM_RESUME);
	pgm_usage(pgm, &usage);
	assert_int_equal(usage.large_blocks, BLOCKS);
	assert_true(usage.record_bytes <= RAM / BLOCK_SIZE * 32);
	assert_true(record_bytes(pgm, before) * 10000 <= RAM - BEGIN);
	print_message("large: %llu bytes of records for %llu MiB\n", (unsigned long long)record_bytes(pgm, before),
		      (unsigned long long)((RAM - BEGIN) / MIB));
	end_pgm(pgm);
}

static void test_small(void **state)
{
	struct pgm_config config = plain_config(RAM);
	uint64_t before = totals_now().record_bytes, bytes;
	struct pgm_usage usage;
	struct pgm *pgm;

	config.large_pages = false;
	pgm = make_pgm_of(&config);
	for (uint64_t a = BEGIN; a < RAM; a += PAGE_SIZE)
		assert_int_equal(pgm_fault(pgm, gpa(a), ACCESS_WRITE), PGM_RESUME);
	pgm_usage(pgm, &usage);
	bytes = record_bytes(pgm, before);
	assert_int_equal(usage.detailed_blocks, BLOCKS);
	print_message("small: %llu bytes of records for %llu MiB\n", (unsigned long long)bytes,
		      (unsigned long long)((RAM - BEGIN) / MIB));
	assert_true(bytes * 1000 <= (RAM - BEGIN) * 4);
	end_pgm(pgm);
}

static int setup(void **state)
{
	static struct memory_layout layout;

	direct_map = host_memory_make(GIB);
	layout.count = 1;
	layout.usable[0] = (struct memory_range){ MIB, GIB - MIB };
	layout.top = GIB;
	assert_int_equal(mm_start(&layout), OK);
	world_mode();
	account_policy(OVERCOMMIT_RATIO, 10000);
	assert_int_equal(pgm_start(), OK);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_untouched),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_small),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
