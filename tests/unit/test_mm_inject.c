/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c lib/format.c
/* Fault injection: which passages fail, for whom, how many, what is counted; and that each site is passed. */
#include "test_mm_world.h"

#define OWNER 7

/* A bit per passage of the next 32: did it fail? */
static uint32_t pattern(enum mm_site site, owner_t owner)
{
	uint32_t bits = 0;

	for (unsigned i = 0; i < 32; i++)
		bits |= (uint32_t)mm_fault_injected(site, owner) << i;
	return bits;
}

static void test_plans(void **state)
{
	static const struct {
		struct inject_plan plan;
		uint32_t pattern;
		unsigned passes;
	} cases[] = {
		{ { .count = 0 }, 0xffffffff, 32 },
		{ { .count = 1 }, 1, 1 },
		{ { .after = 5, .count = 2 }, 3u << 5, 7 },
		{ { .after = 31 }, 1u << 31, 32 },
		{ { .after = 32 }, 0, 32 },
		{ { .after = 1, .every = 4, .count = 3 }, 0x222, 10 },
		{ { .every = 1, .owner = OWNER }, 0xffffffff, 32 },
		{ { .every = 1, .owner = OWNER + 1 }, 0, 0 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct inject_state s;

		inject_set(MM_SITE_HANDY, &cases[i].plan);
		assert_int_equal(pattern(MM_SITE_TABLE, OWNER), 0); /* not this one */
		assert_int_equal(pattern(MM_SITE_HANDY, OWNER), cases[i].pattern);
		inject_describe(MM_SITE_HANDY, &s);
		assert_int_equal(s.passes, cases[i].passes);
		assert_int_equal(s.hits, __builtin_popcount(cases[i].pattern));
		assert_int_equal(s.armed, !s.plan.count || s.hits < s.plan.count);
		inject_disarm(MM_SITE_HANDY);
		assert_int_equal(pattern(MM_SITE_HANDY, OWNER), 0);
		inject_describe(MM_SITE_HANDY, &s);
		assert_false(s.armed);
		assert_int_equal(s.hits, __builtin_popcount(cases[i].pattern));
	}
	assert_int_equal(inject_armed, 0);
}

static void test_random(void **state)
{
	struct inject_plan plan = { .every = 4, .seed = 4711 };
	uint32_t first, again, other;

	inject_set(MM_SITE_HEAP, &plan);
	first = pattern(MM_SITE_HEAP, OWNER_HOST);
	inject_set(MM_SITE_HEAP, &plan);
	again = pattern(MM_SITE_HEAP, OWNER_HOST);
	plan.seed++;
	inject_set(MM_SITE_HEAP, &plan);
	other = pattern(MM_SITE_HEAP, OWNER_HOST);
	assert_int_equal(first, again);
	assert_int_not_equal(first, other);
	assert_in_range(__builtin_popcount(first), 2, 16);
	inject_disarm(MM_SITE_HEAP);
}

/* What is armed for one machine goes with it; what is armed for all stays. */
static void test_owner_gone(void **state)
{
	struct account *account = open_account(10, 10, 10);
	struct inject_plan plan = { .owner = account->owner };
	hpa_t frame;

	inject_set(MM_SITE_TABLE, &plan);
	inject_arm(MM_SITE_HANDY, 0, 1, 0);
	assert_int_equal(table_alloc(account, &frame), NO_MEMORY);
	assert_int_equal(table_alloc(&host_account, &frame), OK);
	close_account(account);
	assert_int_equal(inject_armed, 1u << MM_SITE_HANDY);
	inject_disarm(MM_SITE_HANDY);
	free_one(&host_account, frame, ACCOUNT_TABLE);
}

static void sync_none(struct flush_domain *domain, uint64_t generation)
{
}

/* One passage of each site, with all its memory given back. */
static void pass_each(struct account *account)
{
	struct flush_domain domain = { .sync = sync_none };
	struct gather gather;
	hpa_t frame, table, block, many[4];
	unsigned got = 0;
	void *object;
	bool zero;

	gather_begin(&gather, &domain, account);
	if (frame_alloc(account, ACCOUNT_FIXED, gpa(0), &frame) == OK)
		gather_frame(&gather, frame, ACCOUNT_FIXED);
	if (frame_alloc_many(account, ACCOUNT_BASE, ARRAY_SIZE(many), many, &got) == OK)
		while (got)
			gather_frame(&gather, many[--got], ACCOUNT_BASE);
	if (table_alloc(account, &table) == OK)
		gather_frame(&gather, table, ACCOUNT_TABLE);
	object = heap_alloc(100);
	heap_free(object, 100);
	if (block_alloc(account, gpa(0), &block, &zero) == OK)
		gather_block(&gather, block);
	gather_flush(&gather);
	gather_finish(&gather);
}

/* Attack 4, for mm: whatever of it fails, alone or all of a kind, nothing is lost, nobody waits. */
static void test_attack4_each_site(void **state)
{
	for (unsigned site = 0; site < MM_SITES; site++) {
		for (unsigned after = 0; after < 8; after++) {
			struct account *account = open_account(2000, 20, 20);
			struct inject_plan plan = { .after = after, .count = after & 1 };

			inject_set((enum mm_site)site, &plan);
			pass_each(account);
			assert_true(site == MM_SITE_HANDY || after || inject_count((enum mm_site)site) > 0);
			inject_disarm((enum mm_site)site);
			for (unsigned kind = 0; kind < ACCOUNT_KINDS; kind++)
				assert_int_equal(account->allocated[kind], 0);
			close_account(account);
			assert_int_equal(frame_check(print_finding, NULL), 0);
		}
	}
}

/* block_split, the heap's larger sizes, and two CPUs' worth of account changes. */
static void test_attack4_splits_and_runs(void **state)
{
	static const size_t sizes[] = { 16, 2016, 4096, 20000, MIB, 2 * MIB };
	struct account *account = open_account(2000, 20, 20);
	hpa_t block;
	bool zero;

	for (unsigned site = 0; site < MM_SITES; site++) {
		inject_arm((enum mm_site)site, 0, 1, 0);
		for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
			uint64_t before = host_account.allocated[ACCOUNT_BASE];
			void *object = heap_alloc(sizes[i]);

			if (!object)
				assert_int_equal(host_account.allocated[ACCOUNT_BASE], before);
			heap_free(object, sizes[i]);
		}
		inject_disarm((enum mm_site)site);
	}
	assert_int_equal(block_alloc(account, gpa(0), &block, &zero), OK);
	inject_arm(MM_SITE_TABLE, 0, 1, 0);
	assert_int_equal(block_split(account, block), NO_MEMORY);
	inject_disarm(MM_SITE_TABLE);
	assert_int_equal(chunk_of(block)->kind, CHUNK_LARGE);
	assert_int_equal(frame_check(print_finding, NULL), 0);
	free_block(account, block);
	assert_int_equal(account_adjust(account, ACCOUNT_TABLE, 5), OK);
	assert_int_equal(account_adjust(account, ACCOUNT_TABLE, 7), OK);
	assert_int_equal(account_adjust(account, ACCOUNT_TABLE, -5), OK);
	assert_int_equal(account->reserved[ACCOUNT_TABLE], 27);
	assert_int_equal(account_adjust(account, ACCOUNT_TABLE, -28), CONFLICT);
	assert_int_equal(account->reserved[ACCOUNT_TABLE], 27);
	close_account(account);
	assert_int_equal(admission_promised(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plans),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_owner_gone),
		cmocka_unit_test(test_attack4_each_site),
		cmocka_unit_test(test_attack4_splits_and_runs),
	};

	world_start(32 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
