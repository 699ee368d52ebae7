/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Some machines whose pages have a content that is a number; 0 is all zeros. For tests of what gives pages other frames: fusion, compaction,
 * the balloon.
 */
#pragma once

#include "common/pgm_world.h"

#define RAM (16 * MIB)
#define AT (4 * MIB)
#define MACHINES 3u

static struct pgm *machine[MACHINES];

QUIET struct pgm *member(uint16_t group, bool large)
{
	struct pgm_config config = plain_config(RAM);

	config.share_group = group;
	config.large_pages = large;
	config.accessed_dirty = true;
	return make_pgm_of(&config);
}

QUIET void start(unsigned count, uint16_t group, bool large)
{
	assert_int_equal(pgm_fusion_start(64 * MIB / PAGE_SIZE), OK);
	for (unsigned i = 0; i < count; i++)
		machine[i] = member(group, large);
}

QUIET void end(unsigned count)
{
	struct frame_totals t;

	for (unsigned i = 0; i < count; i++)
		end_pgm(machine[i]);
	t = totals_now();
	assert_int_equal(t.shared_pages, 0);
	assert_int_equal(t.private_pages, 0);
}

/* Content number n: 0 is all zeros. */
QUIET void put(struct pgm *pgm, uint64_t where, uint64_t n)
{
	uint64_t words[PAGE_SIZE / 8];

	for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
		words[i] = n * (i + 1);
	assert_int_equal(pgm_write(pgm, gpa(where), words, sizeof(words), ORIGIN_DEVICE, NULL), OK);
}

QUIET bool holds(struct pgm *pgm, uint64_t where, uint64_t n)
{
	uint64_t words[PAGE_SIZE / 8];

	assert_int_equal(pgm_read(pgm, gpa(where), words, sizeof(words), ORIGIN_DEVICE, NULL), OK);
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
		if (words[i] != n * (i + 1))
			return false;
	return true;
}

QUIET enum page_state state_of(struct pgm *pgm, uint64_t where)
{
	struct pgm_page_info info;

	pgm_page_describe(pgm, gpa(where), &info);
	return info.block == BLOCK_UNTOUCHED ? PAGE_ZERO : page_get_state(info.record);
}

QUIET hpa_t frame_at(struct pgm *pgm, uint64_t where)
{
	struct pgm_page_info info;

	pgm_page_describe(pgm, gpa(where), &info);
	return info.frame;
}

/* A guest that writes through what it remembers, just before the flush: at_flush. */
static uint8_t *late_bytes;

QUIET void write_late(void)
{
	if (late_bytes)
		late_bytes[100] = 0x5a;
	late_bytes = NULL;
}
