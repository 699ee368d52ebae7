/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
// threads
/*
 * The dirty log against a reference: which pages were written since the last reading. On every kind of processor, with
 * large pages, devices, handlers, tables that go away, no memory; and on and off 1000 times under load.
 */
#include <pthread.h>

#define WORLD_STRICT 17u
#include "dirty_world.h"
#include "pgm/slat/tables.h"

#define WORDS (PAGES / 64)
/* Attack 8 asks for a thousand. The thread sanitizer slows it ten times, and needs to see each pair of accesses only once. */
#ifdef __SANITIZE_THREAD__
#define ROUNDS 120u
#else
#define ROUNDS (getenv("QUIRE_LONG") ? 1000u : 240u)
#endif

static uint64_t bitmap[WORDS];
extern __thread unsigned test_cpu;
extern unsigned test_cpu_count;

static bool in_bitmap(const uint64_t *bits, uint64_t page)
{
	return bits[page / 64] >> (page % 64) & 1;
}

static void read_all(void)
{
	memset(bitmap, 0xa5, sizeof(bitmap));
	assert_int_equal(pgm_dirty_read_and_clear(machine, 0, PAGES, bitmap), OK);
}

static uint64_t count_bits(void)
{
	uint64_t count = 0;

	for (uint64_t page = 0; page < PAGES; page++)
		count += in_bitmap(bitmap, page);
	return count;
}

/* ---- one thread: exactly the pages that were written ---- */
enum act {
	ACT_GUEST,
	ACT_DEVICE,
	ACT_EXCHANGE,
	ACT_READ,
	ACT_FAULT_READ,
	ACT_HANDLER,
	ACT_ZERO_BYTES,
	ACT_MAP,
	ACT_TAKE,
	ACTS
};
static handler_type write_handler;

static enum status not_mine(void *user, struct pgm_access *access)
{
	return OK;
}

static void compare_exactly(const struct way *way, const bool *written, uint64_t seed, unsigned step)
{
	for (uint64_t page = 0; page < PAGES; page++)
		if (in_bitmap(bitmap, page) != written[page])
			fail_msg("%s: seed %#lx step %u: page %#lx is %s in the log, but was %s", way->name, seed, step,
				 page, in_bitmap(bitmap, page) ? "dirty" : "clean",
				 written[page] ? "written" : "not written");
}

static void toggle_handler(uint64_t page)
{
	gpa_t first = address_of(page), last = gpa(first.v + PAGE_SIZE - 1);

	enum status status;

	if (pgm_handler_deregister(machine, first) == OK)
		return;
	status = pgm_handler_register(machine, write_handler, first, last, NULL, "test");
	assert_true(status == OK || status == LIMIT);
}

static bool has_handler(uint64_t page)
{
	struct pgm_page_info info;

	pgm_page_describe(machine, address_of(page), &info);
	return page_get_handler(info.record) != HANDLER_NONE;
}

/* Returns whether the page was written. */
static bool do_act(enum act act, uint64_t page)
{
	uint64_t seen, word;
	hpa_t frame;

	switch (act) {
	case ACT_GUEST:
		if (has_handler(page))
			return false;
		guest_write(&cpus[0], page);
		return true;
	case ACT_DEVICE: device_write(machine, page); return !has_handler(page);
	case ACT_EXCHANGE: return pgm_compare_exchange(machine, address_of(page), 0, 7, 8, &seen) == OK;
	case ACT_READ:
		assert_int_equal(pgm_read(machine, address_of(page), &word, sizeof(word), ORIGIN_DEVICE, NULL), OK);
		return false;
	case ACT_FAULT_READ:
		assert_int_equal(pgm_fault(machine, address_of(page), ACCESS_READ), PGM_RESUME);
		return false;
	case ACT_HANDLER: toggle_handler(page); return false;
	case ACT_MAP:
		if (pgm_pin(machine, address_of(page), true, "test", &frame) != OK)
			return false;
		assert_int_equal(pgm_unpin(machine, address_of(page), true, "test"), OK);
		return true;
	default:
		assert_int_equal(pgm_write(machine, address_of(page), &seen, 0, ORIGIN_DEVICE, NULL), OK);
		return false;
	}
}

static void take_and_compare(const struct way *way, bool *written, uint64_t seed, unsigned step)
{
	read_all();
	compare_exactly(way, written, seed, step);
	memset(written, 0, PAGES);
	assert_int_equal(pgm_check(machine, print_finding, NULL), 0);
}

static void exactly(const struct way *way, uint64_t seed, bool large)
{
	uint64_t random = seed;
	static bool written[PAGES];

	machine_start(way, 1, large);
	assert_int_equal(pgm_handler_type_register(machine, HANDLER_KIND_WRITE, 0, not_mine, "test", &write_handler),
			 OK);
	for (unsigned i = 0; i < 64; i++) /* some of it is there before */
		guest_write(&cpus[0], FIRST_PAGE + random_of(&random) % (PAGES / 2));
	memset(written, 0, sizeof(written));
	assert_int_equal(pgm_dirty_start(machine, way->mode), OK);
	for (unsigned step = 0; step < 1500; step++) {
		enum act act = random_of(&random) % 40 ? random_of(&random) % ACT_TAKE : ACT_TAKE;
		uint64_t page = FIRST_PAGE + random_of(&random) % (PAGES - FIRST_PAGE);

		if (act == ACT_TAKE)
			take_and_compare(way, written, seed, step);
		else if (do_act(act, page))
			written[page] = true;
	}
	take_and_compare(way, written, seed, 1500);
	assert_int_equal(pgm_dirty_stop(machine), OK);
	machine_finish();
}

static void test_exactly(void **state)
{
	for (unsigned w = 0; w < ARRAY_SIZE(ways); w++)
		for (uint64_t seed = 1; seed <= 4; seed++)
			exactly(&ways[w], seed * 0x9e3779b97f4a7c15, seed & 1);
}

/* Any part may be asked for; the rest stays. */
static void test_parts(void **state)
{
	uint64_t random = 77, part[WORDS];

	machine_start(&ways[0], 1, true);
	assert_int_equal(pgm_dirty_start(machine, DIRTY_AUTO), OK);
	for (unsigned i = 0; i < 300; i++) {
		uint64_t first = FIRST_PAGE + random_of(&random) % (WORDS - 40) * 64,
			 count = 1 + random_of(&random) % 900;

		first = min_u64(first, PAGES - 64);
		count = min_u64(count, PAGES - first);
		guest_write(&cpus[0], first);
		guest_write(&cpus[0], first + count - 1);
		if (first + count < PAGES)
			guest_write(&cpus[0], first + count);
		assert_int_equal(pgm_dirty_read_and_clear(machine, first, count, part), OK);
		assert_true(in_bitmap(part, 0) && in_bitmap(part, count - 1));
		if (count % 64)
			assert_int_equal(part[count / 64] >> (count % 64), 0);
		read_all();
		assert_int_equal(count_bits(), first + count < PAGES ? 1 : 0);
	}
	machine_finish();
}

/* ---- large pages ---- */
static unsigned level_of(uint64_t page, unsigned *rights)
{
	unsigned level;
	uint64_t entry = *slat_find(&machine->slat, address_of(page), &level);

	*rights = slat_rights(&machine->slat, entry);
	return slat_present(&machine->slat, entry) ? level : 9;
}

static void large(const struct way *way)
{
	struct pgm_dirty_info info;
	unsigned rights;
	uint64_t faults;

	machine_start(way, 1, true);
	for (uint64_t page = FIRST_PAGE; page < PAGES; page += PAGES_PER_BLOCK)
		guest_write(&cpus[0], page + 5);
	assert_int_equal(level_of(FIRST_PAGE, &rights), 1);
	assert_int_equal(pgm_dirty_start(machine, way->mode), OK);
	assert_int_equal(level_of(FIRST_PAGE, &rights), 1);
	assert_int_equal(rights, ACCESS_READ | ACCESS_EXECUTE);
	guest_write(&cpus[0], FIRST_PAGE + 9);
	device_write(machine, FIRST_PAGE + 2 * PAGES_PER_BLOCK + 3); /* needs no split */
	read_all();
	assert_int_equal(count_bits(), 2);
	assert_true(in_bitmap(bitmap, FIRST_PAGE + 9) && in_bitmap(bitmap, FIRST_PAGE + 2 * PAGES_PER_BLOCK + 3));
	pgm_dirty_describe(machine, &info);
	assert_int_equal(info.splits, 1);
	assert_int_equal(info.bitmap_bytes, PAGE_SIZE);
	/* It is mapped by small leaves, and large all the same. */
	assert_int_equal(level_of(FIRST_PAGE + 9, &rights), 0);
	assert_int_equal(block_kind(block_find(machine, address_of(FIRST_PAGE))), BLOCK_LARGE);
	assert_int_equal(pgm_check(machine, print_finding, NULL), 0);
	assert_int_equal(pgm_dirty_stop(machine), OK);
	pgm_dirty_describe(machine, &info);
	assert_int_equal(info.bitmap_bytes, 0);
	faults = cpus[0].faults;
	guest_write(&cpus[0], FIRST_PAGE + 9);
	assert_int_equal(cpus[0].faults, faults + 1);
	guest_write(&cpus[0], FIRST_PAGE + 11);
	assert_int_equal(level_of(FIRST_PAGE, &rights), 1);
	assert_int_equal(rights, ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE);
	/* What nothing wrote is large and writable as before, without a fault. */
	faults = cpus[0].faults;
	for (uint64_t page = FIRST_PAGE + PAGES_PER_BLOCK; page < PAGES; page += PAGES_PER_BLOCK) {
		guest_write(&cpus[0], page);
		assert_int_equal(level_of(page, &rights), 1);
	}
	assert_int_equal(cpus[0].faults, faults);
	machine_finish();
}

static void test_large(void **state)
{
	for (unsigned w = 0; w < ARRAY_SIZE(ways); w++)
		large(&ways[w]);
}

/* The small leaves of a large block are as good as others: they go and come, one by one, and what needs records splits it. */
static void fine_leaves(const struct way *way)
{
	const uint64_t page = FIRST_PAGE + 100;
	struct block *b;
	unsigned rights;

	machine_start(way, 1, true);
	guest_write(&cpus[0], page);
	b = block_find(machine, address_of(page));
	assert_int_equal(pgm_dirty_start(machine, way->mode), OK);
	guest_write(&cpus[0], page);
	pgm_tables_drop(machine);
	assert_int_equal(level_of(page, &rights), 9);
	device_write(machine, page + 1);
	assert_int_equal(pgm_fault(machine, address_of(page + 2), ACCESS_READ), PGM_RESUME);
	assert_int_equal(level_of(page + 2, &rights), 0);
	assert_int_equal(pgm_check(machine, print_finding, NULL), 0);
	read_all();
	assert_true(in_bitmap(bitmap, page) && in_bitmap(bitmap, page + 1));
	guest_write(&cpus[0], page + 3);
	block_lock(b);
	{
		struct gather gather;

		gather_begin(&gather, &machine->flush, &machine->account);
		assert_int_equal(block_make_detailed(machine, b, address_of(page), &gather), OK);
		block_unlock(b);
		gather_finish(&gather);
	}
	guest_write(&cpus[0], page + 4);
	assert_int_equal(pgm_check(machine, print_finding, NULL), 0);
	read_all();
	assert_true(in_bitmap(bitmap, page + 3) && in_bitmap(bitmap, page + 4));
	assert_false(in_bitmap(bitmap, page + 2));
	assert_int_equal(pgm_dirty_stop(machine), OK);
	machine_finish();
}

static void test_fine_leaves(void **state)
{
	for (unsigned w = 0; w < ARRAY_SIZE(ways); w++)
		fine_leaves(&ways[w]);
}

/* After the log's end nothing faults that was mapped. */
static void test_end_gives_the_rights_back(void **state)
{
	for (unsigned w = 0; w < ARRAY_SIZE(ways); w++) {
		uint64_t faults;

		machine_start(&ways[w], 1, false);
		for (uint64_t page = FIRST_PAGE; page < FIRST_PAGE + 40; page++)
			guest_write(&cpus[0], page);
		assert_int_equal(pgm_dirty_start(machine, ways[w].mode), OK);
		guest_write(&cpus[0], FIRST_PAGE);
		assert_int_equal(pgm_dirty_stop(machine), OK);
		faults = cpus[0].faults;
		for (uint64_t page = FIRST_PAGE; page < FIRST_PAGE + 40; page++)
			guest_write(&cpus[0], page);
		assert_int_equal(cpus[0].faults, faults);
		machine_finish();
	}
}

/* With dirty bits or PML the split block's other pages need no fault of their own. */
static void test_one_fault_per_block(void **state)
{
	for (unsigned w = 0; w < ARRAY_SIZE(ways); w++) {
		machine_start(&ways[w], 1, true);
		guest_write(&cpus[0], FIRST_PAGE);
		assert_int_equal(pgm_dirty_start(machine, ways[w].mode), OK);
		cpus[0].faults = 0;
		for (uint64_t page = FIRST_PAGE; page < FIRST_PAGE + PAGES_PER_BLOCK; page++)
			guest_write(&cpus[0], page);
		assert_int_equal(cpus[0].faults, ways[w].mode == DIRTY_WRITE_PROTECT ? PAGES_PER_BLOCK : 1);
		read_all();
		assert_int_equal(count_bits(), PAGES_PER_BLOCK);
		for (unsigned i = 0; ways[w].mode == DIRTY_PML && i < 3;
		     i++) { /* the buffer runs full, with the log off too */
			for (uint64_t page = FIRST_PAGE; page < PAGES; page++)
				guest_write(&cpus[0], page);
			read_all();
			assert_int_equal(count_bits(), PAGES - FIRST_PAGE);
		}
		assert_true(ways[w].mode != DIRTY_PML || cpus[0].fulls > 5);
		machine_finish();
	}
}

/* ---- trouble ---- */
static void test_no_memory_for_the_bitmap(void **state)
{
	machine_start(&ways[2], 1, false);
	for (uint64_t page = FIRST_PAGE; page < FIRST_PAGE + 600; page++)
		guest_write(&cpus[0], page);
	assert_int_equal(pgm_dirty_start(machine, DIRTY_AUTO), OK);
	inject_arm(MM_SITE_TABLE, 0, 1, 0);
	guest_write(&cpus[0], FIRST_PAGE);
	read_all(); /* still none: all of it */
	assert_int_equal(count_bits(), PAGES);
	inject_disarm(MM_SITE_TABLE);
	guest_write(&cpus[0], FIRST_PAGE);
	read_all();
	assert_int_equal(count_bits(), PAGES);
	guest_write(&cpus[0], FIRST_PAGE + 599);
	read_all();
	assert_int_equal(count_bits(), 1);
	assert_true(in_bitmap(bitmap, FIRST_PAGE + 599));
	inject_arm(MM_SITE_HEAP, 0, 1, 0);
	assert_int_equal(pgm_dirty_stop(machine), OK);
	assert_int_equal(pgm_dirty_start(machine, DIRTY_AUTO), NO_MEMORY);
	inject_disarm(MM_SITE_HEAP);
	machine_finish();
}

static void test_misuse(void **state)
{
	uint64_t word;

	machine_start(&ways[2], 0, true);
	assert_int_equal(pgm_dirty_stop(machine), BAD_STATE);
	assert_int_equal(pgm_dirty_read_and_clear(machine, 0, 1, &word), BAD_STATE);
	assert_int_equal(pgm_dirty_start(machine, DIRTY_PML), NOT_SUPPORTED);
	assert_int_equal(pgm_dirty_start(machine, DIRTY_ACCESSED_DIRTY), NOT_SUPPORTED);
	assert_int_equal(pgm_dirty_start(machine, DIRTY_OFF), NOT_SUPPORTED);
	assert_int_equal(pgm_dirty_start(machine, DIRTY_MODES), NOT_SUPPORTED);
	assert_int_equal(pgm_dirty_start(machine, DIRTY_AUTO), OK);
	assert_int_equal(pgm_dirty_start(machine, DIRTY_AUTO), BAD_STATE);
	assert_int_equal(pgm_dirty_read_and_clear(machine, 1, 1, &word), BAD_VALUE);
	assert_int_equal(pgm_dirty_read_and_clear(machine, pgm_dirty_extent(machine), 1, &word), BAD_VALUE);
	assert_int_equal(pgm_dirty_read_and_clear(machine, 64, ~UINT64_C(0), &word), BAD_VALUE);
	assert_int_equal(pgm_dirty_read_and_clear(machine, pgm_dirty_extent(machine), 0, &word), OK);
	pgm_dirty_note(machine, gpa(UINT64_C(1) << 51));
	machine_finish();
}

static unsigned findings;

static void count_finding(void *context, const char *line)
{
	findings++;
}

static void test_check_sees_a_hole(void **state)
{
	unsigned level;

	machine_start(&ways[2], 1, false);
	guest_write(&cpus[0], FIRST_PAGE);
	assert_int_equal(pgm_dirty_start(machine, DIRTY_AUTO), OK);
	assert_int_equal(pgm_check(machine, print_finding, NULL), 0);
	*slat_find(&machine->slat, address_of(FIRST_PAGE), &level) |= pt_ept4.write;
	assert_int_equal(pgm_check(machine, count_finding, NULL), 1);
	pgm_dirty_note(machine, address_of(FIRST_PAGE));
	assert_int_equal(pgm_check(machine, count_finding, NULL), 0);
	assert_int_equal(findings, 1);
	assert_int_equal(pgm_dirty_stop(machine), OK);
	machine_finish();
}

/* ---- under load ---- */
static uint32_t load_end, load_pause; /* atomic */
static uint32_t load_parked;          /* atomic: threads that wait */

static void pause_point(void)
{
	if (!__atomic_load_n(&load_pause, __ATOMIC_ACQUIRE))
		return;
	__atomic_fetch_add(&load_parked, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(&load_pause, __ATOMIC_ACQUIRE))
		sched_yield();
	__atomic_fetch_sub(&load_parked, 1, __ATOMIC_ACQ_REL);
}

static void *run_cpu(void *argument)
{
	struct fake_cpu *c = argument;
	uint64_t random = 1 + (uint64_t)(c - cpus);

	test_cpu = 1 + (unsigned)(c - cpus);
	while (!__atomic_load_n(&load_end, __ATOMIC_ACQUIRE)) {
		uint64_t page = 0;
		bool good = true;

		pause_point();
		if (!fake_enter(c))
			continue;
		for (unsigned i = 0; i < 12 && good; i++) {
			page = FIRST_PAGE + random_of(&random) % (PAGES - FIRST_PAGE);
			good = hardware_store(c, page);
		}
		fake_leave(c);
		if (!good)
			fake_handle_exit(c, page);
	}
	return NULL;
}

/* A device that writes, and a hypervisor that takes tables away. */
static void *run_disturber(void *argument)
{
	uint64_t random = 99;

	test_cpu = 1 + CPUS;
	while (!__atomic_load_n(&load_end, __ATOMIC_ACQUIRE)) {
		uint64_t page = FIRST_PAGE + random_of(&random) % (PAGES - FIRST_PAGE), kind = random_of(&random) % 64;
		struct block *b = block_find(machine, address_of(page));
		struct gather gather;

		pause_point();
		if (kind > 2 || !b) {
			device_write(machine, page);
			continue;
		}
		gather_begin(&gather, &machine->flush, &machine->account);
		block_lock(b);
		if (kind)
			slat_drop_page(&machine->slat, NULL, address_of(page), &gather);
		else
			slat_drop_block(&machine->slat, NULL, address_of(page), &gather);
		block_unlock(b);
		gather_finish(&gather);
	}
	return NULL;
}

static uint64_t image[PAGES];

static void copy_logged(void)
{
	read_all();
	for (uint64_t page = 0; page < PAGES; page++)
		if (in_bitmap(bitmap, page))
			image[page] = __atomic_load_n(&version[page], __ATOMIC_RELAXED);
}

static void compare_at_rest(const struct way *way, unsigned round)
{
	__atomic_store_n(&load_pause, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&load_parked, __ATOMIC_ACQUIRE) != CPUS + 1)
		sched_yield();
	copy_logged();
	for (uint64_t page = 0; page < PAGES; page++)
		if (image[page] != version[page])
			fail_msg("%s: round %u: a write to page %#lx was lost", way->name, round, page);
	__atomic_store_n(&load_pause, 0, __ATOMIC_RELEASE);
	while (__atomic_load_n(&load_parked, __ATOMIC_ACQUIRE))
		sched_yield();
}

/* `rounds` times on, some readings, proof, off. */
static void under_load(const struct way *way, unsigned rounds)
{
	pthread_t thread[CPUS + 1];
	uint64_t random = rounds;

	machine_start(way, CPUS, true);
	__atomic_store_n(&load_end, 0, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < CPUS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, run_cpu, &cpus[i]), 0);
	assert_int_equal(pthread_create(&thread[CPUS], NULL, run_disturber, NULL), 0);
	for (unsigned round = 0; round < rounds; round++) {
		assert_int_equal(pgm_dirty_start(machine, way->mode), OK);
		for (uint64_t page = 0; page < PAGES; page++)
			image[page] = __atomic_load_n(&version[page], __ATOMIC_RELAXED);
		for (unsigned i = random_of(&random) % 4; i; i--)
			copy_logged();
		if (round % 4 == 3)
			compare_at_rest(way, round);
		assert_int_equal(pgm_dirty_stop(machine), OK);
	}
	__atomic_store_n(&load_end, 1, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < CPUS + 1; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	machine_finish();
}

/* Machines come anew now and then, so that there are large blocks again. */
static void test_toggled_under_load(void **state)
{
	for (unsigned round = 0; round < ROUNDS; round += 20)
		under_load(&ways[round / 20 % ARRAY_SIZE(ways)], 20);
}

/*
 * Attack 8, the two places where a trace is easily lost: what a processor still remembers as dirty when the log has just
 * been read, and what an entry says that goes away.
 */
static void test_attack8_translations_and_entries(void **state)
{
	const uint64_t page = FIRST_PAGE + 77;

	for (unsigned w = 0; w < ARRAY_SIZE(ways); w++) {
		struct gather gather;
		struct block *b;

		machine_start(&ways[w], 1, true);
		guest_write(&cpus[0], page);
		assert_int_equal(pgm_dirty_start(machine, ways[w].mode), OK);
		for (unsigned round = 0; round < 3; round++) {
			guest_write(&cpus[0], page);
			read_all();
			assert_true(in_bitmap(bitmap, page) && count_bits() == 1);
		}
		guest_write(&cpus[0], page);
		b = block_find(machine, address_of(page));
		gather_begin(&gather, &machine->flush, &machine->account);
		block_lock(b);
		slat_drop_page(&machine->slat, NULL, address_of(page), &gather);
		block_unlock(b);
		gather_finish(&gather);
		read_all();
		assert_true(in_bitmap(bitmap, page) && count_bits() == 1);
		read_all();
		assert_int_equal(count_bits(), 0);
		assert_int_equal(pgm_dirty_stop(machine), OK);
		machine_finish();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exactly),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_fine_leaves),
		cmocka_unit_test(test_end_gives_the_rights_back),
		cmocka_unit_test(test_one_fault_per_block),
		cmocka_unit_test(test_no_memory_for_the_bitmap),
		cmocka_unit_test(test_misuse),
		cmocka_unit_test(test_check_sees_a_hole),
		cmocka_unit_test(test_attack8_translations_and_entries),
		cmocka_unit_test(test_toggled_under_load),
	};

	test_cpu_count = CPUS + 2;
	world_start(96 * MIB);
	if (pgm_start() != OK)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
