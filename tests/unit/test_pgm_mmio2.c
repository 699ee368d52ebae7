/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/* MMIO2: mapped, moved, shrunk; what stands in the way; dirty bits through every kind of write; and the marks of pure MMIO. */
#include "test_pgm_machine.h"

#define AT UINT64_C(0xe0100000)
#define PAGES 700u /* more than a block, and it begins within one */
#define SIZE (PAGES * PAGE_SIZE)

static uint64_t bitmap[(PAGES + 63) / 64];

static bool dirty(unsigned page)
{
	return bitmap[page / 64] >> (page % 64) & 1;
}

static unsigned query(struct pgm *pgm, struct mmio2 *m)
{
	unsigned count = 0;

	assert_int_equal(pgm_mmio2_query_dirty(pgm, m, bitmap, PAGES), OK);
	for (unsigned i = 0; i < pgm_mmio2_size(m) / PAGE_SIZE; i++)
		count += dirty(i);
	return count;
}

static struct pgm *make(struct mmio2 **m)
{
	struct pgm *pgm = machine_of(&pt_ept4, 32 * MIB, true);

	assert_int_equal(pgm_mmio2_register(pgm, SIZE, "vram", m), OK);
	assert_int_equal(pgm->account.allocated[ACCOUNT_FIXED], PAGES);
	return pgm;
}

static void test_map_move_unmap(void **state)
{
	struct mmio2 *m;
	struct pgm *pgm = make(&m);
	uint32_t seen = 0, put = 0xfeedbeef;
	gpa_t base;

	(void)state;
	assert_false(pgm_mmio2_mapped(m, &base));
	assert_int_equal(guest_read(pgm, AT), 0xff);
	assert_int_equal(pgm_mmio2_write(pgm, m, 5 * PAGE_SIZE - 2, &put, 4), OK);
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(AT)), OK);
	assert_int_equal(guest_read(pgm, AT + 5 * PAGE_SIZE - 1), 0xbe);
	assert_true(guest_write(pgm, AT + SIZE - 1, 0x42));
	assert_int_equal(table_rights(pgm, AT + SIZE - 1), ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE);
	assert_int_equal(guest_read(pgm, AT + SIZE), 0xff);
	assert_int_equal(guest_read(pgm, AT - 1), 0xff);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	/* Moved by one page: it overlaps itself. */
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(AT + PAGE_SIZE)), OK);
	assert_int_equal(guest_read(pgm, AT), 0xff);
	assert_int_equal(guest_read(pgm, AT + SIZE + PAGE_SIZE - 1), 0x42);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	pgm_mmio2_unmap(pgm, m);
	assert_int_equal(table_rights(pgm, AT + SIZE), 0);
	assert_int_equal(guest_read(pgm, AT + SIZE), 0xff);
	assert_int_equal(pgm_mmio2_read(pgm, m, 5 * PAGE_SIZE - 2, &seen, 4), OK);
	assert_int_equal(seen, put);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	pgm_mmio2_deregister(pgm, m);
	assert_int_equal(pgm->account.allocated[ACCOUNT_FIXED], 0);
	assert_int_equal(pgm->account.reserved[ACCOUNT_FIXED], 0);
	machine_end_test(pgm);
}

/* Moved about, also within its own blocks, it leaves nothing behind; unmapped, the machine holds what it held before. */
static void test_leaves_nothing(void **state)
{
	static const uint64_t steps[] = { PAGE_SIZE, BLOCK_SIZE, 3 * BLOCK_SIZE + PAGE_SIZE, 0, 2 * PAGE_SIZE };
	struct mmio2 *m;
	struct pgm *pgm = make(&m);
	uint64_t before, first = 0;

	(void)state;
	assert_true(guest_write(pgm, 2 * MIB, 1));
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(AT)), OK);
	assert_true(guest_write(pgm, AT, 1)); /* the upper table stays */
	pgm_mmio2_unmap(pgm, m);
	before = pgm->account.allocated[ACCOUNT_TABLE];
	for (unsigned i = 0; i < 40; i++) {
		uint64_t at = AT + steps[i % ARRAY_SIZE(steps)] + i / ARRAY_SIZE(steps) * BLOCK_SIZE;

		assert_int_equal(pgm_mmio2_map(pgm, m, gpa(at)), OK);
		assert_true(guest_write(pgm, at + SIZE - 1, 0x42));
		assert_true(guest_write(pgm, at, 0x42));
		first = i ? first : pgm->account.allocated[ACCOUNT_TABLE];
		assert_true(pgm->account.allocated[ACCOUNT_TABLE] <= first + 2); /* it may lie in one block more */
	}
	pgm_mmio2_unmap(pgm, m);
	assert_int_equal(pgm->account.allocated[ACCOUNT_TABLE], before);
	machine_end_test(pgm);
}

static enum status answer(void *user, struct pgm_access *access)
{
	(void)user;
	access->value = 0x1234;
	return OK;
}

static void test_conflicts(void **state)
{
	struct mmio2 *m, *other;
	struct pgm *pgm = make(&m);
	handler_type type;
	gpa_t base;

	(void)state;
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_MMIO, 0, answer, "test", &type), OK);
	assert_int_equal(pgm_handler_register(pgm, type, gpa(0xfec00000), gpa(0xfec00fff), NULL, "window"), OK);
	assert_int_equal(pgm_mmio2_register(pgm, PAGE_SIZE, "other", &other), OK);
	assert_int_equal(pgm_mmio2_map(pgm, other, gpa(0xf0000000)), OK);
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(AT + 1)), BAD_VALUE);
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(1 * MIB)), CONFLICT); /* RAM */
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(0xf0001000 - SIZE)),
			 CONFLICT); /* the other's only page is its last */
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(0xfec00000 - SIZE + PAGE_SIZE)), CONFLICT);
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa((pgm->directory_count << DIRECTORY_SHIFT) - PAGE_SIZE)),
			 BAD_ADDRESS);
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(UINT64_MAX - PAGE_SIZE + 1)), BAD_ADDRESS);
	assert_false(pgm_mmio2_mapped(m, &base));
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(0xf0001000)), OK);
	/* And the other way round: no handler over what is mapped, no move into another. */
	assert_int_equal(pgm_handler_register(pgm, type, gpa(0xf0001000), gpa(0xf0001fff), NULL, "in the way"),
			 CONFLICT);
	assert_int_equal(pgm_mmio2_map(pgm, other, gpa(0xf0001000)), CONFLICT);
	assert_true(pgm_mmio2_mapped(other, &base) && base.v == 0xf0000000);
	assert_true(guest_write(pgm, 0xf0000000, 7));
	machine_end_test(pgm); /* takes the regions along */
}

static void test_dirty(void **state)
{
	struct mmio2 *m;
	struct pgm *pgm = make(&m);
	uint64_t word = 1, seen;

	(void)state;
	assert_int_equal(query(pgm, m), PAGES); /* nobody tracks */
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(AT)), OK);
	assert_true(guest_write(pgm, AT, 1)); /* a translation with the right to write is there */
	pgm_mmio2_track(pgm, m, true);
	assert_int_equal(query(pgm, m), 0);
	assert_int_equal(pgm_mmio2_query_dirty(pgm, m, bitmap, PAGES - 1), BAD_VALUE);
	(void)guest_read(pgm, AT + 9 * PAGE_SIZE);
	assert_true(guest_write(pgm, AT, 2));
	assert_true(guest_write(pgm, AT + 699 * PAGE_SIZE, 2));
	assert_int_equal(pgm_write(pgm, gpa(AT + 4 * PAGE_SIZE - 4), &word, 8, ORIGIN_DEVICE, NULL), OK);
	assert_int_equal(pgm_mmio2_write(pgm, m, 8 * PAGE_SIZE, &word, 8), OK);
	assert_int_equal(pgm_compare_exchange(pgm, gpa(AT + 10 * PAGE_SIZE), 0, 1, 8, &seen), OK);
	assert_int_equal(query(pgm, m), 6);
	assert_true(dirty(0) && dirty(3) && dirty(4) && dirty(8) && dirty(10) && dirty(699));
	assert_int_equal(query(pgm, m), 0);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	/* Dirt survives unmapping and moving; unmapped writes count. */
	assert_true(guest_write(pgm, AT + PAGE_SIZE, 3));
	pgm_mmio2_unmap(pgm, m);
	assert_int_equal(pgm_mmio2_write(pgm, m, 20 * PAGE_SIZE, &word, 8), OK);
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(AT + 3 * MIB)), OK);
	assert_int_equal(query(pgm, m), 2);
	assert_true(dirty(1) && dirty(20));
	pgm_mmio2_track(pgm, m, false);
	assert_int_equal(query(pgm, m), PAGES);
	machine_end_test(pgm);
}

/* A random life, against plain arrays. */
static void test_random(void **state)
{
	static uint8_t content[PAGES];
	static bool marked[PAGES];
	uint64_t seed = 20240817;
	struct mmio2 *m;
	struct pgm *pgm = make(&m);
	uint64_t at = 0;

	(void)state;
	pgm_mmio2_track(pgm, m, true);
	for (unsigned step = 0; step < 6000; step++) {
		unsigned page;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		page = (unsigned)(seed >> 33) % PAGES;
		switch (seed >> 56 & 7) {
		case 0:
			if (step % 16)
				break;
			at = AT + (seed >> 20 & 1023) * PAGE_SIZE;
			assert_int_equal(pgm_mmio2_map(pgm, m, gpa(at)), OK);
			break;
		case 1:
			if (step % 32)
				break;
			pgm_mmio2_unmap(pgm, m);
			at = 0;
			break;
		case 2:
			if (step % 8)
				break;
			assert_int_equal(pgm_mmio2_query_dirty(pgm, m, bitmap, PAGES), OK);
			for (unsigned i = 0; i < PAGES; i++) {
				if (dirty(i) != marked[i])
					fail_msg("step %u: page %u is %s", step, i, dirty(i) ? "dirty" : "clean");
				marked[i] = false;
			}
			break;
		case 3:
			content[page] = (uint8_t)step;
			marked[page] = true;
			assert_int_equal(pgm_mmio2_write(pgm, m, page * PAGE_SIZE + 77, &content[page], 1), OK);
			break;
		case 4:
		case 5:
			if (!at)
				break;
			content[page] = (uint8_t)step;
			marked[page] = true;
			assert_true(guest_write(pgm, at + page * PAGE_SIZE + 77, content[page]));
			break;
		default:
			if (at && guest_read(pgm, at + page * PAGE_SIZE + 77) != content[page])
				fail_msg("step %u: page %u has lost its content", step, page);
		}
	}
	machine_end_test(pgm);
}

static bool marked(struct pgm *pgm, uint64_t where)
{
	unsigned level;

	return misconfig_is_mark(pgm, *slat_find(&pgm->slat, gpa(where), &level));
}

/* The first fault on a handler's page leaves a mark; it goes with the handler, and when something else comes there. */
static void test_marks(void **state)
{
	struct mmio2 *m;
	struct pgm *pgm = make(&m);
	handler_type type;
	uint64_t far = 0xfee00000;

	(void)state;
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_MMIO, 0, answer, "test", &type), OK);
	assert_int_equal(pgm_handler_register(pgm, type, gpa(far), gpa(far + 0x1fff), NULL, "window"), OK);
	assert_int_equal(pgm_fault(pgm, gpa(far + 0x30), ACCESS_READ), PGM_EMULATE);
	assert_true(marked(pgm, far));
	assert_false(marked(pgm, far + PAGE_SIZE));
	assert_int_equal(pgm_fault(pgm, gpa(far + 0x2000), ACCESS_READ), PGM_EMULATE); /* nobody's */
	assert_false(marked(pgm, far + 0x2000));
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(far)), OK);
	assert_false(marked(pgm, far));
	assert_int_equal(guest_read(pgm, far), 0xff);
	/* Within RAM's block: the hole below 1 MiB. */
	assert_int_equal(pgm_handler_register(pgm, type, gpa(0xa0000), gpa(0xbffff), NULL, "vga"), OK);
	assert_true(guest_write(pgm, 0x1000, 1));
	assert_int_equal(pgm_fault(pgm, gpa(0xb8000), ACCESS_WRITE), PGM_EMULATE);
	assert_true(marked(pgm, 0xb8000));
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	reset(pgm, true);
	assert_false(marked(pgm, 0xb8000));
	assert_int_equal(pgm_fault(pgm, gpa(0xb8000), ACCESS_WRITE), PGM_EMULATE);
	assert_true(marked(pgm, 0xb8000));
	/* A mark that nothing entitles to is found. */
	unsigned level;
	*slat_find(&pgm->slat, gpa(0x3000), &level) = pgm->config.slat->misconfigured;
	assert_true(pgm_check(pgm, print_finding, NULL) > 0);
	*slat_find(&pgm->slat, gpa(0x3000), &level) = 0;
	assert_int_equal(pgm_handler_deregister(pgm, gpa(0xa0000)), OK);
	assert_false(marked(pgm, 0xb8000));
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(AT)), OK);
	machine_end_test(pgm);
}

/* The machine's own log, whatever it rests on, sees writes to the region, and takes nothing from the region's. */
static void test_under_the_dirty_log(void **state)
{
	uint64_t log[8];
	struct mmio2 *m;
	struct pgm *pgm = make(&m);

	(void)state;
	pgm_mmio2_track(pgm, m, true);
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(AT)), OK);
	assert_int_equal(query(pgm, m), 0);
	assert_true(guest_write(pgm, AT + 3 * PAGE_SIZE, 1));
	assert_int_equal(pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT), OK);
	assert_int_equal(query(pgm, m), 1); /* written before */
	assert_true(dirty(3));
	assert_int_equal(query(pgm, m), 0);
	assert_true(guest_write(pgm, AT + 5 * PAGE_SIZE, 1));
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	assert_int_equal(pgm_dirty_read_and_clear(pgm, align_down(AT, BLOCK_SIZE) >> PAGE_SHIFT, 512, log), OK);
	for (unsigned i = 0; i < 512; i++)
		assert_int_equal(log[i / 64] >> i % 64 & 1, i == (AT % BLOCK_SIZE >> PAGE_SHIFT) + 5);
	assert_int_equal(pgm_dirty_stop(pgm), OK);
	assert_int_equal(query(pgm, m), 1); /* and the log's reading took nothing away */
	assert_true(dirty(5));
	/* What the device writes, and what comes to another place, is in the log as well. */
	assert_int_equal(pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT), OK);
	assert_int_equal(pgm_mmio2_write(pgm, m, 7 * PAGE_SIZE, log, 8), OK);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(AT + 16 * MIB)), OK);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	assert_int_equal(pgm_dirty_read_and_clear(pgm, align_down(AT + 16 * MIB, BLOCK_SIZE) >> PAGE_SHIFT, 512, log),
			 OK);
	assert_int_equal(log[7], ~UINT64_C(0));
	assert_int_equal(query(pgm, m), 1);
	assert_true(dirty(7));
	assert_int_equal(pgm_dirty_stop(pgm), OK);
	/* Without tracking all count as dirty, watched by the log or not. */
	pgm_mmio2_track(pgm, m, false);
	assert_int_equal(pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT), OK);
	assert_int_equal(query(pgm, m), PAGES);
	assert_int_equal(pgm_dirty_stop(pgm), OK);
	machine_end_test(pgm);
}

static enum status decline(void *user, struct pgm_access *access)
{
	return NOT_FOUND;
}

static bool logged(struct pgm *pgm, uint64_t where)
{
	uint64_t page = where >> PAGE_SHIFT, word;

	assert_int_equal(pgm_dirty_read_and_clear(pgm, page & ~UINT64_C(63), 64, &word), OK);
	return word >> (page & 63) & 1;
}

/*
 * What is written through another place that shows a page, or through a pin, is in its region's bitmap and in the machine's
 * log: at each asking while it may be, and once more after the end.
 */
static void test_written_elsewhere(void **state)
{
	const uint64_t window = AT + 64 * MIB, page = AT + 3 * PAGE_SIZE;
	handler_type type;
	struct mmio2 *m;
	struct pgm *pgm = make(&m);
	hpa_t frame;

	pgm_mmio2_track(pgm, m, true);
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(AT)), OK);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_MMIO, 0, decline, "window", &type), OK);
	assert_int_equal(pgm_handler_register(pgm, type, gpa(window), gpa(window + PAGE_SIZE - 1), NULL, "w"), OK);
	assert_int_equal(query(pgm, m), 0);
	assert_int_equal(pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT), OK);
	assert_int_equal(pgm_handler_alias_mmio2(pgm, gpa(window), gpa(window), gpa(page)), OK);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(guest_write(pgm, window, (uint8_t)i));
		assert_int_equal(query(pgm, m), 1);
		assert_true(dirty(3));
		assert_true(logged(pgm, page));
	}
	/* The region moves, and the window still shows the frame. */
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(AT + 16 * MIB)), OK);
	(void)logged(pgm, page + 16 * MIB);
	assert_int_equal(query(pgm, m), 1);
	assert_true(logged(pgm, page + 16 * MIB));
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(AT)), OK);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(window)), OK);
	assert_int_equal(pgm->aliases, 0);
	assert_int_equal(query(pgm, m), 1);
	assert_true(logged(pgm, page));
	assert_int_equal(query(pgm, m), 0);
	assert_false(logged(pgm, page));
	/* A pin for reading writes nothing. */
	assert_int_equal(pgm_pin(pgm, gpa(page), false, "test", &frame), OK);
	assert_int_equal(query(pgm, m), 0);
	assert_int_equal(pgm_pin(pgm, gpa(page), true, "test", &frame), OK);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(query(pgm, m), 1);
	assert_int_equal(pgm_unpin(pgm, gpa(page), true, "test"), OK);
	assert_int_equal(query(pgm, m), 1);
	assert_int_equal(query(pgm, m), 0);
	assert_int_equal(pgm_unpin(pgm, gpa(page), false, "test"), OK);
	assert_int_equal(pgm_dirty_stop(pgm), OK);
	machine_end_test(pgm);
}

/* The region moves away from under a pin: the pin stays with the page where it was made, and ends there. */
static void test_pinned_and_moved(void **state)
{
	struct mmio2 *m;
	struct pgm *pgm = make(&m);
	hpa_t frame;

	(void)state;
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(AT)), OK);
	assert_int_equal(pgm_pin(pgm, gpa(AT), true, "disk", &frame), OK);
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(AT + 8 * MIB)), OK);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(AT)), OK);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	assert_int_equal(pgm_mmio2_map(pgm, m, gpa(AT + 8 * MIB)), OK);
	assert_int_equal(pgm_unpin(pgm, gpa(AT), true, "disk"), OK);
	assert_int_equal(page_of(block_find(pgm, gpa(AT)), gpa(AT))->bits, 0);
	machine_end_test(pgm);
}

static void test_no_memory(void **state)
{
	struct pgm *pgm = machine_of(&pt_npt4, 32 * MIB, true);
	struct mmio2 *m;

	(void)state;
	assert_int_equal(pgm_mmio2_register(pgm, 512 * MIB, "huge", &m), NO_MEMORY);
	assert_int_equal(pgm_mmio2_register(pgm, 0, "none", &m), BAD_VALUE);
	assert_int_equal(pgm_mmio2_register(pgm, 2 * GIB, "more", &m), BAD_VALUE);
	assert_int_equal(pgm->account.reserved[ACCOUNT_FIXED], 0);
	machine_end_test(pgm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_move_unmap),
		cmocka_unit_test(test_leaves_nothing),
		cmocka_unit_test(test_conflicts),
		cmocka_unit_test(test_dirty),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_under_the_dirty_log),
		cmocka_unit_test(test_written_elsewhere),
		cmocka_unit_test(test_pinned_and_moved),
	};

	machine_world(64 * MIB);
	return cmocka_run_group_tests_name("pgm_mmio2", tests, NULL, NULL);
}
