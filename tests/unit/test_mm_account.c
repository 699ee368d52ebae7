/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c lib/format.c
/* Admission by what there is, reservations, and accounts that can't be closed. */
#include "test_mm_world.h"

#define WORLD (64 * MIB)

static enum status try(struct account *account, uint64_t base, uint64_t table, char *why)
{
	struct account_request request = { .pages = { base, table, 0 } };

	return account_open(account, &request, why, 256);
}

/* The largest admitted request really can be had, to the last page, and one chunk more can't be promised. */
static void test_a_promise_is_kept(void **state)
{
	static hpa_t frames[32 * 512], tables[4000];
	struct account account;
	char why[256] = "";
	uint64_t base = WORLD / PAGE_SIZE, tables_wanted = 4000, got = 0, got_tables = 0;

	while (try(&account, base, tables_wanted, why) != OK) {
		assert_non_null(strstr(why, "short"));
		base--;
	}
	assert_true(base > (WORLD - 28 * MIB) / PAGE_SIZE);
	assert_in_range(totals_now().guest_pages, base, base + 2 * PAGES_PER_BLOCK);
	while (got < base) {
		assert_int_equal(frame_alloc(&account, ACCOUNT_BASE, gpa(got << PAGE_SHIFT), &frames[got]), OK);
		got++;
	}
	assert_in_range(totals_now().guest_pages, 0, 2 * PAGES_PER_BLOCK);
	for (; got_tables < tables_wanted; got_tables++)
		assert_int_equal(table_alloc(&account, &tables[got_tables]), OK);
	assert_int_equal(frame_check(print_finding, NULL), 0);
	while (got)
		free_one(&account, frames[--got], ACCOUNT_BASE);
	while (got_tables)
		free_one(&account, tables[--got_tables], ACCOUNT_TABLE);
	assert_int_equal(account_close(&account), OK);
	assert_int_equal(totals_now().reserved_pages, 0);
}

/* A person can check the figures of a refusal; and with so much less asked for there is none. */
static void test_a_refusal_adds_up(void **state)
{
	unsigned long asked, table, promised, may, percent, there, missing;
	struct account one, two;
	char why[256] = "";

	account_policy(OVERCOMMIT_RATIO, 150);
	assert_int_equal(try(&one, 10 * MIB / PAGE_SIZE, MIB / PAGE_SIZE, why), OK);
	assert_int_equal(try(&two, 1000 * MIB / PAGE_SIZE, 2 * MIB / PAGE_SIZE, why), NO_MEMORY);
	assert_int_equal(
		sscanf(why,
		       "%lu MiB asked (%lu of them for tables), %lu MiB promised to other machines, and %lu MiB "
		       "may be promised in all (%lu %% of %lu MiB, less the hypervisor's own): %lu MiB short",
		       &asked, &table, &promised, &may, &percent, &there, &missing),
		7);
	assert_int_equal(asked, 1002);
	assert_int_equal(table, 2);
	assert_int_equal(promised, 11);
	assert_int_equal(percent, 150);
	assert_in_range(there, WORLD / MIB - 16, WORLD / MIB);
	assert_in_range(may, there, there * 3 / 2);
	assert_int_equal(asked + promised - may, missing);
	assert_int_equal(try(&two, (1000 - missing - 3) * MIB / PAGE_SIZE, 2 * MIB / PAGE_SIZE, why), OK);
	assert_int_equal(account_close(&one), OK);
	assert_int_equal(account_close(&two), OK);
	account_policy(OVERCOMMIT_NONE, 0);
}

/* Many small machines waste chunks of their own; their tables come all the same. */
static void test_many_machines(void **state)
{
	static struct account small[200];
	static hpa_t frame[200][30], table[200][12];
	unsigned count = 0;
	char why[256];

	while (count < 200 && try(&small[count], 30, 12, why) == OK)
		count++;
	assert_int_equal(count, 200);
	for (unsigned i = 0; i < 30; i++) {
		for (unsigned j = 0; j < count; j++)
			assert_int_equal(frame_alloc(&small[j], ACCOUNT_BASE, gpa(i << PAGE_SHIFT), &frame[j][i]), OK);
	}
	for (unsigned i = 0; i < 12; i++) {
		for (unsigned j = 0; j < count; j++)
			assert_int_equal(table_alloc(&small[j], &table[j][i]), OK);
	}
	assert_int_equal(frame_check(print_finding, NULL), 0);
	for (unsigned j = 0; j < count; j++) {
		for (unsigned i = 0; i < 30; i++)
			free_one(&small[j], frame[j][i], ACCOUNT_BASE);
		for (unsigned i = 0; i < 12; i++)
			free_one(&small[j], table[j][i], ACCOUNT_TABLE);
		assert_int_equal(account_close(&small[j]), OK);
		assert_int_equal(frame_check(print_finding, NULL), 0);
	}
	assert_int_equal(totals_now().split_chunks, 0);
}

static void test_too_many(void **state)
{
	struct account *all = calloc(MAX_OWNERS, sizeof(*all));
	char why[256];

	for (unsigned i = 1; i < OWNER_SHARED; i++) {
		assert_int_equal(try(&all[i], 0, 0, why), OK);
		assert_int_equal(all[i].owner, i);
	}
	assert_int_equal(try(&all[0], 0, 0, why), LIMIT);
	assert_non_null(strstr(why, "1022"));
	assert_int_equal(account_close(&all[77]), OK);
	assert_int_equal(try(&all[77], 0, 0, why), OK);
	assert_int_equal(all[77].owner, 77);
	for (unsigned i = 1; i < OWNER_SHARED; i++)
		assert_int_equal(account_close(&all[i]), OK);
	free(all);
}

static void test_resize(void **state)
{
	struct account *account = open_account(1000, 10, 0);
	hpa_t frames[8];
	unsigned got;

	assert_int_equal(frame_alloc_many(account, ACCOUNT_BASE, 8, frames, &got), OK);
	assert_int_equal(account_resize(account, ACCOUNT_BASE, 7), CONFLICT);
	assert_int_equal(account_resize(account, ACCOUNT_BASE, 8), OK);
	assert_int_equal(frame_alloc(account, ACCOUNT_BASE, gpa(0), &frames[0]), OVER_QUOTA);
	assert_int_equal(totals_now().reserved_pages, 18);
	assert_int_equal(account_resize(account, ACCOUNT_TABLE, 20), OK);
	assert_int_equal(totals_now().reserved_pages, 28);
	assert_int_equal(account_resize(account, ACCOUNT_BASE, WORLD / PAGE_SIZE), NO_MEMORY);
	assert_int_equal(account_adjust(account, ACCOUNT_BASE, INT64_MAX), NO_MEMORY);
	assert_int_equal(totals_now().reserved_pages, 28);
	account->ballooned = 4;
	assert_int_equal(account_resize(account, ACCOUNT_BASE, 12), OK);
	assert_int_equal(account_resize(account, ACCOUNT_BASE, 11), CONFLICT);
	assert_int_equal(frame_alloc(account, ACCOUNT_BASE, gpa(0), &frames[0]), OVER_QUOTA);
	while (got)
		free_one(account, frames[--got], ACCOUNT_BASE);
	close_account(account);
	assert_int_equal(totals_now().reserved_pages, 0);
}

static void test_policy(void **state)
{
	struct account account;
	char why[256];
	uint64_t pages = 2 * WORLD / PAGE_SIZE;

	assert_int_equal(try(&account, pages, 0, why), NO_MEMORY);
	assert_non_null(strstr(why, "128 MiB asked"));
	account_policy(OVERCOMMIT_NONE, 400);
	assert_int_equal(try(&account, pages, 0, why), NO_MEMORY);
	account_policy(OVERCOMMIT_RATIO, 400);
	assert_int_equal(try(&account, pages, 0, why), OK);
	assert_int_equal(account_close(&account), OK);
	assert_int_equal(try(&account, ~UINT64_C(0), 0, why), NO_MEMORY);
	assert_int_equal(try(&account, BIT(40), BIT(40), why), NO_MEMORY);
	account_policy(OVERCOMMIT_NONE, 0);
}

extern void (*test_lock_taken)(unsigned rank, const char *name);
static unsigned taken;

static void count_lock(unsigned rank, const char *name)
{
	taken++;
}

/* The totals are asked for often: locks for the accounts that there are, not for all that there could be. */
static void test_totals_are_cheap(void **state)
{
	struct account account;
	char why[256];

	assert_int_equal(try(&account, MIB / PAGE_SIZE, 0, why), OK);
	test_lock_taken = count_lock;
	totals_now();
	test_lock_taken = NULL;
	assert_in_range(taken, 4, 16);
	assert_int_equal(account_close(&account), OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_promise_is_kept),
		cmocka_unit_test(test_a_refusal_adds_up),
		cmocka_unit_test(test_many_machines),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_resize),
		cmocka_unit_test(test_policy),
		cmocka_unit_test(test_totals_are_cheap),
	};

	world_start(WORLD);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
