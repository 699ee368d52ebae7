/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/* Faults: what each kind of touch costs and gives, in which order it flushes, and what it does when memory is short. */
#include "common/pgm_world.h"

#define WORLD (64 * MIB)
#define WHERE (32 * MIB)

static void test_read_costs_nothing(void **state)
{
	struct pgm *pgm = make_pgm(256 * MIB);
	hpa_t frame;

	for (uint64_t at = 2 * MIB; at < 256 * MIB; at += PAGE_SIZE) {
		uint64_t word = 1;

		assert_int_equal(pgm_fault(pgm, gpa(at), ACCESS_READ), PGM_RESUME);
		assert_int_equal(pgm_read(pgm, gpa(at), &word, 8, ORIGIN_GUEST, NULL), OK);
		assert_int_equal(word, 0);
	}
	assert_int_equal(granted(pgm, WHERE + 0x5000, &frame), RX);
	assert_int_equal(frame.v, pgm_zero_block.v + 0x5000);
	assert_int_equal(pgm->account.allocated[ACCOUNT_BASE], 0);
	/* Root, two upper tables, one directory page. */
	assert_int_equal(table_pages_of(pgm), 4);
	assert_int_equal(flushes, 0);
	end_pgm(pgm);
}

/* Without 2 MiB leaves each page is mapped alone, and still takes no guest frame. */
static void test_read_small(void **state)
{
	struct pgm_config config = plain_config(64 * MIB);
	struct pgm *pgm;
	hpa_t frame;

	config.slat_2m = false;
	pgm = make_pgm_of(&config);
	assert_int_equal(pgm_fault(pgm, gpa(WHERE + 0x3000), ACCESS_READ), PGM_RESUME);
	assert_int_equal(granted(pgm, WHERE + 0x3000, &frame), RX);
	assert_int_equal(frame.v, pgm_zero_block.v);
	assert_int_equal(pgm->account.allocated[ACCOUNT_BASE], 0);
	assert_int_equal(pgm_fault(pgm, gpa(WHERE + 0x3000), ACCESS_WRITE), PGM_RESUME);
	assert_int_equal(granted(pgm, WHERE + 0x3000, &frame), RWX);
	assert_int_equal(flushes, 1);
	end_pgm(pgm);
}

/* A device's write must not make a large block either where the processor has no 2 MiB leaves. */
static void test_no_large_by_write(void **state)
{
	struct pgm_config config = plain_config(64 * MIB);
	struct pgm *pgm;
	unsigned level;

	config.slat_2m = false;
	pgm = make_pgm_of(&config);
	assert_int_equal(pgm_write(pgm, gpa(WHERE), "x", 1, ORIGIN_DEVICE, NULL), OK);
	assert_int_equal(base_pages(pgm), 1);
	assert_int_equal(pgm_fault(pgm, gpa(WHERE), ACCESS_READ), PGM_RESUME);
	slat_find(&pgm->slat, gpa(WHERE), &level);
	assert_int_equal(level, 0);
	end_pgm(pgm);
}

static void test_large_at_first_touch(void **state)
{
	struct pgm *pgm = make_pgm(64 * MIB);
	struct pgm_page_info info;
	hpa_t frame;

	assert_int_equal(pgm_fault(pgm, gpa(WHERE + 0x7008), ACCESS_READ), PGM_RESUME);
	assert_int_equal(pgm_fault(pgm, gpa(WHERE + 0x7008), ACCESS_WRITE), PGM_RESUME);
	assert_int_equal(flushes, 1); /* the zero block was mapped there */
	assert_int_equal(granted(pgm, WHERE, &frame), RWX);
	assert_true(is_zero(frame, BLOCK_SIZE));
	pgm_page_describe(pgm, gpa(WHERE + 0x7000), &info);
	assert_int_equal(info.block, BLOCK_LARGE);
	assert_int_equal(info.frame.v, frame.v + 0x7000);
	assert_int_equal(info.slat_level, 1);
	assert_int_equal(pgm->account.allocated[ACCOUNT_BASE], PAGES_PER_BLOCK);
	assert_int_equal(pgm->common.counters.large_alloc, 1);
	/* Another vcpu comes second: nothing happens. */
	assert_int_equal(pgm_fault(pgm, gpa(WHERE), ACCESS_WRITE), PGM_RESUME);
	assert_int_equal(flushes, 1);
	end_pgm(pgm);
}

static void test_fall_back(void **state)
{
	struct pgm *pgm = make_pgm(64 * MIB);
	hpa_t frame, other;

	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	assert_int_equal(pgm_fault(pgm, gpa(WHERE), ACCESS_READ), PGM_RESUME);
	assert_int_equal(pgm_fault(pgm, gpa(WHERE + 0x1000), ACCESS_WRITE), PGM_RESUME);
	inject_disarm(MM_SITE_LARGE);
	assert_int_equal(pgm->common.counters.large_alloc_failed, 1);
	assert_int_equal(base_pages(pgm), 1);
	assert_int_equal(flushes, 1);
	assert_int_equal(granted(pgm, WHERE + 0x1000, &frame), RWX);
	assert_true(is_zero(frame, PAGE_SIZE));
	assert_int_equal(granted(pgm, WHERE, NULL), 0);
	/* The neighbour: read first, then written. */
	assert_int_equal(pgm_fault(pgm, gpa(WHERE + 0x2000), ACCESS_READ), PGM_RESUME);
	assert_int_equal(granted(pgm, WHERE + 0x2000, &frame), RX);
	assert_int_equal(frame.v, pgm_zero_block.v);
	assert_int_equal(flushes, 1);
	assert_int_equal(pgm_fault(pgm, gpa(WHERE + 0x2000), ACCESS_WRITE), PGM_RESUME);
	assert_int_equal(flushes, 2);
	assert_int_equal(granted(pgm, WHERE + 0x2000, &other), RWX);
	assert_int_not_equal(other.v, pgm_zero_block.v);
	assert_int_equal(base_pages(pgm), 2);
	end_pgm(pgm);
}

/* Neighbours that have a frame come along, no others, and none gets more than its own record grants. */
static void test_fault_around(void **state)
{
	struct pgm_config config = plain_config(64 * MIB);
	struct pgm *pgm;

	config.large_pages = false;
	pgm = make_pgm_of(&config);
	for (unsigned i = 0; i < 40; i += 3)
		assert_int_equal(pgm_write(pgm, gpa(WHERE + i * PAGE_SIZE), "x", 1, ORIGIN_DEVICE, NULL), OK);
	assert_int_equal(pgm_fault(pgm, gpa(WHERE + 18 * PAGE_SIZE), ACCESS_READ), PGM_RESUME);
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(granted(pgm, WHERE + i * PAGE_SIZE, NULL), i / 16 == 1 && i % 3 == 0 ? RWX : 0);
	assert_int_equal(flushes, 0);
	end_pgm(pgm);
}

/* Nobody may keep us busy, or cost us memory, by poking where nothing is. */
static void test_poking_at_nothing(void **state)
{
	static const uint64_t places[] = { 0xb8000, 0xfee00000, 3 * GIB, 4 * GIB,
					   5 * GIB, KIB * GIB,  BIT(51), UINT64_MAX & ~(PAGE_SIZE - 1) };
	struct pgm *pgm = make_pgm(64 * MIB);
	uint64_t tables = table_pages_of(pgm);

	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		uint64_t word = 0, seen;

		assert_int_equal(pgm_fault(pgm, gpa(places[i]), ACCESS_READ), PGM_EMULATE);
		assert_int_equal(pgm_fault(pgm, gpa(places[i]), ACCESS_WRITE), PGM_EMULATE);
		assert_int_equal(pgm_fault(pgm, gpa(places[i]), ACCESS_EXECUTE), PGM_EMULATE);
		assert_int_equal(pgm_read(pgm, gpa(places[i]), &word, 8, ORIGIN_GUEST, NULL), OK);
		assert_int_equal(word, UINT64_MAX);
		assert_int_equal(pgm_write(pgm, gpa(places[i]), &word, 8, ORIGIN_GUEST, NULL), OK);
		assert_int_equal(pgm_read_simple(pgm, gpa(places[i]), &word, 8), BAD_ADDRESS);
		assert_int_equal(pgm_write_simple(pgm, gpa(places[i]), &word, 8), BAD_ADDRESS);
		assert_int_equal(pgm_compare_exchange(pgm, gpa(places[i]), 0, 1, 8, &seen), BAD_ADDRESS);
	}
	/* 0xb8000 lies in the first 2 MiB, in which there is RAM: a directory page is fair, no more. */
	assert_true(table_pages_of(pgm) <= tables + 1);
	assert_int_equal(pgm->account.allocated[ACCOUNT_BASE], 0);
	end_pgm(pgm);
}

/* Each allocation of a fault fails in turn: the verdict says so, all is as before, and the next try succeeds. */
static void test_failures(void **state)
{
	static const uint64_t places[] = { WHERE, 0x1000 };

	for (unsigned site = 0; site < MM_SITES; site++) {
		for (unsigned after = 0; after < 10; after++) {
			struct pgm *pgm = make_pgm(64 * MIB);

			for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
				enum pgm_verdict verdict;

				inject_arm((enum mm_site)site, after, 1, 0);
				verdict = pgm_fault(pgm, gpa(places[i]), ACCESS_WRITE);
				assert_true(verdict == PGM_RESUME || verdict == PGM_NO_MEMORY);
				inject_disarm((enum mm_site)site);
				check_silent(pgm);
				if (verdict == PGM_NO_MEMORY)
					assert_int_equal(granted(pgm, places[i], NULL) & ACCESS_WRITE, 0);
				assert_int_equal(pgm_fault(pgm, gpa(places[i]), ACCESS_WRITE), PGM_RESUME);
				assert_int_equal(granted(pgm, places[i], NULL), RWX);
			}
			end_pgm(pgm);
		}
	}
}

static struct pgm *watched;
static uint64_t tables_at_flush;

static void see_flush(void)
{
	tables_at_flush = table_pages_of(watched);
}

/* The zero block's leaf gives way to records: what a flush is still due for is not freed before it. */
static void test_free_after_flush(void **state)
{
	struct pgm_config config = plain_config(64 * MIB);
	struct gather g;
	struct block *b;

	config.large_pages = false;
	watched = make_pgm_of(&config);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(pgm_fault(watched, gpa(WHERE + i * PAGE_SIZE), ACCESS_WRITE), PGM_RESUME);
	assert_int_equal(block_get(watched, gpa(WHERE), &b), OK);
	gather_begin(&g, &watched->flush, &watched->account);
	block_lock(b);
	slat_drop_block(&watched->slat, NULL, gpa(WHERE), &g);
	block_unlock(b);
	at_flush = see_flush;
	gather_finish(&g);
	at_flush = NULL;
	assert_int_equal(flushes, 1);
	assert_int_equal(tables_at_flush, table_pages_of(watched) + 1);
	assert_int_equal(pgm_fault(watched, gpa(WHERE), ACCESS_READ), PGM_RESUME);
	assert_int_equal(granted(watched, WHERE + 4 * PAGE_SIZE, NULL), RWX);
	end_pgm(watched);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_costs_nothing), cmocka_unit_test(test_read_small),
		cmocka_unit_test(test_no_large_by_write),  cmocka_unit_test(test_large_at_first_touch),
		cmocka_unit_test(test_fall_back),          cmocka_unit_test(test_fault_around),
		cmocka_unit_test(test_poking_at_nothing),  cmocka_unit_test(test_failures),
		cmocka_unit_test(test_free_after_flush),
	};

	pgm_world_start(WORLD);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
