/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c lib/format.c
/* Single frames: zero on hand-out, affinity, mixing only at the end, ragged chunks, magazines, injected failures. */
#include "test_mm_world.h"

#define WORLD (32 * MIB)

static hpa_t take(struct account *account, uint64_t page)
{
	hpa_t frame;

	assert_int_equal(frame_alloc(account, ACCOUNT_BASE, gpa(page << PAGE_SHIFT), &frame), OK);
	return frame;
}

static void quiet(void)
{
	assert_int_equal(frame_check(print_finding, NULL), 0);
}

static void test_start(void **state)
{
	struct frame_totals totals = totals_now();

	/* Chunks 0, 1 and 15 are ragged; the chunk table took one more page of the last. */
	assert_int_equal(totals.partial_chunks, 3);
	assert_int_equal(totals.free_chunks, 13);
	assert_int_equal(totals.pages, (WORLD - MIB) / PAGE_SIZE - 1 - 5 - 1);
	assert_int_equal(totals.free_pages, totals.pages - totals.kernel_pages);
	/* The chunk maps of all CPUs are small objects of the heap's. */
	assert_in_range(totals.kernel_pages, 3, secret_free ? 8 : 3);
	quiet();
}

static void test_zero_and_described(void **state)
{
	struct account *account = open_account(100, 10, 0);
	struct frame_info info;
	hpa_t frame = take(account, 0x12345), table;

	assert_true(is_zero(frame, PAGE_SIZE));
	frame_describe(frame, &info);
	assert_int_equal(info.state, FRAME_PRIVATE);
	assert_int_equal(info.owner, account->owner);
	assert_int_equal(info.page.v, 0x12345000);
	assert_false(info.large);
	frame_assign(frame, gpa(0xfffffffffe000));
	frame_describe(frame, &info);
	assert_int_equal(info.page.v, 0xfffffffffe000);
	soil(frame);
	free_one(account, frame, ACCOUNT_BASE);
	assert_int_equal(table_alloc(account, &table), OK);
	assert_true(is_zero(table, PAGE_SIZE));
	frame_describe(table, &info);
	assert_int_equal(info.state, FRAME_TABLE);
	assert_int_equal(chunk_of(table)->kind, CHUNK_KERNEL);
	for (unsigned i = 0; i < 40; i++) {
		frame = take(account, i);
		assert_true(is_zero(frame, PAGE_SIZE));
		soil(frame);
		free_one(account, frame, ACCOUNT_BASE);
	}
	quiet();
	soil(table);
	free_one(account, table, ACCOUNT_TABLE);
	close_account(account);
	frame_describe(hpa(BIT(40)), &info);
	assert_int_equal(info.state, FRAME_ABSENT);
	frame_describe(hpa(WORLD - PAGE_SIZE), &info);
	assert_int_equal(info.state, FRAME_ABSENT);
	frame_describe(hpa(8 * MIB), &info);
	assert_int_equal(info.state, FRAME_FREE);
	quiet();
}

static void test_affinity(void **state)
{
	struct account *a = open_account(1100, 10, 0), *b = open_account(600, 10, 0);
	uint64_t free_before = totals_now().free_chunks;
	hpa_t of_a[520], of_b[520];

	/* In turns: still each machine fills chunks of its own. */
	for (unsigned i = 0; i < 520; i++) {
		of_a[i] = take(a, i);
		of_b[i] = take(b, i);
	}
	assert_int_equal(totals_now().free_chunks, free_before - 4);
	for (unsigned i = 0; i < 520; i++) {
		assert_int_equal(chunk_of(of_a[i])->owner, a->owner);
		assert_int_equal(chunk_of(of_b[i])->owner, b->owner);
		assert_int_equal(chunk_of(of_a[i])->kind, CHUNK_SPLIT);
	}
	quiet();
	/* A machine that ends gives whole chunks back. */
	for (unsigned i = 0; i < 520; i++)
		free_one(a, of_a[i], ACCOUNT_BASE);
	close_account(a);
	assert_int_equal(totals_now().free_chunks, free_before - 2);
	for (unsigned i = 0; i < 520; i++)
		free_one(b, of_b[i], ACCOUNT_BASE);
	close_account(b);
	assert_int_equal(totals_now().free_chunks, free_before);
	quiet();
}

static void test_many_and_quota(void **state)
{
	struct account *account = open_account(100, 1, 3);
	hpa_t frames[128], one;
	struct frame_info info;
	unsigned got, more;

	assert_int_equal(frame_alloc_many(account, ACCOUNT_BASE, 64, frames, &got), OK);
	assert_int_equal(got, 64);
	for (unsigned i = 0; i < got; i++) {
		assert_true(is_zero(frames[i], PAGE_SIZE));
		frame_describe(frames[i], &info);
		assert_int_equal(info.page.v, PAGE_UNASSIGNED.v);
	}
	/* 36 are left of the quota: at least half of what may be had comes. */
	assert_int_equal(frame_alloc_many(account, ACCOUNT_BASE, 64, frames + got, &more), OK);
	assert_in_range(more, 18, 36);
	got += more;
	while (frame_alloc_many(account, ACCOUNT_BASE, 1, frames + got, &more) == OK)
		got += more;
	assert_int_equal(got, 100);
	assert_int_equal(frame_alloc(account, ACCOUNT_BASE, gpa(0), &one), OVER_QUOTA);
	assert_int_equal(frame_alloc_many(account, ACCOUNT_BASE, 8, &one, &more), OVER_QUOTA);
	assert_int_equal(frame_alloc(account, ACCOUNT_FIXED, gpa(0), &one), OK);
	assert_int_equal(table_alloc(account, frames + 101), OK);
	assert_int_equal(table_alloc(account, frames + 102), OVER_QUOTA);
	assert_int_equal(account_close(account), BAD_STATE);
	free_one(account, one, ACCOUNT_FIXED);
	free_one(account, frames[101], ACCOUNT_TABLE);
	for (unsigned i = 0; i < got; i++)
		free_one(account, frames[i], ACCOUNT_BASE);
	close_account(account);
	quiet();
}

/* The host's chunks run out: one machine finds room in another's chunk, and its reserve is called in. */
static void test_exhaustion(void **state)
{
	static hpa_t frames[16 * 512];
	struct account *a, *b;
	uint64_t count = 0, mixed = mm_counters.frames_mixed;
	struct frame_totals before = totals_now(), totals;

	account_policy(OVERCOMMIT_RATIO, 1000);
	a = open_account(50000, 10, 0);
	b = open_account(100, 10, 0);
	account_policy(OVERCOMMIT_NONE, 0);
	frames[count++] = take(b, 0);
	while (frame_alloc(a, ACCOUNT_BASE, gpa(count << PAGE_SHIFT), &frames[count]) == OK)
		count++;
	totals = totals_now();
	assert_int_equal(totals.private_pages, count);
	assert_int_equal(totals.free_pages + totals.private_pages + totals.table_pages + totals.kernel_pages,
			 totals.pages);
	/* All frames of all split chunks are in use, b's reserve included. */
	assert_int_equal(count, totals.split_chunks * 512);
	assert_true(mm_counters.frames_mixed > mixed);
	assert_true(totals.free_chunks <= 4);
	quiet();
	for (unsigned i = 0; i < count; i++)
		free_one(i ? a : b, frames[i], ACCOUNT_BASE);
	close_account(a);
	close_account(b);
	totals = totals_now();
	assert_int_equal(totals.free_chunks + totals.kernel_chunks, before.free_chunks + before.kernel_chunks);
	assert_int_equal(totals.split_chunks, 0);
	quiet();
}

/* A chunk whose machine is gone but that still holds a frame of another is adopted. */
static void test_orphans(void **state)
{
	struct account *a = open_account(1000, 10, 0), *b = open_account(1000, 10, 0);
	hpa_t first = take(a, 1), second = take(b, 2), again;
	struct chunk *chunk = chunk_of(first);

	/* Hand-made: b's frame stands in a's chunk. */
	record_store(frame_slot(first), record_private(b->owner, ACCOUNT_BASE, gpa(0)));
	a->allocated[ACCOUNT_BASE]--;
	b->allocated[ACCOUNT_BASE]++;
	close_account(a);
	assert_int_equal(chunk->set, SET_ORPHAN);
	quiet();
	a = open_account(1000, 10, 0);
	again = take(a, 1);
	assert_ptr_equal(chunk_of(again), chunk);
	assert_int_equal(chunk->owner, a->owner);
	free_one(b, first, ACCOUNT_BASE);
	free_one(b, second, ACCOUNT_BASE);
	free_one(a, again, ACCOUNT_BASE);
	close_account(a);
	close_account(b);
	assert_int_equal(totals_now().split_chunks, 0);
	quiet();
}

/* One empty chunk stays cut while the machine lives. */
static void test_spare(void **state)
{
	struct account *account = open_account(1000, 10, 0);
	uint64_t split = mm_counters.chunks_split;

	for (unsigned i = 0; i < 2000; i++)
		free_one(account, take(account, i), ACCOUNT_BASE);
	assert_true(mm_counters.chunks_split - split <= 2);
	close_account(account);
	quiet();
}

static void test_prezero(void **state)
{
	struct account *account = open_account(1000, 10, 0);
	struct frame_totals totals;
	uint64_t cleared;
	hpa_t frame = take(account, 1);

	soil(frame);
	for (unsigned steps = 0; frame_prezero_step(); steps++)
		assert_true(steps < 2 * WORLD / PAGE_SIZE);
	totals = totals_now();
	assert_int_equal(totals.zero_chunks, totals.free_chunks);
	assert_int_equal(chunks.dirty_frames, 0);
	assert_int_equal(*(uint8_t *)host_memory_at(frame), 0xee);
	cleared = mm_counters.frames_cleared;
	for (unsigned i = 0; i < 600; i++) {
		hpa_t other;

		assert_int_equal(frame_alloc(account, ACCOUNT_FIXED, gpa(0), &other), OVER_QUOTA);
		break;
	}
	quiet();
	free_one(account, frame, ACCOUNT_BASE);
	frame = take(account, 2);
	assert_true(is_zero(frame, PAGE_SIZE));
	free_one(account, frame, ACCOUNT_BASE);
	assert_true(mm_counters.frames_cleared - cleared <= 16);
	assert_true(frame_prezero_step());
	close_account(account);
	while (frame_prezero_step())
		;
	/* All free frames are zero, and said to be. */
	for (uint64_t at = 0; at < WORLD; at += PAGE_SIZE) {
		struct frame_info info;

		frame_describe(hpa(at), &info);
		if (info.state == FRAME_FREE && info.zero)
			assert_true(is_zero(hpa(at), PAGE_SIZE));
	}
	quiet();
}

static void test_injection(void **state)
{
	struct account *account = open_account(1000, 10, 0);
	hpa_t frame = take(account, 0), table;

	inject_arm(MM_SITE_FRAME, 2, 1, 0);
	free_one(account, take(account, 1), ACCOUNT_BASE);
	free_one(account, take(account, 1), ACCOUNT_BASE);
	assert_int_equal(frame_alloc(account, ACCOUNT_BASE, gpa(0), &table), NO_MEMORY);
	assert_int_equal(frame_alloc(account, ACCOUNT_BASE, gpa(0), &table), NO_MEMORY);
	assert_int_equal(inject_count(MM_SITE_FRAME), 2);
	inject_arm(MM_SITE_FRAME, 0, 0, 0); /* just one */
	assert_int_equal(frame_alloc(account, ACCOUNT_BASE, gpa(0), &table), NO_MEMORY);
	free_one(account, take(account, 1), ACCOUNT_BASE);
	inject_disarm(MM_SITE_FRAME);
	inject_arm(MM_SITE_TABLE, 0, 3, 77);
	for (unsigned i = 0; i < 300; i++) {
		if (table_alloc(account, &table) == OK)
			free_one(account, table, ACCOUNT_TABLE);
	}
	assert_in_range(inject_count(MM_SITE_TABLE), 60, 140);
	inject_disarm(MM_SITE_TABLE);
	assert_int_equal(account->allocated[ACCOUNT_BASE], 1);
	assert_int_equal(account->allocated[ACCOUNT_TABLE], 0);
	free_one(account, frame, ACCOUNT_BASE);
	close_account(account);
	quiet();
}

/* Memory handed in later: single frames of ragged chunks, until one is whole and may serve guests. */
static void test_add_range(void **state)
{
	struct frame_totals before = totals_now(), after;

	mm_add_range(3 * MIB - PAGE_SIZE, PAGE_SIZE);
	mm_add_range(3 * MIB - PAGE_SIZE, PAGE_SIZE); /* a second time: left alone */
	mm_add_range(8 * MIB, MIB);
	mm_add_range(WORLD, MIB);
	mm_add_range(100, 200);
	after = totals_now();
	assert_int_equal(after.pages, before.pages + 1);
	assert_int_equal(after.free_pages, before.free_pages + 1);
	assert_int_equal(after.partial_chunks, before.partial_chunks - 1);
	quiet();
	mm_add_range(0, MIB);
	assert_int_equal(totals_now().pages, before.pages + 1 + 256);
	quiet();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start),      cmocka_unit_test(test_zero_and_described),
		cmocka_unit_test(test_affinity),   cmocka_unit_test(test_many_and_quota),
		cmocka_unit_test(test_exhaustion), cmocka_unit_test(test_orphans),
		cmocka_unit_test(test_spare),      cmocka_unit_test(test_prezero),
		cmocka_unit_test(test_injection),  cmocka_unit_test(test_add_range),
	};

	world_start(WORLD);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
