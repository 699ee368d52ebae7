/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/* Birth, ranges and end of a machine's memory: admission and its texts, limits, and every failure on the way. */
#include "common/pgm_world.h"

#define WORLD (64 * MIB)

static enum status try_create(const struct pgm_config *config, char *why, size_t size)
{
	struct pgm *pgm = NULL;
	enum status status = pgm_create(&pgm, config, count_flush, NULL, why, size);

	for (unsigned site = 0; site < MM_SITES; site++)
		inject_disarm((enum mm_site)site);
	if (status == OK)
		end_pgm(pgm);
	return status;
}

static void test_bounds(void **state)
{
	static const struct {
		uint64_t ram, hole;
		uint32_t handlers;
		enum status status;
		const char *text;
	} cases[] = {
		{ MIB, 0, 0, OK, "" },
		{ MIB - PAGE_SIZE, 0, 0, BAD_VALUE, "1 MiB to 32 TiB" },
		{ 2 * MIB + 1, 0, 0, BAD_VALUE, "whole pages" },
		{ 32 * GIB * KIB + PAGE_SIZE, 0, 0, BAD_VALUE, "32 TiB" },
		{ 0, 0, 0, BAD_VALUE, "1 MiB" },
		{ 16 * MIB, 31 * MIB, 0, BAD_VALUE, "ram_hole" },
		{ 16 * MIB, 32 * MIB, 32, OK, "" },
		{ 16 * MIB, 4 * GIB - 16 * MIB, 65536, OK, "" },
		{ 16 * MIB, 4 * GIB - 14 * MIB, 0, BAD_VALUE, "ram_hole" },
		{ 16 * MIB, 64 * MIB + PAGE_SIZE, 0, BAD_VALUE, "whole blocks" },
		{ 16 * MIB, 0, 31, BAD_VALUE, "max_access_handlers" },
		{ 16 * MIB, 0, 65537, BAD_VALUE, "65536" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct pgm_config config = plain_config(cases[i].ram);
		char why[200] = "";
		enum status status;

		config.ram_hole = cases[i].hole;
		config.max_access_handlers = cases[i].handlers;
		status = try_create(&config, why, sizeof(why));
		if (status != cases[i].status || (status != OK && !strstr(why, cases[i].text)))
			fail_msg("case %u: %s: %s", i, status_text(status), why);
	}
}

static void test_admission(void **state)
{
	struct pgm_config config = plain_config(16 * GIB);
	char why[200] = "";

	account_policy(OVERCOMMIT_NONE, 100);
	assert_int_equal(try_create(&config, why, sizeof(why)), LIMIT);
	assert_non_null(strstr(why, "asked"));
	assert_non_null(strstr(why, "short"));
	config.ram = 20 * MIB;
	assert_int_equal(try_create(&config, why, sizeof(why)), OK);
	account_policy(OVERCOMMIT_RATIO, 10000);
}

static void test_ranges_of_ram(void **state)
{
	static const struct {
		uint64_t ram, hole;
		unsigned count;
		uint64_t last_base, last_size;
	} cases[] = {
		{ MIB, 0, 1, 0, 0xa0000 },
		{ 64 * MIB, 0, 2, MIB, 63 * MIB },
		{ 3584 * MIB, 0, 2, MIB, 3583 * MIB },
		{ 3584 * MIB + PAGE_SIZE, 0, 3, 4 * GIB, PAGE_SIZE },
		{ 5 * GIB, GIB, 3, 4 * GIB, 2 * GIB },
		{ 64 * MIB, 4080 * MIB, 3, 4 * GIB, 48 * MIB },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct pgm_config config = plain_config(cases[i].ram);
		struct pgm_range range;
		unsigned count = 0;
		struct pgm *pgm;

		config.ram_hole = cases[i].hole;
		pgm = make_pgm_of(&config);
		while (pgm_range_get(pgm, count, &range))
			count++;
		assert_int_equal(count, cases[i].count);
		assert_true(pgm_range_get(pgm, count - 1, &range));
		assert_int_equal(range.base, cases[i].last_base);
		assert_int_equal(range.size, cases[i].last_size);
		assert_int_equal(range.type, PAGE_RAM);
		assert_true(pgm_range_find(pgm, gpa(range.base + range.size - 1), &range));
		assert_false(pgm_range_find(pgm, gpa(range.base + range.size), &range));
		assert_false(pgm_range_find(pgm, gpa(0xa0000), &range));
		assert_int_equal(pgm_ram_bytes(pgm), cases[i].ram);
		end_pgm(pgm);
	}
}

static void test_adding(void **state)
{
	struct pgm *pgm = make_pgm(16 * MIB);
	unsigned added = 0;
	enum status status;

	assert_int_equal(pgm_add_rom(pgm, gpa(0xa0000 - PAGE_SIZE), 2 * PAGE_SIZE, "over"), CONFLICT);
	assert_int_equal(pgm_add_rom(pgm, gpa(0x9f000), PAGE_SIZE, "in"), CONFLICT);
	assert_int_equal(pgm_add_rom(pgm, gpa(0xff000), 2 * PAGE_SIZE, "end over"), CONFLICT);
	assert_int_equal(pgm_add_rom(pgm, gpa(0xe0000), 0, "none"), BAD_VALUE);
	assert_int_equal(pgm_add_rom(pgm, gpa(0xe0100), PAGE_SIZE, "odd"), BAD_VALUE);
	assert_int_equal(pgm_add_rom(pgm, gpa(0xe0000), PAGE_SIZE + 1, "odd"), BAD_VALUE);
	assert_int_equal(pgm_add_ram(pgm, gpa(PGM_MAX_GPA - PAGE_SIZE), 2 * PAGE_SIZE, "top"), BAD_VALUE);
	assert_int_equal(pgm_add_ram(pgm, gpa(0), UINT64_MAX & ~(PAGE_SIZE - 1), "all"), BAD_VALUE);
	/* The directory reaches to 4 GiB and 64 more here: memory above could never be written. */
	assert_int_equal(pgm_add_ram(pgm, gpa(68 * GIB), MIB, "above"), BAD_VALUE);
	assert_int_equal(pgm_add_rom(pgm, gpa(0xe0000), 0x20000, "a name that is too long"), OK);
	for (uint64_t at = 3 * GIB; (status = pgm_add_ram(pgm, gpa(at), PAGE_SIZE, "x")) == OK; at += 2 * PAGE_SIZE)
		added++;
	assert_int_equal(status, LIMIT);
	assert_int_equal(added, PGM_MAX_RANGES - 3);
	end_pgm(pgm);
}

/* A range that comes when its block has records already must be in them. */
static void test_adding_late(void **state)
{
	struct pgm *pgm = make_pgm(16 * MIB);
	uint8_t bytes[4] = { 1, 2, 3, 4 }, back[4];

	assert_int_equal(pgm_write(pgm, gpa(0x1000), bytes, 4, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(pgm_add_rom(pgm, gpa(0xe0000), 0x20000, "late"), OK);
	assert_int_equal(pgm_rom_load(pgm, gpa(0xe1ffe), bytes, 4), OK);
	assert_int_equal(pgm_read(pgm, gpa(0xe1ffe), back, 4, ORIGIN_GUEST, NULL), OK);
	assert_memory_equal(bytes, back, 4);
	assert_int_equal(pgm_fault(pgm, gpa(0xe1000), ACCESS_READ), PGM_RESUME);
	assert_int_equal(pgm_fault(pgm, gpa(0xe1000), ACCESS_WRITE), PGM_EMULATE);
	assert_int_equal(pgm_rom_load(pgm, gpa(0xfffff), bytes, 2), BAD_ADDRESS);
	assert_int_equal(pgm_rom_load(pgm, gpa(0xe1000), bytes, UINT64_MAX), BAD_ADDRESS);
	assert_int_equal(pgm_rom_load(pgm, gpa(0x1000), bytes, 2), BAD_ADDRESS);
	end_pgm(pgm);
}

/* Each allocation of creation fails once: a text, and nothing is left behind. */
static void test_no_memory(void **state)
{
	struct pgm_config config = plain_config(16 * MIB);

	for (unsigned site = 0; site < MM_SITES; site++) {
		for (unsigned after = 0; after < 12; after++) {
			struct frame_totals old = totals_now(), new;
			char why[200] = "";
			enum status status;

			inject_arm((enum mm_site)site, after, 0, 0);
			status = try_create(&config, why, sizeof(why));
			assert_true(status == OK || (status == NO_MEMORY && why[0]));
			new = totals_now();
			assert_int_equal(new.table_pages, old.table_pages);
			assert_int_equal(new.private_pages, old.private_pages);
			assert_int_equal(new.reserved_pages, old.reserved_pages);
		}
	}
	assert_int_equal(frame_check(print_finding, NULL), 0);
}

/* A frame that isn't given back: the end says so, once, and mm still knows the account. */
static void test_leak(void **state)
{
	struct pgm *pgm = make_pgm(16 * MIB);
	struct account *account = pgm_account(pgm);
	enum status status;
	hpa_t leaked;

	assert_int_equal(table_alloc(account, &leaked), OK);
	while ((status = pgm_destroy_step(pgm)) == BUSY)
		;
	assert_int_equal(status, BAD_STATE);
	assert_int_equal(frame_check(print_finding, NULL), 0);
	free_one(account, leaked, ACCOUNT_TABLE);
	assert_int_equal(account_close(account), OK);
	heap_free(pgm, sizeof(*pgm));
}

/* 1 TiB of memory that nobody touches, and one page at its end. */
static void test_huge(void **state)
{
	struct pgm_config config = plain_config(KIB * GIB);
	struct pgm *pgm;
	uint64_t word = 0x1122334455667788, back = 0;

	account_policy(OVERCOMMIT_RATIO, 100000000);
	pgm = make_pgm_of(&config);
	assert_int_equal(table_pages_of(pgm), 1);
	assert_int_equal(pgm_write(pgm, gpa(KIB * GIB - 8), &word, 8, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(pgm_read(pgm, gpa(KIB * GIB - 8), &back, 8, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(word, back);
	assert_true(table_pages_of(pgm) <= 3);
	end_pgm(pgm);
	account_policy(OVERCOMMIT_RATIO, 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bounds), cmocka_unit_test(test_admission),   cmocka_unit_test(test_ranges_of_ram),
		cmocka_unit_test(test_adding), cmocka_unit_test(test_adding_late), cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_leak),   cmocka_unit_test(test_huge),
	};

	pgm_world_start(WORLD);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
