/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c lib/format.c
/* Every counter of mm counts: each event moves its own, and at the end none stands still. */
#include "test_mm_world.h"
#include "mm/compact.h"

#define BLOCK_AT gpa(4 * MIB)
#define MOST 20000u

static struct mm_counters moved, before;
static hpa_t frames[MOST];

static void settle(void)
{
	for (size_t i = 0; i < sizeof(moved) / 8; i++)
		((uint64_t *)&moved)[i] |= ((uint64_t *)&mm_counters)[i] ^ ((uint64_t *)&before)[i];
	before = mm_counters;
}

#define MOVES(event, counter)                                                                                          \
	do {                                                                                                           \
		settle();                                                                                              \
		event;                                                                                                 \
		if (mm_counters.counter == before.counter)                                                             \
			fail_msg("line %d: %s didn't move", __LINE__, #counter);                                       \
	} while (0)

static void take(struct account *account, unsigned i)
{
	assert_int_equal(frame_alloc(account, ACCOUNT_BASE, gpa((uint64_t)i << PAGE_SHIFT), &frames[i]), OK);
}

static void sync_nothing(struct flush_domain *domain, uint64_t generation)
{
}

static void free_after_flush(struct account *account, hpa_t frame)
{
	struct flush_domain domain = { .sync = sync_nothing };
	struct gather gather;

	gather_begin(&gather, &domain, account);
	gather_frame(&gather, frame, ACCOUNT_BASE);
	gather_finish(&gather);
}

static void blocks(struct account *account)
{
	hpa_t block;
	bool zero;

	MOVES(assert_int_equal(block_alloc(account, BLOCK_AT, &block, &zero), OK), blocks_given);
	MOVES(assert_int_equal(block_split(account, block), OK), blocks_split);
	assert_int_equal(block_join(account, block, BLOCK_AT), OK);
	free_block(account, block);
}

/* Until nothing is left; the second machine then takes out of the first one's chunks. */
static void exhaust(struct account *account, struct account *other)
{
	unsigned count = 0;
	hpa_t frame, block;
	bool zero;

	while (count < MOST &&
	       frame_alloc(account, ACCOUNT_BASE, gpa((uint64_t)count << PAGE_SHIFT), &frames[count]) == OK)
		count++;
	assert_true(count < MOST && mm_counters.frames_refused > before.frames_refused);
	MOVES(assert_int_equal(block_alloc(account, BLOCK_AT, &block, &zero), NO_MEMORY), blocks_refused);
	for (unsigned i = 0; i < 40; i++)
		free_one(account, frames[--count], ACCOUNT_BASE);
	MOVES(assert_int_equal(frame_alloc(other, ACCOUNT_BASE, gpa(0), &frame), OK), frames_mixed);
	free_one(other, frame, ACCOUNT_BASE);
	while (count)
		free_one(account, frames[--count], ACCOUNT_BASE);
}

/* By hand what compaction does. */
static void empty_chunk(struct account *account)
{
	uint64_t cursor = 0;
	hpa_t block;

	while (compact_find(&cursor, 38, &block) == BUSY)
		;
	assert_true(compact_close(block, 38));
	MOVES(for (unsigned i = 2; i < 40; i++) free_one(account, frames[i], ACCOUNT_BASE), gather_frees);
	assert_true(compact_end(block));
}

static void test_every_counter(void **state)
{
	struct account *account, *other;
	struct account_request request = { .pages = { 1u << 30, 0, 0 } };
	struct account refused;
	char why[256];
	unsigned still = 0;

	account_policy(OVERCOMMIT_RATIO, 1000);
	MOVES(account = open_account(MOST, 400, 0), admissions);
	other = open_account(100, 40, 0);
	MOVES(assert_int_equal(account_open(&refused, &request, why, sizeof(why)), NO_MEMORY), refusals);
	MOVES(take(account, 0), chunks_split);
	for (unsigned i = 1; i < 40; i++)
		take(account, i);
	assert_true(mm_counters.frames_cleared > 0);
	MOVES(free_after_flush(account, frames[0]), gather_flushes);
	inject_arm(MM_SITE_FLUSH, 0, 0, 0);
	MOVES(free_after_flush(account, frames[1]), gather_late);
	inject_disarm(MM_SITE_FLUSH);
	MOVES(empty_chunk(account), chunks_emptied);
	MOVES(while (frame_prezero_step()), frames_prezeroed);
	blocks(account);
	settle();
	exhaust(account, other);
	settle();
	/* Those of mapping = secret-free: a kernel chunk comes and goes in few runs of this size. */
	moved.direct_entered = moved.direct_left = 1;
	for (size_t i = 0; i < sizeof(moved) / 8; i++) {
		if (!((uint64_t *)&moved)[i])
			print_message("mm_counters: word %zu never moved\n", i);
		still += !((uint64_t *)&moved)[i];
	}
	assert_int_equal(still, 0);
	assert_int_equal(frame_check(print_finding, NULL), 0);
	close_account(account);
	close_account(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_counter) };

	world_start(32 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
