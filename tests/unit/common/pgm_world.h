/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fake machine with guest memory, for tests of everything above mm: the world of test_mm_world.h, a PGM in it, and
 * a flush that counts. Quota is generous (overcommit), so that small worlds carry large guests.
 */
#pragma once

#include "test_mm_world.h"

#include "pgm/internal.h"
#include "common/whole.h"

#define QUIET __attribute__((unused)) static

#define RWX (ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE)
#define RX (ACCESS_READ | ACCESS_EXECUTE)

static unsigned flushes;
/* Called in each flush, before anything is freed. */
static void (*at_flush)(void);

QUIET void count_flush(struct flush_domain *domain, uint64_t generation)
{
	assert_int_equal(domain->generation, generation);
	flushes++;
	if (at_flush)
		at_flush();
}

QUIET void pgm_world_start(uint64_t size)
{
	world_start(size);
	account_policy(OVERCOMMIT_RATIO, 10000);
	assert_int_equal(pgm_start(), OK);
}

QUIET struct pgm_config plain_config(uint64_t ram)
{
	return (struct pgm_config){ .ram = ram,
				    .large_pages = true,
				    .slat = &pt_ept4,
				    .slat_2m = true,
				    .slat_1g = true,
				    .physical_bits = 40,
				    .max_access_handlers = 64 };
}

QUIET struct pgm *make_pgm_of(const struct pgm_config *config)
{
	struct pgm *pgm = NULL;
	char why[256] = "";
	enum status status = pgm_create(&pgm, config, count_flush, NULL, why, sizeof(why));

	if (status != OK)
		fprintf(stderr, "pgm_create: %s\n", why);
	assert_int_equal(status, OK);
	flushes = 0;
	return pgm;
}

QUIET struct pgm *make_pgm(uint64_t ram)
{
	struct pgm_config config = plain_config(ram);

	return make_pgm_of(&config);
}

QUIET void check_silent(struct pgm *pgm)
{
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	assert_int_equal(frame_check(print_finding, NULL), 0);
}

/* Ends the machine: the check must be silent before, and all accounts must come out at zero. */
QUIET void end_pgm(struct pgm *pgm)
{
	enum status status;
	unsigned steps = 0;

	check_silent(pgm);
	while ((status = pgm_destroy_step(pgm)) == BUSY)
		steps++;
	assert_int_equal(status, OK);
	assert_true(steps > 0);
	assert_int_equal(frame_check(print_finding, NULL), 0);
}

/* Pages that machines hold now: guest pages in *guest, tables in the result. */
QUIET uint64_t held_pages(uint64_t *guest)
{
	struct frame_totals t = totals_now();

	*guest = t.private_pages + t.shared_pages;
	return t.table_pages;
}

QUIET uint64_t base_pages(struct pgm *pgm)
{
	return pgm->account.allocated[ACCOUNT_BASE] - handy_count(pgm);
}

QUIET uint64_t table_pages_of(struct pgm *pgm)
{
	return pgm->account.allocated[ACCOUNT_TABLE];
}

/* What the tables grant at an address, by slat_find: rights, and the frame of its page. */
QUIET unsigned granted(struct pgm *pgm, uint64_t where, hpa_t *frame)
{
	unsigned level;
	uint64_t entry = *slat_find(&pgm->slat, gpa(where), &level);

	if (!slat_present(&pgm->slat, entry))
		return 0;
	if (frame)
		*frame = hpa(slat_frame(&pgm->slat, level, entry).v +
			     (where & (BIT(pt_shift(pgm->slat.format, level)) - 1) & ~(PAGE_SIZE - 1)));
	return slat_rights(&pgm->slat, entry);
}

QUIET uint64_t random_of(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed * 0x2545f4914f6cdd1d;
}
