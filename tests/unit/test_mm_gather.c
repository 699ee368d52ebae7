/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c lib/format.c
/* Free after flush: a fake domain looks, at the moment of its sync, whether anything was freed too early. */
#include "test_mm_world.h"

static struct watch {
	struct flush_domain domain;
	const hpa_t *frames;
	unsigned first, count; /* these must still be in use when sync is called */
	unsigned syncs;
	uint64_t last;
} watch;

static void sync_watch(struct flush_domain *domain, uint64_t generation)
{
	struct frame_info info;

	assert_ptr_equal(domain, &watch.domain);
	assert_int_equal(generation, domain->generation);
	assert_true(generation > watch.last);
	watch.last = generation;
	watch.syncs++;
	for (unsigned i = watch.first; i < watch.count; i++) {
		frame_describe(watch.frames[i], &info);
		assert_true(info.state == FRAME_PRIVATE || info.state == FRAME_TABLE);
	}
}

static void watch_start(const hpa_t *frames, unsigned count)
{
	watch = (struct watch){
		.domain = { .generation = 41, .sync = sync_watch }, .frames = frames, .count = count, .last = 41
	};
}

static bool is_free(hpa_t frame)
{
	struct frame_info info;

	frame_describe(frame, &info);
	return info.state == FRAME_FREE;
}

static void test_frames(void **state)
{
	struct account *account = open_account(1000, 10, 10);
	struct gather gather;
	hpa_t frames[3];

	assert_int_equal(frame_alloc(account, ACCOUNT_BASE, gpa(0), &frames[0]), OK);
	assert_int_equal(frame_alloc(account, ACCOUNT_FIXED, gpa(0), &frames[1]), OK);
	assert_int_equal(table_alloc(account, &frames[2]), OK);
	watch_start(frames, 3);
	gather_begin(&gather, &watch.domain, account);
	gather_frame(&gather, frames[0], ACCOUNT_BASE);
	gather_frame(&gather, frames[1], ACCOUNT_FIXED);
	gather_frame(&gather, frames[2], ACCOUNT_TABLE);
	assert_false(is_free(frames[0]));
	assert_int_equal(account->allocated[ACCOUNT_BASE], 1);
	gather_finish(&gather);
	assert_int_equal(watch.syncs, 1);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(is_free(frames[i]));
		assert_int_equal(account->allocated[i], 0);
	}
	gather_finish(&gather);
	assert_int_equal(watch.syncs, 1);
	watch.count = 0;
	gather_flush(&gather);
	gather_finish(&gather);
	assert_int_equal(watch.syncs, 2);
	close_account(account);
}

static void test_overflow(void **state)
{
	enum { COUNT = 3 * GATHER_ITEMS + 5 };
	static hpa_t frames[COUNT];
	struct account *account = open_account(1000, 10, 0);
	struct gather gather;
	unsigned got = 0, more;

	while (got < COUNT) {
		assert_int_equal(frame_alloc_many(account, ACCOUNT_BASE, COUNT - got, frames + got, &more), OK);
		got += more;
	}
	watch_start(frames, COUNT);
	gather_begin(&gather, &watch.domain, account);
	for (unsigned i = 0; i < COUNT; i++) {
		watch.first = i / GATHER_ITEMS * GATHER_ITEMS;
		if (i % GATHER_ITEMS == 0 && i)
			watch.first -= GATHER_ITEMS;
		gather_frame(&gather, frames[i], ACCOUNT_BASE);
		assert_int_equal(watch.syncs, i / GATHER_ITEMS);
	}
	gather_finish(&gather);
	assert_int_equal(watch.syncs, 4);
	for (unsigned i = 0; i < COUNT; i++)
		assert_true(is_free(frames[i]));
	close_account(account);
}

static void test_block(void **state)
{
	struct account *account = open_account(1024, 10, 0);
	struct gather gather;
	hpa_t block;
	bool zero;

	assert_int_equal(block_alloc(account, gpa(0), &block, &zero), OK);
	watch_start(&block, 1);
	gather_begin(&gather, &watch.domain, account);
	gather_block(&gather, block);
	assert_int_equal(account->allocated[ACCOUNT_BASE], 512);
	gather_finish(&gather);
	assert_int_equal(watch.syncs, 1);
	assert_true(is_free(block));
	close_account(account);
}

/* A flush that comes late is asked for again, for no longer than so many attempts, and nothing is free before. */
static void test_late_flush(void **state)
{
	static const uint64_t wanted[] = { 1, 3, INJECT_FLUSH_ATTEMPTS, 0 };
	struct account *account = open_account(1000, 10, 10), *other = open_account(10, 10, 10);

	for (unsigned i = 0; i < ARRAY_SIZE(wanted); i++) {
		uint64_t hits = wanted[i] ? wanted[i] : INJECT_FLUSH_ATTEMPTS, late = mm_counters.gather_late;
		struct inject_plan plan = { .count = wanted[i], .owner = account->owner };
		struct gather gather;
		hpa_t frames[2];

		assert_int_equal(frame_alloc(account, ACCOUNT_BASE, gpa(0), &frames[0]), OK);
		assert_int_equal(table_alloc(account, &frames[1]), OK);
		watch_start(frames, 2);
		inject_set(MM_SITE_FLUSH, &plan);
		gather_begin(&gather, &watch.domain, other);
		gather_flush(&gather);
		gather_finish(&gather); /* another machine's flushes aren't looked at */
		assert_int_equal(watch.syncs, 1);
		assert_int_equal(inject_count(MM_SITE_FLUSH), 0);
		gather_begin(&gather, &watch.domain, account);
		gather_frame(&gather, frames[0], ACCOUNT_BASE);
		gather_frame(&gather, frames[1], ACCOUNT_TABLE);
		gather_finish(&gather);
		assert_int_equal(watch.syncs, 2);
		assert_int_equal(watch.domain.generation, 43 + hits);
		assert_int_equal(inject_count(MM_SITE_FLUSH), hits);
		assert_int_equal(mm_counters.gather_late - late, hits);
		assert_true(is_free(frames[0]) && is_free(frames[1]));
		inject_disarm(MM_SITE_FLUSH);
	}
	close_account(other);
	close_account(account);
	assert_int_equal(frame_check(print_finding, NULL), 0);
}

/* A shared frame goes with its last reference; it stands in no chunk of a machine's, and only its own group joins it. */
static void test_shared(void **state)
{
	struct account *account = open_account(1000, 10, 0);
	struct frame_info info;
	hpa_t frame, own;

	assert_int_equal(frame_alloc(account, ACCOUNT_BASE, gpa(0), &own), OK);
	assert_int_equal(frame_share_new(account, 5, &frame), OK);
	assert_ptr_not_equal(chunk_of(own), chunk_of(frame));
	assert_int_equal(frame_share_more(account, 4, frame), NOT_FOUND);
	assert_int_equal(frame_share_more(account, 5, own), NOT_FOUND);
	assert_int_equal(frame_share_more(account, 5, hpa(GIB)), NOT_FOUND);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(frame_share_more(account, 5, frame), OK);
	assert_int_equal(account->shared_pages, 3);
	assert_int_equal(account->allocated[ACCOUNT_BASE], 4);
	assert_int_equal(frame_check(print_finding, NULL), 0);
	for (unsigned left = 3; left-- > 0;) {
		free_one(account, frame, ACCOUNT_BASE);
		frame_describe(frame, &info);
		assert_int_equal(info.state, left ? FRAME_SHARED : FRAME_FREE);
		assert_int_equal(info.references, left);
	}
	assert_int_equal(chunks.shared_frames, 0);
	assert_int_equal(frame_share_more(account, 5, frame), NOT_FOUND);
	free_one(account, own, ACCOUNT_BASE);
	close_account(account);
	assert_int_equal(frame_check(print_finding, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames),     cmocka_unit_test(test_overflow), cmocka_unit_test(test_block),
		cmocka_unit_test(test_late_flush), cmocka_unit_test(test_shared),
	};

	world_start(32 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
