/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * Faults in parallel: two vcpus that fault in different blocks, neighbours even, write no cache line in common but those of
 * the accounts, the common stock and mm behind them, and these once for a batch of frames or a table. Every store is seen,
 * that of a lock and its release too.
 */
#include "common/stores.h" /* first: it asks for the GNU extensions */

#define WORLD_STRICT 0u /* as in the kernel: what is mapped stays so */
#include "common/pgm_world.h"
#include "pgm/dirty/dirty.h"

#define RAM (64 * MIB)
#define FIRST (8 * MIB) /* the two vcpus' blocks: this one, and one at a distance */
#define FAULTS 96u

extern unsigned test_cpu_count;
extern char __data_start[], _end[];

static struct pgm *pgm;
static struct pgm_vcpu_counters vcpus[2] __attribute__((aligned(PAGE_SIZE)));
static uintptr_t written[2][STORES_LINES];
static unsigned count[2];

/* So many pages from `first` on, one after the other. */
struct act {
	uint64_t first;
	unsigned pages, access;
	bool emulator;
	unsigned common; /* out: how many of them wrote what is common */
};

static void by_fault(uint64_t where, unsigned access)
{
	assert_int_equal(pgm_guest_fault(pgm, gpa(where), access), PGM_RESUME);
}

static void by_emulator(uint64_t where, unsigned access)
{
	uint64_t word = 0;

	if (access & ACCESS_WRITE)
		assert_int_equal(pgm_write(pgm, gpa(where), &word, 8, ORIGIN_GUEST, NULL), OK);
	else
		assert_int_equal(pgm_read(pgm, gpa(where), &word, 8, ORIGIN_GUEST, NULL), OK);
}

static bool in(uintptr_t line, const void *at, size_t size)
{
	return line >= (uintptr_t)at >> 6 && line <= ((uintptr_t)at + size - 1) >> 6;
}

/* Where a batch is had: the machine's account and stock, and what mm keeps of chunks. */
static bool is_common(uintptr_t line)
{
	return in(line, &pgm->account, sizeof(pgm->account)) || in(line, &pgm->common, sizeof(pgm->common)) ||
	       in(line, &chunks, sizeof(chunks)) || in(line, chunks.table, chunks.count * sizeof(struct chunk)) ||
	       in(line, &chunk_lock, sizeof(chunk_lock)) || in(line, &mm_counters, sizeof(mm_counters));
}

static void run(void *context)
{
	struct act *act = context;

	for (unsigned i = 0; i < act->pages; i++) {
		bool common = false;

		stores->stamp++;
		(act->emulator ? by_emulator : by_fault)(act->first + i * PAGE_SIZE, act->access);
		for (unsigned k = 0; k < stores->lines; k++)
			common |= stores->last[k] == stores->stamp && is_common(stores->line[k]);
		for (unsigned k = 0; k < stores->lines && !common; k++)
			stores->mark[k] |= stores->last[k] == stores->stamp;
		act->common += common;
	}
}

/* How many of the accesses wrote what is common. All lines that the others wrote are kept. */
static unsigned one(unsigned cpu, struct act act)
{
	test_cpu = cpu;
	pgm_count_for(&vcpus[cpu]);
	stores_record(run, &act);
	for (unsigned i = 0; i < stores->lines; i++)
		if (stores->mark[i])
			written[cpu][count[cpu]++] = stores->line[i];
	pgm_count_for(NULL);
	test_cpu = 0;
	return act.common;
}

static void nothing_in_common(const char *what)
{
	for (unsigned i = 0; i < count[0]; i++)
		for (unsigned k = 0; k < count[1]; k++)
			if (written[0][i] == written[1][k])
				fail_msg("%s: both write the line at %#zx (pgm + %#zx, data + %#zx, memory + %#zx)",
					 what, written[0][i] << 6, (written[0][i] << 6) - (uintptr_t)pgm,
					 (written[0][i] << 6) - (uintptr_t)__data_start,
					 (written[0][i] << 6) - (uintptr_t)direct_map);
	assert_true(count[0] && count[1]);
	count[0] = count[1] = 0;
}

/* The same by both vcpus, each in its block: how many accesses wrote what is common. */
static unsigned both(const char *what, uint64_t distance, unsigned page, struct act act)
{
	unsigned common = 0;

	for (unsigned cpu = 0; cpu < 2; cpu++) {
		act.first = FIRST + cpu * distance + page * PAGE_SIZE;
		common += one(cpu, act);
	}
	nothing_in_common(what);
	return common;
}

static void start(bool large_pages, bool cleared)
{
	struct pgm_config config = plain_config(RAM);

	config.large_pages = large_pages;
	pgm = make_pgm_of(&config);
	memset(vcpus, 0, sizeof(vcpus));
	for (unsigned cpu = 0; cpu < 2; cpu++)
		assert_int_equal(pgm_vcpu_open(pgm, &vcpus[cpu]), OK);
	while (cleared && frame_prezero_step())
		; /* no store is a clearing's */
	stores_start();
	stores_watch(direct_map, 64 * MIB);
	stores_watch(__data_start, (size_t)(_end - __data_start));
	stores_watch(pgm, sizeof(*pgm));
	for (unsigned cpu = 0; cpu < 2; cpu++)
		stores_watch(vcpus[cpu].local, sizeof(*vcpus[cpu].local));
}

#define ACT(n, what, by_whom) ((struct act){ .pages = (n), .access = (what), .emulator = (by_whom) })
#define WRITES(n) ACT(n, ACCESS_WRITE, false)
#define READS(n) ACT(n, ACCESS_READ, false)

/* Records, tables, and frames of its own. */
static void warm_up(uint64_t distance)
{
	for (unsigned cpu = 0; cpu < 2; cpu++)
		one(cpu, (struct act){ .first = FIRST + cpu * distance, .pages = 2, .access = ACCESS_WRITE });
	count[0] = count[1] = 0;
}

/* First writes the short way; what is there already, and zeros; the emulator's accesses. */
static void test_pages(void **state)
{
	static const uint64_t distances[] = { BLOCK_SIZE, 4 * BLOCK_SIZE };

	start(false, true);
	for (unsigned i = 0; i < ARRAY_SIZE(distances); i++) {
		uint64_t d = distances[i];

		warm_up(d);
		assert_in_range(both("first writes", d, 2, WRITES(FAULTS)), 2, 2 * FAULTS / (HANDY_REFILL - 8));
		assert_int_equal(both("spurious faults", d, 2, WRITES(4)), 0);
		assert_int_equal(both("zeros", d, 200, READS(20)), 0);
		assert_in_range(both("the emulator's writes", d, 300, ACT(40, ACCESS_WRITE, true)), 1, 4);
		assert_int_equal(both("the emulator's reads", d, 2, ACT(20, ACCESS_READ, true)), 0);
	}
	end_pgm(pgm);
}

/* Writes that the dirty log waits for. */
static void test_log(void **state)
{
	enum status status;

	start(false, true);
	warm_up(BLOCK_SIZE);
	both("first writes", BLOCK_SIZE, 2, WRITES(48));
	while ((status = pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT)) == BUSY)
		;
	assert_int_equal(status, OK);
	one(0, (struct act){ .first = FIRST, .pages = 1, .access = ACCESS_WRITE }); /* the bitmap comes */
	count[0] = 0;
	assert_int_equal(both("logged writes", BLOCK_SIZE, 2, WRITES(40)), 0);
	while ((status = pgm_dirty_stop(pgm)) == BUSY)
		;
	assert_int_equal(status, OK);
	end_pgm(pgm);
}

/* The leaf of a large block, 8 apart: nearer ones' entries share a line by the processor's format. */
static void test_large(void **state)
{
	struct gather gather;

	start(true, true);
	warm_up(8 * BLOCK_SIZE);
	for (unsigned cpu = 0; cpu < 2; cpu++) {
		struct block *b = block_find(pgm, gpa(FIRST + cpu * 8 * BLOCK_SIZE));

		assert_int_equal(block_kind(b), BLOCK_LARGE);
		gather_begin(&gather, &pgm->flush, &pgm->account);
		slat_drop_block(&pgm->slat, b->slot, gpa(0), &gather);
		gather_finish(&gather);
	}
	assert_int_equal(both("large leaves", 8 * BLOCK_SIZE, 0, WRITES(1)), 0);
	assert_int_equal(both("large leaves again", 8 * BLOCK_SIZE, 0, WRITES(1)), 0);
	end_pgm(pgm);
}

/* A refill of what is not zero yet: every byte is written with no lock held. */
static void test_clears_unlocked(void **state)
{
	unsigned seen = 0;

	start(false, false);
	one(0, (struct act){ .first = FIRST, .pages = 1, .access = ACCESS_WRITE });
	count[0] = 0;
	for (unsigned i = 0; i < stores->lines; i++) {
		hpa_t frame = hpa((stores->line[i] << 6) - (uintptr_t)direct_map);
		struct frame_info info;

		if (stores->line[i] << 6 < (uintptr_t)direct_map || frame.v >= 64 * MIB)
			continue;
		frame_describe(frame, &info);
		if (info.state != FRAME_PRIVATE)
			continue;
		seen++;
		/* But the very first page's, in place. */
		assert_int_equal(stores->held[i], info.page.v == FIRST);
	}
	if (!secret_free)
		assert_in_range(seen, HANDY_REFILL * PAGE_SIZE / CACHE_LINE - 1, STORES_LINES);
	end_pgm(pgm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clears_unlocked), /* first: nothing is cleared yet */
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_large),
	};

	test_cpu_count = 2;
	pgm_world_start(64 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
