/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/* Pins: counts per owner, what they hold fast, what may not be pinned, and mappings. */
#include "common/pgm_world.h"

#define WORLD (32 * MIB)
#define RAM (8 * MIB)
#define AT (2 * MIB + 5 * PAGE_SIZE)

static const char disk[] = "disk", net[] = "net";

static void no_list(void *context)
{
}

static void test_counts(void **state)
{
	struct pgm *pgm = make_pgm(RAM);
	struct pgm_pin_info info;
	uint64_t reads, writes;
	hpa_t first, frame;

	assert_false(pgm_pin_find(pgm, gpa(AT), &info));
	assert_int_equal(pgm_pin(pgm, gpa(AT + 8), false, disk, &first), OK);
	assert_int_equal(pgm_pin(pgm, gpa(AT), false, disk, &frame), OK);
	assert_int_equal(frame.v, first.v);
	assert_int_equal(pgm_pin(pgm, gpa(AT), true, net, &frame), OK);
	assert_int_equal(frame.v, first.v);
	assert_true(pgm_pin_find(pgm, gpa(AT + 100), &info));
	assert_int_equal(info.reads, 2);
	assert_int_equal(info.writes, 1);
	assert_int_equal(info.owners, 2);
	pgm_pin_totals(pgm, &reads, &writes);
	assert_int_equal(reads, 1);
	assert_int_equal(writes, 1);
	assert_int_equal(pgm_unpin(pgm, gpa(AT), true, disk), NOT_FOUND);
	assert_int_equal(pgm_unpin(pgm, gpa(AT + PAGE_SIZE), false, disk), NOT_FOUND);
	assert_int_equal(pgm_unpin(pgm, gpa(AT), false, disk), OK);
	assert_int_equal(pgm_unpin(pgm, gpa(AT), true, net), OK);
	assert_true(page_of(block_find(pgm, gpa(AT)), gpa(AT))->bits & PAGE_PINNED);
	assert_int_equal(pgm_unpin(pgm, gpa(AT), false, disk), OK);
	assert_false(page_of(block_find(pgm, gpa(AT)), gpa(AT))->bits & PAGE_PINNED);
	assert_int_equal(pgm_unpin(pgm, gpa(AT), false, disk), NOT_FOUND);
	assert_int_equal(pgm_unpin(pgm, gpa(6 * GIB), false, disk), NOT_FOUND);
	pgm_pin_totals(pgm, &reads, &writes);
	assert_int_equal(reads + writes, 0);
	end_pgm(pgm);
}

/* A count that is full says so, and never wraps. */
static void test_limits(void **state)
{
	struct pgm *pgm = make_pgm(RAM);
	struct pin *pin = NULL;
	hpa_t frame;

	assert_int_equal(pgm_pin(pgm, gpa(AT), true, disk, &frame), OK);
	for (unsigned i = 0; i < PIN_BUCKETS; i++)
		pin = pgm->pins.bucket[i] ? pgm->pins.bucket[i] : pin;
	pin->writes = UINT32_MAX;
	assert_int_equal(pgm_pin(pgm, gpa(AT), true, disk, &frame), LIMIT);
	assert_int_equal(pin->writes, UINT32_MAX);
	assert_int_equal(pgm_pin(pgm, gpa(AT), false, disk, &frame), OK);
	pgm->pins.count = PIN_LIMIT;
	assert_int_equal(pgm_pin(pgm, gpa(AT), true, net, &frame), LIMIT);
	pgm->pins.count = 1;
	pin->writes = 1;
	assert_int_equal(pgm_unpin(pgm, gpa(AT), false, disk), OK);
	assert_int_equal(pgm_unpin(pgm, gpa(AT), true, disk), OK);
	assert_int_equal(pgm->pins.count, 0);
	end_pgm(pgm);
}

static enum status deny(void *user, struct pgm_access *access)
{
	return OK;
}

static void test_refused(void **state)
{
	struct pgm *pgm = make_pgm(RAM);
	handler_type all, write;
	page_record *r, saved;
	hpa_t frame;

	assert_int_equal(pgm_pin(pgm, gpa(0xa0000), false, disk, &frame), BAD_ADDRESS);
	assert_int_equal(pgm_pin(pgm, gpa(RAM), false, disk, &frame), BAD_ADDRESS);
	assert_int_equal(pgm_pin(pgm, gpa(PGM_MAX_GPA), false, disk, &frame), BAD_ADDRESS);
	assert_int_equal(pgm_add_rom(pgm, gpa(0xf0000), 0x10000, "rom"), OK);
	assert_int_equal(pgm_pin(pgm, gpa(0xf0000), true, disk, &frame), DENIED);
	assert_int_equal(pgm_pin(pgm, gpa(0xf0000), false, disk, &frame), OK);
	assert_int_equal(pgm_unpin(pgm, gpa(0xf0000), false, disk), OK);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_ALL, 0, deny, "all", &all), OK);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_WRITE, 0, deny, "write", &write), OK);
	assert_int_equal(pgm_handler_register(pgm, all, gpa(AT), gpa(AT + PAGE_SIZE - 1), NULL, "a"), OK);
	assert_int_equal(pgm_handler_register(pgm, write, gpa(AT + PAGE_SIZE), gpa(AT + 2 * PAGE_SIZE - 1), NULL, "w"),
			 OK);
	assert_int_equal(pgm_pin(pgm, gpa(AT), false, disk, &frame), HANDLER);
	assert_int_equal(pgm_pin(pgm, gpa(AT + PAGE_SIZE), true, disk, &frame), HANDLER);
	assert_int_equal(pgm_pin(pgm, gpa(AT + PAGE_SIZE), false, disk, &frame), OK);
	r = page_of(block_find(pgm, gpa(AT)), gpa(AT + 3 * PAGE_SIZE));
	saved = *r;
	page_set(r, PAGE_BALLOONED, hpa(0));
	assert_int_equal(pgm_pin(pgm, gpa(AT + 3 * PAGE_SIZE), false, disk, &frame), CONFLICT);
	*r = saved;
	end_pgm(pgm); /* with one pin left */
}

/* The frame stays behind its page whatever comes, and a page that was only read becomes a page of its own. */
static void test_holds(void **state)
{
	struct pgm *pgm = make_pgm(RAM);
	uint64_t word = 77;
	hpa_t frame, other;

	assert_int_equal(pgm_fault(pgm, gpa(AT), ACCESS_READ), PGM_RESUME);
	assert_int_equal(pgm_pin(pgm, gpa(AT), false, disk, &frame), OK);
	assert_true(frame.v != pgm_zero_block.v);
	assert_true(is_zero(frame, PAGE_SIZE));
	assert_int_equal(pgm_write(pgm, gpa(AT + 16), &word, 8, ORIGIN_DEVICE, NULL), OK);
	assert_int_equal(((uint64_t *)host_memory_at(frame))[2], 77);
	assert_int_equal(pgm_fault(pgm, gpa(AT), ACCESS_WRITE), PGM_RESUME);
	assert_int_equal(granted(pgm, AT, &other), RWX);
	assert_int_equal(other.v, frame.v);
	assert_int_equal(pgm_unpin(pgm, gpa(AT), false, disk), OK);
	/* Out of a large block: the same frame as before, the block is split. */
	assert_int_equal(pgm_write(pgm, gpa(4 * MIB), &word, 8, ORIGIN_DEVICE, NULL), OK);
	assert_int_equal(pgm_fault(pgm, gpa(4 * MIB), ACCESS_WRITE), PGM_RESUME);
	assert_int_equal(granted(pgm, 4 * MIB + 9 * PAGE_SIZE, &other), RWX);
	assert_int_equal(pgm_pin(pgm, gpa(4 * MIB + 9 * PAGE_SIZE), true, disk, &frame), OK);
	assert_int_equal(frame.v, other.v);
	assert_int_equal(block_kind(block_find(pgm, gpa(4 * MIB))), BLOCK_DETAILED);
	assert_int_equal(pgm_unpin(pgm, gpa(4 * MIB + 9 * PAGE_SIZE), true, disk), OK);
	end_pgm(pgm);
}

/* Monitored meanwhile: the pin's end tells that the page was written. */
static void test_written_at_the_end(void **state)
{
	struct pgm *pgm = make_pgm(RAM);
	page_record *r;
	hpa_t frame;

	assert_int_equal(pgm_pin(pgm, gpa(AT + 4000), true, disk, &frame), OK);
	r = page_of(block_find(pgm, gpa(AT)), gpa(AT));
	assert_int_equal(frame.v, page_frame(*r).v);
	r->bits &= ~PAGE_WRITTEN;
	page_set(r, PAGE_MONITORED, frame);
	assert_int_equal(pgm_unpin(pgm, gpa(AT + 4000), true, disk), OK);
	assert_int_equal(page_get_state(*r), PAGE_ALLOCATED);
	assert_true(r->bits & PAGE_WRITTEN);
	assert_false(r->bits & PAGE_PINNED);
	end_pgm(pgm);
}

/* A device may write through its pin at any time: the page is dirty at every reading, and others are not. */
static void test_dirty_at_every_reading(void **state)
{
	static const enum dirty_mode modes[] = { DIRTY_PML, DIRTY_ACCESSED_DIRTY, DIRTY_WRITE_PROTECT };
	uint64_t bits[RAM / PAGE_SIZE / 64];
	hpa_t frame;

	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
		struct pgm_config config = plain_config(RAM);
		struct pgm *pgm;

		config.pml = config.accessed_dirty = true;
		pgm = make_pgm_of(&config);
		pgm_dirty_set_source(pgm, no_list, NULL);
		assert_int_equal(pgm_pin(pgm, gpa(AT), true, disk, &frame), OK);
		assert_int_equal(pgm_pin(pgm, gpa(AT + PAGE_SIZE), false, disk, &frame), OK);
		assert_int_equal(pgm_dirty_start(pgm, modes[m]), OK);
		for (unsigned i = 0; i < 3; i++) {
			assert_int_equal(pgm_dirty_read_and_clear(pgm, 0, RAM / PAGE_SIZE, bits), OK);
			assert_int_equal(bits[AT / PAGE_SIZE / 64] >> (AT / PAGE_SIZE % 64) & 3, 1);
		}
		check_silent(pgm);
		assert_int_equal(pgm_unpin(pgm, gpa(AT), true, disk), OK);
		assert_int_equal(pgm_unpin(pgm, gpa(AT + PAGE_SIZE), false, disk), OK);
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(pgm_dirty_read_and_clear(pgm, 0, RAM / PAGE_SIZE, bits), OK);
		assert_int_equal(bits[AT / PAGE_SIZE / 64] >> (AT / PAGE_SIZE % 64) & 3, 0);
		assert_int_equal(pgm_dirty_stop(pgm), OK);
		end_pgm(pgm);
	}
}

/* Attack 4 on pins: every allocation on the way fails once. */
static void test_attack4_pin_fails_clean(void **state)
{
	static const enum mm_site sites[] = { MM_SITE_CHUNK, MM_SITE_FRAME, MM_SITE_TABLE, MM_SITE_HANDY };
	hpa_t frame;

	for (unsigned s = 0; s < ARRAY_SIZE(sites); s++) {
		for (unsigned after = 0; after < 6; after++) {
			struct pgm *pgm = make_pgm(RAM);
			enum status status;

			inject_arm(sites[s], after, 1, 0);
			status = pgm_pin(pgm, gpa(AT), true, disk, &frame);
			inject_disarm(sites[s]);
			check_silent(pgm);
			if (status != OK) {
				assert_true(status == NO_MEMORY || status == OVER_QUOTA);
				assert_int_equal(pgm->pins.count, 0);
				assert_int_equal(pgm_pin(pgm, gpa(AT), true, disk, &frame), OK);
			}
			assert_int_equal(pgm_unpin(pgm, gpa(AT), true, disk), OK);
			end_pgm(pgm);
		}
	}
}

static int setup(void **state)
{
	pgm_world_start(WORLD);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_holds),
		cmocka_unit_test(test_written_at_the_end),
		cmocka_unit_test(test_attack4_pin_fails_clean),
		cmocka_unit_test(test_dirty_at_every_reading),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
