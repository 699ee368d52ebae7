/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * Attack 4, devices: each operation on handlers, ROM, MMIO2, the dirty log and the A20 gate with an allocation failing
 * at every site.
 */
#include "common/shadow_view.h"
#include "sweep_world.h"

static uint8_t user_a, user_b;

/* ---- handlers ---- */
static enum status put_handler(handler_type type, uint64_t first, uint64_t pages)
{
	return pgm_handler_register(pgm, type, gpa(first), gpa(first + pages * PAGE_SIZE - 1), &user_a, "swept");
}

static enum status register_large(void)
{
	return put_handler(all_type, LARGE_AT + 9 * PAGE_SIZE, 3);
}

static enum status register_fresh(void)
{
	return put_handler(write_type, FRESH_AT, 1);
}

static enum status register_many(void)
{
	return put_handler(all_type, LARGE_AT, 2);
}

static enum status register_blocks(void)
{
	enum status status = put_handler(write_type, 8 * MIB - 3 * PAGE_SIZE, 1500);

	while (status == BUSY)
		status = pgm_handlers_step(pgm);
	return status;
}

static enum status register_with_large(void)
{
	return put_handler(write_type, LARGE_AT - PAGE_SIZE, 514);
}

static enum status register_rom(void)
{
	return put_handler(write_type, ROM_AT, ROM_PAGES);
}

static enum status register_mmio(void)
{
	return put_handler(mmio_type, MMIO_AT + 8 * PAGE_SIZE, 2);
}

static enum status deregister(void)
{
	return pgm_handler_deregister(pgm, gpa(HANDLED_AT));
}

static enum status deregister_mmio(void)
{
	return pgm_handler_deregister(pgm, gpa(MMIO_AT));
}

static enum status modify(void)
{
	return pgm_handler_modify(pgm, gpa(HANDLED_AT), gpa(LARGE_AT), gpa(LARGE_AT + 3 * PAGE_SIZE - 1));
}

static enum status split(void)
{
	return pgm_handler_split(pgm, gpa(HANDLED_AT), gpa(HANDLED_AT + PAGE_SIZE + 16));
}

static void is_split(void)
{
	assert_int_equal(split(), OK);
}

static enum status join(void)
{
	return pgm_handler_join(pgm, gpa(HANDLED_AT), gpa(HANDLED_AT + PAGE_SIZE + 16));
}

static enum status page_off(void)
{
	return pgm_handler_page_off(pgm, gpa(HANDLED_AT), gpa(HANDLED_AT + PAGE_SIZE));
}

static void is_off(void)
{
	assert_int_equal(page_off(), OK);
}

static enum status reset_handler(void)
{
	return pgm_handler_reset(pgm, gpa(HANDLED_AT));
}

static enum status alias_mmio2(void)
{
	return pgm_handler_alias_mmio2(pgm, gpa(MMIO_AT), gpa(MMIO_AT + PAGE_SIZE), gpa(MMIO2_AT + PAGE_SIZE));
}

static enum status alias_frame(void)
{
	return pgm_handler_alias_frame(pgm, gpa(MMIO_AT), gpa(MMIO_AT + 2 * PAGE_SIZE), pgm_zero_block);
}

static void is_aliased(void)
{
	assert_int_equal(alias_frame(), OK);
}

static enum status reset_alias(void)
{
	return pgm_handler_reset(pgm, gpa(MMIO_AT));
}

static enum status change_user(void)
{
	return pgm_handler_change_user(pgm, gpa(HANDLED_AT), &user_b);
}

static enum status register_type(void)
{
	handler_type type;

	return pgm_handler_type_register(pgm, HANDLER_KIND_ALL, 0, take_none, "swept", &type);
}

static enum status deregister_type(void)
{
	return pgm_handler_type_deregister(pgm, all_type);
}

/* ---- ROM ---- */
#define NEW_ROM (ROM_AT - 32 * MIB)

static enum status add_rom(void)
{
	return pgm_add_rom(pgm, gpa(NEW_ROM), 200 * PAGE_SIZE, "rom 2");
}

static enum status add_shadowed_rom(void)
{
	return pgm_add_shadowed_rom(pgm, gpa(NEW_ROM), 200 * PAGE_SIZE, "rom 2");
}

static void second_rom(void)
{
	assert_int_equal(pgm_add_shadowed_rom(pgm, gpa(NEW_ROM + 2 * MIB - 2 * PAGE_SIZE), 4 * PAGE_SIZE, "rom 2"), OK);
}

static enum status load_rom(void)
{
	return pgm_rom_load(pgm, gpa(NEW_ROM + 2 * MIB - 100), rom_bytes, sizeof(rom_bytes));
}

static enum status protect_rom(void)
{
	return pgm_rom_protect(pgm, gpa(NEW_ROM + 2 * MIB - 2 * PAGE_SIZE), 4 * PAGE_SIZE, ROM_READ_RAM_WRITE_RAM);
}

static void rom_protected(void)
{
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(rom_page_at(pgm, gpa(NEW_ROM + 2 * MIB + i * PAGE_SIZE - 2 * PAGE_SIZE))->mode,
				 ROM_READ_RAM_WRITE_RAM);
}

/* ---- MMIO2 ---- */
#define NEW_MMIO2 (MMIO2_AT + 4 * MIB - 5 * PAGE_SIZE)

static struct mmio2 *fresh;

static enum status register_mmio2(void)
{
	return pgm_mmio2_register(pgm, 300 * PAGE_SIZE, "vram 2", &fresh);
}

static void have_fresh(void)
{
	assert_int_equal(register_mmio2(), OK);
}

static enum status map_mmio2(void)
{
	return pgm_mmio2_map(pgm, fresh, gpa(NEW_MMIO2));
}

static enum status move_mmio2(void)
{
	enum status status = pgm_mmio2_map(pgm, region, gpa(NEW_MMIO2));
	gpa_t base;

	assert_true(pgm_mmio2_mapped(region, &base));
	assert_int_equal(base.v, status == OK ? NEW_MMIO2 : MMIO2_AT);
	return status;
}

static enum status unmap_mmio2(void)
{
	pgm_mmio2_unmap(pgm, region);
	return OK;
}

static enum status track_mmio2(void)
{
	pgm_mmio2_track(pgm, region, true);
	return OK;
}

static enum status query_mmio2(void)
{
	uint64_t bitmap;

	return pgm_mmio2_query_dirty(pgm, region, &bitmap, 64);
}

static enum status deregister_mmio2(void)
{
	pgm_mmio2_deregister(pgm, region);
	region = NULL;
	return OK;
}

/* ---- the dirty log ---- */
static uint64_t bitmap[RAM / PAGE_SIZE / 64];

#define LOG(name, mode)                                                                                                \
	static enum status start_##name(void)                                                                          \
	{                                                                                                              \
		return pgm_dirty_start(pgm, mode);                                                                     \
	}                                                                                                              \
	static void log_##name(void)                                                                                   \
	{                                                                                                              \
		assert_int_equal(start_##name(), OK);                                                                  \
		assert_int_equal(pgm_dirty_read_and_clear(pgm, 0, RAM / PAGE_SIZE, bitmap), OK);                       \
	}

LOG(pml, DIRTY_PML)
LOG(ad, DIRTY_ACCESSED_DIRTY)
LOG(wp, DIRTY_WRITE_PROTECT)

static enum status stop_log(void)
{
	return pgm_dirty_stop(pgm);
}

static enum status read_log(void)
{
	return pgm_dirty_read_and_clear(pgm, 0, RAM / PAGE_SIZE, bitmap);
}

/* A first write to a large block under the log takes it apart; the log must have the page, and may have more. */
static enum status write_logged(uint64_t where)
{
	enum pgm_verdict verdict = pgm_fault(pgm, gpa(where), ACCESS_WRITE);

	if (verdict == PGM_NO_MEMORY)
		return NO_MEMORY;
	pgm_dirty_note(pgm, gpa(where)); /* the processor's part, where it takes one */
	return verdict == PGM_RESUME ? OK : BAD_STATE;
}

#define LOGGED_AT (LARGE_AT + 33 * PAGE_SIZE)

static enum status write_large_logged(void)
{
	return write_logged(LOGGED_AT);
}

static enum status write_fresh_logged(void)
{
	return write_logged(FRESH_AT);
}

static enum status device_logged(void)
{
	uint64_t word = 1;

	return pgm_write(pgm, gpa(LOGGED_AT), &word, 8, ORIGIN_DEVICE, NULL);
}

static void logged(uint64_t where)
{
	assert_int_equal(read_log(), OK);
	assert_true(bitmap[where / PAGE_SIZE / 64] >> (where / PAGE_SIZE % 64) & 1);
	assert_int_equal(read_log(), OK);
	assert_false(bitmap[where / PAGE_SIZE / 64] >> (where / PAGE_SIZE % 64) & 1);
}

static void large_logged(void)
{
	logged(LOGGED_AT);
}

static void fresh_logged(void)
{
	logged(FRESH_AT);
}

/* ---- the gate ---- */
static enum status gate_root(void)
{
	hpa_t root;

	return pgm_a20_root(pgm, &root);
}

static void gate(void)
{
	assert_int_equal(gate_root(), OK);
}

static enum status gate_fault(void)
{
	enum pgm_verdict verdict = PGM_RESUME;

	/* What the second root's tables are dropped for is made at the next fault: soon, or there's no memory. */
	for (unsigned tries = 0; tries < 8 && verdict == PGM_RESUME; tries++) {
		if (a20_entry(pgm, gpa(FRESH_AT + MIB)))
			return OK;
		verdict = pgm_a20_fault(pgm, gpa(FRESH_AT + MIB), ACCESS_WRITE);
	}
	return verdict == PGM_NO_MEMORY ? NO_MEMORY : a20_entry(pgm, gpa(FRESH_AT + MIB)) ? OK : BAD_STATE;
}

static void gate_and_page(void)
{
	uint64_t word = 0;

	gate();
	assert_int_equal(pgm_write(pgm, gpa(FRESH_AT), &word, 8, ORIGIN_DEVICE, NULL), OK);
	assert_int_equal(pgm_fault(pgm, gpa(FRESH_AT), ACCESS_WRITE), PGM_RESUME);
}

static const struct sweep_operation operations[] = {
	{ "handler: register, large", NULL, register_large, 0, NULL },
	{ "handler: register, fresh", NULL, register_fresh, 0, NULL },
	{ "handler: register, large, two pages", NULL, register_many, 0, NULL },
	{ "handler: register, blocks", NULL, register_blocks, 0, NULL },
	{ "handler: register, over a large block", NULL, register_with_large, SWEEP_MAY_SPLIT, NULL },
	{ "handler: register, ROM", NULL, register_rom, 0, NULL },
	{ "handler: register, MMIO", NULL, register_mmio, 0, NULL },
	{ "handler: deregister", NULL, deregister, 0, NULL },
	{ "handler: deregister, MMIO", NULL, deregister_mmio, 0, NULL },
	{ "handler: modify", NULL, modify, 0, NULL },
	{ "handler: split", NULL, split, 0, NULL },
	{ "handler: join", is_split, join, 0, NULL },
	{ "handler: page off", NULL, page_off, 0, NULL },
	{ "handler: reset", is_off, reset_handler, 0, NULL },
	{ "handler: alias of MMIO2", NULL, alias_mmio2, 0, NULL },
	{ "handler: alias of a frame", NULL, alias_frame, 0, NULL },
	{ "handler: alias undone", is_aliased, reset_alias, 0, NULL },
	{ "handler: user", NULL, change_user, 0, NULL },
	{ "handler: type", NULL, register_type, 0, NULL },
	{ "handler: type gone", NULL, deregister_type, 0, NULL },
	{ "ROM: add", NULL, add_rom, 0, NULL },
	{ "ROM: add shadowed", NULL, add_shadowed_rom, 0, NULL },
	{ "ROM: load", second_rom, load_rom, SWEEP_PARTIAL, NULL },
	{ "ROM: protect", second_rom, protect_rom, 0, rom_protected },
	{ "MMIO2: register", NULL, register_mmio2, 0, NULL },
	{ "MMIO2: map", have_fresh, map_mmio2, 0, NULL },
	{ "MMIO2: move", NULL, move_mmio2, 0, NULL },
	{ "MMIO2: unmap", NULL, unmap_mmio2, 0, NULL },
	{ "MMIO2: track", NULL, track_mmio2, 0, NULL },
	{ "MMIO2: query", NULL, query_mmio2, 0, NULL },
	{ "MMIO2: deregister", NULL, deregister_mmio2, 0, NULL },
	{ "log: PML", NULL, start_pml, 0, NULL },
	{ "log: dirty bits", NULL, start_ad, 0, NULL },
	{ "log: write protection", NULL, start_wp, 0, NULL },
	{ "log: off", log_ad, stop_log, 0, NULL },
	{ "log: off, write protection", log_wp, stop_log, 0, NULL },
	{ "log: read", log_pml, read_log, 0, NULL },
	{ "log: write, large, PML", log_pml, write_large_logged, 0, large_logged },
	{ "log: write, large, dirty bits", log_ad, write_large_logged, 0, large_logged },
	{ "log: write, large, write protection", log_wp, write_large_logged, 0, large_logged },
	{ "log: write, fresh", log_wp, write_fresh_logged, 0, fresh_logged },
	{ "log: device", log_ad, device_logged, 0, large_logged },
	{ "gate: root", NULL, gate_root, 0, NULL },
	{ "gate: fault", gate_and_page, gate_fault, 0, NULL },
	{ "gate: fault, fresh", gate, gate_fault, SWEEP_PARTIAL, NULL },
};

static void test_attack4_devices(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(operations); i++)
		sweep(&sweep_pgm, &operations[i]);
	assert_true(sweep_failures[MM_SITE_TABLE] && sweep_failures[MM_SITE_HEAP] && sweep_failures[MM_SITE_FRAME]);
	assert_true(mm_counters.gather_late > 0);
}

/* Takes what may still be promised, but for less than a chunk or two. */
static unsigned promise_all(struct account *hogs, unsigned room)
{
	unsigned count = 0;

	for (uint64_t pages = 16384; pages >= 64; pages /= 2) {
		struct account_request request = { .pages = { pages } };
		char why[200];

		while (count < room && account_open(&hogs[count], &request, why, sizeof(why)) == OK)
			count++;
	}
	return count;
}

static enum status add_rom_beside(void)
{
	return pgm_add_shadowed_rom(pgm, gpa(ROM_AT + ROM_PAGES * PAGE_SIZE), 508 * PAGE_SIZE, "beside");
}

static enum status add_rom_at(void)
{
	return pgm_add_rom(pgm, gpa(ROM_AT - 16 * MIB), 16 * MIB, "below");
}

static enum status register_much(void)
{
	return pgm_mmio2_register(pgm, 8 * MIB, "much", &fresh);
}

static enum status add_more_ram(void)
{
	return pgm_add_ram(pgm, gpa(EXTRA_AT), 8 * MIB, "extra");
}

static enum status add_ram_in_the_way(void)
{
	return pgm_add_ram(pgm, gpa(MMIO2_AT), PAGE_SIZE, "in the way") == CONFLICT ? NO_MEMORY : BAD_STATE;
}

/* Admission says no: all as before too, the records of the neighbourhood included. */
static void test_attack4_admission(void **state)
{
	static enum status (*const refused[])(void) = { add_rom_beside, add_rom_at, register_much, add_more_ram,
							add_ram_in_the_way };
	static const struct sweep_operation none = { .name = "admission" };
	static struct sweep_notes before, now;
	static struct account hogs[64];
	unsigned count;

	sweep_start(&none);
	account_policy(OVERCOMMIT_NONE, 0);
	count = promise_all(hogs, ARRAY_SIZE(hogs));
	sweep_look(&before, 0, false);
	for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
		assert_int_equal(refused[i](), NO_MEMORY);
		now.count = 0;
		sweep_look(&now, 0, true);
		sweep_compare(&before, &now, "admission");
		sweep_check();
	}
	while (count)
		assert_int_equal(account_close(&hogs[--count]), OK);
	account_policy(OVERCOMMIT_RATIO, 10000);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(refused[i](), OK);
	sweep_end(&none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attack4_devices),
		cmocka_unit_test(test_attack4_admission),
	};

	return cmocka_run_group_tests(tests, sweep_setup, NULL);
}
