/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * Another CPU has taken translations away and not flushed yet: their entries are gone, and processors still use them. Who
 * relies on nobody having them any more finds nothing to take away, and must flush all the same.
 */
#include "common/pgm_world.h"
#include "pgm/slat/tables.h"

#define RAM (32 * MIB)
#define AT UINT64_C(0x800000)
#define ROM UINT64_C(0xe0000)
#define DEVICE UINT64_C(0xe0000000)

static struct pgm *pgm;
static struct mmio2 *region;
static handler_type write_type, all_type;

static enum status pass(void *user, struct pgm_access *access)
{
	return NOT_FOUND;
}

static void touch(uint64_t where)
{
	assert_int_equal(pgm_fault(pgm, gpa(where), ACCESS_WRITE), PGM_RESUME);
}

/* A block of single pages, all written; a region and a ROM's RAM copy as well. */
static void set_up(void)
{
	pgm = make_pgm(RAM);
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	for (uint64_t at = AT; at < AT + BLOCK_SIZE; at += PAGE_SIZE)
		touch(at);
	inject_disarm(MM_SITE_LARGE);
	assert_int_equal(pgm_mmio2_register(pgm, 8 * PAGE_SIZE, "vram", &region), OK);
	pgm_mmio2_track(pgm, region, true);
	assert_int_equal(pgm_mmio2_map(pgm, region, gpa(DEVICE)), OK);
	touch(DEVICE);
	assert_int_equal(pgm_add_shadowed_rom(pgm, gpa(ROM), PAGE_SIZE, "rom"), OK);
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM), PAGE_SIZE, ROM_READ_RAM_WRITE_RAM), OK);
	touch(ROM);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_WRITE, 0, pass, "", &write_type), OK);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_ALL, 0, pass, "", &all_type), OK);
}

static void until(enum collapse_phase phase)
{
	while (pgm->collapse.phase != phase)
		(void)pgm_collapse_step(pgm);
}

static void collapse_begins(void)
{
	until(COLLAPSE_COPY);
}

static void collapse_unmaps(void)
{
	until(COLLAPSE_UNMAP);
	flushes = 0;
	until(COLLAPSE_SWITCH);
}

static void log_starts(void)
{
	assert_int_equal(pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT), OK);
}

static void write_handler(void)
{
	assert_int_equal(pgm_handler_register(pgm, write_type, gpa(AT), gpa(AT + PAGE_SIZE - 1), NULL, ""), OK);
}

static void all_handler(void)
{
	assert_int_equal(pgm_handler_register(pgm, all_type, gpa(AT), gpa(AT + PAGE_SIZE - 1), NULL, ""), OK);
}

static void region_goes(void)
{
	pgm_mmio2_unmap(pgm, region);
}

static void region_asked(void)
{
	uint64_t bitmap = 0;

	assert_int_equal(pgm_mmio2_query_dirty(pgm, region, &bitmap, 8), OK);
	assert_int_equal(bitmap, 1);
}

static void rom_shown(void)
{
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM), PAGE_SIZE, ROM_READ_ROM_WRITE_IGNORED), OK);
}

static void dropped_again(void)
{
	pgm_tables_drop(pgm);
}

static const struct {
	const char *name;
	void (*what)(void);
} operations[] = {
	{ "a collapse before it copies", collapse_begins },
	{ "a collapse before it switches", collapse_unmaps },
	{ "the dirty log's start", log_starts },
	{ "a handler for writes", write_handler },
	{ "a handler for all", all_handler },
	{ "MMIO2 unmapped", region_goes },
	{ "MMIO2 asked what is dirty", region_asked },
	{ "ROM protected", rom_shown },
	{ "tables dropped", dropped_again },
};

static unsigned current, seen;

/* All tables are dropped, and no processor has flushed them yet. */
static void meanwhile(void)
{
	at_flush = NULL;
	flushes = 0;
	operations[current].what();
	seen = flushes;
}

static void test_pending(void **state)
{
	unsigned missed = 0;

	for (current = 0; current < ARRAY_SIZE(operations); current++) {
		set_up();
		at_flush = meanwhile;
		pgm_tables_drop(pgm);
		assert_null(at_flush);
		if (!seen)
			fprintf(stderr, "%s: no flush\n", operations[current].name);
		missed += !seen;
		end_pgm(pgm);
	}
	assert_int_equal(missed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_pending) };

	pgm_world_start(64 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
