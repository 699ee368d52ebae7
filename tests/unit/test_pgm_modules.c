/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/status.c lib/hash.c
/*
 * Modules: what a guest may name and how much, that equal ones of a group are shared by looking at them alone, never another group's, that
 * each may write its own afterwards, and that nothing is left of names after a reset or the end.
 */
#define WORLD_STRICT (getenv("QUIRE_LONG") ? 1u : 17u)
#include "common/share_world.h"

#define PAGES 40u
#define NAME UINT64_C(0xfeedfacecafebeef)

/* Until no module waits: so many pages were looked at. */
static unsigned look(unsigned count)
{
	unsigned sum = 0, looked;
	bool any;

	do {
		any = false;
		for (unsigned i = 0; i < count; i++) {
			if (!pgm_fusion_is_named(machine[i]))
				continue;
			any = true;
			pgm_fusion_named_step(machine[i], &looked);
			assert_true(looked <= FUSION_STEP);
			sum += looked;
		}
	} while (any && sum < 1000000);
	assert_false(any);
	return sum;
}

static void fill(struct pgm *pgm, uint64_t at, unsigned pages)
{
	for (unsigned n = 0; n < pages; n++)
		put(pgm, at + n * PAGE_SIZE, n + 1);
}

static unsigned shared(struct pgm *pgm, uint64_t at, unsigned pages)
{
	unsigned sum = 0;

	for (unsigned n = 0; n < pages; n++) {
		assert_true(holds(pgm, at + n * PAGE_SIZE, n + 1));
		sum += state_of(pgm, at + n * PAGE_SIZE) == PAGE_SHARED;
	}
	return sum;
}

static enum status name(struct pgm *pgm, uint64_t at, uint64_t pages)
{
	return pgm_module_add(pgm, NAME, gpa(at), pages);
}

static void test_shared_at_once(void **state)
{
	static const uint64_t at[] = { AT, AT + 3 * PAGE_SIZE };

	start(2, 7, false);
	for (unsigned i = 0; i < 2; i++) {
		fill(machine[i], at[i], PAGES + 10); /* the last ten aren't named */
		assert_int_equal(name(machine[i], at[i], PAGES), OK);
	}
	assert_true(look(2) <= 4 * PAGES);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(shared(machine[i], at[i], PAGES), PAGES);
		assert_int_equal(shared(machine[i], at[i], PAGES + 10), PAGES);
		check_silent(machine[i]);
	}
	assert_int_equal(totals_now().shared_pages, PAGES);
	assert_int_equal(look(2), 0);
	/* A write afterwards is its own. */
	assert_int_equal(pgm_fault(machine[0], gpa(AT), ACCESS_WRITE), PGM_RESUME);
	put(machine[0], AT, 77);
	assert_int_equal(shared(machine[1], at[1], PAGES), PAGES);
	assert_int_equal(state_of(machine[0], AT), PAGE_ALLOCATED);
	assert_int_equal(totals_now().duplicate_pages, PAGES - 1);
	assert_int_equal(pgm_module_remove(machine[0], NAME), OK);
	assert_int_equal(pgm_module_remove(machine[0], NAME), NOT_FOUND);
	assert_int_equal(name(machine[0], AT, PAGES), OK);
	assert_int_equal(pgm_module_remove(machine[0], NAME), OK);
	assert_false(pgm_fusion_is_named(machine[0]));
	assert_int_equal(totals_now().duplicate_pages, PAGES - 1);
	end(2);
}

/* Named long ago, and written since: it is looked at again when another names the same. */
static void test_others_are_woken(void **state)
{
	start(2, 7, false);
	assert_int_equal(name(machine[0], AT, PAGES), OK);
	assert_int_equal(pgm_module_add(machine[0], NAME + 1, gpa(AT + MIB), PAGES), OK);
	(void)look(2);
	fill(machine[0], AT, PAGES);
	fill(machine[0], AT + MIB, PAGES);
	fill(machine[1], AT, PAGES);
	assert_int_equal(look(2), 0);
	assert_int_equal(name(machine[1], AT, PAGES), OK);
	assert_true(look(2) >= 2 * PAGES);
	assert_int_equal(shared(machine[0], AT, PAGES), PAGES);
	assert_int_equal(shared(machine[0], AT + MIB, PAGES), 0);
	assert_int_equal(machine[0]->common.counters.fusion_looks, PAGES);
	assert_int_equal(machine[0]->common.counters.fusion_regions, 3);
	end(2);
}

static void test_attack7_groups_never_meet(void **state)
{
	start(1, 7, false);
	machine[1] = member(8, false);
	machine[2] = member(0, false);
	for (unsigned i = 0; i < 3; i++)
		fill(machine[i], AT, PAGES);
	assert_int_equal(name(machine[0], AT, PAGES), OK);
	(void)look(3);
	assert_int_equal(name(machine[1], AT, PAGES), OK);
	assert_int_equal(name(machine[2], AT, PAGES), NOT_SUPPORTED);
	assert_int_equal(look(3), PAGES); /* nor does one make the other be looked at */
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(shared(machine[i], AT, PAGES), 0);
	end(3);
}

static void test_large(void **state)
{
	start(2, 7, true);
	for (unsigned i = 0; i < 2; i++) {
		fill(machine[i], AT, 2 * PAGES_PER_BLOCK);
		assert_int_equal(pgm_fault(machine[i], gpa(AT), ACCESS_WRITE), PGM_RESUME);
	}
	/* Not worth a split. */
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pgm_module_add(machine[i], 5, gpa(AT), 20), OK);
	(void)look(2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(machine[i]->common.counters.fusion_splits, 0);
		assert_int_equal(name(machine[i], AT + 300 * PAGE_SIZE, 400), OK);
	}
	(void)look(2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(machine[i]->common.counters.fusion_splits, 2);
		assert_true(shared(machine[i], AT, 2 * PAGES_PER_BLOCK) >= 400);
		check_silent(machine[i]);
	}
	end(2);
}

/* Nothing is known of either when the second is named: a split puts its pages into the table in the other's place, so that comes again. */
static void test_large_are_woken(void **state)
{
	start(2, 7, true);
	assert_int_equal(name(machine[0], AT, PAGES_PER_BLOCK), OK);
	(void)look(2);
	for (unsigned i = 0; i < 2; i++)
		fill(machine[i], AT, PAGES_PER_BLOCK);
	assert_int_equal(name(machine[1], AT, PAGES_PER_BLOCK), OK);
	(void)look(2);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(shared(machine[i], AT, PAGES_PER_BLOCK), PAGES_PER_BLOCK);
	end(2);
}

static void test_what_may_be_named(void **state)
{
	static const struct {
		uint64_t base, pages;
	} bad[] = {
		{ AT + 1, 1 },
		{ AT, RAM / PAGE_SIZE },
		{ RAM - PAGE_SIZE, 2 },
		{ RAM, 1 },
		{ 0xa0000, 1 },
		{ 0x9f000, 2 },
		{ AT, MODULE_PAGES + 1 },
		{ AT, UINT64_MAX },
		{ AT, UINT64_MAX / PAGE_SIZE },
		{ 0 - PAGE_SIZE, 1 },
		{ PGM_MAX_GPA, 1 },
		{ AT, 0 },
		{ 64 * MIB, 1 }, /* a ROM */
	};
	struct module_region r = { 0 };

	start(1, 7, false);
	assert_int_equal(pgm_add_rom(machine[0], gpa(64 * MIB), PAGE_SIZE, "rom"), OK);
	put(machine[0], 0x9f000, 1);
	put(machine[0], RAM - PAGE_SIZE, 2);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(name(machine[0], bad[i].base, bad[i].pages), BAD_ADDRESS);
	assert_false(pgm_module_get(machine[0], &r));
	assert_false(pgm_fusion_is_named(machine[0]));
	assert_int_equal(name(machine[0], RAM - PAGE_SIZE, 1), OK);
	assert_int_equal(name(machine[0], 0x9f000, 1), OK);
	assert_true(pgm_module_get(machine[0], &r));
	assert_true(r.name == NAME && r.base == RAM - PAGE_SIZE && r.pages == 1);
	r.index++;
	assert_true(pgm_module_get(machine[0], &r));
	assert_int_equal(r.base, 0x9f000);
	r.index++;
	assert_false(pgm_module_get(machine[0], &r));
	assert_int_equal(look(1), 2);
	end(1);
}

static void test_limits(void **state)
{
	uint64_t reserved, names = 0, seen = 0;
	struct module_region r = { 0 };

	start(1, 7, false);
	fill(machine[0], AT, MODULE_REGIONS + 1);
	reserved = machine[0]->account.reserved[ACCOUNT_TABLE];
	for (unsigned i = 0; i < MODULE_REGIONS; i++)
		assert_int_equal(name(machine[0], AT + i * PAGE_SIZE, 1), OK);
	assert_int_equal(name(machine[0], AT + MODULE_REGIONS * PAGE_SIZE, 1), LIMIT);
	assert_int_equal(name(machine[0], AT + 3 * PAGE_SIZE, 2), OK); /* one of those, once more */
	for (names = 1; names < MODULES_MOST; names++)
		assert_int_equal(pgm_module_add(machine[0], names * NAME, gpa(AT), 1), OK);
	assert_int_equal(pgm_module_add(machine[0], 0, gpa(AT), 1), OK);
	assert_int_equal(pgm_module_add(machine[0], 1, gpa(AT), 1), LIMIT);
	assert_in_range(machine[0]->account.reserved[ACCOUNT_TABLE] - reserved, 130, 256);
	for (uint64_t last = 0; pgm_module_get(machine[0], &r); r.index++, seen++) {
		assert_true(r.name >= last);
		last = r.name;
	}
	assert_int_equal(seen, MODULES_MOST - 1 + MODULE_REGIONS);
	assert_int_equal(look(1), seen + 1);
	/* Any of them can go, and the others stay. */
	for (uint64_t i = 2; i < MODULES_MOST; i += 2)
		assert_int_equal(pgm_module_remove(machine[0], i * NAME), OK);
	for (uint64_t i = 2; i < MODULES_MOST; i++)
		assert_int_equal(pgm_module_remove(machine[0], i * NAME), i % 2 ? OK : NOT_FOUND);
	assert_int_equal(pgm_module_add(machine[0], 1, gpa(AT), 1), OK);
	end(1);
}

/* It goes away, or comes anew, while it is being looked at. */
static void test_changes_under_the_look(void **state)
{
	unsigned looked;

	start(2, 7, false);
	for (unsigned i = 0; i < 2; i++)
		fill(machine[i], AT, 4 * PAGES);
	assert_int_equal(name(machine[0], AT, PAGES), OK);
	assert_int_equal(name(machine[0], AT + PAGES * PAGE_SIZE, PAGES), OK);
	assert_int_equal(name(machine[1], AT, 4 * PAGES), OK);
	pgm_fusion_named_step(machine[0], &looked);
	assert_int_equal(pgm_module_remove(machine[0], NAME), OK);
	pgm_fusion_named_step(machine[0], &looked);
	assert_int_equal(name(machine[0], AT + 2 * PAGES * PAGE_SIZE, PAGES), OK);
	(void)look(2);
	assert_int_equal(shared(machine[0], AT + 0, 4 * PAGES), 2 * PAGES);
	/* Fusion is held off: it waits. */
	assert_int_equal(name(machine[0], AT, PAGES), OK);
	pgm_collapse_hold(machine[0], true);
	pgm_fusion_named_step(machine[0], &looked);
	assert_int_equal(looked, 0);
	assert_true(pgm_fusion_is_named(machine[0]));
	pgm_collapse_hold(machine[0], false);
	assert_true(look(2) >= PAGES);
	end(2);
}

/* Somebody is at work on the other's memory when its pages are met: they are looked at again, not in the next pass over all memory. */
static void test_the_other_is_busy(void **state)
{
	unsigned looked;

	start(2, 7, false);
	for (unsigned i = 0; i < 2; i++)
		fill(machine[i], AT, PAGES);
	assert_int_equal(name(machine[0], AT, PAGES), OK);
	(void)look(2);
	assert_int_equal(name(machine[1], AT, PAGES), OK);
	__atomic_store_n(&machine[0]->collapse.busy, 1, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < 5; i++)
		pgm_fusion_named_step(machine[1], &looked);
	assert_int_equal(shared(machine[1], AT, PAGES), 0);
	assert_true(pgm_fusion_is_named(machine[1]));
	__atomic_store_n(&machine[0]->collapse.busy, 0, __ATOMIC_RELEASE);
	(void)look(2);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(shared(machine[i], AT, PAGES), PAGES);
	end(2);
}

static void test_gone_at_a_reset(void **state)
{
	struct module_region r = { 0 };
	unsigned looked;

	start(2, 7, false);
	for (unsigned i = 0; i < 2; i++) {
		fill(machine[i], AT, PAGES);
		assert_int_equal(name(machine[i], AT, PAGES), OK);
	}
	pgm_fusion_named_step(machine[0], &looked);
	assert_int_equal(name(machine[0], AT, PAGES), OK);
	while (pgm_reset_step(machine[0], true) == BUSY)
		;
	assert_false(pgm_module_get(machine[0], &r));
	(void)look(2);
	assert_int_equal(totals_now().shared_pages, 0);
	/* And at the end, amid a look. */
	assert_int_equal(name(machine[1], AT, PAGES), OK);
	pgm_fusion_named_step(machine[1], &looked);
	assert_int_equal(name(machine[1], AT + MIB, PAGES), OK);
	end(2);
}

static void test_attack4_failures(void **state)
{
	static const enum mm_site sites[] = { MM_SITE_HEAP,  MM_SITE_CHUNK, MM_SITE_FRAME,
					      MM_SITE_TABLE, MM_SITE_HANDY, MM_SITE_FLUSH };

	for (unsigned s = 0; s < ARRAY_SIZE(sites); s++)
		for (unsigned after = 0; after < 12; after++) {
			uint64_t reserved, names = 0;

			start(2, 7, false);
			reserved = machine[0]->account.reserved[ACCOUNT_TABLE];
			for (unsigned m = 0; m < 2; m++)
				fill(machine[m], AT, PAGES);
			inject_arm(sites[s], after, after & 1, 0);
			for (uint64_t i = 0; i < 64; i++) {
				enum status status = pgm_module_add(machine[0], i, gpa(AT), PAGES);

				assert_true(status == OK || (status == NO_MEMORY && sites[s] == MM_SITE_HEAP));
				names += status == OK;
			}
			if (sites[s] == MM_SITE_HEAP)
				assert_in_range(names, after ? 15 : 0, 64);
			(void)!pgm_module_add(machine[1], 1, gpa(AT), PAGES);
			(void)look(2);
			inject_disarm(sites[s]);
			for (unsigned m = 0; m < 2; m++) {
				(void)shared(machine[m], AT, PAGES);
				check_silent(machine[m]);
			}
			for (uint64_t i = 0; i < 64; i++)
				names -= pgm_module_remove(machine[0], i) == OK;
			assert_int_equal(names, 0);
			assert_in_range(machine[0]->account.reserved[ACCOUNT_TABLE] - reserved, 0, 8);
			end(2);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shared_at_once),
		cmocka_unit_test(test_others_are_woken),
		cmocka_unit_test(test_attack7_groups_never_meet),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_large_are_woken),
		cmocka_unit_test(test_what_may_be_named),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_changes_under_the_look),
		cmocka_unit_test(test_the_other_is_busy),
		cmocka_unit_test(test_gone_at_a_reset),
		cmocka_unit_test(test_attack4_failures),
	};

	pgm_world_start(64 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
