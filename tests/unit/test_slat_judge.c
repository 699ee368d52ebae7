/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * What PGM makes of second-level entries, against the manuals' lists put down plainly (Intel SDM vol. 3 sections
 * 29.3.2 and 29.3.3.1; AMD APM vol. 2 sections 5.3.3 and 15.25.5): every combination of the low twelve bits, with each high bit, at
 * every level, for every kind of processor and access. And what pgm_slat_patch() must refuse.
 */
#include "common/pgm_world.h"
#include "common/slat_reference.h"
#include "pgm/slat/judge.h"

static enum slat_verdict reference(bool ept, const struct slat_limits *l, const uint64_t *path, unsigned access)
{
	bool ok = true;

	for (unsigned level = 3;; level--) {
		uint64_t e = path[level];
		enum step step = ept ? ept_step(l, level, e) : npt_step(l, level, e);

		if (step == STEP_VIOLATION)
			return SLAT_VIOLATION;
		if (step == STEP_MISCONFIGURED)
			return SLAT_MISCONFIGURED;
		if (access == ACCESS_READ && !any(e, ept ? 0 : 2, ept ? 0 : 2))
			ok = false;
		if (access == ACCESS_WRITE && (!any(e, 1, 1) || (!ept && !any(e, 2, 2))))
			ok = false;
		if (access == ACCESS_EXECUTE && (ept ? !any(e, 2, 2) : any(e, 63, 63) || !any(e, 2, 2)))
			ok = false;
		if (step == STEP_LEAF)
			return ok ? SLAT_FINE : SLAT_VIOLATION;
	}
}

static unsigned long cases, verdicts[3];

/* One entry of the path is anything; those above it are tables, those below it tables down to a 4 KiB leaf. */
static void sweep(bool ept, const struct slat_limits *l, unsigned level, uint64_t high)
{
	const struct pt_format *f = ept ? &pt_ept4 : &pt_npt4;
	uint64_t path[PT_MAX_LEVELS];

	for (unsigned i = 0; i < 4; i++)
		path[i] = 0x40000000 | (i ? f->table_bits : f->rights_bits[RWX] | f->type_bits[6]);
	for (unsigned low = 0; low < 4096; low++) {
		path[level] = high | low;
		for (unsigned access = ACCESS_READ; access <= ACCESS_EXECUTE; access <<= 1) {
			enum slat_verdict want = reference(ept, l, path, access), got = slat_judge(f, l, path, access);

			cases++;
			verdicts[got]++;
			if (got != want)
				fail_msg("%s level %u entry %#llx access %u: %u, the manual says %u", f->name, level,
					 (unsigned long long)path[level], access, got, want);
		}
	}
}

static void sweep_format(bool ept)
{
	memset(verdicts, 0, sizeof(verdicts));
	for (unsigned kind = 0; kind < 8; kind += 3) {
		struct slat_limits l = { .physical_bits = kind & 4 ? 46 : 36,
					 .execute_only = kind & 1,
					 .leaf_2m = kind != 3,
					 .leaf_1g = kind & 2 };

		for (unsigned level = 0; level < 4; level++)
			for (unsigned bit = 11; bit < 64; bit++)
				sweep(ept, &l, level, 0x40000000 | (bit == 11 ? 0 : UINT64_C(1) << bit));
	}
	assert_true(verdicts[0] > 100000 && verdicts[1] > 100000 && verdicts[2] > 100000);
	print_message("%lu cases\n", cases);
}

static void test_ept(void **state)
{
	sweep_format(true);
}

static void test_npt(void **state)
{
	sweep_format(false);
}

static const struct slat_limits limits = { .physical_bits = 40, .leaf_2m = true, .leaf_1g = true };

static uint64_t entry_of(struct pgm *pgm, uint64_t where, unsigned level)
{
	uint64_t *entry;

	assert_int_equal(slat_entry(&pgm->slat, gpa(where), level, &entry), OK);
	return *entry;
}

static enum status patch(struct pgm *pgm, uint64_t where, unsigned level, uint64_t mask, uint64_t bits)
{
	uint64_t before = 0;
	struct slat_patch p;
	enum status status = pgm_slat_patch(pgm, &limits, gpa(where), level, mask, bits, &p);

	if (status != OK)
		return status;
	before = p.old;
	assert_int_equal(*p.slot, (before & ~mask) | (bits & mask));
	*p.slot |= pgm->slat.format->accessed;
	pgm_slat_restore(pgm, &p);
	assert_int_equal(*p.slot & ~pgm->slat.format->accessed, before & ~pgm->slat.format->accessed);
	*p.slot = before;
	return OK;
}

/* Nothing that leads elsewhere or grants more, in a 2 MiB leaf, a read-only zero leaf, a 4 KiB leaf and tables. */
static void refuse(const struct pt_format *format)
{
	struct pgm_config config = plain_config(32 * MIB);
	uint64_t size = format->large, small = 8 * MIB, large = 16 * MIB, zero = 24 * MIB;
	struct pgm *pgm;
	uint8_t byte = 1;

	config.slat = format;
	pgm = make_pgm_of(&config);
	assert_int_equal(pgm_write(pgm, gpa(large), &byte, 1, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(pgm_fault(pgm, gpa(large), ACCESS_WRITE), PGM_RESUME);
	assert_int_equal(pgm_fault(pgm, gpa(zero), ACCESS_READ), PGM_RESUME);
	assert_int_equal(patch(pgm, small, 0, 0, 0), NOT_FOUND);
	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t b = UINT64_C(1) << bit, leaf = entry_of(pgm, large, 1), read_only = entry_of(pgm, zero, 1);
		uint64_t table = entry_of(pgm, large, 3);

		/* Flipped one by one. */
		assert_int_equal(patch(pgm, large, 1, b, ~leaf), (bit >= 21 && bit < 40) || b == size ? DENIED : OK);
		if ((bit >= 21 && bit < 40) || b == size || (b == format->write && !(read_only & b)))
			assert_int_equal(patch(pgm, zero, 1, b, ~read_only), DENIED);
		assert_int_equal(patch(pgm, large, 3, b, ~table), bit >= 12 && bit < 40 ? DENIED : OK);
	}
	assert_int_equal(patch(pgm, large, 1, ~UINT64_C(0), 0), DENIED);
	assert_int_equal(patch(pgm, large, 4, 1, 1), BAD_VALUE);
	check_silent(pgm);
	end_pgm(pgm);
}

static void test_refusals(void **state)
{
	refuse(&pt_ept4);
	refuse(&pt_npt4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ept),
		cmocka_unit_test(test_npt),
		cmocka_unit_test(test_refusals),
	};

	pgm_world_start(64 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
