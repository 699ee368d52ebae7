/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/status.c lib/hash.c
/*
 * Page fusion: what becomes shared and what doesn't, that no write is lost while it does, that groups never meet, and all of it at random
 * against a model that knows each page's content.
 */
#define WORLD_STRICT (getenv("QUIRE_LONG") ? 1u : 17u)
#include "common/share_world.h"

/* One pass over this machine. */
static void pass(struct pgm *pgm, bool now)
{
	unsigned looked;

	while (pgm_fusion_step(pgm, now, &looked) == BUSY)
		assert_true(looked <= FUSION_STEP);
}

static void passes(unsigned count, unsigned times, bool now)
{
	for (unsigned i = 0; i < times * count; i++)
		pass(machine[i % count], now);
}

static void check_all(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		check_silent(machine[i]);
}

static hpa_t given[64 * MIB / PAGE_SIZE];

static unsigned references(hpa_t frame)
{
	struct frame_info info;

	frame_describe(frame, &info);
	assert_int_equal(info.state, FRAME_SHARED);
	return info.references;
}

static void test_two_machines(void **state)
{
	uint64_t before, guest;
	hpa_t shared;

	start(2, 7, false);
	for (unsigned i = 0; i < 2; i++)
		for (uint64_t n = 0; n < 40; n++) {
			put(machine[i], AT + (n + i * 3) * PAGE_SIZE, n + 1);
			assert_int_equal(pgm_fault(machine[i], gpa(AT + (n + i * 3) * PAGE_SIZE), ACCESS_WRITE),
					 PGM_RESUME);
		}
	(void)held_pages(&before);
	passes(2, 2, false); /* seen, quiet */
	check_all(2);
	(void)held_pages(&guest);
	assert_int_equal(before - guest, 40);
	assert_int_equal(totals_now().shared_pages, 40);
	assert_int_equal(totals_now().duplicate_pages, 40);
	shared = frame_at(machine[0], AT);
	assert_int_equal(state_of(machine[0], AT), PAGE_SHARED);
	assert_int_equal(frame_at(machine[1], AT + 3 * PAGE_SIZE).v, shared.v);
	assert_int_equal(references(shared), 2);
	/* Nobody may write it in place, everybody may read it. */
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(pgm_fault(machine[i], gpa(AT + i * 3 * PAGE_SIZE), ACCESS_READ), PGM_RESUME);
		assert_int_equal(granted(machine[i], AT + i * 3 * PAGE_SIZE, NULL), RX);
	}
	assert_int_equal(pgm_fault(machine[0], gpa(AT), ACCESS_WRITE), PGM_RESUME);
	put(machine[0], AT, 77);
	assert_int_equal(references(shared), 1);
	assert_true(holds(machine[1], AT + 3 * PAGE_SIZE, 1));
	put(machine[1], AT + 3 * PAGE_SIZE, 78);
	assert_true(holds(machine[0], AT, 77));
	assert_int_equal(totals_now().shared_pages, 39);
	for (uint64_t n = 1; n < 40; n++)
		assert_true(holds(machine[0], AT + n * PAGE_SIZE, n + 1) &&
			    holds(machine[1], AT + (n + 3) * PAGE_SIZE, n + 1));
	/* One machine ends: the other keeps what they shared. */
	end_pgm(machine[1]);
	for (uint64_t n = 1; n < 40; n++)
		assert_true(holds(machine[0], AT + n * PAGE_SIZE, n + 1));
	end(1);
}

static void test_quiet(void **state)
{
	start(2, 7, false);
	put(machine[0], AT, 5);
	put(machine[1], AT, 5);
	passes(2, 1, false);
	assert_int_equal(state_of(machine[0], AT), PAGE_ALLOCATED);
	put(machine[1], AT, 6);
	passes(2, 1, false);
	put(machine[1], AT, 5); /* not as it was at the last look */
	passes(2, 1, false);
	assert_int_equal(state_of(machine[1], AT), PAGE_ALLOCATED);
	passes(2, 1, false);
	assert_int_equal(state_of(machine[0], AT), PAGE_SHARED);
	assert_int_equal(state_of(machine[1], AT), PAGE_SHARED);
	/* Zero pages as well, and `now` waits for nothing. */
	put(machine[0], AT, 0);
	pass(machine[0], false);
	assert_int_equal(state_of(machine[0], AT), PAGE_ALLOCATED);
	pass(machine[0], true);
	assert_int_equal(state_of(machine[0], AT), PAGE_ZERO);
	assert_true(holds(machine[0], AT, 0));
	end(2);
}

/* A shared frame has gone and serves another content: that is no reason why nobody should share the old one. */
static void test_frame_used_again(void **state)
{
	hpa_t frame;

	start(2, 7, false);
	for (unsigned i = 0; i < 2; i++) {
		put(machine[i], AT, 5);
		put(machine[i], AT + PAGE_SIZE, 6);
	}
	passes(2, 1, true);
	frame = frame_at(machine[0], AT);
	for (unsigned i = 0; i < 2; i++)
		put(machine[i], AT, 100 + i);
	for (unsigned n = 2; n < 600; n++)
		for (unsigned i = 0; i < 2; i++)
			put(machine[i], AT + n * PAGE_SIZE, 200 + n);
	passes(2, 1, true);
	assert_int_equal(references(frame), 2);
	for (unsigned i = 0; i < 2; i++)
		put(machine[i], AT, 5);
	passes(2, 2, true);
	assert_int_equal(references(frame_at(machine[0], AT)), 2);
	assert_int_equal(frame_at(machine[1], AT).v, frame_at(machine[0], AT).v);
	check_all(2);
	end(2);
}

/* Whatever is told as free for guests can be had: what lies beside shared frames, too, when there is nothing else. */
static void test_the_last_frames(void **state)
{
	struct account *account;
	hpa_t with = HPA_NONE, frame;
	unsigned got = 0;

	start(1, 7, false);
	machine[1] = member(0, false);
	account = pgm_account(machine[1]);
	put(machine[0], AT, 1);
	assert_int_equal(page_share(machine[0], gpa(AT), &with), OK);
	assert_int_equal(account_adjust(account, ACCOUNT_BASE, 64 * MIB / PAGE_SIZE), OK);
	GATHER(gather, NULL, account);
	for (enum status status = OK; status == OK; got += status == OK) {
		status = frame_alloc(account, ACCOUNT_BASE, gpa(0), &frame);
		if (status == OK)
			given[got] = frame;
	}
	assert_int_equal(totals_now().guest_pages, 0);
	while (got)
		gather_frame(&gather, given[--got], ACCOUNT_BASE);
	gather_finish(&gather);
	check_all(2);
	end(2);
}

static page_record *record_at(struct pgm *pgm, uint64_t where)
{
	return page_of(block_find(pgm, gpa(where)), gpa(where));
}

/* What is shared already isn't read at each pass, but by and by. */
static void test_shared_are_passed_by(void **state)
{
	unsigned read = 0;

	start(2, 7, false);
	for (unsigned m = 0; m < 2; m++)
		for (unsigned i = 0; i < 64; i++)
			put(machine[m], AT + i * PAGE_SIZE, i + 1);
	passes(2, 3, false);
	assert_int_equal(totals_now().shared_pages, 64);
	for (unsigned i = 0; i < 64; i++)
		record_at(machine[0], AT + i * PAGE_SIZE)->bits &= ~PAGE_SEEN;
	for (unsigned times = 1; times <= 8; times++) {
		pass(machine[0], times & 1);
		read = 0;
		for (unsigned i = 0; i < 64; i++)
			read += (record_at(machine[0], AT + i * PAGE_SIZE)->bits & PAGE_SEEN) != 0;
		assert_int_equal(read, times * 8);
	}
	/* A page that was shared, and is written to, is looked at again like any other. */
	put(machine[0], AT, 2);
	passes(2, 2, false);
	assert_int_equal(frame_at(machine[0], AT).v, frame_at(machine[0], AT + PAGE_SIZE).v);
	check_all(2);
	end(2);
}

/* Two shared frames of one content become one; not those of two groups. */
static void test_equal_frames_meet(void **state)
{
	hpa_t with = HPA_NONE;

	start(2, 7, false);
	machine[2] = member(8, false);
	for (unsigned i = 0; i < 6; i++) { /* three frames of one group, one of the other */
		put(machine[i % 3], AT + i * PAGE_SIZE, 5);
		with = i < 3 ? HPA_NONE : frame_at(machine[i % 3], AT + (i - 3) * PAGE_SIZE);
		assert_int_equal(page_share(machine[i % 3], gpa(AT + i * PAGE_SIZE), &with), OK);
	}
	put(machine[0], AT + 9 * PAGE_SIZE, 5);
	with = HPA_NONE;
	assert_int_equal(page_share(machine[0], gpa(AT + 9 * PAGE_SIZE), &with), OK);
	assert_int_equal(totals_now().shared_pages, 4);
	passes(3, 16, false);
	assert_int_equal(totals_now().shared_pages, 2);
	assert_int_equal(references(frame_at(machine[0], AT)), 5);
	assert_int_equal(references(frame_at(machine[2], AT + 2 * PAGE_SIZE)), 2);
	check_all(3);
	end(3);
}

#define SHARED_PAGES (2 * PAGES_PER_BLOCK + 100)

/* Two chunks of shared frames, and some: of each of the two so many in eight are left, and what the one has is given back last. */
static void thin(const unsigned *keep, unsigned last)
{
	start(2, 7, false);
	for (unsigned m = 0; m < 2; m++)
		for (unsigned i = 0; i < SHARED_PAGES; i++)
			put(machine[m], AT + i * PAGE_SIZE, i + 30000);
	passes(2, 2, false);
	for (unsigned k = 0; k < 2 * PAGES_PER_BLOCK; k++) {
		unsigned i = k ^ (last ? 0 : PAGES_PER_BLOCK);
		uint32_t page = (AT >> PAGE_SHIFT) + i;

		for (unsigned m = 0; m < 2 && i % 8 >= keep[i / PAGES_PER_BLOCK]; m++)
			assert_int_equal(pgm_balloon(machine[m], true, &page, 1), OK);
	}
	chunk_drop_spares();
}

static bool thinned(const unsigned *keep)
{
	bool right = true;

	for (unsigned i = 0; i < SHARED_PAGES && right; i++) {
		uint64_t where = AT + i * PAGE_SIZE, n = i % 8 < keep[i / PAGES_PER_BLOCK] ? i + 30000 : 0;

		right = holds(machine[0], where, n) && holds(machine[1], where, n);
		right &= !n || references(frame_at(machine[0], where)) == 2;
	}
	chunk_drop_spares();
	return right;
}

static uint64_t pages_moved(void)
{
	return machine[0]->common.counters.moved + machine[1]->common.counters.moved;
}

/* Frames that are left in a chunk of shared ones go to another, with all who share them; and the chunk is whole again. */
static void test_chunks_of_shared_frames(void **state)
{
	static const unsigned keep[] = { 1, 7, 8 }, half[] = { 4, 7, 8 };
	uint64_t cut, moved;

	for (unsigned last = 0; last < 2; last++) {
		thin(keep, last);
		cut = totals_now().split_chunks;
		passes(2, 40, false);
		assert_true(thinned(keep));
		assert_int_equal(totals_now().split_chunks, cut - 1);
		moved = pages_moved();
		assert_in_range(moved, 2 * 64, 2 * 164);
		passes(2, 16, false); /* and then they stay */
		assert_int_equal(pages_moved(), moved);
		check_all(2);
		end(2);
	}
	thin(half, 0); /* only what is nearly empty is emptied: the last 100 pages' */
	passes(2, 16, false);
	assert_true(thinned(half));
	assert_in_range(pages_moved(), 2, 2 * 100);
	end(2);
}

static void test_attack7_groups_never_meet(void **state)
{
	uint64_t looks;

	start(1, 7, false);
	machine[1] = member(8, false);
	machine[2] = member(0, false); /* doesn't take part */
	for (unsigned i = 0; i < 3; i++)
		for (uint64_t n = 0; n < 20; n++)
			put(machine[i], AT + n * PAGE_SIZE, n + 1);
	passes(3, 4, true);
	for (unsigned i = 0; i < 3; i++)
		for (uint64_t n = 0; n < 20; n++)
			assert_int_equal(state_of(machine[i], AT + n * PAGE_SIZE), PAGE_ALLOCATED);
	assert_int_equal(totals_now().shared_pages, 0);
	looks = machine[2]->common.counters.fusion_looks;
	assert_int_equal(looks, 0);
	/* A frame of another group isn't joined, even by who knows its number. */
	for (unsigned i = 0; i < 2; i++) {
		hpa_t frame = HPA_NONE, same;

		assert_int_equal(page_share(machine[i], gpa(AT), &frame), OK);
		same = frame;
		assert_int_equal(page_share(machine[!i], gpa(AT + PAGE_SIZE), &same), NOT_FOUND);
		assert_int_equal(references(frame), 1);
	}
	check_all(3);
	end(3);
}

static void test_large(void **state)
{
	start(2, 7, true);
	/* Six zero pages in seven: worth it. The second machine has one page of other content in eight: not worth it. */
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		put(machine[0], AT + i * PAGE_SIZE, i % 7 ? 0 : i + 1);
		put(machine[1], AT + i * PAGE_SIZE, i + 1000);
	}
	put(machine[0], AT + BLOCK_SIZE, 0); /* all zero */
	assert_int_equal(machine[0]->common.counters.large_alloc, 2);
	passes(2, 1, false);
	assert_int_equal(machine[0]->common.counters.fusion_splits, 0);
	passes(2, 1, false);
	assert_int_equal(machine[0]->common.counters.fusion_splits, 2);
	assert_int_equal(machine[1]->common.counters.fusion_splits, 0);
	assert_int_equal(base_pages(machine[0]), PAGES_PER_BLOCK / 7 + 1);
	assert_int_equal(block_kind(block_find(machine[0], gpa(AT + BLOCK_SIZE))), BLOCK_UNTOUCHED);
	assert_int_equal(block_kind(block_find(machine[1], gpa(AT))), BLOCK_LARGE);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		assert_true(holds(machine[0], AT + i * PAGE_SIZE, i % 7 ? 0 : i + 1));
		assert_true(holds(machine[1], AT + i * PAGE_SIZE, i + 1000));
	}
	check_all(2);
	/* Two equal large blocks find each other. */
	for (unsigned m = 0; m < 2; m++)
		for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
			put(machine[m], AT + 2 * BLOCK_SIZE + i * PAGE_SIZE, i + 5000);
	passes(2, 4, false);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		assert_int_equal(references(frame_at(machine[0], AT + 2 * BLOCK_SIZE + i * PAGE_SIZE)), 2);
	check_all(2);
	end(2);
}

/* ---- a guest that writes while it is fused ---- */
/* The guest's write through what it remembers, just before the flush. */
static void test_write_before_the_flush(void **state)
{
	uint8_t byte;

	start(2, 7, false);
	at_flush = write_late;
	for (unsigned kind = 0; kind < 3; kind++) {
		uint64_t where = AT + kind * PAGE_SIZE;
		hpa_t with = kind == 0 ? pgm_zero_block : HPA_NONE;
		enum status status;

		put(machine[0], where, kind ? 9 : 0);
		put(machine[1], where, 9);
		if (kind == 1)
			assert_int_equal(page_share(machine[1], gpa(where), &with), OK);
		assert_int_equal(pgm_fault(machine[0], gpa(where), ACCESS_WRITE), PGM_RESUME);
		late_bytes = host_memory_at(frame_at(machine[0], where));
		status = page_share(machine[0], gpa(where), &with);
		assert_null(late_bytes);
		assert_int_equal(status, kind == 2 ? OK : CONFLICT);
		assert_int_equal(pgm_read(machine[0], gpa(where + 100), &byte, 1, ORIGIN_DEVICE, NULL), OK);
		assert_int_equal(byte, 0x5a);
		check_all(2);
	}
	at_flush = NULL;
	end(2);
}

/* Another CPU's flush is still owed: nothing maps the page, and somebody writes it even so. */
static void test_pending(void **state)
{
	struct gather owed;
	hpa_t with = pgm_zero_block;

	start(1, 7, false);
	at_flush = write_late;
	put(machine[0], AT, 0);
	gather_begin(&owed, &machine[0]->flush, &machine[0]->account);
	gather_flush(&owed);
	late_bytes = host_memory_at(frame_at(machine[0], AT));
	assert_int_equal(page_share(machine[0], gpa(AT), &with), CONFLICT);
	assert_null(late_bytes);
	gather_finish(&owed);
	at_flush = NULL;
	end(1);
}

static void test_not_these(void **state)
{
	static const char owner[] = "test";
	hpa_t frame, with = HPA_NONE;

	start(1, 7, false);
	for (unsigned i = 0; i < 3; i++)
		put(machine[0], AT + i * PAGE_SIZE, 3);
	assert_int_equal(pgm_pin(machine[0], gpa(AT), false, owner, &frame), OK);
	assert_int_equal(page_share(machine[0], gpa(AT), &with), CONFLICT);
	passes(1, 3, true);
	assert_int_equal(state_of(machine[0], AT), PAGE_ALLOCATED);
	assert_int_equal(state_of(machine[0], AT + PAGE_SIZE), PAGE_SHARED);
	assert_int_equal(frame_at(machine[0], AT + PAGE_SIZE).v, frame_at(machine[0], AT + 2 * PAGE_SIZE).v);
	with = HPA_NONE;
	assert_int_equal(page_share(machine[0], gpa(64 * GIB), &with), NOT_FOUND);
	assert_int_equal(page_share(machine[0], gpa(AT + MIB), &with), CONFLICT); /* zero */
	/* Whoever pins a shared page gets one of its own. */
	assert_int_equal(pgm_pin(machine[0], gpa(AT + PAGE_SIZE), true, owner, &frame), OK);
	assert_int_equal(state_of(machine[0], AT + PAGE_SIZE), PAGE_ALLOCATED);
	check_all(1);
	assert_int_equal(pgm_unpin(machine[0], gpa(AT), false, owner), OK);
	assert_int_equal(pgm_unpin(machine[0], gpa(AT + PAGE_SIZE), true, owner), OK);
	/* Held off, nothing is looked at. */
	pgm_collapse_hold(machine[0], true);
	passes(1, 1, true);
	assert_int_equal(state_of(machine[0], AT), PAGE_ALLOCATED);
	pgm_collapse_hold(machine[0], false);
	passes(1, 1, true);
	assert_int_equal(state_of(machine[0], AT), PAGE_SHARED);
	check_all(1);
	end(1);
}

static void test_references_saturate(void **state)
{
	frame_record *slot, kept;
	hpa_t frame = HPA_NONE;

	start(1, 7, false);
	for (unsigned i = 0; i < 3; i++)
		put(machine[0], AT + i * PAGE_SIZE, 3);
	assert_int_equal(page_share(machine[0], gpa(AT), &frame), OK);
	slot = frame_slot(frame);
	kept = record_load(slot);
	record_store(slot, kept + (REFERENCES_TOP - 1) * RECORD_REFERENCE);
	assert_int_equal(page_share(machine[0], gpa(AT + PAGE_SIZE), &frame), LIMIT);
	record_store(slot, kept + (REFERENCES_TOP - 2) * RECORD_REFERENCE);
	assert_int_equal(page_share(machine[0], gpa(AT + PAGE_SIZE), &frame), OK);
	record_store(slot, kept + RECORD_REFERENCE);
	check_all(1);
	end(1);
}

static void test_dirty_log(void **state)
{
	uint64_t bits = 0;
	hpa_t with = HPA_NONE;

	start(2, 7, false);
	put(machine[0], AT, 4);
	put(machine[1], AT, 4);
	while (pgm_dirty_start(machine[0], DIRTY_WRITE_PROTECT) == BUSY)
		;
	assert_int_equal(pgm_dirty_read_and_clear(machine[0], AT >> PAGE_SHIFT, 1, &bits), OK);
	assert_int_equal(page_share(machine[0], gpa(AT), &with), OK);
	assert_int_equal(pgm_dirty_read_and_clear(machine[0], AT >> PAGE_SHIFT, 1, &bits), OK);
	assert_int_equal(bits & 1, 0); /* shared, and as it was */
	assert_int_equal(pgm_fault(machine[0], gpa(AT), ACCESS_WRITE), PGM_RESUME);
	assert_int_equal(pgm_dirty_read_and_clear(machine[0], AT >> PAGE_SHIFT, 1, &bits), OK);
	assert_int_equal(bits & 1, 1);
	while (pgm_dirty_stop(machine[0]) == BUSY)
		;
	end(2);
}

/* ---- the model ---- */
#define PAGES (3 * PAGES_PER_BLOCK)
#define STEPS 6000u

static uint64_t model[MACHINES][PAGES];

static void reset_one(unsigned m)
{
	while (pgm_reset_step(machine[m], true) == BUSY)
		;
	memset(model[m], 0, sizeof(model[m]));
}

static void collapse_some(struct pgm *pgm)
{
	for (unsigned i = 0; i < 40; i++)
		(void)pgm_idle_step(pgm);
}

static void act(uint64_t *seed)
{
	unsigned m = (unsigned)(random_of(seed) % MACHINES), page = (unsigned)(random_of(seed) % PAGES), looked;
	uint64_t where = AT + page * PAGE_SIZE, n = random_of(seed) % 6;
	unsigned access = random_of(seed) & 1 ? ACCESS_WRITE : ACCESS_READ;

	switch (random_of(seed) % 64) {
	case 0: reset_one(m); break;
	case 1 ... 4: collapse_some(machine[m]); break;
	case 5 ... 20: assert_int_equal(pgm_fault(machine[m], gpa(where), access), PGM_RESUME); break;
	case 21 ... 35:
		put(machine[m], where, n);
		model[m][page] = n;
		break;
	case 36: /* a whole block */
		for (unsigned i = page & ~(PAGES_PER_BLOCK - 1), last = i | (PAGES_PER_BLOCK - 1); i <= last; i++) {
			model[m][i] = i % 3 * n;
			put(machine[m], AT + i * PAGE_SIZE, model[m][i]);
		}
		break;
	case 37: pass(machine[m], true); break;
	default: (void)!pgm_fusion_step(machine[m], n & 1, &looked);
	}
}

static void compare(void)
{
	for (unsigned m = 0; m < MACHINES; m++)
		for (unsigned i = 0; i < PAGES; i++)
			assert_true(holds(machine[m], AT + i * PAGE_SIZE, model[m][i]));
	check_all(MACHINES);
}

static void test_at_random(void **state)
{
	uint64_t seed = 4711, shared = 0, broken = 0;

	start(2, 7, true);
	machine[2] = member(7, false);
	memset(model, 0, sizeof(model));
	for (unsigned i = 0; i < STEPS; i++) {
		act(&seed);
		if (i % 300 == 0)
			compare();
	}
	compare();
	for (unsigned m = 0; m < MACHINES; m++) {
		shared += machine[m]->common.counters.fusion_shared;
		broken += machine[m]->common.counters.fusion_broken;
	}
	assert_true(shared > 1000 && broken > 500);
	end(MACHINES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_machines),
		cmocka_unit_test(test_quiet),
		cmocka_unit_test(test_frame_used_again),
		cmocka_unit_test(test_the_last_frames),
		cmocka_unit_test(test_shared_are_passed_by),
		cmocka_unit_test(test_equal_frames_meet),
		cmocka_unit_test(test_chunks_of_shared_frames),
		cmocka_unit_test(test_attack7_groups_never_meet),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_write_before_the_flush),
		cmocka_unit_test(test_pending),
		cmocka_unit_test(test_not_these),
		cmocka_unit_test(test_references_saturate),
		cmocka_unit_test(test_dirty_log),
		cmocka_unit_test(test_at_random),
	};

	pgm_world_start(64 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
