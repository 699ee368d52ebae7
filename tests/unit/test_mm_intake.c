/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/intake.c mm/early.c mm/map.c lib/format.c
/* The firmware's memory map: what is taken, what is refused and why, and what early_alloc() makes of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mm/intake.h"
#include "mm/map.h"

#define STRIDE 48u
#define RAM 7u
#define RESERVED 0u
#define LIMIT_AT BIT(46)

static struct memory_layout layout;
static uint8_t map[5000 * STRIDE + 8];
static uint64_t map_size;
static char why[200];

static void map_clear(void)
{
	map_size = 0;
	memset(map, 0xaa, sizeof(map));
}

static void map_add(uint32_t type, uint64_t base, uint64_t pages, uint64_t attributes)
{
	uint64_t entry[5] = { type, base, 0, pages, attributes };

	memcpy(map + map_size, entry, sizeof(entry));
	map_size += STRIDE;
}

static enum status parse(const struct memory_range *keep, unsigned count)
{
	why[0] = 0;
	return intake_parse(map, map_size, STRIDE, keep, count, LIMIT_AT, &layout, why, sizeof(why));
}

static void expect_range(unsigned index, uint64_t base, uint64_t end)
{
	assert_true(index < layout.count);
	assert_int_equal(layout.usable[index].base, base);
	assert_int_equal(layout.usable[index].base + layout.usable[index].size, end);
}

static void test_types(void **state)
{
	static const bool taken[18] = { [1] = true, [2] = true, [3] = true, [4] = true, [7] = true };

	for (unsigned type = 0; type < 18; type++) {
		map_clear();
		map_add(type, 16 * MIB, 256, 0xf);
		assert_int_equal(parse(NULL, 0), OK);
		assert_int_equal(layout.count, taken[type]);
	}
}

static void test_attributes(void **state)
{
	map_clear();
	map_add(RAM, 16 * MIB, 256, 0xf | BIT(18));
	map_add(RAM, 32 * MIB, 256, 0xf | BIT(15));
	map_add(5, 48 * MIB, 256, 0xf | BIT(63));
	assert_int_equal(parse(NULL, 0), OK);
	assert_int_equal(layout.count, 0);
	assert_int_equal(layout.reserved_bytes, 2 * MIB);
	assert_int_equal(layout.runtime_bytes, MIB);
}

static void test_sorts_and_merges(void **state)
{
	map_clear();
	map_add(RAM, 64 * MIB, 256, 0);
	map_add(3, 16 * MIB, 256, 0);
	map_add(4, 18 * MIB, 256, 0);
	map_add(1, 17 * MIB, 256, 0);
	map_add(0, 19 * MIB, 256, 0);
	map_add(11, 0xfee00000, 1, 0);
	assert_int_equal(parse(NULL, 0), OK);
	assert_int_equal(layout.count, 2);
	expect_range(0, 16 * MIB, 19 * MIB);
	expect_range(1, 64 * MIB, 65 * MIB);
	assert_int_equal(layout.usable_bytes, 4 * MIB);
	assert_int_equal(layout.reserved_bytes, MIB);
	assert_int_equal(layout.mmio_bytes, PAGE_SIZE);
	assert_int_equal(layout.top, 65 * MIB);
}

static void test_keeps_out(void **state)
{
	static const struct memory_range keep[] = {
		{ 20 * MIB + 5, 10 },  /* less than a page: its page */
		{ 15 * MIB, 2 * MIB }, /* over the start */
		{ 31 * MIB, 8 * MIB }, /* over the end */
		{ 50 * MIB, MIB },     /* all of a range */
		{ 90 * MIB, MIB },     /* touches nothing */
		{ 1, 0 },              /* empty */
	};

	map_clear();
	map_add(RAM, 0, 160, 0);
	map_add(RAM, 160 * PAGE_SIZE, 352, 0);
	map_add(RAM, 16 * MIB, 4096, 0);
	map_add(RAM, 50 * MIB, 256, 0);
	assert_int_equal(parse(keep, 6), OK);
	assert_int_equal(layout.count, 3);
	expect_range(0, MIB, 2 * MIB); /* nothing of the first MiB */
	expect_range(1, 17 * MIB, 20 * MIB);
	expect_range(2, 20 * MIB + PAGE_SIZE, 31 * MIB);
	assert_int_equal(layout.usable_bytes, 15 * MIB - PAGE_SIZE);
	assert_int_equal(layout.warnings, 0);
	assert_int_equal(layout.top, 51 * MIB);
}

/* Firmware's slips: each is told once, and costs no more than what it is about. */
static void test_slips(void **state)
{
	static const struct {
		uint64_t base, pages;
		uint64_t ram_from, ram_to;           /* what is usable if the second entry is RAM */
		uint64_t rest_from, rest_to, second; /* and if it is reserved: up to rest_to, and again from `second` */
	} cases[] = {
#define UNHARMED 16 * MIB, 17 * MIB, 16 * MIB, 17 * MIB, 0
		{ 0x101001, 1, UNHARMED },
		{ 2 * MIB, 0, UNHARMED },
		{ 16 * MIB, 0, UNHARMED },
		{ ~UINT64_C(0) - 4095, 1, UNHARMED },
		{ 0xfffffffff000, ~UINT64_C(0), UNHARMED },
		{ BIT(52), 1, UNHARMED },
		{ 0x1000, BIT(52), UNHARMED },
		{ BIT(51), BIT(40), UNHARMED },
#undef UNHARMED
		{ 17 * MIB - PAGE_SIZE, 2, 16 * MIB, 17 * MIB + PAGE_SIZE, 16 * MIB, 17 * MIB - PAGE_SIZE, 0 },
		{ 16 * MIB - PAGE_SIZE, 2, 16 * MIB - PAGE_SIZE, 17 * MIB, 16 * MIB + PAGE_SIZE, 17 * MIB, 0 },
		{ 15 * MIB, 1024, 15 * MIB, 19 * MIB, 0, 0, 0 },
		{ 16 * MIB, 256, 16 * MIB, 17 * MIB, 0, 0, 0 },
		{ 16 * MIB + PAGE_SIZE, 1, 16 * MIB, 17 * MIB, 16 * MIB, 16 * MIB + PAGE_SIZE,
		  16 * MIB + 2 * PAGE_SIZE },
	};

	for (unsigned i = 0; i < 4 * ARRAY_SIZE(cases); i++) {
		uint32_t type = i % 2 ? RAM : RESERVED;
		unsigned n = i / 4;

		map_clear();
		if (i & 2)
			map_add(type, cases[n].base, cases[n].pages, 0);
		map_add(RAM, 16 * MIB, 256, 0);
		if (!(i & 2))
			map_add(type, cases[n].base, cases[n].pages, 0);
		assert_int_equal(parse(NULL, 0), OK);
		assert_int_equal(layout.warnings, 1);
		if (type == RAM || cases[n].rest_to)
			expect_range(0, type == RAM ? cases[n].ram_from : cases[n].rest_from,
				     type == RAM ? cases[n].ram_to : cases[n].rest_to);
		else
			assert_int_equal(layout.count, 0);
		if (type == RESERVED && cases[n].second)
			expect_range(1, cases[n].second, 17 * MIB);
	}
}

/* What the direct map has no place for. */
static void test_beyond_reach(void **state)
{
	map_clear();
	map_add(RAM, LIMIT_AT - 4 * PAGE_SIZE, 8, 0);
	map_add(RAM, LIMIT_AT + MIB, 256, 0);
	map_add(RAM, BIT(52) - PAGE_SIZE, 1, 0);
	map_add(RESERVED, LIMIT_AT + 4 * MIB, 256, 0);
	assert_int_equal(parse(NULL, 0), OK);
	assert_int_equal(layout.count, 1);
	expect_range(0, LIMIT_AT - 4 * PAGE_SIZE, LIMIT_AT);
	assert_int_equal(layout.top, LIMIT_AT);
	assert_int_equal(layout.warnings, 3);
}

static void test_bad_sizes(void **state)
{
	static const uint64_t sizes[][2] = { { 48, 39 }, { 48, 0 }, { 0, 48 }, { 47, 48 }, { 49, 48 }, { 96, 64 } };

	map_clear();
	map_add(RAM, 16 * MIB, 256, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		assert_int_equal(
			intake_parse(map, sizes[i][0], sizes[i][1], NULL, 0, LIMIT_AT, &layout, why, sizeof(why)),
			BAD_FORMAT);
	/* An unaligned map, and one that a short buffer must explain. */
	memmove(map + 1, map, STRIDE);
	assert_int_equal(intake_parse(map + 1, STRIDE, STRIDE, NULL, 0, LIMIT_AT, &layout, why, sizeof(why)), OK);
	assert_int_equal(layout.count, 1);
	assert_int_equal(intake_parse(map + 1, 7, STRIDE, NULL, 0, LIMIT_AT, &layout, why, 4), BAD_FORMAT);
	assert_int_equal(strlen(why), 3);
}

/* More pieces than there is room for: the smaller ones are done without. */
static void test_limits(void **state)
{
	static const struct memory_range wraps = { 16 * MIB, ~UINT64_C(0) };
	static const struct memory_range hole = { 3 * MIB, PAGE_SIZE };
	static const struct memory_range inside = { 2 * MIB + PAGE_SIZE, 1 };

	map_clear();
	for (unsigned i = 0; i < INTAKE_MAX_RANGES; i++)
		map_add(RAM, 2 * MIB + 8 * i * PAGE_SIZE, 4, 0);
	assert_int_equal(parse(NULL, 0), OK);
	assert_int_equal(layout.count, INTAKE_MAX_RANGES);
	assert_int_equal(parse(&inside, 1), OK);
	assert_int_equal(layout.count, INTAKE_MAX_RANGES);
	expect_range(0, 2 * MIB + 2 * PAGE_SIZE, 2 * MIB + 4 * PAGE_SIZE);
	assert_int_equal(parse(&hole, 1), OK);
	assert_int_equal(parse(&wraps, 1), BAD_FORMAT);
	assert_non_null(strstr(why, "wraps"));
	map_add(RAM, 512 * MIB, 1, 0);
	assert_int_equal(parse(NULL, 0), OK);
	assert_int_equal(layout.count, INTAKE_MAX_RANGES);
	assert_int_equal(layout.warnings, 1);
	map_clear();
	for (unsigned i = 0; i < 4097; i++)
		map_add(0, 2 * MIB + i * PAGE_SIZE, 1, 0);
	assert_int_equal(parse(NULL, 0), LIMIT);
	assert_non_null(strstr(why, "4097"));
}

static void test_exclude(void **state)
{
	struct memory_layout layout = { .count = 2,
					.usable_bytes = 6 * MIB,
					.usable = { { 0, 4 * MIB }, { 8 * MIB, 2 * MIB } } };

	(void)state;
	assert_int_equal(intake_exclude(&layout, MIB, MIB), MIB);
	assert_int_equal(layout.count, 3);
	assert_true(layout.usable[0].size == MIB && layout.usable[1].base == 2 * MIB &&
		    layout.usable[1].size == 2 * MIB);
	assert_int_equal(layout.usable_bytes, 5 * MIB);
	/* Over the end of one range and the whole of the next. */
	assert_int_equal(intake_exclude(&layout, 3 * MIB, 16 * MIB), 3 * MIB);
	assert_int_equal(layout.count, 2);
	assert_true(layout.usable[1].base == 2 * MIB && layout.usable[1].size == MIB);
	assert_true(layout.usable_bytes == 2 * MIB);
	assert_int_equal(intake_exclude(&layout, 64 * MIB, MIB), 0);
	assert_int_equal(layout.count, 2);
}

static void test_early_alloc(void **state)
{
	uint64_t sum = 0;
	hpa_t a, b, c;

	direct_map = aligned_alloc(MIB, 4 * MIB);
	memset(direct_map, 0xcc, 4 * MIB);
	map_clear();
	map_add(RAM, MIB, 4, 0);
	map_add(RAM, 2 * MIB, 300, 0);
	assert_int_equal(parse(NULL, 0), OK);
	a = early_alloc(&layout, PAGE_SIZE, PAGE_SIZE);
	assert_int_equal(a.v, 2 * MIB + 299 * PAGE_SIZE);
	b = early_alloc(&layout, 2 * PAGE_SIZE, MIB); /* leaves a gap above, which stays usable */
	assert_int_equal(b.v, 3 * MIB);
	c = early_alloc(&layout, PAGE_SIZE, PAGE_SIZE);
	assert_int_equal(c.v, 2 * MIB + 298 * PAGE_SIZE);
	for (unsigned i = 0; i < 2 * PAGE_SIZE; i++)
		assert_int_equal(direct_map[b.v + i], 0);
	assert_int_equal(direct_map[b.v - 1], 0xcc);
	assert_true(hpa_is_none(early_alloc(&layout, 4 * MIB, PAGE_SIZE)));
	assert_true(hpa_is_none(early_alloc(&layout, 0, PAGE_SIZE)));
	for (unsigned i = 0; i < layout.count; i++)
		sum += layout.usable[i].size / PAGE_SIZE;
	assert_int_equal(sum, 304 - 4);
	while (!hpa_is_none(early_alloc(&layout, PAGE_SIZE, PAGE_SIZE)))
		sum--;
	assert_int_equal(sum, 0);
	assert_int_equal(layout.count, 0);
	free(direct_map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_attributes),
		cmocka_unit_test(test_sorts_and_merges),
		cmocka_unit_test(test_keeps_out),
		cmocka_unit_test(test_slips),
		cmocka_unit_test(test_beyond_reach),
		cmocka_unit_test(test_bad_sizes),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_early_alloc),
		cmocka_unit_test(test_exclude),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
