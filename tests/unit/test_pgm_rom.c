/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/* ROM: the four modes, through the tables and through physical access; what a reset restores. */
#include "test_pgm_machine.h"

#define ROM_AT UINT64_C(0xe0000)
#define ROM_SIZE (16 * PAGE_SIZE)

static void fill(struct pgm *pgm)
{
	static uint8_t image[ROM_SIZE];

	for (unsigned i = 0; i < ROM_SIZE; i++)
		image[i] = (uint8_t)(i >> 12 | 0xa0);
	assert_int_equal(pgm_rom_load(pgm, gpa(ROM_AT), image, sizeof(image)), OK);
}

static struct pgm *make(const struct pt_format *format, bool shadowed)
{
	struct pgm *pgm = machine_of(format, 32 * MIB, true);

	if (shadowed)
		assert_int_equal(pgm_add_shadowed_rom(pgm, gpa(ROM_AT), ROM_SIZE, "rom"), OK);
	else
		assert_int_equal(pgm_add_rom(pgm, gpa(ROM_AT), ROM_SIZE, "rom"), OK);
	fill(pgm);
	return pgm;
}

static enum rom_mode mode_at(struct pgm *pgm, uint64_t where)
{
	const struct rom_page *p = rom_page_at(pgm, gpa(where));

	return p ? p->mode : ROM_READ_ROM_WRITE_IGNORED;
}

/* A guest's byte write ends in an emulated write where the tables don't allow it. */
static void guest_put(struct pgm *pgm, uint64_t where, uint8_t v)
{
	assert_true(guest_write(pgm, where, v));
}

static void test_default(void **state)
{
	(void)state;
	for (unsigned shadowed = 0; shadowed < 2; shadowed++) {
		struct pgm *pgm = make(&pt_ept4, shadowed);
		struct pgm_vcpu_counters counters = { 0 };

		pgm_count_for(&counters);
		assert_int_equal(guest_read(pgm, ROM_AT + 0x1234), 0xa1);
		guest_put(pgm, ROM_AT + 0x1234, 0x55);
		assert_int_equal(guest_read(pgm, ROM_AT + 0x1234), 0xa1);
		assert_int_equal(mode_at(pgm, ROM_AT + 0x1234), ROM_READ_ROM_WRITE_IGNORED);
		assert_int_equal(counters.rom_write_unhandled, 1);
		pgm_count_for(NULL);
		machine_end_test(pgm);
	}
}

/* Every change of mode, in every order of two, with both copies told apart. */
static void test_modes(void **state)
{
	static const struct pt_format *const formats[] = { &pt_ept4, &pt_npt4 };

	(void)state;
	for (unsigned n = 0; n < 2 * ROM_MODES * ROM_MODES; n++) {
		struct pgm *pgm = make(formats[n & 1], true);
		enum rom_mode modes[2] = { (n >> 1) % ROM_MODES, (n >> 1) / ROM_MODES };
		uint64_t at = ROM_AT + 3 * PAGE_SIZE + 0x9c3;
		uint8_t rom = 0xa3, ram = 0;

		for (unsigned i = 0; i < 2; i++) {
			enum rom_mode m = modes[i];
			uint8_t put = (uint8_t)(0x10 + i);

			(void)guest_read(pgm, at); /* so that an old translation is there */
			assert_int_equal(pgm_rom_protect(pgm, gpa(ROM_AT + 3 * PAGE_SIZE), PAGE_SIZE, m), OK);
			assert_int_equal(guest_read(pgm, at), m >= ROM_READ_RAM_WRITE_IGNORED ? ram : rom);
			guest_put(pgm, at, put);
			if (m == ROM_READ_ROM_WRITE_RAM || m == ROM_READ_RAM_WRITE_RAM)
				ram = put;
			assert_int_equal(guest_read(pgm, at), m >= ROM_READ_RAM_WRITE_IGNORED ? ram : rom);
			assert_int_equal(!!(table_rights(pgm, at) & ACCESS_WRITE), m == ROM_READ_RAM_WRITE_RAM);
			/* The neighbours are as they were. */
			assert_int_equal(guest_read(pgm, at - PAGE_SIZE), 0xa2);
			assert_int_equal(guest_read(pgm, at + PAGE_SIZE), 0xa4);
			assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
		}
		machine_end_test(pgm);
	}
}

/* The offset within the page counts once: the last bytes of a page, with writes of every size. */
static void test_shadow_offsets(void **state)
{
	struct pgm *pgm = make(&pt_ept4, true);
	uint64_t value = 0x1122334455667788, seen = 0;

	(void)state;
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM_AT), ROM_SIZE, ROM_READ_ROM_WRITE_RAM), OK);
	for (unsigned size = 1; size <= 8; size *= 2)
		for (uint64_t at = 2048 - 8; at + size <= 2 * PAGE_SIZE; at += 509)
			assert_int_equal(pgm_write(pgm, gpa(ROM_AT + at), &value, size, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(pgm_write(pgm, gpa(ROM_AT + PAGE_SIZE - 3), &value, 8, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM_AT), ROM_SIZE, ROM_READ_RAM_WRITE_IGNORED), OK);
	assert_int_equal(pgm_read(pgm, gpa(ROM_AT + PAGE_SIZE - 3), &seen, 8, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(seen, value);
	assert_int_equal(guest_read(pgm, ROM_AT + 2 * PAGE_SIZE), 0);
	machine_end_test(pgm);
}

static void test_locked_exchange(void **state)
{
	struct pgm *pgm = make(&pt_ept4, true);
	uint64_t seen;

	(void)state;
	assert_int_equal(pgm_compare_exchange(pgm, gpa(ROM_AT), 0xa0, 1, 1, &seen), HANDLER);
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM_AT), ROM_SIZE, ROM_READ_ROM_WRITE_RAM), OK);
	assert_int_equal(pgm_compare_exchange(pgm, gpa(ROM_AT), 0, 1, 1, &seen), HANDLER);
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM_AT), ROM_SIZE, ROM_READ_RAM_WRITE_RAM), OK);
	assert_int_equal(pgm_compare_exchange(pgm, gpa(ROM_AT), 0, 1, 1, &seen), OK);
	assert_int_equal(guest_read(pgm, ROM_AT), 1);
	machine_end_test(pgm);
}

/* A load is a write that the log reports, if it's into the copy that is read. */
static void test_load_is_logged(void **state)
{
	struct pgm *pgm = make(&pt_ept4, true);
	const uint64_t first = ROM_AT >> PAGE_SHIFT & ~UINT64_C(63);
	uint64_t bitmap = 0, bit = BIT((ROM_AT >> PAGE_SHIFT) - first + 3);

	(void)state;
	assert_int_equal(pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT), OK);
	assert_int_equal(pgm_dirty_read_and_clear(pgm, first, 64, &bitmap), OK);
	assert_int_equal(pgm_rom_load(pgm, gpa(ROM_AT + 3 * PAGE_SIZE + 5), "new", 3), OK);
	assert_int_equal(pgm_dirty_read_and_clear(pgm, first, 64, &bitmap), OK);
	assert_int_equal(bitmap, bit);
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM_AT), ROM_SIZE, ROM_READ_RAM_WRITE_RAM), OK);
	assert_int_equal(pgm_dirty_read_and_clear(pgm, first, 64, &bitmap), OK);
	assert_int_equal(pgm_rom_load(pgm, gpa(ROM_AT + 3 * PAGE_SIZE + 5), "old", 3), OK);
	assert_int_equal(pgm_dirty_read_and_clear(pgm, first, 64, &bitmap), OK);
	assert_int_equal(bitmap, 0);
	machine_end_test(pgm);
}

static void test_reset(void **state)
{
	struct pgm *pgm = make(&pt_ept4, true);

	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(pgm_rom_protect(pgm, gpa(ROM_AT + i * PAGE_SIZE), PAGE_SIZE, (enum rom_mode)(i % 4)),
				 OK);
		guest_put(pgm, ROM_AT + i * PAGE_SIZE, 0x77);
	}
	reset(pgm, true);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(mode_at(pgm, ROM_AT + i * PAGE_SIZE), ROM_READ_ROM_WRITE_IGNORED);
		assert_int_equal(guest_read(pgm, ROM_AT + i * PAGE_SIZE), 0xa0 + i);
	}
	/* The RAM copies have gone: they read as zero again. */
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM_AT), ROM_SIZE, ROM_READ_RAM_WRITE_RAM), OK);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(guest_read(pgm, ROM_AT + i * PAGE_SIZE), 0);
	machine_end_test(pgm);
}

/* A reset gives the RAM copies back, but none that a device still holds: that one is zeroed where it is. */
static void test_reset_under_a_pin(void **state)
{
	struct pgm *pgm = make(&pt_ept4, true);
	struct frame_info info;
	hpa_t frame;

	(void)state;
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM_AT), ROM_SIZE, ROM_READ_RAM_WRITE_RAM), OK);
	for (unsigned i = 0; i < 16; i++)
		guest_put(pgm, ROM_AT + i * PAGE_SIZE, 0x77);
	assert_int_equal(pgm_pin(pgm, gpa(ROM_AT + 2 * PAGE_SIZE), true, "disk", &frame), OK);
	reset(pgm, true);
	frame_describe(frame, &info);
	assert_int_equal(info.state, FRAME_PRIVATE);
	assert_int_equal(info.owner, pgm->account.owner);
	assert_true(is_zero(frame, PAGE_SIZE));
	assert_int_equal(guest_read(pgm, ROM_AT + 2 * PAGE_SIZE), 0xa2);
	assert_int_equal(pgm_unpin(pgm, gpa(ROM_AT + 2 * PAGE_SIZE), true, "disk"), OK);
	reset(pgm, true);
	frame_describe(frame, &info);
	assert_int_equal(info.state, FRAME_FREE);
	machine_end_test(pgm);
}

static void test_refusals(void **state)
{
	struct pgm *pgm = make(&pt_ept4, false);

	(void)state;
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM_AT), PAGE_SIZE, ROM_READ_RAM_WRITE_RAM), NOT_SUPPORTED);
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM_AT + 1), PAGE_SIZE, ROM_READ_ROM_WRITE_IGNORED), BAD_VALUE);
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM_AT), ROM_SIZE + PAGE_SIZE, ROM_READ_ROM_WRITE_IGNORED),
			 BAD_ADDRESS);
	assert_int_equal(pgm_rom_protect(pgm, gpa(0x1000), PAGE_SIZE, ROM_READ_ROM_WRITE_IGNORED), BAD_ADDRESS);
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM_AT), PAGE_SIZE, ROM_MODES), BAD_VALUE);
	assert_int_equal(pgm_add_shadowed_rom(pgm, gpa(ROM_AT), PAGE_SIZE, "again"), CONFLICT);
	assert_int_equal(pgm_add_shadowed_rom(pgm, gpa(0xfffff000), PAGE_SIZE - 1, "odd"), BAD_VALUE);
	/* More than every machine is promised: the account grows, and what is over it can be loaded. */
	assert_int_equal(pgm_add_shadowed_rom(pgm, gpa(0xffe00000), 2 * MIB, "big"), OK);
	assert_int_equal(pgm_rom_protect(pgm, gpa(0xffe00000), 2 * MIB, ROM_READ_RAM_WRITE_RAM), OK);
	for (uint64_t at = 0xffe00000; at < 4 * GIB; at += PAGE_SIZE)
		guest_put(pgm, at, 1);
	machine_end_test(pgm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_default),        cmocka_unit_test(test_modes),
		cmocka_unit_test(test_shadow_offsets), cmocka_unit_test(test_locked_exchange),
		cmocka_unit_test(test_load_is_logged), cmocka_unit_test(test_reset),
		cmocka_unit_test(test_refusals),       cmocka_unit_test(test_reset_under_a_pin),
	};

	machine_world(64 * MIB);
	return cmocka_run_group_tests_name("pgm_rom", tests, NULL, NULL);
}
