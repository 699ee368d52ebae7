/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/* Large pages there and back: split, collapse, reuse, and what calls a collapse off; the reserve; ranges that go. */
#define WORLD_STRICT 17u
#include "common/pgm_world.h"

#define WORLD (96 * MIB)
#define RAM (16 * MIB)
#define BLOCK_AT (4 * MIB)
#define ZEROS (BLOCK_AT + 4 * BLOCK_SIZE)

/* Stamps one word per page. */
static void stamp(struct pgm *pgm, uint64_t first, uint64_t end)
{
	for (uint64_t a = first; a < end; a += PAGE_SIZE) {
		uint64_t word = a ^ 0x5151;

		assert_int_equal(pgm_write(pgm, gpa(a + (a >> 9 & 0xff8)), &word, 8, ORIGIN_DEVICE, NULL), OK);
	}
}

static void check_stamps(struct pgm *pgm, uint64_t first, uint64_t end)
{
	for (uint64_t a = first; a < end; a += PAGE_SIZE) {
		uint64_t word;

		assert_int_equal(pgm_read(pgm, gpa(a + (a >> 9 & 0xff8)), &word, 8, ORIGIN_DEVICE, NULL), OK);
		assert_int_equal(word, a ^ 0x5151);
	}
}

/* A block of single frames, all written. */
static void make_full(struct pgm *pgm, uint64_t base)
{
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	stamp(pgm, base, base + BLOCK_SIZE);
	inject_disarm(MM_SITE_LARGE);
	assert_int_equal(block_kind(block_find(pgm, gpa(base))), BLOCK_DETAILED);
}

static void collapse_all(struct pgm *pgm)
{
	unsigned steps = 0;

	/* Twice: a round over memory may have begun behind the block. */
	for (unsigned round = 0; round < 2; round++)
		while (pgm_collapse_step(pgm))
			assert_true(++steps < 100000);
}

static void test_collapse_copies(void **state)
{
	struct pgm *pgm = make_pgm(RAM);
	uint64_t tables;
	hpa_t frame;

	make_full(pgm, BLOCK_AT);
	for (unsigned i = 0; i < 512; i += 3)
		assert_int_equal(pgm_fault(pgm, gpa(BLOCK_AT + i * PAGE_SIZE), ACCESS_WRITE), PGM_RESUME);
	tables = table_pages_of(pgm);
	collapse_all(pgm);
	assert_int_equal(pgm->common.counters.large_collapsed, 1);
	assert_int_equal(pgm->common.counters.large_recheck, 1);
	assert_int_equal(block_kind(block_find(pgm, gpa(BLOCK_AT))), BLOCK_LARGE);
	assert_int_equal(granted(pgm, BLOCK_AT + 7 * PAGE_SIZE, &frame), RWX);
	assert_int_equal(frame.v, block_address(block_find(pgm, gpa(BLOCK_AT))).v + 7 * PAGE_SIZE);
	check_stamps(pgm, BLOCK_AT, BLOCK_AT + BLOCK_SIZE);
	assert_int_equal(base_pages(pgm), 512);
	assert_int_equal(table_pages_of(pgm), tables - 2); /* the block's table and its records */
	end_pgm(pgm);
}

static unsigned level_at(struct pgm *pgm, uint64_t where)
{
	unsigned level;

	slat_find(&pgm->slat, gpa(where), &level);
	return level;
}

/* Where a large leaf may not be executed: it is for data, and the first fetch from its block splits it for good. */
static void test_no_code_in_large_leaves(void **state)
{
	struct pgm_config config = plain_config(RAM);
	struct pgm *pgm;

	config.large_no_execute = true;
	pgm = make_pgm_of(&config);
	/* Zeros that are read, then fetched. */
	assert_int_equal(pgm_fault(pgm, gpa(ZEROS), ACCESS_READ), PGM_RESUME);
	assert_int_equal(granted(pgm, ZEROS, NULL), ACCESS_READ);
	assert_int_equal(level_at(pgm, ZEROS), 1);
	assert_int_equal(pgm_fault(pgm, gpa(ZEROS + PAGE_SIZE), ACCESS_EXECUTE), PGM_RESUME);
	assert_int_equal(granted(pgm, ZEROS + PAGE_SIZE, NULL), RX);
	assert_int_equal(level_at(pgm, ZEROS), 0);
	assert_int_equal(base_pages(pgm), 0);
	/* A large block: data, until it is fetched from. */
	assert_int_equal(pgm_fault(pgm, gpa(BLOCK_AT), ACCESS_WRITE), PGM_RESUME);
	stamp(pgm, BLOCK_AT, BLOCK_AT + BLOCK_SIZE);
	assert_int_equal(granted(pgm, BLOCK_AT, NULL), ACCESS_READ | ACCESS_WRITE);
	assert_int_equal(level_at(pgm, BLOCK_AT), 1);
	flushes = 0;
	assert_int_equal(pgm_fault(pgm, gpa(BLOCK_AT), ACCESS_READ), PGM_RESUME);
	assert_int_equal(flushes, 0);
	check_silent(pgm);
	assert_int_equal(pgm_fault(pgm, gpa(BLOCK_AT + 9 * PAGE_SIZE), ACCESS_EXECUTE), PGM_RESUME);
	assert_int_equal(flushes, 1); /* before a small leaf may be executed the large one is gone everywhere */
	assert_int_equal(level_at(pgm, BLOCK_AT), 0);
	assert_int_equal(granted(pgm, BLOCK_AT + 9 * PAGE_SIZE, NULL), RWX);
	assert_int_equal(granted(pgm, BLOCK_AT + 400 * PAGE_SIZE, NULL) & ACCESS_WRITE, ACCESS_WRITE);
	collapse_all(pgm);
	assert_int_equal(level_at(pgm, BLOCK_AT), 0);
	check_stamps(pgm, BLOCK_AT, BLOCK_AT + BLOCK_SIZE);
	/* One that was never fetched from may become large: for data. */
	make_full(pgm, BLOCK_AT + BLOCK_SIZE);
	collapse_all(pgm);
	assert_int_equal(level_at(pgm, BLOCK_AT + BLOCK_SIZE), 1);
	assert_int_equal(granted(pgm, BLOCK_AT + BLOCK_SIZE, NULL), ACCESS_READ | ACCESS_WRITE);
	/* A first touch that is a fetch makes no large block at all. */
	assert_int_equal(pgm_fault(pgm, gpa(BLOCK_AT + 2 * BLOCK_SIZE), ACCESS_EXECUTE), PGM_RESUME);
	assert_int_equal(granted(pgm, BLOCK_AT + 2 * BLOCK_SIZE, NULL), RX);
	assert_int_equal(level_at(pgm, BLOCK_AT + 2 * BLOCK_SIZE), 0);
	/* The log's end gives no more than there was. */
	assert_int_equal(pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT), OK);
	assert_int_equal(pgm_dirty_stop(pgm), OK);
	assert_int_equal(pgm_fault(pgm, gpa(BLOCK_AT + BLOCK_SIZE), ACCESS_WRITE), PGM_RESUME);
	assert_int_equal(granted(pgm, BLOCK_AT + BLOCK_SIZE, NULL) & ACCESS_EXECUTE,
			 level_at(pgm, BLOCK_AT + BLOCK_SIZE) ? 0 : ACCESS_EXECUTE);
	end_pgm(pgm);
}

static enum status pass(void *user, struct pgm_access *access)
{
	return NOT_FOUND;
}

static handler_type write_type(struct pgm *pgm)
{
	handler_type type;

	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_WRITE, 0, pass, "pass", &type), OK);
	return type;
}

/* Attack 1, and merged back: not a page moves. */
static void test_attack1_split_keeps_everything(void **state)
{
	struct pgm *pgm = make_pgm(RAM);
	handler_type type = write_type(pgm);
	struct block *b;
	hpa_t chunk, frame;

	stamp(pgm, BLOCK_AT, BLOCK_AT + BLOCK_SIZE);
	assert_int_equal(pgm_fault(pgm, gpa(BLOCK_AT), ACCESS_WRITE), PGM_RESUME);
	b = block_find(pgm, gpa(BLOCK_AT));
	chunk = block_address(b);
	assert_int_not_equal(chunk.v, BLOCK_AT);
	assert_int_equal(pgm_handler_register(pgm, type, gpa(BLOCK_AT + 99 * PAGE_SIZE),
					      gpa(BLOCK_AT + 100 * PAGE_SIZE - 1), NULL, "one"),
			 OK);
	assert_int_equal(block_kind(b), BLOCK_DETAILED);
	for (unsigned i = 0; i < 512; i++) {
		if (i == 99)
			continue;
		assert_int_equal(granted(pgm, BLOCK_AT + i * PAGE_SIZE, &frame), RWX);
		assert_int_equal(frame.v, chunk.v + i * PAGE_SIZE);
	}
	assert_int_equal(granted(pgm, BLOCK_AT + 99 * PAGE_SIZE, NULL) & ACCESS_WRITE, 0);
	check_silent(pgm);
	collapse_all(pgm);
	assert_int_equal(block_kind(b), BLOCK_DETAILED);
	assert_int_equal(pgm->common.counters.large_refused, 2);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(BLOCK_AT + 99 * PAGE_SIZE)), OK);
	collapse_all(pgm);
	assert_int_equal(pgm->common.counters.large_reused, 1);
	assert_int_equal(block_kind(b), BLOCK_LARGE);
	assert_int_equal(block_address(b).v, chunk.v);
	assert_int_equal(granted(pgm, BLOCK_AT + 99 * PAGE_SIZE, &frame), RWX);
	assert_int_equal(frame.v, chunk.v + 99 * PAGE_SIZE);
	check_stamps(pgm, BLOCK_AT, BLOCK_AT + BLOCK_SIZE);
	end_pgm(pgm);
}

/* Attack 4: a split that fails anywhere leaves record, chunk and leaf as they were. */
static void test_attack4_split_fails_clean(void **state)
{
	struct pgm *pgm = make_pgm(RAM);
	handler_type type = write_type(pgm);
	struct block *b, before;
	unsigned failed = 0;

	stamp(pgm, BLOCK_AT, BLOCK_AT + PAGE_SIZE);
	assert_int_equal(pgm_fault(pgm, gpa(BLOCK_AT), ACCESS_WRITE), PGM_RESUME);
	b = block_find(pgm, gpa(BLOCK_AT));
	before = *b;
	for (unsigned after = 0;; after++) {
		uint64_t guest, tables = held_pages(&guest), entry, guest_after;
		unsigned level;
		enum status status;

		entry = *slat_find(&pgm->slat, gpa(BLOCK_AT), &level);
		inject_arm(MM_SITE_TABLE, after, 0, 0);
		status = pgm_handler_register(pgm, type, gpa(BLOCK_AT), gpa(BLOCK_AT + PAGE_SIZE - 1), NULL, "x");
		inject_disarm(MM_SITE_TABLE);
		if (status == OK)
			break;
		failed++;
		assert_int_equal(status, NO_MEMORY);
		assert_int_equal(b->word, before.word);
		assert_int_equal(*slat_find(&pgm->slat, gpa(BLOCK_AT), &level), entry);
		assert_int_equal(level, 1);
		assert_int_equal(held_pages(&guest_after), tables);
		assert_int_equal(guest_after, guest);
		check_silent(pgm);
	}
	assert_int_equal(failed, 3); /* page records, the block's table, frame records */
	check_stamps(pgm, BLOCK_AT, BLOCK_AT + PAGE_SIZE);
	end_pgm(pgm);
}

static void write_word(struct pgm *pgm, uint64_t where, uint64_t word)
{
	assert_int_equal(pgm_write(pgm, gpa(where), &word, 8, ORIGIN_DEVICE, NULL), OK);
}

/* The guest: through the tables, with a fault where they don't allow it. */
static void guest_write(struct pgm *pgm, uint64_t where, uint64_t word)
{
	hpa_t frame;

	if (!(granted(pgm, where, &frame) & ACCESS_WRITE)) {
		assert_int_equal(pgm_fault(pgm, gpa(where), ACCESS_WRITE), PGM_RESUME);
		assert_true(granted(pgm, where, &frame) & ACCESS_WRITE);
	}
	*(uint64_t *)host_memory_at(hpa(frame.v + (where & (PAGE_SIZE - 1)))) = word;
}

/* A write before each step, by turns of the guest and of a device, in each phase: none is lost. */
static void test_collapse_sees_writes(void **state)
{
	for (unsigned moment = 0; moment < 120; moment++) {
		struct pgm *pgm = make_pgm(RAM);
		uint64_t where = BLOCK_AT + (moment * 37 % 512) * PAGE_SIZE + 0x18, word = 0;

		make_full(pgm, BLOCK_AT);
		write_word(pgm, where, 1);
		if (moment & 1)
			guest_write(pgm, where, 1);
		for (unsigned step = 0; pgm_collapse_step(pgm); step++) {
			if (step == moment / 2 && (moment & 1))
				guest_write(pgm, where, 0xabcdef);
			else if (step == moment / 2)
				write_word(pgm, where, 0xabcdef);
		}
		assert_int_equal(pgm->common.counters.large_collapsed, 1);
		assert_int_equal(pgm_read(pgm, gpa(where), &word, 8, ORIGIN_DEVICE, NULL), OK);
		if (moment / 2 < 30)
			assert_int_equal(word, 0xabcdef);
		end_pgm(pgm);
	}
}

/* What the processor remembers of each page of the block, until a flush. */
static struct {
	hpa_t frame;
	unsigned rights;
} tlb[512];

static void forget(void)
{
	memset(tlb, 0, sizeof(tlb));
}

static void remembered_write(struct pgm *pgm, unsigned page, uint64_t word)
{
	uint64_t where = BLOCK_AT + page * PAGE_SIZE;

	if (!(tlb[page].rights & ACCESS_WRITE)) {
		guest_write(pgm, where + 8, 0);
		tlb[page].rights = granted(pgm, where, &tlb[page].frame);
	}
	((uint64_t *)host_memory_at(tlb[page].frame))[2] = word;
}

/*
 * The guest remembers every page writable, and writes three pages around each of three steps on end, wherever these fall.
 * A flush that was left out, or a page copied while it could be written, loses one of the words.
 */
static void test_collapse_against_remembered_translations(void **state)
{
	static const unsigned pages[] = { 0, 100, 511 };

	at_flush = forget;
	for (unsigned begin = 0; begin < 32; begin++) {
		struct pgm *pgm = make_pgm(RAM);

		forget();
		make_full(pgm, BLOCK_AT);
		for (unsigned i = 0; i < 512; i++)
			remembered_write(pgm, i, i);
		for (unsigned step = 0; pgm_collapse_step(pgm); step++)
			for (unsigned i = 0; step >= begin && step < begin + 3 && i < ARRAY_SIZE(pages); i++)
				remembered_write(pgm, pages[i], 1000 * step + i);
		for (unsigned i = 0; i < ARRAY_SIZE(pages); i++) {
			uint64_t word;

			assert_int_equal(
				pgm_read(pgm, gpa(BLOCK_AT + pages[i] * PAGE_SIZE + 16), &word, 8, ORIGIN_DEVICE, NULL),
				OK);
			assert_int_equal(word, 1000 * (begin + 2) + i);
		}
		assert_int_equal(pgm->common.counters.large_collapsed, 1);
		end_pgm(pgm);
	}
	at_flush = NULL;
}

/* Pinned, written through the pin, and let go between two steps. */
static void test_collapse_sees_pins(void **state)
{
	static const char owner[] = "dma";

	for (unsigned moment = 0; moment < 40; moment++) {
		struct pgm *pgm = make_pgm(RAM);
		uint64_t word;
		hpa_t frame;

		make_full(pgm, BLOCK_AT);
		for (unsigned step = 0; step < moment; step++)
			(void)pgm_collapse_step(pgm);
		assert_int_equal(pgm_pin(pgm, gpa(BLOCK_AT + 16), true, owner, &frame), OK);
		((uint64_t *)host_memory_at(frame))[2] = 4711;
		assert_int_equal(pgm_unpin(pgm, gpa(BLOCK_AT), true, owner), OK);
		collapse_all(pgm);
		assert_int_equal(pgm_read(pgm, gpa(BLOCK_AT + 16), &word, 8, ORIGIN_DEVICE, NULL), OK);
		assert_int_equal(word, 4711);
		end_pgm(pgm);
	}
}

static void test_collapse_gives_up(void **state)
{
	struct pgm *pgm = make_pgm(RAM);
	unsigned steps = 0;

	make_full(pgm, BLOCK_AT);
	while (!pgm->common.counters.large_overflow) {
		assert_true(pgm_collapse_step(pgm));
		guest_write(pgm, BLOCK_AT + 5 * PAGE_SIZE, steps);
		assert_true(++steps < 2000);
	}
	assert_int_equal(block_kind(block_find(pgm, gpa(BLOCK_AT))), BLOCK_DETAILED);
	assert_int_equal(base_pages(pgm), 512);
	check_silent(pgm);
	collapse_all(pgm);
	assert_int_equal(pgm->common.counters.large_collapsed, 1);
	end_pgm(pgm);
}

static void test_collapse_refuses(void **state)
{
	struct pgm *pgm = make_pgm(RAM);
	static const char owner[] = "device";
	page_record *r, saved;
	hpa_t frame;

	make_full(pgm, BLOCK_AT);
	r = page_of(block_find(pgm, gpa(BLOCK_AT)), gpa(BLOCK_AT + PAGE_SIZE));
	saved = *r;
	for (unsigned state_value = PAGE_MONITORED; state_value <= PAGE_SHARED; state_value++) {
		page_set(r, (enum page_state)state_value, page_frame(saved));
		collapse_all(pgm);
		*r = saved;
	}
	assert_int_equal(pgm->common.counters.large_refused, 4);
	assert_int_equal(pgm_pin(pgm, gpa(BLOCK_AT + 300 * PAGE_SIZE), true, owner, &frame), OK);
	collapse_all(pgm);
	assert_int_equal(pgm->common.counters.large_refused, 6);
	assert_int_equal(pgm_unpin(pgm, gpa(BLOCK_AT + 300 * PAGE_SIZE), true, owner), OK);
	pgm_collapse_hold(pgm, true);
	assert_false(pgm_collapse_step(pgm));
	pgm_collapse_hold(pgm, false);
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	collapse_all(pgm);
	assert_true(pgm->common.counters.large_alloc_failed >= 1);
	inject_disarm(MM_SITE_LARGE);
	assert_int_equal(pgm->common.counters.large_collapsed, 0);
	/* A pin or a hold that comes in the middle. */
	for (unsigned i = 0; i < 5; i++)
		assert_true(pgm_collapse_step(pgm));
	assert_non_null(pgm->collapse.block);
	assert_int_equal(pgm_pin(pgm, gpa(BLOCK_AT), false, owner, &frame), OK);
	collapse_all(pgm);
	assert_int_equal(pgm->common.counters.large_collapsed, 0);
	assert_int_equal(page_frame(*page_of(block_find(pgm, gpa(BLOCK_AT)), gpa(BLOCK_AT))).v, frame.v);
	assert_int_equal(pgm_unpin(pgm, gpa(BLOCK_AT), false, owner), OK);
	check_stamps(pgm, BLOCK_AT, BLOCK_AT + BLOCK_SIZE);
	collapse_all(pgm);
	assert_int_equal(pgm->common.counters.large_collapsed, 1);
	end_pgm(pgm);
}

/* The machine ends in the midst of a collapse. */
static void test_end_in_collapse(void **state)
{
	for (unsigned stop = 0; stop < 40; stop++) {
		struct pgm *pgm = make_pgm(RAM);

		make_full(pgm, BLOCK_AT);
		for (unsigned i = 0; i < stop; i++)
			(void)pgm_collapse_step(pgm);
		end_pgm(pgm);
	}
}

static void test_reserve(void **state)
{
	struct pgm_config config = plain_config(8 * MIB);
	struct pgm *pgm;
	unsigned got = 0;

	config.large_pages = false;
	pgm = make_pgm_of(&config);
	while (pgm_idle_step(pgm))
		got++;
	assert_int_equal(pgm->common.handy.count, HANDY_SIZE);
	assert_int_equal(got, HANDY_SIZE / HANDY_REFILL);
	assert_int_equal(pgm->account.allocated[ACCOUNT_BASE], HANDY_SIZE);
	/* Refills fail: the reserve carries the faults on, to its last frame. */
	inject_arm(MM_SITE_HANDY, 0, 1, 0);
	for (unsigned i = 0; i < HANDY_SIZE; i++)
		assert_int_equal(pgm_fault(pgm, gpa(2 * MIB + i * PAGE_SIZE), ACCESS_WRITE), PGM_RESUME);
	assert_int_equal(pgm_fault(pgm, gpa(2 * MIB + HANDY_SIZE * PAGE_SIZE), ACCESS_WRITE), PGM_NO_MEMORY);
	assert_false(handy_refill(pgm));
	check_silent(pgm);
	/* Who finds it empty, under the block's lock, has one frame fetched and cleared; a batch comes after that. */
	inject_arm(MM_SITE_HANDY, 1, 1, 0);
	assert_int_equal(pgm_fault(pgm, gpa(2 * MIB + HANDY_SIZE * PAGE_SIZE), ACCESS_WRITE), PGM_RESUME);
	assert_int_equal(inject_count(MM_SITE_HANDY), 1);
	assert_int_equal(pgm->common.handy.count, 0);
	inject_disarm(MM_SITE_HANDY);
	assert_int_equal(pgm_fault(pgm, gpa(2 * MIB + (HANDY_SIZE + 1) * PAGE_SIZE), ACCESS_WRITE), PGM_RESUME);
	assert_in_range(pgm->common.handy.count, HANDY_REFILL - 7, HANDY_REFILL);
	/* With a full reserve there's still quota for every page of RAM. */
	for (uint64_t a = 0; a < 8 * MIB; a += PAGE_SIZE) {
		while (pgm_idle_step(pgm))
			;
		if (a < 0xa0000 || a >= MIB)
			assert_int_equal(pgm_fault(pgm, gpa(a), ACCESS_WRITE), PGM_RESUME);
	}
	assert_int_equal(pgm->common.handy.count, HANDY_SIZE - 1);
	end_pgm(pgm);
}

static enum status remove_all(struct pgm *pgm, uint64_t base, unsigned *steps)
{
	enum status status;

	*steps = 0;
	while ((status = pgm_remove_range_step(pgm, gpa(base))) == BUSY && *steps < 10000)
		++*steps;
	return status;
}

static void test_remove_range(void **state)
{
	struct pgm *pgm = make_pgm(RAM);
	static const char owner[] = "pinner";
	uint64_t reserved = pgm->account.reserved[ACCOUNT_BASE];
	uint64_t base = 64 * MIB + 3 * PAGE_SIZE, size = 8 * MIB + 5 * PAGE_SIZE;
	unsigned steps;
	hpa_t frame;

	stamp(pgm, 2 * MIB, 4 * MIB);
	for (unsigned round = 0; round < 3; round++) {
		uint64_t word = 1;

		assert_int_equal(pgm_add_ram(pgm, gpa(base), size, "extra"), OK);
		assert_int_equal(pgm->account.reserved[ACCOUNT_BASE], reserved + size / PAGE_SIZE);
		assert_int_equal(pgm_ram_bytes(pgm), RAM + size);
		assert_int_equal(pgm_read(pgm, gpa(base + 8 * MIB), &word, 8, ORIGIN_DEVICE, NULL), OK);
		assert_int_equal(word, 0); /* nothing of the last round is left */
		stamp(pgm, base, base + size);
		assert_int_equal(pgm_fault(pgm, gpa(base + 4 * MIB), ACCESS_WRITE), PGM_RESUME);
		assert_int_equal(pgm_pin(pgm, gpa(base + PAGE_SIZE), true, owner, &frame), OK);
		assert_int_equal(pgm_remove_range_step(pgm, gpa(base)), BUSY);
		assert_int_equal(pgm_remove_range_step(pgm, gpa(2 * MIB)), CONFLICT);
		assert_int_equal(pgm_add_ram(pgm, gpa(base), PAGE_SIZE, "too early"), BUSY);
		for (unsigned i = 0; i < 100; i++)
			assert_int_equal(pgm_remove_range_step(pgm, gpa(base)), BUSY); /* a pinned page holds it up */
		assert_int_equal(pgm_unpin(pgm, gpa(base + PAGE_SIZE), true, owner), OK);
		flushes = 0;
		assert_int_equal(remove_all(pgm, base, &steps), OK);
		assert_true(flushes > 0);
		assert_in_range(steps, 2, 8);
		assert_int_equal(granted(pgm, base + 4 * MIB, NULL), 0);
		assert_int_equal(pgm_fault(pgm, gpa(base + 4 * MIB), ACCESS_WRITE), PGM_EMULATE);
		assert_int_equal(pgm_fault(pgm, gpa(base), ACCESS_READ), PGM_EMULATE);
		assert_int_equal(base_pages(pgm), 512);
		check_silent(pgm);
		check_stamps(pgm, 2 * MIB, 4 * MIB);
		assert_int_equal(pgm->account.reserved[ACCOUNT_BASE], reserved);
	}
	assert_int_equal(pgm_remove_range_step(pgm, gpa(base)), NOT_FOUND);
	end_pgm(pgm);
}

static void test_remove_refused(void **state)
{
	struct pgm *pgm = make_pgm(RAM);
	handler_type type = write_type(pgm);

	assert_int_equal(pgm_handler_register(pgm, type, gpa(8 * MIB), gpa(8 * MIB + 7), NULL, "x"), OK);
	assert_int_equal(pgm_remove_range_step(pgm, gpa(MIB)), CONFLICT);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(8 * MIB)), OK);
	/* What else there is knows of its range, and goes by its own way. */
	assert_int_equal(pgm_add_rom(pgm, gpa(RAM + MIB), 2 * PAGE_SIZE, "rom"), OK);
	assert_int_equal(pgm_remove_range_step(pgm, gpa(RAM + MIB)), NOT_SUPPORTED);
	assert_int_equal(pgm_remove_range_step(pgm, gpa(MIB)), BUSY);
	end_pgm(pgm); /* in the midst of it */
}

/* Attack 14: work is bounded by what was touched, not by what was promised. */
static void test_attack14_sparse_tebibyte(void **state)
{
	struct pgm *pgm;
	struct pgm_usage usage;
	unsigned steps = 0;
	enum status status;

	account_policy(OVERCOMMIT_RATIO, 10000000);
	pgm = make_pgm(KIB * GIB);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(pgm_fault(pgm, gpa(4 * GIB + i * 100 * GIB), ACCESS_WRITE), PGM_RESUME);
	pgm_usage(pgm, &usage);
	assert_int_equal(usage.ram_pages, KIB * GIB / PAGE_SIZE);
	assert_int_equal(usage.large_blocks, 8);
	assert_int_equal(usage.record_bytes, 8 * PAGE_SIZE);
	for (steps = 0; pgm_idle_step(pgm); steps++)
		assert_true(steps < 3000);
	check_silent(pgm);
	for (steps = 0; (status = pgm_remove_range_step(pgm, gpa(4 * GIB))) == BUSY; steps++)
		assert_true(steps < 5000);
	assert_int_equal(status, OK);
	for (steps = 0; (status = pgm_destroy_step(pgm)) == BUSY; steps++)
		;
	assert_int_equal(status, OK);
	assert_true(steps < 16);
	account_policy(OVERCOMMIT_RATIO, 10000);
}

/* The frames that one step of a reset or of the end may give back: what it looks at last may be a whole block more. */
#define STEP_FRAMES (9 * PAGES_PER_BLOCK + GATHER_ITEMS)

/* 1000 blocks with a page each, a GiB apart; two full ones; under a dirty log. */
static struct pgm *wide_machine(void)
{
	struct pgm_config config = plain_config(KIB * GIB);
	enum status status;
	struct pgm *pgm;

	config.large_pages = false;
	pgm = make_pgm_of(&config);
	stamp(pgm, 2 * MIB, 6 * MIB);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(pgm_fault(pgm, gpa(4 * GIB + i * GIB), ACCESS_WRITE), PGM_RESUME);
	while ((status = pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT)) == BUSY)
		;
	assert_int_equal(status, OK);
	assert_true(pgm->slat.tables > 2000);
	return pgm;
}

/* Attack 14: the reset and the end of a TiB go in bounded slices, the tables too. */
static void test_attack14_end_in_slices(void **state)
{
	struct pgm *pgm;
	enum status status;
	unsigned resets = 0, steps = 0;
	uint64_t before, tables;

	account_policy(OVERCOMMIT_RATIO, 10000000);
	pgm = wide_machine();
	do {
		before = mm_counters.gather_frees;
		tables = pgm->slat.tables;
		status = pgm_reset_step(pgm, false);
		assert_true(mm_counters.gather_frees - before <= STEP_FRAMES);
		assert_true(tables - pgm->slat.tables <= SLAT_STEP_TABLES);
		resets++;
	} while (status == BUSY);
	assert_int_equal(status, OK);
	assert_true(resets > 2000 / SLAT_STEP_TABLES);
	assert_int_equal(pgm->slat.tables, 1);
	check_silent(pgm);
	end_pgm(pgm);
	pgm = wide_machine();
	do {
		before = mm_counters.gather_frees;
		status = pgm_destroy_step(pgm);
		assert_true(mm_counters.gather_frees - before <= STEP_FRAMES);
		assert_int_equal(frame_check(print_finding, NULL), 0);
		steps++;
	} while (status == BUSY);
	assert_int_equal(status, OK);
	assert_in_range(steps, 2000 / SLAT_STEP_TABLES + 3, 200);
	assert_int_equal(frame_check(print_finding, NULL), 0);
	account_policy(OVERCOMMIT_RATIO, 10000);
}

/* Attack 14: a guest's first touch clears its 2 MiB in slices, and comes again between them. */
static void test_attack14_cleared_in_slices(void **state)
{
	struct pgm *pgm = make_pgm(RAM);
	uint8_t *bytes;
	hpa_t frame;

	for (uint64_t at = BLOCK_AT; at < RAM; at += BLOCK_SIZE) {
		unsigned times = 0;

		while (!(granted(pgm, at, &frame) & ACCESS_WRITE)) {
			uint64_t before = mm_counters.frames_prezeroed;

			assert_int_equal(pgm_take_fault(pgm, gpa(at), ACCESS_WRITE, true, vcpu_counters()), PGM_RESUME);
			assert_true(mm_counters.frames_prezeroed - before <= BLOCK_SLICE);
			times++;
		}
		assert_int_equal(times, PAGES_PER_BLOCK / BLOCK_SLICE + 1);
		assert_int_equal(block_kind(block_find(pgm, gpa(at))), BLOCK_LARGE);
		bytes = host_memory_at(frame);
		for (unsigned i = 0; i < BLOCK_SIZE; i++)
			assert_int_equal(bytes[i], 0);
		memset(bytes, 0x5e, BLOCK_SIZE);
	}
	/* One that an idle processor has begun is finished, and taken. */
	end_pgm(pgm);
	pgm = make_pgm(RAM);
	assert_true(frame_prezero_step());
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(pgm_take_fault(pgm, gpa(BLOCK_AT), ACCESS_WRITE, true, vcpu_counters()), PGM_RESUME);
	assert_int_equal(granted(pgm, BLOCK_AT, &frame), RWX);
	end_pgm(pgm);
}

static int setup(void **state)
{
	pgm_world_start(WORLD);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_collapse_copies),
		cmocka_unit_test(test_no_code_in_large_leaves),
		cmocka_unit_test(test_attack1_split_keeps_everything),
		cmocka_unit_test(test_attack4_split_fails_clean),
		cmocka_unit_test(test_collapse_sees_writes),
		cmocka_unit_test(test_collapse_against_remembered_translations),
		cmocka_unit_test(test_collapse_sees_pins),
		cmocka_unit_test(test_collapse_gives_up),
		cmocka_unit_test(test_collapse_refuses),
		cmocka_unit_test(test_end_in_collapse),
		cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_remove_range),
		cmocka_unit_test(test_remove_refused),
		cmocka_unit_test(test_attack14_sparse_tebibyte),
		cmocka_unit_test(test_attack14_end_in_slices),
		cmocka_unit_test(test_attack14_cleared_in_slices),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
