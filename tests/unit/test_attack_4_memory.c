/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * Attack 4, memory: each operation on RAM with an allocation failing at every site. Faults of each kind, physical
 * access, split and collapse, pins, the reserve, preallocation, RAM that comes and goes, birth and end of a machine.
 */
#include "sweep_world.h"
#include "common/whole.h"

static enum status fault(uint64_t where, unsigned access, enum pgm_verdict wanted)
{
	enum pgm_verdict verdict = pgm_fault(pgm, gpa(where), access);

	if (verdict == PGM_NO_MEMORY)
		return NO_MEMORY;
	return verdict == wanted ? OK : BAD_STATE;
}

#define FAULT(name, where, access, wanted)                                                                             \
	static enum status name(void)                                                                                  \
	{                                                                                                              \
		return fault((where), (access), (wanted));                                                             \
	}

FAULT(fault_read_fresh, FRESH_AT, ACCESS_READ, PGM_RESUME)
FAULT(fault_write_fresh, FRESH_AT, ACCESS_WRITE, PGM_RESUME)
FAULT(fault_execute_fresh, FRESH_AT + 5 * PAGE_SIZE, ACCESS_EXECUTE, PGM_RESUME)
FAULT(fault_write_zeros, ZEROS_AT, ACCESS_WRITE, PGM_RESUME)
FAULT(fault_write_page, DETAILED_AT + 100 * PAGE_SIZE, ACCESS_WRITE, PGM_RESUME)
FAULT(fault_write_zero_page, DETAILED_AT + 7 * PAGE_SIZE, ACCESS_WRITE, PGM_RESUME)
FAULT(fault_read_page, DETAILED_AT + 101 * PAGE_SIZE, ACCESS_READ, PGM_RESUME)
FAULT(fault_low, 0x1000, ACCESS_WRITE, PGM_RESUME)
FAULT(fault_large, LARGE_AT, ACCESS_WRITE, PGM_RESUME)
FAULT(fault_handled, HANDLED_AT, ACCESS_WRITE, PGM_EMULATE)
FAULT(fault_read_rom, ROM_AT + 2 * PAGE_SIZE, ACCESS_READ, PGM_RESUME)
FAULT(fault_write_rom, ROM_AT, ACCESS_WRITE, PGM_EMULATE)
FAULT(fault_mmio2, MMIO2_AT + 3 * PAGE_SIZE, ACCESS_WRITE, PGM_RESUME)
FAULT(fault_mmio, MMIO_AT + PAGE_SIZE, ACCESS_READ, PGM_EMULATE)
FAULT(fault_far_mmio, UINT64_C(0xa0000000), ACCESS_WRITE, PGM_EMULATE)
FAULT(fault_nothing, UINT64_C(0xc0000000), ACCESS_READ, PGM_EMULATE)

/* Resumed is mapped, with what was asked for. */
static void fresh_is_mapped(void)
{
	assert_int_equal(granted(pgm, FRESH_AT, NULL) & ACCESS_READ, ACCESS_READ);
	assert_int_equal(read_at(FRESH_AT), 0);
}

static void fresh_is_writable(void)
{
	assert_int_equal(granted(pgm, FRESH_AT, NULL), RWX);
	assert_int_equal(read_at(FRESH_AT), 0);
}

static void no_large(void)
{
	pgm->config.large_pages = false;
}

static void unmap_all(void)
{
	struct gather gather;

	for (unsigned i = 0; i < PLACES; i++)
		if (block_find(pgm, gpa(places[i])))
			block_find(pgm, gpa(places[i]))->slot = NULL;
	gather_begin(&gather, &pgm->flush, &pgm->account);
	assert_int_equal(slat_clear_step(&pgm->slat, &gather), OK);
	gather_finish(&gather);
}

static void far_handler(void)
{
	assert_int_equal(pgm_handler_register(pgm, mmio_type, gpa(0xa0000000), gpa(0xa0000fff), NULL, "far"), OK);
}

/* ---- physical access ---- */
static enum status put_word(uint64_t where, enum pgm_origin origin)
{
	uint64_t word = 0x5eed;

	return pgm_write(pgm, gpa(where), &word, 8, origin, NULL);
}

static enum status write_fresh(void)
{
	return put_word(FRESH_AT, ORIGIN_GUEST);
}

static enum status write_page(void)
{
	return put_word(DETAILED_AT + 100 * PAGE_SIZE, ORIGIN_DEVICE);
}

static enum status write_rom(void)
{
	return put_word(ROM_AT + 2 * PAGE_SIZE, ORIGIN_DEBUGGER);
}

static enum status write_shadow(void)
{
	return put_word(ROM_AT + 2 * PAGE_SIZE, ORIGIN_GUEST);
}

static void shadow_mode(void)
{
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM_AT), ROM_PAGES * PAGE_SIZE, ROM_READ_ROM_WRITE_RAM), OK);
}

static void shadow_has_it(void)
{
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM_AT + 2 * PAGE_SIZE), PAGE_SIZE, ROM_READ_RAM_WRITE_RAM), OK);
	assert_int_equal(read_at(ROM_AT + 2 * PAGE_SIZE), 0x5eed);
}

static enum status write_across(void)
{
	static uint8_t bytes[3 * PAGE_SIZE];

	memset(bytes, 0x77, sizeof(bytes));
	return pgm_write(pgm, gpa(FRESH_AT + 2 * MIB - PAGE_SIZE - 7), bytes, sizeof(bytes), ORIGIN_DEVICE, NULL);
}

static enum status write_simple(void)
{
	uint64_t word = 1;

	return pgm_write_simple(pgm, gpa(FRESH_AT + 8), &word, 8);
}

static enum status exchange(void)
{
	uint64_t seen;

	return pgm_compare_exchange(pgm, gpa(DETAILED_AT + 200 * PAGE_SIZE), 0, 9, 8, &seen);
}

static void exchanged(void)
{
	assert_int_equal(read_at(DETAILED_AT + 200 * PAGE_SIZE), 9);
}

/* ---- pins ---- */
static enum status pin_at(uint64_t where, bool write)
{
	hpa_t frame;

	return pgm_pin(pgm, gpa(where), write, pin_owner, &frame);
}

static enum status pin_large(void)
{
	return pin_at(LARGE_AT + PAGE_SIZE, true);
}

static enum status pin_page(void)
{
	return pin_at(DETAILED_AT + 50 * PAGE_SIZE, false);
}

static enum status pin_fresh(void)
{
	return pin_at(FRESH_AT, true);
}

static enum status pin_again(void)
{
	return pin_at(PINNED_AT, true);
}

static enum status unpin(void)
{
	return pgm_unpin(pgm, gpa(PINNED_AT), true, pin_owner);
}

/* ---- large pages ---- */
static void full_block(void)
{
	make_detailed(8 * MIB, PAGES_PER_BLOCK);
	drain();
}

static enum status collapse(void)
{
	for (unsigned round = 0; round < 3; round++)
		for (unsigned steps = 0; pgm_collapse_step(pgm); steps++)
			assert_true(steps < 10000);
	return pgm->common.counters.large_collapsed + pgm->common.counters.large_reused == 1 ? OK : NO_MEMORY;
}

static void split_block(void)
{
	assert_int_equal(pin_large(), OK);
	assert_int_equal(pgm_unpin(pgm, gpa(LARGE_AT + PAGE_SIZE), true, pin_owner), OK);
}

static enum status fill_reserve(void)
{
	for (unsigned i = 0; i < HANDY_SIZE && handy_refill(pgm); i++)
		;
	return pgm->common.handy.count == HANDY_SIZE ? OK : NO_MEMORY;
}

static enum status preallocate(void)
{
	return pgm_preallocate(pgm, NULL, NULL);
}

static void all_there(void)
{
	struct pgm_usage usage;

	pgm_usage(pgm, &usage);
	assert_int_equal(usage.private_pages,
			 RAM / PAGE_SIZE - 96 + (region ? 16 : 0)); /* but for the hole; and MMIO2 */
}

/* ---- RAM that comes and goes, the machine's life ---- */
static enum status add_ram(void)
{
	return pgm_add_ram(pgm, gpa(EXTRA_AT), 4 * MIB + 3 * PAGE_SIZE, "extra");
}

static void extra_ram(void)
{
	assert_int_equal(add_ram(), OK);
	make_detailed(EXTRA_AT, 3);
	write_at(EXTRA_AT + 2 * MIB, 1);
}

static enum status remove_ram(void)
{
	enum status status;

	while ((status = pgm_remove_range_step(pgm, gpa(EXTRA_AT))) == BUSY)
		;
	return status;
}

static enum status reset_machine(void)
{
	enum status status;

	while ((status = pgm_reset_step(pgm, true)) == BUSY)
		;
	return status;
}

/* ---- shared pages ---- */
static hpa_t shared;

static enum status share_first(void)
{
	shared = HPA_NONE;
	pgm->config.share_group = 3;
	return page_share(pgm, gpa(DETAILED_AT), &shared);
}

static void one_shared(void)
{
	write_at(DETAILED_AT + 20 * PAGE_SIZE + 8, DETAILED_AT); /* as the first has it */
	assert_int_equal(share_first(), OK);
}

static enum status share_more(void)
{
	hpa_t with = shared;

	return page_share(pgm, gpa(DETAILED_AT + 20 * PAGE_SIZE), &with);
}

FAULT(fault_shared, DETAILED_AT, ACCESS_WRITE, PGM_RESUME)

static struct pgm *second;

static enum status create(void)
{
	struct pgm_config config = sweep_config();
	char why[200] = "";
	enum status status = pgm_create(&second, &config, count_flush, NULL, why, sizeof(why));

	if (status != OK) {
		assert_null(second);
		assert_non_null(strstr(why, status_text(NO_MEMORY)));
	}
	return status;
}

static void end_second(void)
{
	end_pgm(second);
	second = NULL;
}

static enum status destroy(void)
{
	enum status status;

	while ((status = pgm_destroy_step(pgm)) == BUSY)
		;
	pgm = NULL;
	return status;
}

/* ---- the balloon, other frames ---- */
static enum status balloon_at(uint64_t where, bool in)
{
	uint32_t page = (uint32_t)(where >> PAGE_SHIFT);

	return pgm_balloon(pgm, in, &page, 1);
}

static enum status give_large(void)
{
	return balloon_at(LARGE_AT + PAGE_SIZE, true);
}

static enum status give_page(void)
{
	return balloon_at(DETAILED_AT + 50 * PAGE_SIZE, true);
}

static enum status give_fresh(void)
{
	return balloon_at(FRESH_AT, true);
}

static void give_block(void)
{
	uint32_t page[PAGES_PER_BLOCK];

	for (uint32_t i = 0; i < PAGES_PER_BLOCK; i++)
		page[i] = (uint32_t)(FRESH_AT >> PAGE_SHIFT) + i;
	assert_int_equal(pgm_balloon(pgm, true, page, PAGES_PER_BLOCK), OK);
}

static enum status take_fresh(void)
{
	return balloon_at(FRESH_AT, false);
}

static enum status move_at(uint64_t where)
{
	struct pgm_page_info info;

	pgm_page_describe(pgm, gpa(where), &info);
	return pgm_leave_frame(pgm, gpa(where), info.frame);
}

static enum status move_large(void)
{
	return move_at(LARGE_AT + PAGE_SIZE);
}

static enum status move_page(void)
{
	return move_at(DETAILED_AT);
}

static const struct sweep_operation operations[] = {
	{ "create", NULL, create, 0, end_second },
	{ "create, first of all", NULL, create, BARE, end_second },
	{ "destroy", NULL, destroy, CHANGES, NULL },
	{ "fault: read, fresh", NULL, fault_read_fresh, 0, fresh_is_mapped },
	{ "fault: write, fresh", NULL, fault_write_fresh, 0, fresh_is_writable },
	{ "fault: write, fresh, bare", NULL, fault_write_fresh, BARE, fresh_is_writable },
	{ "fault: write, fresh, small", no_large, fault_write_fresh, 0, fresh_is_writable },
	{ "fault: write, fresh, small, bare", no_large, fault_write_fresh, BARE, fresh_is_writable },
	{ "fault: execute, fresh", NULL, fault_execute_fresh, 0, fresh_is_mapped },
	{ "fault: write, large zeros", NULL, fault_write_zeros, 0, NULL },
	{ "fault: write, large zeros, small", no_large, fault_write_zeros, 0, NULL },
	{ "fault: write, detailed", NULL, fault_write_page, 0, NULL },
	{ "fault: write, detailed, unmapped", unmap_all, fault_write_page, 0, NULL },
	{ "fault: write, zero page", NULL, fault_write_zero_page, 0, NULL },
	{ "fault: read, detailed", NULL, fault_read_page, 0, NULL },
	{ "fault: low memory", NULL, fault_low, 0, NULL },
	{ "fault: large, unmapped", unmap_all, fault_large, 0, NULL },
	{ "fault: handler", NULL, fault_handled, 0, NULL },
	{ "fault: ROM, read", NULL, fault_read_rom, 0, NULL },
	{ "fault: ROM, write", NULL, fault_write_rom, 0, NULL },
	{ "fault: MMIO2", NULL, fault_mmio2, 0, NULL },
	{ "fault: MMIO", unmap_all, fault_mmio, 0, NULL },
	{ "fault: MMIO, its first half GiB", far_handler, fault_far_mmio, 0, NULL },
	{ "fault: nothing there", NULL, fault_nothing, 0, NULL },
	{ "write: fresh", NULL, write_fresh, 0, NULL },
	{ "write: fresh, small", no_large, write_fresh, 0, NULL },
	{ "write: fresh, small, bare", no_large, write_fresh, BARE, NULL },
	{ "write: detailed", NULL, write_page, 0, NULL },
	{ "write: ROM by the debugger", NULL, write_rom, 0, NULL },
	{ "write: ROM's shadow", shadow_mode, write_shadow, 0, shadow_has_it },
	{ "write: across blocks", NULL, write_across, SWEEP_PARTIAL, NULL },
	{ "write: simple", NULL, write_simple, 0, NULL },
	{ "compare and exchange", NULL, exchange, 0, exchanged },
	{ "pin: large", NULL, pin_large, 0, NULL },
	{ "pin: zero page", NULL, pin_page, 0, NULL },
	{ "pin: fresh", NULL, pin_fresh, 0, NULL },
	{ "pin: once more", NULL, pin_again, 0, NULL },
	{ "unpin", NULL, unpin, 0, NULL },
	{ "collapse", full_block, collapse, 0, NULL },
	{ "collapse: own chunk", split_block, collapse, 0, NULL },
	{ "share: a first page", NULL, share_first, 0, NULL },
	{ "share: a further page", one_shared, share_more, 0, NULL },
	{ "fault: write, shared", one_shared, fault_shared, 0, NULL },
	{ "balloon: of a large page", NULL, give_large, 0, NULL },
	{ "balloon: zero page", NULL, give_page, 0, NULL },
	{ "balloon: fresh", NULL, give_fresh, 0, NULL },
	{ "balloon: out of a whole block", give_block, take_fresh, 0, NULL },
	{ "move: of a large page", NULL, move_large, 0, NULL },
	{ "move", NULL, move_page, 0, NULL },
	{ "reserve", NULL, fill_reserve, 0, NULL },
	{ "preallocate", NULL, preallocate, SWEEP_PARTIAL, all_there },
	{ "preallocate, small", no_large, preallocate, SWEEP_PARTIAL | BARE, all_there },
	{ "add RAM", NULL, add_ram, 0, NULL },
	{ "remove RAM", extra_ram, remove_ram, 0, NULL },
	{ "reset", NULL, reset_machine, CHANGES, NULL },
};

static void test_attack4_memory(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(operations); i++)
		sweep(&sweep_pgm, &operations[i]);
	/* Each kind of failure was seen by somebody; a late flush is no failure. */
	for (unsigned site = 0; site < MM_SITES; site++)
		assert_true(site == MM_SITE_FLUSH || sweep_failures[site] > 0);
	assert_true(mm_counters.gather_late > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_attack4_memory) };

	return cmocka_run_group_tests(tests, sweep_setup, NULL);
}
