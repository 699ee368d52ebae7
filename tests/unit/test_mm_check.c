/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c lib/format.c
/* The integrity check finds what is broken: each kind of damage is done, found, and undone. */
#include "test_mm_world.h"

static struct account *account;
static hpa_t frame, table, block;

static void damage_record(void)
{
	record_store(frame_slot(frame), record_load(frame_slot(frame)) ^ (5ull << RECORD_OWNER_SHIFT));
}
static void damage_free_count(void)
{
	chunk_of(frame)->free ^= 1;
}
static void damage_dirty_count(void)
{
	chunk_of(frame)->dirty ^= 1;
}
static void damage_list(void)
{
	frame_record *slot = &chunk_of(frame)->records[chunk_of(frame)->head];

	record_store(slot, record_load(slot) ^ (3ull << RECORD_PREVIOUS_SHIFT));
}
static void damage_head(void)
{
	chunk_of(frame)->head ^= 0x1000;
}
static void damage_kind(void)
{
	record_store(frame_slot(table), record_load(frame_slot(table)) ^ FRAME_TABLE ^ FRAME_PRIVATE);
}
static void damage_account(void)
{
	account->allocated[ACCOUNT_BASE] ^= 8;
}
static void damage_owner(void)
{
	chunk_of(block)->owner ^= 0x155;
}
static void damage_bucket(void)
{
	chunk_of(frame)->bucket ^= 1;
}
static void damage_present(void)
{
	chunk_of(block)->present ^= 1;
}

static void damage_set(void)
{
	chunk_of(frame)->set ^= SET_NONE ^ SET_OWNED;
}
static void damage_links(void)
{
	static bool broken;
	static struct chunk *previous;
	struct chunk *chunk = chunk_of(frame);

	if (!broken)
		previous = chunk->previous;
	chunk->previous = broken ? previous : chunk + 1;
	broken = !broken;
}
static void damage_pages(void)
{
	chunks.pages ^= 1;
}
static void damage_ghost(void)
{
	/* A frame of a machine that there isn't. */
	record_store(frame_slot(frame), record_load(frame_slot(frame)) ^ (0x100ull << RECORD_OWNER_SHIFT));
}
static void damage_absent(void)
{
	record_store(frame_slot(frame), record_load(frame_slot(frame)) ^ FRAME_PRIVATE ^ FRAME_ABSENT);
}
static void damage_shared(void)
{
	/* Shared by nobody. */
	static frame_record kept;
	frame_record now = record_load(frame_slot(frame));

	record_store(frame_slot(frame), kept ? kept : record_shared(0));
	kept = kept ? 0 : now;
}

static unsigned lines;

static void count_line(void *context, const char *line)
{
	lines++;
	assert_true(strlen(line) > 10);
}

static void test_damage(void **state)
{
	static void (*const damages[])(void) = { damage_record, damage_free_count, damage_dirty_count, damage_list,
						 damage_head,   damage_kind,       damage_account,     damage_owner,
						 damage_bucket, damage_present,    damage_set,         damage_links,
						 damage_pages,  damage_ghost,      damage_absent,      damage_shared };
	bool zero;

	account = open_account(2000, 20, 0);
	assert_int_equal(frame_alloc(account, ACCOUNT_BASE, gpa(0x1000), &frame), OK);
	assert_int_equal(table_alloc(account, &table), OK);
	assert_int_equal(block_alloc(account, gpa(0), &block, &zero), OK);
	assert_int_equal(frame_check(print_finding, NULL), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(damages); i++) {
		unsigned found;

		damages[i]();
		lines = 0;
		found = frame_check(count_line, NULL);
		if (!found)
			fail_msg("damage %u wasn't found", i);
		assert_int_equal(found, lines);
		damages[i]();
		assert_int_equal(frame_check(print_finding, NULL), 0);
	}
	free_one(account, frame, ACCOUNT_BASE);
	free_one(account, table, ACCOUNT_TABLE);
	free_block(account, block);
	close_account(account);
	inject_arm(MM_SITE_HEAP, 0, 1, 0);
	assert_int_equal(frame_check(print_finding, NULL), 0); /* needs no memory itself */
	inject_disarm(MM_SITE_HEAP);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_damage) };

	world_start(32 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
