/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's memory with a guest in it: the guest's byte accesses go through the second-level tables as a
 * processor's would, fault where they must, and are emulated where the fault says so. Nothing is cached: what the tables say
 * counts at once. With the gate closed the second root is used.
 */
#pragma once

#include "test_mm_world.h"

#include "common/shadow_view.h"
#include "pgm/internal.h"
#include "common/whole.h"

static unsigned machine_flushes;
static bool gate_closed;

static void machine_sync(struct flush_domain *domain, uint64_t generation)
{
	assert_int_equal(domain->generation, generation);
	machine_flushes++;
}

static void machine_world(uint64_t size)
{
	world_start(size);
	account_policy(OVERCOMMIT_RATIO, 10000);
	assert_int_equal(pgm_start(), OK);
}

static struct pgm *machine_of(const struct pt_format *format, uint64_t ram, bool large)
{
	struct pgm_config config = { .ram = ram,
				     .large_pages = large,
				     .slat = format,
				     .slat_2m = true,
				     .misconfig_exit = format == &pt_ept4,
				     .physical_bits = 40,
				     .max_access_handlers = 64 };
	struct pgm *pgm = NULL;
	char why[256] = "";

	if (pgm_create(&pgm, &config, machine_sync, NULL, why, sizeof(why)) != OK)
		fail_msg("pgm_create: %s", why);
	machine_flushes = 0;
	gate_closed = false;
	return pgm;
}

/* Records and tables agree, and every frame and every page of the accounts comes back. */
static void machine_end_test(struct pgm *pgm)
{
	enum status status;

	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	assert_int_equal(frame_check(print_finding, NULL), 0);
	while ((status = pgm_destroy_step(pgm)) == BUSY)
		;
	assert_int_equal(status, OK);
	assert_int_equal(frame_check(print_finding, NULL), 0);
}

__attribute__((unused)) static void reset(struct pgm *pgm, bool zero_ram)
{
	unsigned steps = 0;

	while (pgm_reset_step(pgm, zero_ram) == BUSY)
		assert_true(++steps < 100000);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	assert_int_equal(frame_check(print_finding, NULL), 0);
}

static struct slat *slat_in_use(struct pgm *pgm)
{
	return gate_closed ? shadow_view(pgm, pgm->shadow.a20) : &pgm->slat;
}

static unsigned table_rights(struct pgm *pgm, uint64_t where)
{
	struct slat *slat = slat_in_use(pgm);
	unsigned level;
	uint64_t entry = *slat_find(slat, gpa(where), &level);

	return misconfig_is_mark(pgm, entry) ? 0 : slat_rights(slat, entry);
}

static uint8_t *table_byte(struct pgm *pgm, uint64_t where)
{
	struct slat *slat = slat_in_use(pgm);
	unsigned level;
	uint64_t entry = *slat_find(slat, gpa(where), &level);

	return host_memory_at(
		hpa(slat_frame(slat, level, entry).v + (where & (BIT(pt_shift(slat->format, level)) - 1))));
}

/* True: the tables allow it now. False: it must be emulated. */
static bool touch(struct pgm *pgm, uint64_t where, unsigned access)
{
	for (unsigned tries = 0; tries < 8; tries++) { /* a chunk is cleared in slices */
		enum pgm_verdict verdict;

		if ((table_rights(pgm, where) & access) == access)
			return true;
		verdict = gate_closed ? pgm_a20_fault(pgm, gpa(where), access) : pgm_fault(pgm, gpa(where), access);
		if (verdict == PGM_EMULATE)
			return false;
		assert_int_equal(verdict, PGM_RESUME);
	}
	fail_msg("%#llx faults for ever", (unsigned long long)where);
	return false;
}

static gpa_t bus_address(uint64_t where)
{
	return gpa(where & ~a20_mask(!gate_closed));
}

__attribute__((unused)) static uint8_t guest_read(struct pgm *pgm, uint64_t where)
{
	uint8_t v = 0, again = 0;

	assert_int_equal(pgm_read(pgm, bus_address(where), &again, 1, ORIGIN_GUEST, NULL), OK);
	if (!touch(pgm, where, ACCESS_READ))
		return again;
	v = *table_byte(pgm, where);
	assert_int_equal(v, again);
	return v;
}

/* Through the tables where they allow it. False: the emulated write failed. */
__attribute__((unused)) static bool guest_write(struct pgm *pgm, uint64_t where, uint8_t v)
{
	if (!touch(pgm, where, ACCESS_WRITE))
		return pgm_write(pgm, bus_address(where), &v, 1, ORIGIN_GUEST, NULL) == OK;
	*table_byte(pgm, where) = v;
	return true;
}
