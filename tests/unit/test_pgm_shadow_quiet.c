/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * L1's tables that nobody has written aren't compared at its flush (pgm/shadow/drop.c); whoever writes one, by whatever way, is seen by
 * the next flush. The processor here marks a leaf dirty at its first write to a page, and knows of that until it is flushed.
 */
#include "common/pgm_world.h"
#include "common/shadow_view.h"
#include "pgm/dirty/dirty.h"
#include "pgm/shadow/shadow.h"

#define RAM (16 * MIB)
#define TABLES (2 * MIB) /* one of each level, the top first; behind them one more of level 0 */
#define DATA (4 * MIB)
#define L2_PAGE (5 * PAGE_SIZE)
#define AS_TABLES (BLOCK_SIZE + 7 * PAGE_SIZE) /* L2 sees the table of level 0 here */

static struct pgm *pgm;
static struct hv_nested_slat slat;
static struct shadow_root *root;
static bool known_dirty; /* by L1's processor, of the table of level 0 */

static uint64_t table(unsigned level)
{
	return TABLES + (3 - level) * PAGE_SIZE;
}

static void flushed(void)
{
	known_dirty = false;
}

static uint64_t *leaf(uint64_t where)
{
	unsigned level;
	uint64_t *entry = slat_find(&pgm->slat, gpa(where), &level);

	assert_int_equal(level, 0);
	return entry;
}

static uint64_t entry_to(unsigned page)
{
	return (DATA + page * PAGE_SIZE) | slat.format->rights_bits[RWX] | slat.format->type_bits[6] |
	       slat.format->accessed | slat.format->dirty;
}

static void put(uint64_t where, uint64_t value)
{
	assert_int_equal(pgm_write(pgm, gpa(where), &value, 8, ORIGIN_GUEST, NULL), OK);
}

/* Behind everybody's back. */
static void poke_at(uint64_t l2, unsigned page)
{
	uint64_t value = entry_to(page), at = table(0) + l2 / PAGE_SIZE % PAGES_PER_BLOCK * 8;
	page_record record = block_record(block_find(pgm, gpa(at)), gpa(at));

	memcpy(host_memory_at(hpa(page_frame(record).v + at % PAGE_SIZE)), &value, 8);
}

static void poke(unsigned page)
{
	poke_at(L2_PAGE, page);
}

/* By L1's processor. */
static void store(unsigned page)
{
	if (!known_dirty)
		*leaf(table(0)) |= slat.format->dirty;
	known_dirty = true;
	poke(page);
}

static void flush(void)
{
	shadow_invalidate(pgm, &slat);
}

/* L2's composed leaf shows this page, or there's none. */
static bool shows_at(uint64_t l2, unsigned page)
{
	struct slat *view = shadow_view(pgm, root);
	unsigned level;
	uint64_t entry = *slat_find(view, gpa(l2), &level), own = *leaf(DATA + page * PAGE_SIZE);

	return !level && entry && slat_frame(view, 0, entry).v == slat_frame(view, 0, own).v;
}

static bool shows(unsigned page)
{
	return shows_at(L2_PAGE, page);
}

static void access_l2(uint64_t where, unsigned access)
{
	struct hv_nested_fault fault;

	assert_int_equal(shadow_fault(pgm, root, gpa(where), access, false, &fault), SHADOW_RESUME);
}

static void begin(const struct pt_format *format)
{
	struct pgm_config config = plain_config(RAM);

	config.slat = format;
	config.large_pages = false;
	config.accessed_dirty = true;
	pgm = make_pgm_of(&config);
	at_flush = flushed;
	known_dirty = true;
	slat = (struct hv_nested_slat){ .on = true,
					.root = gpa(table(3)),
					.format = format,
					.physical_bits = 40,
					.accessed_dirty = true,
					.no_execute = true };
	for (unsigned level = 3; level; level--)
		put(table(level), table(level - 1) | format->table_bits | format->accessed);
	put(table(1) + 8, (TABLES + 4 * PAGE_SIZE) | format->table_bits | format->accessed);
	put(TABLES + 4 * PAGE_SIZE + 7 * 8, table(0) | (entry_to(0) & ~format->address));
	for (unsigned page = 0; page < 5; page++)
		assert_int_equal(pgm_fault(pgm, gpa(TABLES + page * PAGE_SIZE), ACCESS_WRITE), PGM_RESUME);
	for (unsigned page = 0; page < 4; page++)
		put(DATA + page * PAGE_SIZE, page);
	for (unsigned page = 0; page < 4; page++)
		assert_int_equal(pgm_fault(pgm, gpa(DATA + page * PAGE_SIZE), ACCESS_WRITE), PGM_RESUME);
	poke(0);
	assert_int_equal(shadow_root_get(pgm, &slat, 0, &root), OK);
	access_l2(L2_PAGE, ACCESS_READ);
	assert_true(shows(0));
}

/* Watched, compared, and not looked at any more: what is poked in now isn't found. */
static void settle(void)
{
	flush();
	flush();
	assert_true(shows(0));
	poke(1);
	flush();
	assert_true(shows(0));
	poke(0);
}

static void end(void)
{
	check_silent(pgm);
	shadow_root_put(pgm, root);
	at_flush = NULL;
	end_pgm(pgm);
}

#define BOTH(format)                                                                                                   \
	for (const struct pt_format *format = &pt_ept4; format; format = format == &pt_ept4 ? &pt_npt4 : NULL)

static void test_processor_writes(void **state)
{
	(void)state;
	BOTH(format)
	{
		begin(format);
		settle();
		for (unsigned round = 0; round < 4; round++) {
			store(1);
			flush();
			assert_false(shows(0));
			access_l2(L2_PAGE, ACCESS_READ);
			assert_true(shows(1));
			store(0);
			flush();
			access_l2(L2_PAGE, ACCESS_READ);
			settle();
		}
		end();
	}
}

/* While the leaf's dirty bit is being cleared a processor may write by what it knows: until the flush is over nothing is settled. */
static void test_before_the_flush(void **state)
{
	(void)state;
	begin(&pt_ept4);
	flush(); /* watched */
	poke(1); /* and written right before its flush */
	flush();
	assert_false(shows(0));
	end();
}

/* Two composed tables of one of L1's: that the first has it watched again says nothing of what the second was made from. */
static void test_two_of_one(void **state)
{
	const uint64_t far = 2 * BLOCK_SIZE + 100 * PAGE_SIZE;

	(void)state;
	begin(&pt_ept4);
	put(table(1) + 2 * 8, table(0) | slat.format->table_bits | slat.format->accessed);
	poke_at(far, 2);
	access_l2(far, ACCESS_READ);
	settle();
	assert_true(shows_at(far, 2));
	*leaf(table(0)) |= slat.format->dirty;
	poke_at(far, 3);
	flush();
	assert_true(shows(0) && !shows_at(far, 2));
	end();
}

static void test_we_write(void **state)
{
	uint64_t seen;

	(void)state;
	BOTH(format)
	{
		begin(format);
		settle();
		put(table(0) + L2_PAGE / PAGE_SIZE * 8, entry_to(1));
		flush();
		assert_false(shows(0));
		access_l2(L2_PAGE, ACCESS_READ);
		put(table(0) + L2_PAGE / PAGE_SIZE * 8, entry_to(0));
		flush();
		access_l2(L2_PAGE, ACCESS_READ);
		settle();
		assert_int_equal(pgm_compare_exchange(pgm, gpa(table(0) + L2_PAGE / PAGE_SIZE * 8), entry_to(0),
						      entry_to(2), 8, &seen),
				 OK);
		flush();
		assert_false(shows(0));
		end();
	}
}

/* L2 has L1's own table mapped: its composed leaf can't write without the first one becoming dirty. */
static void test_l2_writes(void **state)
{
	(void)state;
	BOTH(format)
	{
		struct slat *view;
		unsigned level;

		begin(format);
		access_l2(AS_TABLES, ACCESS_WRITE);
		settle();
		view = shadow_view(pgm, root);
		assert_int_equal(slat_rights(view, *slat_find(view, gpa(AS_TABLES), &level)) & ACCESS_WRITE, 0);
		access_l2(AS_TABLES, ACCESS_WRITE);
		poke(1);
		flush();
		assert_false(shows(0));
		end();
	}
}

/* Who has pinned a page writes to it at any time. */
static void test_pinned(void **state)
{
	hpa_t frame;

	(void)state;
	begin(&pt_ept4);
	settle();
	assert_int_equal(pgm_pin(pgm, gpa(table(0)), true, "test", &frame), OK);
	for (unsigned round = 0; round < 3; round++) {
		poke(1 + round);
		flush();
		assert_false(shows(round));
		access_l2(L2_PAGE, ACCESS_READ);
		assert_true(shows(1 + round));
		flush();
		flush();
	}
	poke(0);
	assert_int_equal(pgm_unpin(pgm, gpa(table(0)), true, "test"), OK);
	flush();
	access_l2(L2_PAGE, ACCESS_READ);
	settle();
	end();
}

/* The dirty log takes the bit for itself, and gives it back set. */
static void test_log(void **state)
{
	static uint64_t bitmap[RAM / PAGE_SIZE / 64];

	(void)state;
	BOTH(format)
	{
		begin(format);
		settle();
		assert_int_equal(pgm_dirty_start(pgm, DIRTY_ACCESSED_DIRTY), OK);
		for (unsigned round = 0; round < 3; round++) {
			store(1);
			assert_int_equal(pgm_dirty_read_and_clear(pgm, 0, RAM / PAGE_SIZE, bitmap), OK);
			assert_true(bitmap[table(0) / PAGE_SIZE / 64] >> table(0) / PAGE_SIZE % 64 & 1);
			flush();
			assert_false(shows(0));
			store(0);
			flush();
			access_l2(L2_PAGE, ACCESS_READ);
			flush();
		}
		store(1);
		assert_int_equal(pgm_dirty_read_and_clear(pgm, 0, RAM / PAGE_SIZE, bitmap), OK);
		assert_int_equal(pgm_dirty_stop(pgm), OK);
		flush();
		assert_false(shows(0));
		end();
	}
}

/* A leaf that has gone and come again has nothing to tell. */
static void test_leaf_anew(void **state)
{
	(void)state;
	begin(&pt_npt4);
	settle();
	pgm_tables_drop(pgm);
	for (unsigned page = 0; page < 4; page++) {
		assert_int_equal(pgm_fault(pgm, gpa(TABLES + page * PAGE_SIZE), ACCESS_READ), PGM_RESUME);
		assert_int_equal(pgm_fault(pgm, gpa(DATA + page * PAGE_SIZE), ACCESS_READ), PGM_RESUME);
	}
	access_l2(L2_PAGE, ACCESS_READ);
	poke(1);
	flush();
	assert_false(shows(0));
	end();
}

/* The tables on top stand for those of another root now. */
static void test_other_root(void **state)
{
	struct shadow_root *other[SHADOW_KEPT], *same;
	struct hv_nested_slat key = slat;

	(void)state;
	begin(&pt_ept4);
	settle();
	key = slat;
	for (unsigned i = 1; i < SHADOW_KEPT; i++) {
		key.root = gpa(DATA + i * PAGE_SIZE);
		assert_int_equal(shadow_root_get(pgm, &key, 0, &other[i]), OK);
	}
	assert_int_not_equal(root->top.settled, 0);
	shadow_root_put(pgm, root);
	key.root = gpa(DATA);
	assert_int_equal(shadow_root_get(pgm, &key, 0, &same), OK);
	assert_ptr_equal(same, root);
	assert_int_equal(root->top.settled, 0);
	for (unsigned i = 1; i < SHADOW_KEPT; i++)
		shadow_root_put(pgm, other[i]);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_processor_writes),
		cmocka_unit_test(test_before_the_flush),
		cmocka_unit_test(test_two_of_one),
		cmocka_unit_test(test_we_write),
		cmocka_unit_test(test_l2_writes),
		cmocka_unit_test(test_pinned),
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_leaf_anew),
		cmocka_unit_test(test_other_root),
	};

	pgm_world_start(64 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
