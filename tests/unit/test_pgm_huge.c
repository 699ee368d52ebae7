/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/* Preallocation, and 1 GiB leaves: made, split to 2 MiB and to 4 KiB, dropped, given back. */
#define WORLD_STRICT 17u
#include "common/pgm_world.h"

/* The usable memory: 64 MiB at the bottom, and the aligned GiB at 1 GiB. */
#define LOW (64 * MIB)

/* Zero chunks are taken first: those at the bottom, so that the GiB stays whole. */
static void prepare_gib(void)
{
	lock_acquire(&chunk_lock);
	for (unsigned i = 0; i < LOW / BLOCK_SIZE; i++) {
		struct chunk *chunk = &chunks.table[i];

		if (chunk->kind != CHUNK_FREE)
			continue;
		chunk_unlist(chunk);
		memset(host_memory_at(chunk_frame(chunk, 0)), 0, BLOCK_SIZE);
		chunk->cleared = 512;
		chunk_relist(chunk);
	}
	lock_release(&chunk_lock);
}

static struct pgm *make_huge(void)
{
	struct pgm_config config = plain_config(2 * GIB);
	struct pgm *pgm;
	enum status status;
	uint64_t pages;
	hpa_t chunks_at;

	prepare_gib();
	pgm = make_pgm_of(&config);
	/* All of it is more than this world has: only the GiB. */
	pgm->preallocation.cursor = GIB;
	do {
		status = pgm_preallocate_step(pgm, &pages);
	} while (status == BUSY && pages < GIB / PAGE_SIZE);
	assert_int_equal(status, BUSY);
	assert_int_equal(pages, GIB / PAGE_SIZE);
	assert_int_equal(pgm->common.counters.huge_mapped, 1);
	assert_int_equal(granted(pgm, GIB, &chunks_at), RWX);
	assert_true(is_aligned(chunks_at.v, GIB));
	return pgm;
}

static enum status pass(void *user, struct pgm_access *access)
{
	return NOT_FOUND;
}

/* Attack 1: 1 GiB to 2 MiB to 4 KiB; every other page translates as before. */
static void test_attack1_huge_split(void **state)
{
	struct pgm *pgm = make_huge();
	uint64_t at = GIB + 77 * BLOCK_SIZE + 5 * PAGE_SIZE;
	handler_type type;
	hpa_t first, frame;
	unsigned level;

	(void)slat_find(&pgm->slat, gpa(at), &level);
	assert_int_equal(level, 2);
	assert_int_equal(granted(pgm, GIB, &first), RWX);
	assert_int_equal(pgm_fault(pgm, gpa(at), ACCESS_WRITE),
			 PGM_RESUME); /* another vcpu was first: never an error */
	assert_int_equal(pgm->common.counters.large_valid, 1);
	check_silent(pgm);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_WRITE, 0, pass, "pass", &type), OK);
	for (unsigned after = 0;; after++) {
		enum status status;

		inject_arm(MM_SITE_TABLE, after, 0, 0);
		status = pgm_handler_register(pgm, type, gpa(at), gpa(at + PAGE_SIZE - 1), NULL, "x");
		inject_disarm(MM_SITE_TABLE);
		check_silent(pgm);
		if (status == OK)
			break;
		assert_int_equal(block_kind(block_find(pgm, gpa(at))), BLOCK_LARGE);
		assert_int_equal(granted(pgm, at, &frame), RWX);
		assert_int_equal(frame.v, first.v + (at - GIB));
		assert_true(after < 8);
	}
	for (uint64_t a = GIB; a < 2 * GIB; a += a - align_down(at, BLOCK_SIZE) < BLOCK_SIZE ? PAGE_SIZE : BLOCK_SIZE) {
		assert_int_equal(granted(pgm, a, &frame), a == at ? 0 : RWX);
		if (a != at)
			assert_int_equal(frame.v, first.v + (a - GIB));
		(void)slat_find(&pgm->slat, gpa(a), &level);
		assert_int_equal(level, a - align_down(at, BLOCK_SIZE) < BLOCK_SIZE ? 0 : 1);
	}
	assert_true(flushes > 0);
	/* Merged back: not a page of the GiB has moved. */
	assert_int_equal(pgm_handler_deregister(pgm, gpa(at)), OK);
	for (unsigned step = 0; !pgm->common.counters.large_reused && step < 10000; step++)
		(void)pgm_collapse_step(pgm);
	assert_int_equal(pgm->common.counters.large_reused, 1);
	for (uint64_t a = GIB; a < 2 * GIB; a += PAGE_SIZE) {
		assert_int_equal(granted(pgm, a, &frame), RWX);
		assert_int_equal(frame.v, first.v + (a - GIB));
	}
	(void)slat_find(&pgm->slat, gpa(at), &level);
	assert_int_equal(level, 1);
	end_pgm(pgm);
}

/* A drop of one block under the leaf takes the leaf; everything comes back by faults. */
static void test_huge_drop(void **state)
{
	struct pgm *pgm = make_huge();
	struct gather gather;
	hpa_t first, frame;

	assert_int_equal(granted(pgm, GIB, &first), RWX);
	flushes = 0;
	gather_begin(&gather, &pgm->flush, &pgm->account);
	slat_drop_block(&pgm->slat, NULL, gpa(GIB + 3 * BLOCK_SIZE), &gather);
	gather_finish(&gather);
	assert_int_equal(flushes, 1);
	assert_int_equal(granted(pgm, GIB, NULL), 0);
	assert_int_equal(pgm_fault(pgm, gpa(GIB + 3 * BLOCK_SIZE), ACCESS_READ), PGM_RESUME);
	assert_int_equal(granted(pgm, GIB + 3 * BLOCK_SIZE, &frame), RWX);
	assert_int_equal(frame.v, first.v + 3 * BLOCK_SIZE);
	end_pgm(pgm);
}

static void count_progress(void *context, uint64_t done, uint64_t total)
{
	assert_true(done <= total);
	++*(unsigned *)context;
}

static void test_all_of_it(void **state)
{
	for (unsigned large = 0; large < 2; large++) {
		struct pgm_config config = plain_config(21 * MIB + 3 * PAGE_SIZE);
		struct pgm *pgm;
		unsigned steps = 0;
		uint64_t base, taken;

		config.large_pages = large;
		pgm = make_pgm_of(&config);
		assert_int_equal(pgm_preallocate(pgm, count_progress, &steps), OK);
		assert_in_range(steps, 11, 14 + 21 * MIB / PAGE_SIZE / HANDY_REFILL); /* fewer where blocks are large */
		base = base_pages(pgm);
		assert_int_equal(base, (21 * MIB - MIB + 0xa0000) / PAGE_SIZE + 3);
		taken = pgm->common.counters.allocated + pgm->common.counters.large_alloc;
		inject_arm(MM_SITE_FRAME, 0, 1, 0); /* no fault needs a frame any more */
		for (uint64_t a = 0; a < config.ram; a += PAGE_SIZE)
			if (a < 0xa0000 || a >= MIB)
				assert_int_equal(pgm_fault(pgm, gpa(a), ACCESS_WRITE), PGM_RESUME);
		inject_disarm(MM_SITE_FRAME);
		assert_int_equal(pgm->common.counters.allocated + pgm->common.counters.large_alloc, taken);
		assert_int_equal(base_pages(pgm), base);
		end_pgm(pgm);
	}
}

/* More than there is: refused, and all comes back. */
static void test_too_much(void **state)
{
	struct pgm *pgm = make_pgm(3 * GIB);
	uint64_t before, after;

	held_pages(&before);
	assert_int_equal(pgm_preallocate(pgm, NULL, NULL), NO_MEMORY);
	check_silent(pgm);
	end_pgm(pgm);
	held_pages(&after);
	assert_int_equal(after, before);
}

/* The machine ends while a GiB is being cleared. */
static void test_end_in_clearing(void **state)
{
	struct pgm_config config = plain_config(2 * GIB);
	struct pgm *pgm;
	uint64_t pages;

	prepare_gib();
	pgm = make_pgm_of(&config);
	pgm->preallocation.cursor = GIB;
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(pgm_preallocate_step(pgm, &pages), BUSY);
	assert_false(hpa_is_none(pgm->preallocation.chunks));
	end_pgm(pgm);
}

static int setup(void **state)
{
	static struct memory_layout layout;

	direct_map = host_memory_make(2 * GIB);
	layout.count = 1;
	layout.usable[0] = (struct memory_range){ MIB, LOW - MIB };
	layout.top = 2 * GIB;
	assert_int_equal(mm_start(&layout), OK);
	world_mode();
	account_policy(OVERCOMMIT_RATIO, 10000);
	assert_int_equal(pgm_start(), OK);
	mm_add_range(GIB, GIB);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attack1_huge_split), cmocka_unit_test(test_huge_drop),
		cmocka_unit_test(test_end_in_clearing),    cmocka_unit_test(test_all_of_it),
		cmocka_unit_test(test_too_much),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
