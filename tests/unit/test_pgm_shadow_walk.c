/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * The walk of a guest hypervisor's tables: each entry of the manuals' lists at each level, with what L1 is told of it; random tables
 * against a plain reference; accessed and dirty bits; and walks of L2's own tables through them, against the same memory laid
 * out flat.
 */
#define WORLD_STRICT 67u /* the matrices have some 100,000 cases */
#include "common/pgm_world.h"
#include "common/slat_reference.h"
#include "pgm/shadow/shadow.h"
#include "pgm/walk.h"

#define WORLD (64 * MIB)
#define RAM (32 * MIB)
#define TABLES (16 * MIB)               /* L1's table of level n at TABLES + n pages */
#define L2_WHERE UINT64_C(0x123456789a) /* its page in L2 */
#define TARGET (8 * MIB)

static struct pgm *pgm;
static uint64_t seed = 20260;
static struct pt_format l1_ept; /* as an L1 sees it */

static void put64(struct pgm *p, uint64_t where, uint64_t value)
{
	assert_int_equal(pgm_write(p, gpa(where), &value, 8, ORIGIN_GUEST, NULL), OK);
}

static uint64_t get64(struct pgm *p, uint64_t where)
{
	uint64_t value;

	assert_int_equal(pgm_read(p, gpa(where), &value, 8, ORIGIN_GUEST, NULL), OK);
	return value;
}

static struct hv_nested_slat slat_of(const struct pt_format *format)
{
	return (struct hv_nested_slat){ .on = true,
					.root = gpa(TABLES + (format->levels - 1u) * PAGE_SIZE),
					.format = format,
					.physical_bits = 40,
					.large_1g = true,
					.accessed_dirty = true,
					.no_execute = true };
}

static uint64_t entry_at(const struct pt_format *f, unsigned level, uint64_t where)
{
	return TABLES + level * PAGE_SIZE + pt_index(f, level, where) * 8u;
}

/* Tables down to a 4 KiB leaf, with all rights and no bit set that the walk would set. */
static void lay(const struct pt_format *f)
{
	for (unsigned level = 1; level < f->levels; level++)
		put64(pgm, entry_at(f, level, L2_WHERE), (TABLES + (level - 1) * PAGE_SIZE) | f->table_bits);
	put64(pgm, entry_at(f, 0, L2_WHERE), TARGET | f->rights_bits[RWX] | f->type_bits[6]);
}

static unsigned entry_rights(bool ept, uint64_t e)
{
	return ept ? e & 7 : (e & 1) | (e & 2) | (e >> 63 ? 0 : 4);
}

static void one_entry(const struct hv_nested_slat *s, bool ept, unsigned level, uint64_t entry, unsigned access)
{
	struct slat_limits l = { .physical_bits = 40, .execute_only = true, .leaf_2m = true, .leaf_1g = s->large_1g };
	enum step step = ept ? ept_step(&l, level, entry) : npt_step(&l, level, entry);
	bool refused = access & ~entry_rights(ept, entry), user = ept || (entry & 4);
	struct hv_nested_fault fault = { 0 };
	enum status got;
	gpa_t to;

	if (!ept && !s->no_execute && (entry >> 63) && step != STEP_VIOLATION)
		step = STEP_MISCONFIGURED;
	if (ept && (entry & 7) == 4 && (s->format->invalid_rights & 1u << 4))
		step = STEP_MISCONFIGURED;
	put64(pgm, entry_at(s->format, level, L2_WHERE), entry);
	got = shadow_walk(pgm, s, gpa(L2_WHERE), access | WALK_TRY, &to, &fault);
	if (step == STEP_VIOLATION || step == STEP_MISCONFIGURED || refused || !user) {
		if (got != OUTER_FAULT || fault.misconfigured != (step == STEP_MISCONFIGURED) ||
		    fault.present != (step < STEP_VIOLATION) || fault.access != access || fault.where.v != L2_WHERE)
			fail_msg("%s level %u entry %#llx access %u: %u", s->format->name, level,
				 (unsigned long long)entry, access, got);
		if (step < STEP_VIOLATION)
			assert_true(fault.rights == entry_rights(ept, entry) && fault.user == user);
		if (step == STEP_VIOLATION)
			assert_true(fault.rights == 0 && fault.level == level);
	} else if (got != OK) {
		fail_msg("%s level %u entry %#llx access %u: %u", s->format->name, level, (unsigned long long)entry,
			 access, got);
	}
}

/* One entry is anything; the tables below it stand where its address leads, if it leads there. */
static void sweep(const struct hv_nested_slat *s, bool ept, unsigned level, uint64_t high)
{
	uint64_t address = level ? TABLES + (level - 1) * PAGE_SIZE : TARGET;

	lay(s->format);
	for (unsigned low = 0; low < 4096; low++)
		for (unsigned access = 1; access <= 4; access <<= 1) {
			/* A table elsewhere would be another case: the bit goes into the address only where it is reserved. */
			if (level && (high & BITS(39, 12)) && !(low & 0x80))
				continue;
			one_entry(s, ept, level, address | high | low, access);
		}
}

static void matrix(bool ept)
{
	for (unsigned kind = 0; kind < 4; kind++) {
		struct hv_nested_slat s;

		l1_ept = pt_ept4;
		s = slat_of(ept ? &l1_ept : &pt_npt4);
		l1_ept.invalid_rights |= kind & 1 ? 1u << 4 : 0;
		s.large_1g = kind & 2;
		s.no_execute = !(kind & 1);
		for (unsigned level = 0; level < 4; level++)
			for (unsigned bit = kind ? 37 : 11; bit < 64; bit += kind ? 13 : 1)
				sweep(&s, ept, level, bit == 11 ? 0 : BIT(bit));
	}
}

static void test_matrix_ept(void **state)
{
	(void)state;
	matrix(true);
}

static void test_matrix_npt(void **state)
{
	(void)state;
	matrix(false);
}

/* Accessed in every entry, dirty in the leaf of a write, and only where they are kept. */
static void test_marks(void **state)
{
	struct hv_nested_fault fault;
	gpa_t to;

	(void)state;
	for (unsigned n = 0; n < 8; n++) {
		struct hv_nested_slat s = slat_of(n & 1 ? &pt_npt4 : &pt_ept4);
		unsigned access = n & 2 ? ACCESS_WRITE : ACCESS_READ;

		s.accessed_dirty = n & 4;
		lay(s.format);
		assert_int_equal(shadow_walk(pgm, &s, gpa(L2_WHERE), access, &to, &fault), OK);
		assert_int_equal(to.v, TARGET + (L2_WHERE & 0xfff));
		for (unsigned level = 0; level < 4; level++) {
			uint64_t entry = get64(pgm, entry_at(s.format, level, L2_WHERE));
			uint64_t want = n & 4 ? s.format->accessed | (!level && n & 2 ? s.format->dirty : 0) : 0;

			assert_int_equal(entry & (s.format->accessed | s.format->dirty), want);
		}
	}
}

/* Accesses to L2's own tables: writes on AMD, and on Intel where accessed and dirty bits are kept. */
static void test_guest_tables(void **state)
{
	struct hv_nested_fault fault;
	gpa_t to;

	(void)state;
	for (unsigned n = 0; n < 4; n++) {
		struct hv_nested_slat s = slat_of(n & 1 ? &pt_npt4 : &pt_ept4);
		enum status status;

		s.accessed_dirty = n & 2;
		lay(s.format);
		put64(pgm, entry_at(s.format, 0, L2_WHERE),
		      TARGET | s.format->rights_bits[ACCESS_READ] | s.format->type_bits[6]);
		assert_int_equal(shadow_walk(pgm, &s, gpa(L2_WHERE), ACCESS_READ, &to, &fault), OK);
		status = shadow_walk(pgm, &s, gpa(L2_WHERE), ACCESS_READ | WALK_TABLE, &to, &fault);
		assert_int_equal(status, n ? OUTER_FAULT : OK);
		if (status == OK)
			continue;
		assert_true(fault.guest_table && fault.present && fault.access == (ACCESS_READ | ACCESS_WRITE));
		assert_int_equal(fault.rights, ACCESS_READ);
		/* Who only looks is not refused. */
		assert_int_equal(shadow_walk(pgm, &s, gpa(L2_WHERE), ACCESS_READ | WALK_TABLE | WALK_PEEK, &to, &fault),
				 OK);
	}
}

/* Tables where L1 has no memory, and addresses that its tables don't reach. */
static void test_nowhere(void **state)
{
	struct hv_nested_fault fault;
	gpa_t to;

	(void)state;
	for (unsigned n = 0; n < 2; n++) {
		struct hv_nested_slat s = slat_of(n ? &pt_npt4 : &pt_ept4);

		s.root = gpa(RAM + MIB);
		assert_int_equal(shadow_walk(pgm, &s, gpa(L2_WHERE), ACCESS_READ, &to, &fault), OUTER_FAULT);
		assert_true(fault.misconfigured && fault.level == 3);
		s = slat_of(s.format);
		lay(s.format);
		put64(pgm, entry_at(s.format, 1, L2_WHERE), UINT64_C(0x8000000000) | s.format->table_bits);
		assert_int_equal(shadow_walk(pgm, &s, gpa(L2_WHERE), ACCESS_READ, &to, &fault), OUTER_FAULT);
		assert_true(fault.misconfigured && fault.level == 0);
		assert_int_equal(shadow_walk(pgm, &s, gpa(L2_WHERE | BIT(48)), ACCESS_READ, &to, &fault), OUTER_FAULT);
		assert_true(!fault.misconfigured && !fault.rights && !fault.present);
		s.on = false;
		assert_int_equal(shadow_walk(pgm, &s, gpa(L2_WHERE), ACCESS_READ, &to, &fault), OK);
		assert_int_equal(to.v, L2_WHERE);
	}
}

/* ---- L2's own tables ---- */
#define L2_PAGES 128u /* below 640 KiB: the other machine has them in one piece */

static unsigned place[L2_PAGES]; /* page of L2 → page of L1, from TARGET on */
static bool writable[L2_PAGES], there[L2_PAGES];

static uint64_t l1_address(uint64_t where)
{
	return TARGET + place[where >> 12 & (L2_PAGES - 1)] * PAGE_SIZE + (where & 0xfff);
}

static void scatter(const struct pt_format *f)
{
	for (unsigned i = 0; i < L2_PAGES; i++)
		place[i] = i;
	for (unsigned i = L2_PAGES - 1; i; i--) {
		unsigned other = random_of(&seed) % (i + 1), kept = place[i];

		place[i] = place[other];
		place[other] = kept;
	}
	for (unsigned level = 1; level < f->levels; level++)
		put64(pgm, entry_at(f, level, 0), (TABLES + (level - 1) * PAGE_SIZE) | f->table_bits);
	for (unsigned i = 0; i < L2_PAGES; i++) {
		writable[i] = random_of(&seed) % 8;
		there[i] = random_of(&seed) % 16;
		put64(pgm, TABLES + i * 8,
		      there[i] ? l1_address(i * PAGE_SIZE) | f->rights_bits[writable[i] ? RWX : RX] | f->type_bits[6]
			       : 0);
	}
}

/* The page of L2 that the walk may not touch as it would, in the order of its steps; L2_PAGES: none. */
static unsigned first_refused(const struct walk_result *flat, enum status status, unsigned access, bool *table)
{
	*table = true;
	for (unsigned i = 0; i < flat->steps; i++) {
		unsigned page = flat->step[i].where.v >> 12;

		if (!there[page] || !writable[page])
			return page;
	}
	*table = false;
	if (status == OK && (!there[flat->gpa.v >> 12] || ((access & ACCESS_WRITE) && !writable[flat->gpa.v >> 12])))
		return (unsigned)(flat->gpa.v >> 12);
	return L2_PAGES;
}

static void compare_walks(struct pgm *flat_pgm, const struct hv_nested_slat *s)
{
	struct walk_context c = { .cr0 = 0x80010001,
				  .cr3 = random_of(&seed) % L2_PAGES * PAGE_SIZE,
				  .cr4 = 0x20,
				  .efer = 0xd00,
				  .physical_bits = 40 };
	unsigned access = 1u << random_of(&seed) % 3, refused;
	uint64_t where = random_of(&seed) & BITS(46, 0);
	struct walk_result flat, r = { 0 };
	enum status want, got;
	bool table;

	want = guest_walk(flat_pgm, &c, gva(where), access | WALK_TRY, &flat);
	refused = first_refused(&flat, want, access, &table);
	c.outer = s;
	got = guest_walk(pgm, &c, gva(where), access, &r);
	if (refused != L2_PAGES) {
		assert_int_equal(got, OUTER_FAULT);
		assert_true(r.outer.linear_valid && r.outer.linear.v == where && r.outer.where.v >> 12 == refused);
		assert_int_equal(r.outer.guest_table, table);
		return;
	}
	assert_int_equal(got, want);
	assert_int_equal(r.steps, flat.steps);
	if (want == GUEST_FAULT)
		assert_int_equal(r.error_code, flat.error_code);
	if (want == OK) {
		assert_int_equal(r.inner.v, flat.gpa.v);
		assert_int_equal(r.gpa.v, l1_address(flat.gpa.v));
		for (unsigned i = 0; i < r.steps; i++)
			assert_true(get64(pgm, l1_address(r.step[i].where.v)) & 0x20);
	}
}

static void test_guest_walks(void **state)
{
	struct pgm *flat_pgm = make_pgm_of(&(struct pgm_config){ .ram = RAM, .slat = &pt_ept4, .physical_bits = 40 });

	(void)state;
	for (unsigned n = 0; n < 40; n++) {
		struct hv_nested_slat s = slat_of(n & 1 ? &pt_npt4 : &pt_ept4);

		scatter(s.format);
		for (unsigned at = 0; at < L2_PAGES * PAGE_SIZE; at += 8) {
			uint64_t entry = random_of(&seed) % L2_PAGES * PAGE_SIZE | 7;

			entry ^= random_of(&seed) % 8 ? 0 : BIT(random_of(&seed) % 3);
			put64(flat_pgm, at, entry);
			put64(pgm, l1_address(at), entry);
		}
		for (unsigned i = 0; i < 500; i++)
			compare_walks(flat_pgm, &s);
	}
	while (pgm_destroy_step(flat_pgm) == BUSY)
		;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matrix_ept), cmocka_unit_test(test_matrix_npt),
		cmocka_unit_test(test_marks),      cmocka_unit_test(test_guest_tables),
		cmocka_unit_test(test_nowhere),    cmocka_unit_test(test_guest_walks),
	};
	struct pgm_config config = plain_config(RAM);

	pgm_world_start(WORLD);
	pgm = make_pgm_of(&config);
	return cmocka_run_group_tests_name("pgm_shadow_walk", tests, NULL, NULL);
}
