/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c lib/format.c
/* Whole chunks: given, split, freed, refused; and a GiB of them. */
#include <pthread.h>
#include <sys/time.h>

#include "test_mm_world.h"

#define WORLD (64 * MIB)

static void quiet(void)
{
	assert_int_equal(frame_check(print_finding, NULL), 0);
}

static void test_give_and_take(void **state)
{
	struct account *account = open_account(4 * 512, 4, 0);
	struct frame_totals before = totals_now(), totals;
	struct frame_info info;
	hpa_t blocks[4], one;
	bool zero;

	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(block_alloc(account, gpa(i * BLOCK_SIZE), &blocks[i], &zero), OK);
		assert_true(is_aligned(blocks[i].v, BLOCK_SIZE));
		assert_false(zero);
		block_zero(blocks[i]);
		assert_true(is_zero(blocks[i], BLOCK_SIZE));
	}
	assert_int_equal(block_alloc(account, gpa(0), &one, &zero), OVER_QUOTA);
	frame_describe(hpa(blocks[3].v + 5 * PAGE_SIZE), &info);
	assert_true(info.large);
	assert_int_equal(info.state, FRAME_PRIVATE);
	assert_int_equal(info.page.v, 3 * BLOCK_SIZE + 5 * PAGE_SIZE);
	totals = totals_now();
	assert_int_equal(totals.large_chunks, 4);
	assert_int_equal(totals.private_pages, 2048);
	/* Whole chunks have no frame records. */
	assert_int_equal(totals.record_bytes, before.record_bytes);
	quiet();
	for (unsigned i = 0; i < 4; i++)
		free_block(account, blocks[i]);
	close_account(account);
	assert_int_equal(totals_now().free_chunks, before.free_chunks);
	quiet();
}

static void test_split(void **state)
{
	struct account *account = open_account(4 * 512, 4, 0);
	struct frame_totals before = totals_now();
	struct frame_info info;
	hpa_t block;
	bool zero;

	assert_int_equal(block_alloc(account, gpa(6 * BLOCK_SIZE), &block, &zero), OK);
	block_zero(block);
	soil(hpa(block.v + 7 * PAGE_SIZE));
	assert_int_equal(block_split(account, block), OK);
	assert_int_equal(totals_now().split_chunks, 1);
	assert_int_equal(*(uint8_t *)host_memory_at(hpa(block.v + 7 * PAGE_SIZE)), 0xee);
	for (unsigned i = 0; i < 512; i++) {
		frame_describe(hpa(block.v + i * PAGE_SIZE), &info);
		assert_int_equal(info.page.v, 6 * BLOCK_SIZE + i * PAGE_SIZE);
		assert_int_equal(info.owner, account->owner);
		assert_int_equal(info.state, FRAME_PRIVATE);
		assert_false(info.large);
	}
	quiet();
	for (unsigned i = 0; i < 512; i++)
		free_one(account, hpa(block.v + (i * 37 % 512) * PAGE_SIZE), ACCOUNT_BASE);
	close_account(account);
	assert_int_equal(totals_now().free_chunks, before.free_chunks);
	quiet();
	account = open_account(512, 0, 0);
	inject_arm(MM_SITE_TABLE, 0, 1, 0);
	assert_int_equal(block_alloc(account, gpa(0), &block, &zero), OK);
	assert_int_equal(block_split(account, block), NO_MEMORY);
	inject_disarm(MM_SITE_TABLE);
	assert_int_equal(totals_now().large_chunks, 1);
	free_block(account, block);
	close_account(account);
}

static void test_known_zero(void **state)
{
	struct account *account = open_account(4 * 512, 4, 0);
	hpa_t block, dirty;
	bool zero;

	while (frame_prezero_step())
		;
	assert_int_equal(block_alloc(account, gpa(0), &dirty, &zero), OK);
	assert_true(zero);
	assert_true(is_zero(dirty, BLOCK_SIZE));
	soil(dirty);
	free_block(account, dirty);
	/* A known-zero chunk comes before the dirty one. */
	assert_int_equal(block_alloc(account, gpa(0), &block, &zero), OK);
	assert_true(zero);
	assert_int_not_equal(block.v, dirty.v);
	free_block(account, block);
	close_account(account);
}

static void test_none_left(void **state)
{
	static hpa_t blocks[64];
	struct account *account;
	struct frame_totals before = totals_now();
	unsigned count = 0;
	hpa_t frame;
	bool zero;

	account_policy(OVERCOMMIT_RATIO, 1000);
	account = open_account(64 * 512, 4, 0);
	account_policy(OVERCOMMIT_NONE, 0);
	/* A spare chunk is given up when a block is wanted. */
	assert_int_equal(frame_alloc(account, ACCOUNT_BASE, gpa(0), &frame), OK);
	free_one(account, frame, ACCOUNT_BASE);
	assert_int_equal(totals_now().split_chunks, 1);
	while (block_alloc(account, gpa(0), &blocks[count], &zero) == OK)
		count++;
	assert_int_equal(totals_now().split_chunks, 0);
	assert_true(count + 2 >= before.free_chunks);
	assert_int_equal(account->allocated[ACCOUNT_BASE], count * 512);
	/* Tables that were promised can still be had. */
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(table_alloc(account, &blocks[60 + i]), OK);
	quiet();
	for (unsigned i = 0; i < 4; i++)
		free_one(account, blocks[60 + i], ACCOUNT_TABLE);
	while (count)
		free_block(account, blocks[--count]);
	close_account(account);
	quiet();
}

/* As if another CPU were clearing it. */
static struct chunk *start_clearing(void)
{
	struct chunk *chunk;

	lock_acquire(&chunk_lock);
	chunk = chunk_fullest(SET_DIRTY);
	chunk_unlist(chunk);
	chunk->busy = true;
	chunks.clearing++;
	lock_release(&chunk_lock);
	return chunk;
}

static void end_clearing(struct chunk *chunk)
{
	lock_acquire(&chunk_lock);
	chunk->busy = false;
	chunk_relist(chunk);
	__atomic_fetch_sub(&chunks.clearing, 1, __ATOMIC_RELEASE);
	lock_release(&chunk_lock);
}

/* Returns the chunk when somebody waits for it, and finds that no other one is cleared meanwhile. */
static void *other_cpu(void *chunk)
{
	uint64_t held = 0;

	test_cpu = 1;
	while (!held) {
		lock_acquire(&chunk_lock);
		held = chunks.held;
		lock_release(&chunk_lock);
	}
	end_clearing(chunk);
	return NULL;
}

static void all_blocks(struct account *account, hpa_t *blocks, unsigned *count)
{
	bool zero;

	while (block_alloc(account, gpa(0), &blocks[*count], &zero) == OK)
		++*count;
}

/*
 * A chunk that is being cleared counts as free: who may not have it is refused at once, who may waits for it. A search that waits for
 * nothing never ends: the processor time of this test does.
 */
static void test_while_one_is_cleared(void **state)
{
	const struct itimerval most = { .it_value.tv_sec = 20 }, none = { 0 };
	static hpa_t blocks[64];
	struct account *account;
	struct chunk *chunk;
	unsigned count = 0;
	pthread_t thread;
	uint64_t promised;
	bool zero;

	setitimer(ITIMER_VIRTUAL, &most, NULL);
	account_policy(OVERCOMMIT_RATIO, 1000);
	account = open_account(64 * 512, 4, 0);
	account_policy(OVERCOMMIT_NONE, 0);
	chunk = start_clearing();
	promised = chunks.kernel_promised;
	chunks.kernel_promised += 511 * 1000; /* what is free is all promised to the kernel */
	assert_int_equal(block_alloc(account, gpa(0), &blocks[0], &zero), NO_MEMORY);
	chunks.kernel_promised = 0;
	end_clearing(chunk);
	all_blocks(account, blocks, &count);
	free_block(account, blocks[--count]);
	chunk = start_clearing();
	assert_int_equal(pthread_create(&thread, NULL, other_cpu, chunk), 0);
	assert_int_equal(block_alloc(account, gpa(0), &blocks[count], &zero), OK);
	assert_ptr_equal(chunk_of(blocks[count]), chunk);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(block_ready()); /* nothing is left to clear */
	free_block(account, blocks[count]);
	chunk_clearing_hold();
	assert_true(block_ready());
	assert_int_equal(chunk->cleared, 0);
	chunk_clearing_resume();
	assert_false(block_ready());
	chunks.kernel_promised = promised;
	while (count)
		free_block(account, blocks[--count]);
	close_account(account);
	setitimer(ITIMER_VIRTUAL, &none, NULL);
	quiet();
}

/* Last: adds a GiB of fake memory, every 2 MiB of which is one and the same. */
static void test_gib(void **state)
{
	struct account *account;
	struct frame_totals before;
	hpa_t huge, none;

	host_memory_fold(GIB);
	mm_add_range(GIB, GIB);
	before = totals_now();
	account = open_account(GIB / PAGE_SIZE, 0, 0);
	memset(host_memory_at(hpa(GIB)), 0xcc, BLOCK_SIZE);
	assert_int_equal(huge_take(account, gpa(4 * GIB), &huge), OK);
	assert_int_equal(huge.v, GIB);
	for (unsigned i = 0; i < 512; i++)
		block_clear_dirty(hpa(huge.v + i * BLOCK_SIZE));
	assert_true(is_zero(huge, BLOCK_SIZE));
	assert_int_equal(account->allocated[ACCOUNT_BASE], GIB / PAGE_SIZE);
	assert_int_equal(totals_now().free_chunks, before.free_chunks - 512);
	assert_int_equal(huge_take(account, gpa(0), &none), OVER_QUOTA);
	for (unsigned i = 0; i < 512; i++)
		free_block(account, hpa(huge.v + i * BLOCK_SIZE));
	assert_int_equal(block_alloc(account, gpa(0), &none, &(bool){ false }), OK);
	assert_int_equal(account_resize(account, ACCOUNT_BASE, GIB / PAGE_SIZE + 512), OK);
	if (none.v >= GIB)
		assert_int_equal(huge_take(account, gpa(0), &huge), NO_MEMORY);
	free_block(account, none);
	close_account(account);
	quiet();
}

/*
 * A chunk that came empty is the spare; used up again, its frames in order behind one block, it is joined to a whole one. When that
 * is free again it is no spare, though it's empty: whoever drops the spares must leave it to the CPU that clears it.
 */
static void test_join_of_the_spare(void **state)
{
	struct account *account = open_account(512, 8, 0);
	uint64_t kernel_free;
	hpa_t block, frame;
	bool zero;

	(void)state;
	assert_int_equal(block_alloc(account, gpa(0), &block, &zero), OK);
	assert_int_equal(block_split(account, block), OK);
	for (unsigned i = 0; i < 512; i++)
		free_one(account, hpa(block.v + i * PAGE_SIZE), ACCOUNT_BASE);
	for (unsigned i = 0; i < 512; i++) {
		assert_int_equal(frame_alloc(account, ACCOUNT_BASE, gpa(0), &frame), OK);
		assert_int_equal(frame.v & ~(BLOCK_SIZE - 1), block.v);
		frame_assign(frame, gpa(frame.v - block.v));
	}
	assert_int_equal(block_join(account, block, gpa(0)), OK);
	free_block(account, block);
	kernel_free = chunks.kernel_free;
	quiet();
	lock_acquire(&chunk_lock);
	chunk_unlist(chunk_of(block));
	chunk_of(block)->busy = true; /* just being cleared */
	chunk_drop_spares();
	assert_true(chunk_of(block)->busy);
	chunk_of(block)->busy = false;
	chunk_relist(chunk_of(block));
	lock_release(&chunk_lock);
	assert_int_equal(chunks.kernel_free, kernel_free);
	close_account(account);
	quiet();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_give_and_take),        cmocka_unit_test(test_split),
		cmocka_unit_test(test_known_zero),           cmocka_unit_test(test_none_left),
		cmocka_unit_test(test_while_one_is_cleared), cmocka_unit_test(test_gib),
		cmocka_unit_test(test_join_of_the_spare),
	};

	/* The table reaches to 2 GiB, memory at first only to 64 MiB. */
	world_start_below(2 * GIB, WORLD);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
