/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * Reset: what reads as zero, what is kept, what is given back, and that a step is bounded. Then many lives of one
 * machine, after which mm holds exactly what it held before the first.
 */
#define WORLD_STRICT 17u
#include "test_pgm_machine.h"

#define ROOM (48 * MIB)

static enum status answer(void *user, struct pgm_access *access)
{
	(void)user;
	access->value = 0x77;
	return OK;
}

static uint64_t held(struct pgm *pgm)
{
	return pgm->account.allocated[ACCOUNT_BASE] - handy_count(pgm);
}

static void test_zero(void **state)
{
	(void)state;
	for (unsigned large = 0; large < 2; large++) {
		struct pgm *pgm = machine_of(large ? &pt_ept4 : &pt_npt4, ROOM, large);
		uint64_t tables = pgm->account.allocated[ACCOUNT_TABLE];

		for (uint64_t at = 2 * MIB; at < 12 * MIB; at += PAGE_SIZE)
			assert_true(guest_write(pgm, at, 0xcc));
		assert_int_equal(held(pgm), 10 * MIB / PAGE_SIZE);
		reset(pgm, true);
		for (uint64_t at = 0; at < 12 * MIB; at += PAGE_SIZE)
			assert_int_equal(table_rights(pgm, at), 0);
		assert_int_equal(held(pgm), large ? 10 * MIB / PAGE_SIZE : 0);              /* large blocks are kept */
		assert_in_range(pgm->account.allocated[ACCOUNT_TABLE], tables, tables + 1); /* a directory page */
		for (uint64_t at = MIB; at < 12 * MIB; at += PAGE_SIZE)
			assert_int_equal(guest_read(pgm, at), 0);
		machine_end_test(pgm);
	}
}

static void test_keep(void **state)
{
	(void)state;
	for (unsigned large = 0; large < 2; large++) {
		struct pgm *pgm = machine_of(&pt_ept4, ROOM, large);

		for (uint64_t at = MIB; at < 6 * MIB; at += PAGE_SIZE)
			assert_true(guest_write(pgm, at + 9, (uint8_t)(at >> 12)));
		reset(pgm, false);
		assert_int_equal(table_rights(pgm, 4 * MIB), 0);
		for (uint64_t at = MIB; at < 6 * MIB; at += PAGE_SIZE)
			assert_int_equal(guest_read(pgm, at + 9), (uint8_t)(at >> 12));
		machine_end_test(pgm);
	}
}

/* Handlers and regions are the devices': they are there afterwards, and so is what they protect. */
static void test_handlers_stay(void **state)
{
	struct pgm *pgm = machine_of(&pt_ept4, ROOM, true);
	handler_type all, mmio;
	struct mmio2 *m;

	(void)state;
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_ALL, 0, answer, "all", &all), OK);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_MMIO, 0, answer, "mmio", &mmio), OK);
	assert_int_equal(pgm_handler_register(pgm, all, gpa(8 * MIB), gpa(8 * MIB + 0xfff), NULL, "all"), OK);
	assert_int_equal(pgm_handler_register(pgm, mmio, gpa(0xfee00000), gpa(0xfee00fff), NULL, "mmio"), OK);
	assert_int_equal(pgm_mmio2_register(pgm, 8 * PAGE_SIZE, "vram", &m), OK);
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(0xe0000000)), OK);
	assert_true(guest_write(pgm, 8 * MIB + PAGE_SIZE, 1));
	assert_true(guest_write(pgm, 0xe0000000, 5));
	for (unsigned i = 0; i < 2; i++) {
		reset(pgm, i);
		assert_int_equal(guest_read(pgm, 8 * MIB), 0x77);
		assert_int_equal(guest_read(pgm, 0xfee00000), 0x77);
		assert_int_equal(guest_read(pgm, 0xe0000000), 5);
		assert_int_equal(guest_read(pgm, 8 * MIB + PAGE_SIZE), i ? 0 : 1);
	}
	machine_end_test(pgm);
}

static page_record *record_at(struct pgm *pgm, uint64_t where)
{
	return page_of(block_find(pgm, gpa(where)), gpa(where));
}

/* Balloons are emptied, pinned pages keep their frame, monitored ones end. */
static void test_states(void **state)
{
	struct pgm *pgm = machine_of(&pt_ept4, ROOM, false);
	static const char owner[] = "dma";
	hpa_t pinned;

	(void)state;
	for (uint64_t at = 4 * MIB; at < 4 * MIB + 8 * PAGE_SIZE; at += PAGE_SIZE)
		assert_true(guest_write(pgm, at, 0xab));
	assert_int_equal(pgm_balloon(pgm, true, &(uint32_t){ 5 * MIB / PAGE_SIZE }, 1), OK);
	assert_int_equal(pgm->account.ballooned, 1);
	assert_int_equal(pgm_pin(pgm, gpa(4 * MIB), false, owner, &pinned), OK);
	page_set(record_at(pgm, 4 * MIB + PAGE_SIZE), PAGE_MONITORED, page_frame(*record_at(pgm, 4 * MIB + PAGE_SIZE)));
	reset(pgm, true);
	assert_int_equal(pgm->account.ballooned, 0);
	assert_int_equal(page_get_state(*record_at(pgm, 5 * MIB)), PAGE_ZERO);
	assert_int_equal(page_get_state(*record_at(pgm, 4 * MIB)), PAGE_ALLOCATED);
	assert_int_equal(page_frame(*record_at(pgm, 4 * MIB)).v, pinned.v);
	assert_int_equal(page_get_state(*record_at(pgm, 4 * MIB + PAGE_SIZE)), PAGE_ZERO);
	assert_int_equal(guest_read(pgm, 4 * MIB), 0);
	assert_int_equal(held(pgm), 1);
	assert_true(guest_write(pgm, 5 * MIB, 1));
	assert_int_equal(pgm_unpin(pgm, gpa(4 * MIB), false, owner), OK);
	machine_end_test(pgm);
}

/* A step clears or frees no more than its bound, whatever the machine's size. */
static void test_bounded(void **state)
{
	struct pgm *pgm = machine_of(&pt_ept4, 2 * GIB, false);
	unsigned steps = 0;
	uint64_t before;

	(void)state;
	for (uint64_t at = 2 * MIB; at < 30 * MIB; at += PAGE_SIZE)
		assert_true(guest_write(pgm, at, 1));
	for (uint64_t at = 64 * MIB; at < 512 * MIB; at += BLOCK_SIZE)
		assert_true(guest_write(pgm, at, 1));
	do {
		before = pgm->account.allocated[ACCOUNT_BASE];
		steps++;
		if (pgm_reset_step(pgm, true) == OK)
			break;
		assert_true(before - pgm->account.allocated[ACCOUNT_BASE] <= 64 * PAGES_PER_BLOCK);
	} while (steps < 1000);
	assert_in_range(steps, 4, 20);
	assert_int_equal(held(pgm), 0);
	machine_end_test(pgm);
}

/* One life: memory of all kinds touched, the gate moved, ROM shadowed. */
static void live(struct pgm *pgm, unsigned n)
{
	hpa_t root;

	assert_int_equal(pgm_a20_root(pgm, &root), OK);
	for (uint64_t at = MIB; at < 20 * MIB; at += (n % 3 + 1) * PAGE_SIZE) {
		if (!(n & 4))
			assert_int_equal(guest_read(pgm, at + 1), 0);
		assert_true(guest_write(pgm, at + 1, 0xd0));
	}
	gate_closed = true;
	for (uint64_t at = 21 * MIB; at < 23 * MIB; at += PAGE_SIZE)
		assert_true(guest_write(pgm, at, 0xd1));
	gate_closed = false;
	assert_int_equal(pgm_rom_protect(pgm, gpa(0xe0000), 4 * PAGE_SIZE, (enum rom_mode)(n % ROM_MODES)), OK);
	for (unsigned i = 0; i < 4; i++)
		assert_true(guest_write(pgm, 0xe0000 + i * PAGE_SIZE, 0xd2));
}

static void test_lives(void **state)
{
	(void)state;
	for (unsigned large = 0; large < 2; large++) {
		struct frame_totals before, after;
		struct pgm *pgm;
		uint64_t tables = 0, base = 0;

		for (unsigned warm = 0; warm < 2; warm++) { /* the first machine lets the heap grow */
			before = totals_now();
			pgm = machine_of(&pt_ept4, ROOM, large);
			assert_int_equal(pgm_add_shadowed_rom(pgm, gpa(0xe0000), 0x20000, "rom"), OK);
			for (unsigned n = 0; n < 24; n++) {
				live(pgm, n & 3);
				reset(pgm, true);
				if (n == 11) {
					tables = pgm->account.allocated[ACCOUNT_TABLE];
					base = held(pgm);
				}
			}
			assert_int_equal(pgm->account.allocated[ACCOUNT_TABLE], tables);
			assert_int_equal(held(pgm), base);
			machine_end_test(pgm);
		}
		after = totals_now();
		assert_int_equal(after.free_pages, before.free_pages);
		assert_int_equal(after.private_pages, before.private_pages);
		assert_int_equal(after.table_pages, before.table_pages);
		assert_int_equal(after.kernel_pages, before.kernel_pages);
		assert_int_equal(after.reserved_pages, before.reserved_pages);
		assert_int_equal(after.free_chunks, before.free_chunks);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_zero),   cmocka_unit_test(test_keep),    cmocka_unit_test(test_handlers_stay),
		cmocka_unit_test(test_states), cmocka_unit_test(test_bounded), cmocka_unit_test(test_lives),
	};

	machine_world(96 * MIB);
	return cmocka_run_group_tests_name("pgm_reset", tests, NULL, NULL);
}
