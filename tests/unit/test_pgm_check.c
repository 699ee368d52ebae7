/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c arch/x86_64/pt_format.c lib/format.c lib/status.c
/* The integrity check finds what is broken: each kind of damage is done, found, and undone. */
#include "common/pgm_world.h"

#define LARGE (4 * MIB)
#define DETAILED (8 * MIB)
#define UNTOUCHED (12 * MIB)
#define NOWHERE (3 * GIB)

static struct pgm *pgm;
static struct block *large, *detailed;

static enum status ignore(void *user, struct pgm_access *access)
{
	return OK;
}

static page_record *record_at(unsigned i)
{
	return page_of(detailed, gpa(DETAILED + i * PAGE_SIZE));
}

/* Page 0 has a frame and is mapped, page 1 has one and a handler, page 2 is zero and mapped, page 9 has nothing. */
static uint64_t *entry_of(uint64_t where)
{
	unsigned level;

	return slat_find(&pgm->slat, gpa(where), &level);
}

static void record_frame(void)
{
	record_at(0)->bits ^= 1;
}
static void damage_state(void)
{
	record_at(0)->bits ^= (uint64_t)(PAGE_ALLOCATED ^ PAGE_SHARED) << PAGE_STATE_SHIFT;
}
static void record_zero(void)
{
	record_at(0)->bits ^= (uint64_t)PAGE_ALLOCATED << PAGE_STATE_SHIFT;
}
static void record_type(void)
{
	record_at(9)->bits ^= (uint64_t)(PAGE_RAM ^ PAGE_ROM) << PAGE_TYPE_SHIFT;
}
static void flip_mark(unsigned i)
{
	record_at(i)->bits ^= (uint64_t)HANDLER_WRITE << PAGE_HANDLER_SHIFT;
}
static void record_mark(void)
{
	flip_mark(1);
	detailed->special ^= 1;
}
static void record_no_handler(void)
{
	flip_mark(9);
	detailed->special ^= 3;
}
static void record_unknown(void)
{
	record_at(9)->bits ^= BIT(60);
}
static void count_held(void)
{
	detailed->held ^= 1;
}
static void count_special(void)
{
	detailed->special ^= 2;
}
static void count_base(void)
{
	pgm->account.allocated[ACCOUNT_BASE] ^= 1024;
}
static void count_tables(void)
{
	pgm->slat.tables ^= 1;
}
static void count_handy(void)
{
	pgm->handy.count ^= 1;
}
static void entry_right(void)
{
	*entry_of(DETAILED + 2 * PAGE_SIZE) ^= pgm->slat.format->write;
}
static void entry_frame(void)
{
	*entry_of(DETAILED) ^= 0x4000;
}
static void entry_type(void)
{
	*entry_of(DETAILED) ^= 0x10;
}
static void entry_reserved(void)
{
	*entry_of(DETAILED) ^= BIT(51);
}
static void entry_handler(void)
{
	*entry_of(DETAILED + PAGE_SIZE) ^= slat_leaf(&pgm->slat, 0, page_frame(*record_at(1)), RWX, 6);
}
static void entry_large(void)
{
	*entry_of(LARGE) ^= 4 * MIB;
}
static void entry_zero(void)
{
	*entry_of(UNTOUCHED) ^= pgm->slat.format->write;
}
static void entry_nowhere(void)
{
	*entry_of(NOWHERE) ^= slat_leaf(&pgm->slat, 1, hpa(0), RX, 6);
}
static void large_chunk(void)
{
	large->word ^= 4 * MIB;
}
static void large_kind(void)
{
	detailed->word ^= BLOCK_LARGE ^ BLOCK_DETAILED;
}
static void large_lost(void)
{
	large->word ^= BLOCK_LARGE;
}

static unsigned lines;

static void count_line(void *context, const char *line)
{
	lines++;
	assert_true(strlen(line) > 20);
}

static void run(const struct pt_format *format)
{
#define DAMAGE(name)                                                                                                   \
	{                                                                                                              \
		name, #name                                                                                            \
	}
	static const struct {
		void (*done)(void);
		const char *name;
	} damages[] = {
		DAMAGE(record_frame),  DAMAGE(damage_state),      DAMAGE(record_zero),    DAMAGE(record_type),
		DAMAGE(record_mark),   DAMAGE(record_no_handler), DAMAGE(record_unknown), DAMAGE(count_held),
		DAMAGE(count_special), DAMAGE(count_base),        DAMAGE(count_tables),   DAMAGE(count_handy),
		DAMAGE(entry_right),   DAMAGE(entry_frame),       DAMAGE(entry_type),     DAMAGE(entry_reserved),
		DAMAGE(entry_handler), DAMAGE(entry_large),       DAMAGE(entry_zero),     DAMAGE(entry_nowhere),
		DAMAGE(large_chunk),   DAMAGE(large_kind),        DAMAGE(large_lost),
	};
	struct pgm_config config = plain_config(32 * MIB);
	handler_type type;
	uint64_t *upper;

	config.slat = format;
	pgm = make_pgm_of(&config);
	assert_int_equal(pgm_fault(pgm, gpa(LARGE), ACCESS_WRITE), PGM_RESUME);
	assert_int_equal(pgm_fault(pgm, gpa(UNTOUCHED), ACCESS_READ), PGM_RESUME);
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	assert_int_equal(pgm_fault(pgm, gpa(DETAILED), ACCESS_WRITE), PGM_RESUME);
	inject_disarm(MM_SITE_LARGE);
	assert_int_equal(pgm_write(pgm, gpa(DETAILED + PAGE_SIZE), "x", 1, ORIGIN_DEVICE, NULL), OK);
	assert_int_equal(pgm_fault(pgm, gpa(DETAILED + 2 * PAGE_SIZE), ACCESS_READ), PGM_RESUME);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_WRITE, 0, ignore, "", &type), OK);
	assert_int_equal(
		pgm_handler_register(pgm, type, gpa(DETAILED + PAGE_SIZE), gpa(DETAILED + PAGE_SIZE + 7), NULL, ""),
		OK);
	/* An upper table over a place without memory, as a stray mapping would make it. */
	assert_int_equal(slat_entry(&pgm->slat, gpa(NOWHERE), 1, &upper), OK);
	assert_int_equal(block_get(pgm, gpa(LARGE), &large), OK);
	assert_int_equal(block_get(pgm, gpa(DETAILED), &detailed), OK);
	for (unsigned i = 0; i < ARRAY_SIZE(damages); i++) {
		unsigned found;

		check_silent(pgm);
		lines = 0;
		damages[i].done();
		found = pgm_check(pgm, count_line, NULL);
		if (!found)
			fail_msg("%s: %s wasn't found", format->name, damages[i].name);
		assert_int_equal(found, lines);
		damages[i].done();
	}
	end_pgm(pgm);
}

static void test_damage(void **state)
{
	run(&pt_ept4);
	run(&pt_npt4);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_damage) };

	pgm_world_start(64 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
