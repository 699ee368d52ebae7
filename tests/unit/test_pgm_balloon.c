/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * Attack 5: what the guest gives back, and what it only says it gives. Pages and whole blocks in and out, a lie of each kind, that the
 * frame isn't free before the flush, the dirty log, failures, resets and removed ranges; and in the end many machines.
 */
#define WORLD_STRICT 17u
#include "test_pgm_machine.h"

#include "mm/inject.h"

#define RAM (48 * MIB)
#define N(where) ((uint32_t)((where) / PAGE_SIZE))

static enum status give(struct pgm *pgm, uint64_t where)
{
	return pgm_balloon(pgm, true, &(uint32_t){ N(where) }, 1);
}

static enum status take(struct pgm *pgm, uint64_t where)
{
	return pgm_balloon(pgm, false, &(uint32_t){ N(where) }, 1);
}

static enum status many(struct pgm *pgm, bool in, uint64_t from, uint64_t length)
{
	uint32_t page[256];

	for (uint64_t at = 0; at < length; at += sizeof(page) / 4 * PAGE_SIZE) {
		unsigned count = (unsigned)min_u64(ARRAY_SIZE(page), (length - at) / PAGE_SIZE);
		enum status status;

		for (unsigned i = 0; i < count; i++)
			page[i] = N(from + at) + i;
		status = pgm_balloon(pgm, in, page, count);
		if (status != OK)
			return status;
	}
	return OK;
}

static enum page_state state_at(struct pgm *pgm, uint64_t where)
{
	struct pgm_page_info info;

	pgm_page_describe(pgm, gpa(where), &info);
	return page_get_state(info.record);
}

static enum block_kind kind_at(struct pgm *pgm, uint64_t where)
{
	return block_kind(block_find(pgm, gpa(where)));
}

static uint64_t base(struct pgm *pgm)
{
	return pgm->account.allocated[ACCOUNT_BASE] - handy_count(pgm);
}

static void fill(struct pgm *pgm, uint64_t from, uint64_t to)
{
	for (uint64_t at = from; at < to; at += PAGE_SIZE)
		assert_true(guest_write(pgm, at + 7, (uint8_t)(1 + N(at) % 250)));
}

static void test_pages(void **state)
{
	for (unsigned large = 0; large < 2; large++) {
		struct pgm *pgm = machine_of(large ? &pt_ept4 : &pt_npt4, RAM, large);

		fill(pgm, 4 * MIB, 6 * MIB);
		assert_int_equal(base(pgm), 512);
		machine_flushes = 0;
		assert_int_equal(give(pgm, 5 * MIB), OK);
		assert_true(machine_flushes > 0);
		assert_int_equal(state_at(pgm, 5 * MIB), PAGE_BALLOONED);
		assert_int_equal(base(pgm), 511);
		assert_int_equal(pgm->account.ballooned, 1);
		assert_int_equal(table_rights(pgm, 5 * MIB), 0);
		assert_int_equal(guest_read(pgm, 5 * MIB + 7), 0);
		assert_int_equal(guest_read(pgm, 5 * MIB + PAGE_SIZE + 7), 1 + N(5 * MIB + PAGE_SIZE) % 250);
		assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
		assert_int_equal(take(pgm, 5 * MIB), OK);
		assert_int_equal(pgm->account.ballooned, 0);
		assert_int_equal(state_at(pgm, 5 * MIB), PAGE_ZERO);
		assert_int_equal(pgm->account.balloon_max, 1);
		/* A guest that writes what it gave: a fresh page. */
		assert_int_equal(give(pgm, 5 * MIB), OK);
		assert_true(guest_write(pgm, 5 * MIB, 9));
		assert_int_equal(guest_read(pgm, 5 * MIB + 7), 0);
		assert_int_equal(state_at(pgm, 5 * MIB), PAGE_ALLOCATED);
		assert_int_equal(pgm->account.ballooned, 0);
		/* And so a device's write. */
		assert_int_equal(give(pgm, 5 * MIB), OK);
		assert_int_equal(pgm_write(pgm, gpa(5 * MIB), "x", 1, ORIGIN_DEVICE, NULL), OK);
		assert_int_equal(pgm->account.ballooned, 0);
		machine_end_test(pgm);
	}
}

static void test_blocks(void **state)
{
	struct pgm *pgm = machine_of(&pt_ept4, RAM, true);
	uint64_t tables = pgm->account.allocated[ACCOUNT_TABLE], chunks = totals_now().free_chunks, now;

	fill(pgm, 8 * MIB, 12 * MIB);
	assert_int_equal(kind_at(pgm, 8 * MIB), BLOCK_LARGE);
	now = pgm->account.allocated[ACCOUNT_TABLE];
	assert_int_equal(many(pgm, true, 8 * MIB, 4 * MIB), OK); /* 256 pages at a time, as a driver does */
	assert_int_equal(kind_at(pgm, 8 * MIB), BLOCK_BALLOONED);
	assert_int_equal(pgm->account.ballooned, 1024);
	assert_int_equal(totals_now().ballooned_pages, 1024);
	assert_int_equal(base(pgm), 0);
	assert_int_equal(pgm->account.allocated[ACCOUNT_TABLE],
			 now); /* no records, no tables beside those of large leaves */
	assert_in_range(totals_now().free_chunks, chunks - 2, chunks);
	assert_int_equal(guest_read(pgm, 9 * MIB), 0); /* one leaf of zeros */
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	assert_int_equal(give(pgm, 9 * MIB), BAD_STATE);
	assert_true(guest_write(pgm, 9 * MIB, 1)); /* one page comes back, not a large one */
	assert_int_equal(kind_at(pgm, 9 * MIB), BLOCK_DETAILED);
	assert_int_equal(pgm->account.ballooned, 1023);
	assert_int_equal(base(pgm), 1);
	assert_int_equal(take(pgm, 9 * MIB), BAD_STATE);
	assert_int_equal(many(pgm, false, 10 * MIB, 2 * MIB), OK);
	assert_int_equal(kind_at(pgm, 10 * MIB), BLOCK_UNTOUCHED);
	assert_int_equal(pgm->account.ballooned, 511);
	assert_true(guest_write(pgm, 10 * MIB, 1));
	assert_int_equal(kind_at(pgm, 10 * MIB), BLOCK_LARGE);
	/* Untouched memory is given as well. */
	assert_int_equal(many(pgm, true, 16 * MIB, 2 * MIB), OK);
	assert_int_equal(kind_at(pgm, 16 * MIB), BLOCK_BALLOONED);
	assert_int_equal(pgm->account.ballooned, 1023);
	reset(pgm, true);
	assert_int_equal(pgm->account.ballooned, 0);
	assert_int_equal(kind_at(pgm, 16 * MIB), BLOCK_UNTOUCHED);
	assert_in_range(pgm->account.allocated[ACCOUNT_TABLE], tables, tables + 1);
	machine_end_test(pgm);
}

static void test_discard(void **state)
{
	struct pgm *pgm = machine_of(&pt_ept4, RAM, true);

	fill(pgm, 8 * MIB, 16 * MIB);
	machine_flushes = 0;
	assert_int_equal(pgm_discard(pgm, gpa(8 * MIB + 1), 4 * MIB), 1023); /* but for its first and last page */
	assert_true(machine_flushes > 0);
	assert_int_equal(base(pgm), 4 * 512 - 1023);
	assert_int_equal(kind_at(pgm, 10 * MIB), BLOCK_UNTOUCHED);
	assert_int_equal(guest_read(pgm, 8 * MIB + 7), 1 + N(8 * MIB) % 250);
	assert_int_equal(guest_read(pgm, 8 * MIB + PAGE_SIZE + 7), 0);
	assert_int_equal(pgm->account.ballooned, 0);
	assert_int_equal(pgm_discard(pgm, gpa(8 * MIB + 1), 4 * MIB), 0); /* nothing was there any more */
	assert_int_equal(pgm_discard(pgm, gpa(8 * MIB), PAGE_SIZE), 1);   /* the last page: no records any more */
	assert_int_equal(kind_at(pgm, 8 * MIB), BLOCK_UNTOUCHED);
	/* What is in the balloon stays there, and what isn't RAM is left alone. */
	assert_int_equal(give(pgm, 14 * MIB), OK);
	assert_int_equal(pgm_discard(pgm, gpa(14 * MIB), PAGE_SIZE), 0);
	assert_int_equal(state_at(pgm, 14 * MIB), PAGE_BALLOONED);
	assert_int_equal(pgm_discard(pgm, gpa(RAM), 4 * MIB), 0);
	assert_int_equal(pgm_discard(pgm, gpa(UINT64_MAX - 100), 4 * MIB), 0);
	assert_int_equal(pgm_discard(pgm, gpa(UINT64_MAX - PAGE_SIZE), UINT64_MAX), 0);
	/* One call's work has a bound. */
	fill(pgm, 16 * MIB, 32 * MIB);
	assert_int_equal(pgm_discard(pgm, gpa(16 * MIB), 16 * MIB), 2048);
	assert_int_equal(guest_read(pgm, 16 * MIB + 7), 0);
	assert_int_equal(guest_read(pgm, 16 * MIB + PGM_DISCARD_MOST + 7), 1 + N(16 * MIB + PGM_DISCARD_MOST) % 250);
	machine_end_test(pgm);
}

static enum status answer(void *user, struct pgm_access *access)
{
	access->value = 0x77;
	return OK;
}

static void test_attack5_lies(void **state)
{
	struct pgm *pgm = machine_of(&pt_ept4, RAM, true);
	static const char owner[] = "dma";
	handler_type all, mmio, write;
	uint64_t tables;
	struct mmio2 *m;
	hpa_t frame;

	assert_int_equal(pgm_add_rom(pgm, gpa(0xe0000), 0x20000, "rom"), OK);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_ALL, 0, answer, "all", &all), OK);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_WRITE, 0, answer, "write", &write), OK);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_MMIO, 0, answer, "mmio", &mmio), OK);
	assert_int_equal(pgm_handler_register(pgm, mmio, gpa(0xfee00000), gpa(0xfee00fff), NULL, "mmio"), OK);
	assert_int_equal(pgm_mmio2_register(pgm, 8 * PAGE_SIZE, "vram", &m), OK);
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(0xe0000000)), OK);
	fill(pgm, 4 * MIB, 8 * MIB);
	assert_int_equal(pgm_handler_register(pgm, all, gpa(4 * MIB), gpa(4 * MIB + 0xfff), NULL, "all"), OK);
	assert_int_equal(pgm_handler_register(pgm, write, gpa(4 * MIB + 0x1000), gpa(4 * MIB + 0x10ff), NULL, "w"), OK);
	assert_int_equal(pgm_pin(pgm, gpa(6 * MIB), false, owner, &frame), OK);
	tables = pgm->account.allocated[ACCOUNT_TABLE];
	for (unsigned in = 0; in < 2; in++) {
		assert_int_equal((in ? give : take)(pgm, 0xe0000), BAD_ADDRESS);
		assert_int_equal((in ? give : take)(pgm, 0xa0000), BAD_ADDRESS);
		assert_int_equal((in ? give : take)(pgm, 0xfee00000), BAD_ADDRESS);
		assert_int_equal((in ? give : take)(pgm, 0xe0000000), BAD_ADDRESS);
		assert_int_equal((in ? give : take)(pgm, RAM), BAD_ADDRESS);
		assert_int_equal((in ? give : take)(pgm, GIB), BAD_ADDRESS);
		assert_int_equal((in ? give : take)(pgm, UINT64_C(0xffffffff000)), BAD_ADDRESS);
		assert_int_equal((in ? give : take)(pgm, 4 * MIB), HANDLER);
		assert_int_equal((in ? give : take)(pgm, 4 * MIB + PAGE_SIZE), HANDLER);
		assert_int_equal((in ? give : take)(pgm, 6 * MIB), CONFLICT);
	}
	assert_int_equal(pgm->common.counters.balloon_refused, 20);
	assert_int_equal(pgm->account.allocated[ACCOUNT_TABLE], tables); /* a lie costs nothing */
	assert_int_equal(pgm_discard(pgm, gpa(4 * MIB), 4 * MIB), 1021); /* all but those three */
	assert_int_equal(base(pgm), 3);
	assert_ptr_equal(host_memory_at(frame), table_byte(pgm, 6 * MIB + !touch(pgm, 6 * MIB, ACCESS_READ)));
	/* Twice, in one message and in two; the honest pages of it are done. */
	assert_int_equal(pgm_balloon(pgm, true, (uint32_t[]){ 0x500, UINT32_MAX, 0xe0, 0x501, 0x500 }, 5), BAD_STATE);
	assert_int_equal(pgm->account.ballooned, 2);
	assert_int_equal(give(pgm, 0x500000), BAD_STATE);
	assert_int_equal(take(pgm, 0x502000), BAD_STATE);
	/* A page in the balloon isn't pinned; a handler on it works. */
	assert_int_equal(pgm_pin(pgm, gpa(0x500000), false, owner, &frame), CONFLICT);
	assert_int_equal(pgm_handler_register(pgm, all, gpa(0x500000), gpa(0x500fff), NULL, "all"), OK);
	assert_int_equal(guest_read(pgm, 0x500000), 0x77);
	assert_int_equal(take(pgm, 0x500000), HANDLER);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(0x500000)), OK);
	assert_int_equal(take(pgm, 0x500000), OK);
	assert_int_equal(pgm_unpin(pgm, gpa(6 * MIB), false, owner), OK);
	machine_end_test(pgm);
}

static void test_preallocated(void **state)
{
	struct pgm *pgm = machine_of(&pt_ept4, 8 * MIB, true);

	assert_int_equal(pgm_preallocate(pgm, NULL, NULL), OK);
	assert_int_equal(give(pgm, 4 * MIB), CONFLICT);
	assert_int_equal(pgm_discard(pgm, gpa(4 * MIB), 2 * MIB), 0);
	machine_end_test(pgm);
}

static struct pgm *watched;
static hpa_t watched_frame;
static bool watched_gone; /* a flush came after it had left the tables, and before it was free */

static void sync_watched(struct flush_domain *domain, uint64_t generation)
{
	struct frame_info info;

	machine_flushes++;
	frame_describe(watched_frame, &info);
	if (info.state == FRAME_PRIVATE && !table_rights(watched, 5 * MIB))
		watched_gone = true;
	else if (!watched_gone && info.state != FRAME_PRIVATE)
		abort();
}

static void test_flush_before_free(void **state)
{
	for (unsigned whole = 0; whole < 4; whole++) {
		struct pgm *pgm = machine_of(&pt_ept4, RAM, whole & 1);
		struct pgm_page_info info;
		struct frame_info frame;

		fill(pgm, 4 * MIB, 6 * MIB);
		pgm_page_describe(pgm, gpa(5 * MIB), &info);
		watched = pgm;
		watched_frame = info.frame;
		watched_gone = false;
		pgm->flush.sync = sync_watched;
		machine_flushes = 0;
		if (whole & 2)
			assert_int_equal(pgm_discard(pgm, gpa(4 * MIB), 2 * MIB), 512);
		else
			assert_int_equal(give(pgm, 5 * MIB), OK);
		assert_true(watched_gone);
		frame_describe(info.frame, &frame);
		assert_int_equal(frame.state, FRAME_FREE);
		pgm->flush.sync = machine_sync;
		machine_end_test(pgm);
	}
}

/* The content of what goes is zero from then on: a change like any other. */
static void test_dirty(void **state)
{
	for (unsigned whole = 0; whole < 2; whole++) {
		struct pgm *pgm = machine_of(&pt_ept4, RAM, true);
		uint64_t bitmap[RAM / PAGE_SIZE / 64] = { 0 };

		fill(pgm, 4 * MIB, 6 * MIB);
		assert_int_equal(pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT), OK);
		assert_int_equal(pgm_dirty_read_and_clear(pgm, 0, RAM / PAGE_SIZE, bitmap), OK);
		if (whole)
			assert_int_equal(pgm_discard(pgm, gpa(4 * MIB), 2 * MIB), 512);
		else
			assert_int_equal(give(pgm, 5 * MIB), OK);
		assert_int_equal(pgm_dirty_read_and_clear(pgm, 0, RAM / PAGE_SIZE, bitmap), OK);
		assert_true(bitmap[N(5 * MIB) / 64] & 1);
		assert_int_equal(bitmap[N(4 * MIB) / 64] & 1, whole);
		machine_end_test(pgm);
	}
}

/* A range goes while pages of it are in the balloon: the account follows. */
static void test_removed_range(void **state)
{
	struct pgm *pgm = machine_of(&pt_ept4, RAM, true);
	enum status status;

	assert_int_equal(pgm_add_ram(pgm, gpa(GIB), 8 * MIB, "more"), OK);
	fill(pgm, GIB, GIB + 2 * MIB);
	assert_int_equal(give(pgm, GIB + MIB), OK);
	assert_int_equal(many(pgm, true, GIB + 2 * MIB, 2 * MIB), OK);
	assert_int_equal(pgm->account.ballooned, 513);
	while ((status = pgm_remove_range_step(pgm, gpa(GIB))) == BUSY)
		assert_int_equal(give(pgm, GIB + 6 * MIB) == OK, false);
	assert_int_equal(status, OK);
	assert_int_equal(pgm->account.ballooned, 0);
	assert_int_equal(take(pgm, GIB + 2 * MIB), BAD_ADDRESS);
	machine_end_test(pgm);
}

/* Attack 4: whatever fails, all is as it was, and the same again succeeds. */
static void test_attack4_failures(void **state)
{
	static const enum mm_site sites[] = { MM_SITE_CHUNK, MM_SITE_FRAME, MM_SITE_TABLE, MM_SITE_LARGE };

	for (unsigned s = 0; s < ARRAY_SIZE(sites); s++)
		for (unsigned after = 0; after < 4; after++) {
			struct pgm *pgm = machine_of(&pt_ept4, RAM, true);
			enum status status;

			fill(pgm, 4 * MIB, 6 * MIB);
			assert_int_equal(many(pgm, true, 8 * MIB, 2 * MIB), OK);
			inject_arm(sites[s], after, 1, 1);
			status = give(pgm, 5 * MIB); /* splits a large block */
			assert_true(status == OK || status == NO_MEMORY);
			assert_int_equal(pgm->account.ballooned, 512 + (status == OK));
			assert_int_equal(base(pgm), 512 - (status == OK));
			status = take(pgm, 9 * MIB); /* splits a ballooned one */
			assert_true(status == OK || status == NO_MEMORY);
			assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
			inject_disarm(sites[s]);
			status = give(pgm, 5 * MIB);
			assert_true(status == OK || status == BAD_STATE);
			assert_int_equal(state_at(pgm, 5 * MIB), PAGE_BALLOONED);
			machine_end_test(pgm);
		}
}

/* All of a machine's memory goes round and round; at its end nothing of it is left behind. */
static void test_many_machines(void **state)
{
	uint64_t seed = 99, before = totals_now().free_chunks;

	for (unsigned life = 0; life < 1000; life++) {
		struct pgm *pgm = machine_of(life & 1 ? &pt_ept4 : &pt_npt4, 8 * MIB + (life % 5) * 2 * MIB, life & 2);

		for (unsigned i = 0; i < 40; i++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			uint64_t where = align_down((seed >> 20) % (10 * MIB), PAGE_SIZE);
			enum status status = OK;

			switch (seed >> 60) {
			case 0: status = many(pgm, true, align_down(where, BLOCK_SIZE), 2 * MIB); break;
			case 1: status = many(pgm, false, align_down(where, BLOCK_SIZE), 2 * MIB); break;
			case 2: (void)pgm_discard(pgm, gpa(where), 3 * MIB); break;
			case 3:
			case 4: status = give(pgm, where); break;
			case 5: status = take(pgm, where); break;
			default: (void)guest_write(pgm, where, 1); break;
			}
			assert_true(status != NO_MEMORY && status != OVER_QUOTA);
		}
		if (life % 16 == 0)
			assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
		while (pgm_destroy_step(pgm) == BUSY)
			;
	}
	assert_int_equal(frame_check(print_finding, NULL), 0);
	assert_in_range(totals_now().free_chunks, before - 1, before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_discard),
		cmocka_unit_test(test_attack5_lies),
		cmocka_unit_test(test_preallocated),
		cmocka_unit_test(test_flush_before_free),
		cmocka_unit_test(test_dirty),
		cmocka_unit_test(test_removed_range),
		cmocka_unit_test(test_attack4_failures),
		cmocka_unit_test(test_many_machines),
	};

	machine_world(128 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
