/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * The short way of a fault: it takes what it is for and leaves what the long way would have left. Each condition that it asks
 * for, not met, makes it refuse with nothing changed; the fault as a whole comes out right all the same.
 */
#include "common/pgm_world.h"
#include "pgm/short.h"
#include "pgm/slat/tables.h"

#define RAM (32 * MIB)
#define AT UINT64_C(0x805000)
#define ROM UINT64_C(0xe0000)

static struct pgm *pgm;
static struct block *block;
static uint64_t where;

static page_record *record(void)
{
	return page_of(block, gpa(where));
}

static uint64_t *entry_now(void)
{
	unsigned level;

	return slat_find(&pgm->slat, gpa(where), &level);
}

static void touch(uint64_t at, unsigned access)
{
	assert_int_equal(pgm_fault(pgm, gpa(at), access), PGM_RESUME);
}

/* Small pages; the neighbour's first write has made the block's records and its table, and `at` reads as zero. */
static void start_at(uint64_t at)
{
	struct pgm_config config = plain_config(RAM);

	config.large_pages = false;
	pgm = make_pgm_of(&config);
	where = at;
	touch(at + PAGE_SIZE, ACCESS_WRITE);
	block = block_find(pgm, gpa(at));
	assert_int_equal(block_kind(block), BLOCK_DETAILED);
	flushes = 0;
}

/* The page is written, and then watched by the dirty log. */
static void log_on(void)
{
	touch(where, ACCESS_WRITE);
	assert_int_equal(pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT), OK);
	flushes = 0;
}

static void collapsing(void)
{
	block->flags |= BLOCK_COLLAPSING;
}

static void table_gone(void)
{
	pgm_tables_drop(pgm);
}

static void zeros_mapped(void)
{
	touch(where, ACCESS_READ);
}

static void flush_owed(void)
{
	pgm->flush.pending = 1;
}

static void reserve_empty(void)
{
	struct gather gather;

	gather_begin(&gather, &pgm->flush, &pgm->account);
	handy_drain(pgm, HPA_NONE, &gather);
	gather_finish(&gather);
	flushes = 0;
}

static void ballooned(void)
{
	assert_int_equal(pgm_balloon(pgm, true, &(uint32_t){ where / PAGE_SIZE }, 1), OK);
}

static void has_frame(void)
{
	touch(where, ACCESS_WRITE);
	slat_set(&pgm->slat, entry_now(), 0, &(struct gather){ .account = &pgm->account });
}

static enum status ignore(void *user, struct pgm_access *access)
{
	return OK;
}

static void watched(void)
{
	handler_type type;

	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_WRITE, 0, ignore, "", &type), OK);
	assert_int_equal(pgm_handler_register(pgm, type, gpa(where), gpa(where + 7), NULL, ""), OK);
}

static void read_only(void)
{
	record()->bits |= PAGE_READ_ONLY;
}

static void logged_collapsing(void)
{
	log_on();
	collapsing();
}

static void logged_unmapped(void)
{
	log_on();
	pgm_tables_drop(pgm);
	touch(where + PAGE_SIZE, ACCESS_READ); /* its table, and all neighbours that have frames */
	slat_set(&pgm->slat, entry_now(), 0, &(struct gather){ .account = &pgm->account });
}

static const struct {
	const char *name;
	void (*before)(void);
	enum pgm_verdict verdict;
	unsigned owed; /* flushes that the long way makes */
} refusals[] = {
	{ "collapsing", collapsing, PGM_RESUME, 0 },
	{ "no table", table_gone, PGM_RESUME, 0 },
	{ "zeros are mapped", zeros_mapped, PGM_RESUME, 1 },
	{ "a flush is owed", flush_owed, PGM_RESUME, 1 },
	{ "nothing in the reserve", reserve_empty, PGM_RESUME, 0 },
	{ "ballooned", ballooned, PGM_RESUME, 0 },
	{ "has a frame", has_frame, PGM_RESUME, 0 },
	{ "watched by a handler", watched, PGM_EMULATE, 0 },
	{ "read-only", read_only, PGM_EMULATE, 0 },
	{ "logged, collapsing", logged_collapsing, PGM_RESUME, 0 },
	{ "logged, not mapped", logged_unmapped, PGM_RESUME, 0 },
};

static void test_refuses(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(refusals); i++) {
		uint64_t bits, entry, faults;
		unsigned held, count;
		hpa_t frame;

		start_at(AT);
		refusals[i].before();
		flushes = 0;
		bits = record()->bits;
		entry = *entry_now();
		held = block->held;
		count = pgm->common.handy.count;
		faults = pgm->common.counters.dirty_faults;
		if (fault_short(pgm, &pgm->common, block, gpa(where), ACCESS_WRITE) != FAULT_CAUSES || flushes ||
		    record()->bits != bits || *entry_now() != entry || block->held != held ||
		    pgm->common.handy.count != count || pgm->common.counters.dirty_faults != faults)
			fail_msg("%s: taken, or something has changed", refusals[i].name);
		if (pgm_fault(pgm, gpa(where), ACCESS_WRITE) != refusals[i].verdict || flushes != refusals[i].owed)
			fail_msg("%s: not as it should be in the end, %u flushes", refusals[i].name, flushes);
		if (refusals[i].verdict == PGM_RESUME)
			assert_int_equal(granted(pgm, where, &frame), RWX);
		pgm->flush.pending = 0;
		record()->bits &= ~PAGE_READ_ONLY;
		block->flags = 0;
		end_pgm(pgm);
	}
}

static enum fault_cause take_short(uint64_t at, unsigned access)
{
	return fault_short(pgm, &pgm->common, block_find(pgm, gpa(at)), gpa(at), access);
}

/* ROM, and what nobody has touched. */
static void test_not_for_it(void **state)
{
	start_at(AT);
	assert_int_equal(pgm_add_rom(pgm, gpa(ROM), PAGE_SIZE, "rom"), OK);
	touch(ROM, ACCESS_READ);
	assert_int_equal(take_short(ROM, ACCESS_WRITE), FAULT_CAUSES);
	assert_int_equal(take_short(AT + BLOCK_SIZE, ACCESS_WRITE), FAULT_CAUSES);
	end_pgm(pgm);
}

/* A large block that has its chunk, and no leaf. */
static void start_large(bool no_execute)
{
	struct pgm_config config = plain_config(RAM);

	config.large_no_execute = no_execute;
	pgm = make_pgm_of(&config);
	where = align_down(AT, BLOCK_SIZE);
	touch(where, ACCESS_WRITE);
	block = block_find(pgm, gpa(where));
	assert_int_equal(block_kind(block), BLOCK_LARGE);
	pgm_tables_drop(pgm);
	flushes = 0;
}

static void test_large(void **state)
{
	struct pgm_vcpu_counters c = { 0 };
	uint64_t leaf;

	start_large(false);
	assert_int_equal(fault_long(pgm, block, gpa(where), ACCESS_EXECUTE, false, &c), PGM_RESUME);
	assert_int_equal(c.cause[FAULT_SYNC], 1);
	leaf = *block->slot;
	assert_int_equal(take_short(where, ACCESS_WRITE), FAULT_CAUSES); /* it is there */
	for (unsigned access = ACCESS_READ; access <= ACCESS_EXECUTE; access *= 2) {
		uint64_t before = pgm->common.counters.large_setup;

		pgm_tables_drop(pgm);
		block->slot = NULL;
		assert_int_equal(take_short(where + 0x1234, access), FAULT_SYNC);
		assert_int_equal(*block->slot, leaf);
		assert_int_equal(pgm->common.counters.large_setup, before + 1);
	}
	pgm_tables_drop(pgm);
	assert_int_equal(pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT), OK);
	assert_int_equal(take_short(where, ACCESS_READ), FAULT_CAUSES);
	assert_int_equal(*block->slot, 0);
	/* By 4 KiB leaves from its first write on: the next go short, and no more than their page is granted. */
	assert_int_equal(take_short(where, ACCESS_WRITE), FAULT_CAUSES);
	touch(where, ACCESS_WRITE);
	assert_int_equal(take_short(where + PAGE_SIZE, ACCESS_READ), FAULT_CAUSES);
	assert_int_equal(take_short(where + PAGE_SIZE, ACCESS_WRITE), FAULT_MAKE_WRITABLE);
	assert_int_equal(granted(pgm, where + PAGE_SIZE, NULL), RWX);
	assert_int_equal(granted(pgm, where + 2 * PAGE_SIZE, NULL), RWX & ~ACCESS_WRITE);
	pgm_tables_drop(pgm);
	assert_int_equal(take_short(where + PAGE_SIZE, ACCESS_READ), FAULT_CAUSES);
	end_pgm(pgm);
	start_large(true);
	assert_int_equal(take_short(where, ACCESS_EXECUTE), FAULT_CAUSES);
	assert_int_equal(*block->slot, 0);
	assert_int_equal(take_short(where, ACCESS_WRITE), FAULT_SYNC);
	assert_int_equal(slat_rights(&pgm->slat, *block->slot), ACCESS_READ | ACCESS_WRITE);
	end_pgm(pgm);
}

/* A read of what may only be read must not be answered as a write: neither a frame nor a note comes of it. */
static void test_reads_go_long(void **state)
{
	start_at(AT);
	touch(where, ACCESS_READ);
	assert_int_equal(page_get_state(*record()), PAGE_ZERO);
	log_on();
	touch(where, ACCESS_READ);
	assert_false(dirty_is_open(pgm, gpa(where)));
	end_pgm(pgm);
}

struct outcome {
	uint64_t record, entry, held, allocated, handy_allocs, faults;
	bool noted;
	enum fault_cause cause;
};

static struct outcome take(bool logged, bool log_first, bool long_way)
{
	const uint64_t frame_bits = BITS(PAGE_FRAME_BITS - 1, 0);
	struct pgm_vcpu_counters c = { 0 };
	struct outcome out;

	start_at(AT);
	if (logged)
		log_on();
	else if (log_first)
		assert_int_equal(pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT), OK);
	flushes = 0;
	if (long_way)
		assert_int_equal(fault_long(pgm, block, gpa(where + 8), ACCESS_WRITE, false, &c), PGM_RESUME);
	else
		assert_int_equal(pgm_take_fault(pgm, gpa(where + 8), ACCESS_WRITE, false, &c), PGM_RESUME);
	assert_int_equal(c.faults, !long_way);
	assert_int_equal(c.resumed, 1);
	assert_int_equal(c.cause[c.last_cause], 1);
	assert_int_equal(flushes, 0);
	assert_int_equal(slat_frame(&pgm->slat, 0, *entry_now()).v, page_frame(*record()).v);
	out = (struct outcome){
		.record = record()->bits & ~frame_bits,
		.entry = *entry_now() & ~pgm->slat.format->address,
		.held = block->held,
		.allocated = pgm->common.counters.allocated,
		.handy_allocs = pgm->common.counters.handy_allocs,
		.faults = pgm->common.counters.dirty_faults,
		.noted = dirty_noted(pgm, gpa(where)) >> (where >> PAGE_SHIFT & 63) & 1,
		.cause = (enum fault_cause)c.last_cause,
	};
	end_pgm(pgm);
	return out;
}

/* Both ways come to the same. */
static void test_as_the_long_way(void **state)
{
	for (unsigned i = 0; i < 3; i++) {
		struct outcome a, b;

		memset(&a, 0, sizeof(a));
		memset(&b, 0, sizeof(b));
		a = take(i == 2, i == 1, false);
		b = take(i == 2, i == 1, true);
		assert_int_equal(a.record, b.record);
		assert_int_equal(a.entry, b.entry);
		assert_int_equal(a.held, b.held);
		assert_int_equal(a.allocated, b.allocated);
		assert_int_equal(a.handy_allocs, b.handy_allocs);
		assert_int_equal(a.faults, b.faults);
		assert_int_equal(a.noted, b.noted);
		assert_int_equal(a.noted, i != 0);
		assert_int_equal(a.cause, b.cause);
	}
}

/* It is the way of most: a block's second page goes by it, and the reserve is filled again behind it. */
static void test_taken(void **state)
{
	start_at(AT);
	for (unsigned i = 0; i < 2 * HANDY_SIZE; i++) {
		where = AT + (2 + i) * PAGE_SIZE;
		assert_int_equal(fault_short(pgm, &pgm->common, block, gpa(where), ACCESS_WRITE), FAULT_PAGE_ZEROING);
		assert_int_equal(granted(pgm, where, NULL), RWX);
	}
	assert_true(pgm->common.handy.count >= HANDY_LOW);
	assert_int_equal(flushes, 0);
	end_pgm(pgm);
}

/* A block finds its slot beside its neighbour's, the first of a directory page by a walk; it is the one that a walk finds. */
static void test_slots(void **state)
{
	struct pgm_config config = plain_config(600 * MIB);
	uint64_t decoy[2] = { 0 }, *kept;

	config.large_pages = false;
	pgm = make_pgm_of(&config);
	touch(258 * MIB, ACCESS_WRITE);
	block = block_find(pgm, gpa(256 * MIB));
	kept = block[-1].slot; /* what another frame holds */
	block[-1].slot = decoy;
	touch(256 * MIB, ACCESS_WRITE);
	block[-1].slot = kept;
	for (uint64_t at = 2 * MIB; at < 500 * MIB; at += at % (6 * MIB) ? 2 * MIB : 4 * MIB) {
		touch(at, ACCESS_WRITE);
		assert_ptr_equal(block_find(pgm, gpa(at))->slot, slat_block_entry(&pgm->slat, gpa(at)));
	}
	assert_ptr_equal(block->slot, slat_block_entry(&pgm->slat, gpa(256 * MIB)));
	end_pgm(pgm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refuses),         cmocka_unit_test(test_not_for_it),
		cmocka_unit_test(test_large),           cmocka_unit_test(test_reads_go_long),
		cmocka_unit_test(test_as_the_long_way), cmocka_unit_test(test_taken),
		cmocka_unit_test(test_slots),
	};

	pgm_world_start(64 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
