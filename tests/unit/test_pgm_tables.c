/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/* Second-level tables looked at, counted and dropped: what the guest reads stays, and every table comes back. */
#include "common/pgm_world.h"
#include "pgm/slat/tables.h"

#define RAM (32 * MIB)
#define PAGES (RAM / PAGE_SIZE)
#define DEVICE (2 * GIB)

static struct pgm *pgm;

static struct pgm *make(const struct pt_format *format)
{
	struct pgm_config config = plain_config(RAM);

	config.slat = format;
	config.misconfig_exit = format == &pt_ept4;
	config.accessed_dirty = true;
	return make_pgm_of(&config);
}

/* The guest, through the tables. */
static void guest_put(uint64_t where, uint64_t word)
{
	hpa_t frame;

	while (!(granted(pgm, where, &frame) & ACCESS_WRITE))
		assert_int_equal(pgm_fault(pgm, gpa(where), ACCESS_WRITE), PGM_RESUME);
	*(uint64_t *)host_memory_at(hpa(frame.v + (where & (PAGE_SIZE - 1)))) = word;
	/* As the processor does it, for a log that reads dirty bits. */
	{
		unsigned level;
		uint64_t *entry = slat_find(&pgm->slat, gpa(where), &level);

		*entry |= pgm->slat.format->dirty;
	}
}

static uint64_t guest_get(uint64_t where)
{
	hpa_t frame;

	while (!(granted(pgm, where, &frame) & ACCESS_READ))
		assert_int_equal(pgm_fault(pgm, gpa(where), ACCESS_READ), PGM_RESUME);
	return *(uint64_t *)host_memory_at(hpa(frame.v + (where & (PAGE_SIZE - 1))));
}

static uint64_t leaves(const struct pgm_tables_info *info)
{
	return info->leaves[0] + info->leaves[1] + info->leaves[2];
}

/* Writes, reads and drops at random, against a plain array; with a dirty log of each kind meanwhile. */
static void random_run(const struct pt_format *format, enum dirty_mode mode, uint64_t seed)
{
	static uint64_t expected[PAGES], logged[PAGES / 64], bitmap[PAGES / 64];
	static bool written[PAGES];

	memset(expected, 0, sizeof(expected));
	memset(written, 0, sizeof(written));
	memset(logged, 0, sizeof(logged));
	pgm = make(format);
	if (mode != DIRTY_OFF)
		assert_int_equal(pgm_dirty_start(pgm, mode), OK);
	for (unsigned i = 0; i < 3000; i++) {
		uint64_t r = random_of(&seed), page = r % PAGES;

		page = page >= 160 && page < 256 ? page + 128 : page; /* no memory below 1 MiB there */
		if (r >> 40 & 1)
			inject_arm(MM_SITE_LARGE, 0, 1, 0);
		if (r >> 32 & 3) {
			guest_put(page << PAGE_SHIFT, r);
			expected[page] = r;
			written[page] = true;
		} else {
			assert_int_equal(guest_get(page << PAGE_SHIFT), expected[page]);
		}
		inject_disarm(MM_SITE_LARGE);
		if (!(r >> 48 & 31))
			pgm_tables_drop(pgm);
		if (!(r >> 48 & 63))
			(void)pgm_collapse_step(pgm);
		if (mode == DIRTY_OFF || (r >> 56 & 15))
			continue;
		assert_int_equal(pgm_dirty_read_and_clear(pgm, 0, PAGES, bitmap), OK);
		for (unsigned w = 0; w < PAGES / 64; w++)
			logged[w] |= bitmap[w];
	}
	pgm_tables_drop(pgm);
	if (mode != DIRTY_OFF) {
		assert_int_equal(pgm_dirty_read_and_clear(pgm, 0, PAGES, bitmap), OK);
		for (unsigned p = 0; p < PAGES; p++)
			if (written[p] && !((logged[p / 64] | bitmap[p / 64]) >> p % 64 & 1))
				fail_msg("%s: the log lost page %u", format->name, p);
		assert_int_equal(pgm_dirty_stop(pgm), OK);
	}
	for (unsigned p = 0; p < PAGES; p++)
		if (written[p])
			assert_int_equal(guest_get((uint64_t)p << PAGE_SHIFT), expected[p]);
	end_pgm(pgm);
}

static void test_random_drops(void **state)
{
	for (uint64_t seed = 1; seed <= 6; seed++)
		for (enum dirty_mode mode = DIRTY_OFF; mode < DIRTY_MODES; mode++)
			if (mode == DIRTY_OFF || mode == DIRTY_ACCESSED_DIRTY || mode == DIRTY_WRITE_PROTECT)
				random_run(seed & 1 ? &pt_ept4 : &pt_npt4, mode, seed * 77 + mode);
}

/* Marks of MMIO can be made again for ever, however often the tables went. */
static enum status pass(void *user, struct pgm_access *access)
{
	return NOT_FOUND;
}

static void test_drop_and_marks(void **state)
{
	struct pgm_tables_info info;
	handler_type type;

	pgm = make(&pt_ept4);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_MMIO, 0, pass, "", &type), OK);
	assert_int_equal(pgm_handler_register(pgm, type, gpa(DEVICE), gpa(DEVICE + PAGE_SIZE - 1), NULL, ""), OK);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(pgm_fault(pgm, gpa(DEVICE), ACCESS_READ), PGM_EMULATE);
		pgm_tables_describe(pgm, &info);
		assert_int_equal(info.marks, 1);
		pgm_tables_drop(pgm);
		pgm_tables_describe(pgm, &info);
		assert_int_equal(info.marks + leaves(&info), 0);
	}
	end_pgm(pgm);
}

static void drop_once_more(void)
{
	at_flush = NULL;
	pgm_tables_drop(pgm);
}

/* Two processors drop the tables at the same time; marks can still be made. */
static void test_drop_twice_at_once(void **state)
{
	handler_type type;
	uint64_t marks;

	pgm = make(&pt_ept4);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_MMIO, 0, pass, "", &type), OK);
	assert_int_equal(pgm_handler_register(pgm, type, gpa(DEVICE), gpa(DEVICE + 4 * MIB - 1), NULL, ""), OK);
	assert_int_equal(pgm_fault(pgm, gpa(DEVICE), ACCESS_READ), PGM_EMULATE);
	at_flush = drop_once_more;
	pgm_tables_drop(pgm);
	assert_null(at_flush);
	marks = pgm->common.counters.misconfig_marks;
	assert_int_equal(pgm_fault(pgm, gpa(DEVICE + 2 * MIB), ACCESS_READ), PGM_EMULATE);
	assert_int_equal(pgm->common.counters.misconfig_marks, marks + 1);
	end_pgm(pgm);
}

/*
 * A mark is no leaf, though it has bits of one: the log, on and off, with and without memory for its bitmap, must leave it as it
 * is. Without its bit to write it would let the guest execute what lies at the host's address 0.
 */
static void log_beside_marks(enum dirty_mode mode, bool memory)
{
	static uint64_t bitmap[PAGES / 64];
	const uint64_t device = 0xb8000;
	unsigned level;
	uint64_t *entry;
	handler_type type;

	pgm = make(&pt_ept4);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_MMIO, 0, pass, "", &type), OK);
	assert_int_equal(pgm_handler_register(pgm, type, gpa(0xa0000), gpa(0xbffff), NULL, "vga"), OK);
	guest_put(0x1000, 1);
	assert_int_equal(pgm_fault(pgm, gpa(device), ACCESS_READ), PGM_EMULATE);
	entry = slat_find(&pgm->slat, gpa(device), &level);
	assert_true(misconfig_is_mark(pgm, *entry));
	assert_int_equal(pgm_dirty_start(pgm, mode), OK);
	assert_true(misconfig_is_mark(pgm, *entry));
	if (!memory)
		inject_arm(MM_SITE_TABLE, 0, 1, 0);
	guest_put(0x1000, 2);
	assert_int_equal(pgm_dirty_read_and_clear(pgm, 0, PAGES, bitmap), OK);
	inject_disarm(MM_SITE_TABLE);
	assert_true(misconfig_is_mark(pgm, *entry));
	check_silent(pgm);
	assert_int_equal(pgm_dirty_stop(pgm), OK);
	assert_true(misconfig_is_mark(pgm, *entry));
	end_pgm(pgm);
}

static void test_log_beside_marks(void **state)
{
	for (unsigned memory = 0; memory < 2; memory++) {
		log_beside_marks(DIRTY_WRITE_PROTECT, memory);
		log_beside_marks(DIRTY_ACCESSED_DIRTY, memory);
	}
}

/* RAM comes where a device's marks once were: the table that they stood in goes. */
static void test_ram_after_marks(void **state)
{
	handler_type type;

	pgm = make(&pt_ept4);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_MMIO, 0, pass, "", &type), OK);
	assert_int_equal(pgm_handler_register(pgm, type, gpa(8 * GIB), gpa(8 * GIB + 4 * MIB - 1), NULL, ""), OK);
	assert_int_equal(pgm_fault(pgm, gpa(8 * GIB), ACCESS_READ), PGM_EMULATE);
	assert_int_equal(pgm_fault(pgm, gpa(8 * GIB + 2 * MIB), ACCESS_READ), PGM_EMULATE);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(8 * GIB)), OK);
	assert_int_equal(pgm_add_ram(pgm, gpa(8 * GIB), 4 * MIB, "more"), OK);
	assert_int_equal(guest_get(8 * GIB), 0);
	guest_put(8 * GIB + 2 * MIB, 5);
	assert_int_equal(guest_get(8 * GIB + 2 * MIB), 5);
	end_pgm(pgm);
}

static void test_counts(void **state)
{
	struct pgm_table_step step[PT_MAX_LEVELS];
	struct pgm_tables_info info;
	uint64_t tables;

	pgm = make(&pt_npt4);
	guest_put(4 * MIB, 1);
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	guest_put(8 * MIB, 1);
	guest_put(8 * MIB + 5 * PAGE_SIZE, 1);
	inject_disarm(MM_SITE_LARGE);
	pgm_tables_describe(pgm, &info);
	assert_true(info.tables[3] == 1 && info.tables[2] == 1 && info.tables[1] == 1 && info.tables[0] == 1);
	assert_true(info.leaves[1] == 1 && info.leaves[0] == 2 && info.leaves[2] == 0);
	assert_int_equal(info.record_frames, 2);
	tables = pgm->slat.tables;
	assert_int_equal(pgm_tables_walk(pgm, gpa(8 * MIB + 5 * PAGE_SIZE), step), 4);
	assert_true(step[0].level == 3 && step[3].level == 0);
	assert_true(step[3].rights == RWX && step[2].rights == 0);
	assert_int_equal(step[0].where.v & ~(PAGE_SIZE - 1), pgm->slat.root.v);
	assert_int_equal(pgm_tables_walk(pgm, gpa(4 * MIB), step), 3);
	assert_true(step[2].level == 1 && step[2].rights == RWX);
	assert_int_equal(pgm_tables_walk(pgm, gpa(GIB * 700), step), 1);
	assert_int_equal(step[0].entry, 0);
	flushes = 0;
	pgm_tables_drop(pgm);
	assert_int_equal(flushes, 1);
	assert_int_equal(pgm->slat.tables, tables - 1); /* the upper ones stay */
	pgm_tables_describe(pgm, &info);
	assert_int_equal(leaves(&info), 0);
	assert_int_equal(guest_get(8 * MIB), 1);
	end_pgm(pgm);
}

static void found(void *context, const char *line)
{
	++*(unsigned *)context;
}

static void test_check_page(void **state)
{
	unsigned lines = 0, level;
	uint64_t *entry;

	pgm = make(&pt_ept4);
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	guest_put(8 * MIB, 1);
	guest_put(8 * MIB + PAGE_SIZE, 1);
	inject_disarm(MM_SITE_LARGE);
	entry = slat_find(&pgm->slat, gpa(8 * MIB), &level);
	*entry ^= 0x4000;
	assert_true(pgm_check_page(pgm, gpa(8 * MIB + 5), found, &lines) > 0);
	assert_true(lines > 0);
	assert_int_equal(pgm_check_page(pgm, gpa(8 * MIB + PAGE_SIZE), found, &lines), 0);
	assert_int_equal(pgm_check_page(pgm, gpa(900 * GIB), found, &lines), 0);
	*entry ^= 0x4000;
	end_pgm(pgm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_drops),       cmocka_unit_test(test_drop_and_marks),
		cmocka_unit_test(test_drop_twice_at_once), cmocka_unit_test(test_ram_after_marks),
		cmocka_unit_test(test_log_beside_marks),   cmocka_unit_test(test_counts),
		cmocka_unit_test(test_check_page),
	};

	pgm_world_start(96 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
