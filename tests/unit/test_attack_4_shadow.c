/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * Attack 4, nested guests: each operation on composed tables with an allocation failing at every site. An L2's fault on memory of
 * every kind either ends with the access made or says that there's no memory, in a few tries; L1's memory stays as it was.
 */
#include "sweep_world.h"
#include "common/shadow_view.h"
#include "pgm/shadow/shadow.h"

#define TABLES_AT                                                                                                      \
	(LARGE_AT + 256 * PAGE_SIZE) /* L1's: one of each level, leaves of 4 KiB below, of 2 MiB from L2_LARGE on */
#define L2_LARGE (1024 * MIB)        /* of L2: L1's memory from 0 by 2 MiB; below: its first 2 MiB by pages */
#define L2_PAGES (4 * MIB)           /* of L2: L1's DETAILED_AT by pages */
#define L2_FRESH (6 * MIB)           /* and FRESH_AT */
#define TRIES 16u

static struct hv_nested_slat slat;
static struct shadow_root *root;

static uint64_t leaf(uint64_t target, unsigned level)
{
	const struct pt_format *f = slat.format;

	return target | f->rights_bits[RWX] | f->type_bits[6] | f->accessed | f->dirty | (level ? f->large : 0);
}

static void put(unsigned table, unsigned index, uint64_t entry)
{
	assert_int_equal(pgm_write(pgm, gpa(TABLES_AT + table * PAGE_SIZE + index * 8), &entry, 8, ORIGIN_GUEST, NULL),
			 OK);
}

static uint64_t table(unsigned number)
{
	return (TABLES_AT + number * PAGE_SIZE) | slat.format->table_bits | slat.format->accessed;
}

static void lay_tables(void)
{
	slat = (struct hv_nested_slat){ .on = true,
					.root = gpa(TABLES_AT),
					.format = pgm->slat.format,
					.physical_bits = 40,
					.large_1g = true,
					.accessed_dirty = true,
					.no_execute = true };
	put(0, 0, table(1));
	put(1, 0, table(2));
	put(1, 1, table(3));
	put(2, 2, table(4));
	put(2, 3, table(5));
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		put(3, i, leaf(i * 2 * MIB, 1));
		put(4, i, leaf(DETAILED_AT + i * PAGE_SIZE, 0));
		put(5, i, leaf(FRESH_AT + i * PAGE_SIZE, 0));
	}
}

/* L1 itself has been to these. */
static void touch(uint64_t where)
{
	assert_int_equal(pgm_fault(pgm, gpa(where), ACCESS_WRITE), PGM_RESUME);
}

static void lay_root(void)
{
	lay_tables();
	touch(DETAILED_AT + 9 * PAGE_SIZE);
	touch(DETAILED_AT + 100 * PAGE_SIZE);
	touch(DETAILED_AT + 200 * PAGE_SIZE);
	drain();
	assert_int_equal(shadow_root_get(pgm, &slat, 0, &root), OK);
}

static unsigned rights_at(uint64_t where)
{
	struct slat *view = shadow_view(pgm, root);
	unsigned level;

	return slat_rights(view, *slat_find(view, gpa(where), &level));
}

static void lay_small(void)
{
	lay_root();
	pgm->config.large_pages = false;
}

/* The access made, as often as it faults. */
static enum status l2(uint64_t where, unsigned access)
{
	struct hv_nested_fault fault;

	for (unsigned tries = 0; (rights_at(where) & access) != access; tries++) {
		enum shadow_verdict verdict = shadow_fault(pgm, root, gpa(where), access, false, &fault);

		assert_true(tries < TRIES);
		if (verdict == SHADOW_NO_MEMORY)
			return NO_MEMORY;
		if (verdict == SHADOW_EMULATE)
			return OK;
		assert_int_equal(verdict, SHADOW_RESUME);
	}
	return OK;
}

#define L2(name, where, access)                                                                                        \
	static enum status name(void)                                                                                  \
	{                                                                                                              \
		return l2((where), (access));                                                                          \
	}

L2(read_fresh, L2_FRESH + 3 * PAGE_SIZE, ACCESS_READ)
L2(write_fresh, L2_FRESH + 3 * PAGE_SIZE, ACCESS_WRITE)
L2(write_page, L2_PAGES + 100 * PAGE_SIZE, ACCESS_WRITE)
L2(write_next, L2_PAGES + 200 * PAGE_SIZE, ACCESS_WRITE)
L2(write_zero_page, L2_PAGES + 7 * PAGE_SIZE, ACCESS_WRITE)
L2(write_handled, L2_PAGES + 5 * PAGE_SIZE, ACCESS_WRITE)
L2(write_large, L2_LARGE + LARGE_AT, ACCESS_WRITE)
L2(write_fresh_large, L2_LARGE + FRESH_AT, ACCESS_WRITE)
L2(write_part, L2_LARGE + DETAILED_AT + 9 * PAGE_SIZE, ACCESS_WRITE)

static enum status get_root(void)
{
	return shadow_root_get(pgm, &slat, 0, &root);
}

static enum status get_other_root(void)
{
	struct hv_nested_slat other = slat;
	struct shadow_root *second;

	other.root.v += PAGE_SIZE;
	return shadow_root_get(pgm, &other, 0, &second);
}

static void lay_pages(void)
{
	lay_root();
	assert_int_equal(write_page(), OK);
	assert_int_equal(write_part(), OK);
	assert_int_equal(write_large(), OK);
}

/* L1's large leaf goes over to pages, and L2's neighbour is asked for. */
static enum status changed(void)
{
	shadow_invalidate(pgm, &slat);
	return write_part();
}

static void lay_change(void)
{
	lay_pages();
	put(3, DETAILED_AT / (2 * MIB), table(4));
}

static const struct sweep_operation operations[] = {
	{ "root", lay_tables, get_root, 0, NULL },
	{ "root: another", lay_pages, get_other_root, 0, NULL },
	{ "fault: read, fresh", lay_root, read_fresh, SWEEP_PARTIAL, NULL },
	{ "fault: write, fresh", lay_root, write_fresh, SWEEP_PARTIAL, NULL },
	{ "fault: write, fresh, small", lay_small, write_fresh, SWEEP_PARTIAL, NULL },
	{ "fault: write, detailed", lay_root, write_page, 0, NULL },
	{ "fault: write, detailed, tables are there", lay_pages, write_next, 0, NULL },
	{ "fault: write, zero page", lay_root, write_zero_page, SWEEP_PARTIAL, NULL },
	{ "fault: handler", lay_root, write_handled, 0, NULL },
	{ "fault: large", lay_root, write_large, 0, NULL },
	{ "fault: large, fresh", lay_root, write_fresh_large, SWEEP_PARTIAL, NULL },
	{ "fault: part of a large leaf", lay_root, write_part, 0, NULL },
	{ "fault: L1's leaf has changed", lay_change, changed, 0, NULL },
};

static void test_attack4_shadow(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(operations); i++)
		sweep(&sweep_pgm, &operations[i]);
	assert_true(sweep_failures[MM_SITE_TABLE] > 0);
	assert_true(sweep_failures[MM_SITE_FRAME] + sweep_failures[MM_SITE_HANDY] > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_attack4_shadow) };

	return cmocka_run_group_tests(tests, sweep_setup, NULL);
}
