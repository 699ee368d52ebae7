/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * What is written into guest memory appears there by whole units: each store is looked at by itself, and every aligned 2, 4 or 8
 * bytes that the access covers are the old ones or the new ones. Reads go by the same code, to the right place.
 */
#define _GNU_SOURCE
#include "common/pgm_world.h"
#include "common/table_steps.h"

#define AT UINT64_C(0x800000)
#define LENGTHS 100u

static struct pgm *pgm;
static hpa_t frame;
static uint64_t first, end;
static unsigned torn;

/* Old bytes are 0, new ones are not. */
static void look(void)
{
	const uint8_t *bytes = steps.memory + frame.v;

	steps_live(frame.v);
	for (unsigned size = 2; size <= 8; size *= 2)
		for (uint64_t unit = align_up(first, size); unit + size <= end; unit += size) {
			unsigned fresh = 0;

			for (unsigned i = 0; i < size; i++)
				fresh += bytes[unit + i] != 0;
			torn += fresh && fresh != size;
		}
}

static void one(unsigned offset, unsigned length)
{
	uint8_t data[LENGTHS], back[LENGTHS + 2] = { 0 };
	uint8_t *bytes = frame_map(frame);

	for (unsigned i = 0; i < length; i++)
		data[i] = (uint8_t)(i + 1);
	memset(bytes, 0, 128);
	first = offset;
	end = offset + length;
	torn = 0;
	steps_begin(direct_map, look);
	assert_int_equal(pgm_write(pgm, gpa(AT + offset), data, length, ORIGIN_DEVICE, NULL), OK);
	(void)steps_end();
	if (torn)
		fail_msg("%u bytes at offset %u: %u units by halves", length, offset, torn);
	assert_memory_equal(bytes + offset, data, length);
	for (unsigned i = 0; i < 128; i++)
		assert_true((i >= offset && i < offset + length) || !bytes[i]);
	back[0] = back[length + 1] = 0x99;
	assert_int_equal(pgm_read(pgm, gpa(AT + offset), back + 1, length, ORIGIN_DEVICE, NULL), OK);
	assert_memory_equal(back + 1, data, length);
	assert_true(back[0] == 0x99 && back[length + 1] == 0x99);
	frame_unmap(bytes);
}

static void test_units(void **state)
{
	if (secret_free)
		return; /* the stores go by another mapping than the one that is watched */
	pgm = make_pgm(32 * MIB);
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	assert_int_equal(pgm_fault(pgm, gpa(AT), ACCESS_WRITE), PGM_RESUME);
	inject_disarm(MM_SITE_LARGE);
	(void)granted(pgm, AT, &frame);
	for (unsigned offset = 0; offset < 16; offset++)
		for (unsigned length = 1; length <= LENGTHS; length++)
			one(offset, length);
	end_pgm(pgm);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_units) };

	pgm_world_start(64 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
