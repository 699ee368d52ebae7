/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/[!w]*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * Guest walks against the plain reference, 40,000 random cases in each mode: result, error code, and what became of
 * every entry. The walker itself is compiled in here, so that an entry can be changed right between its reading and its
 * accessed bit.
 */
#define WORLD_STRICT 17u
#include "common/pgm_world.h"

static enum status racing_exchange(struct pgm *pgm, gpa_t where, uint64_t expected, uint64_t desired, unsigned size,
				   uint64_t *seen);
#define pgm_compare_exchange racing_exchange
#include "pgm/walk.c"
#undef pgm_compare_exchange

#include "common/walk_reference.h"

#define WORLD (64 * MIB)
#define RAM (32 * MIB)
#define TABLES (16 * MIB) /* table n at TABLES + n pages */
#define CASES 40000u

static struct pgm *pgm;
static uint64_t seed;
static unsigned races; /* exchanges before which the entry still changes */
static uint64_t race_flip;

static uint64_t reference_read(uint64_t where, unsigned size)
{
	uint64_t value = 0;

	assert_int_equal(pgm_read(pgm, gpa(where), &value, size, ORIGIN_GUEST, NULL), OK);
	return value;
}

static void put(uint64_t where, uint64_t value, unsigned size)
{
	assert_int_equal(pgm_write(pgm, gpa(where), &value, size, ORIGIN_GUEST, NULL), OK);
}

static enum status racing_exchange(struct pgm *p, gpa_t where, uint64_t expected, uint64_t desired, unsigned size,
				   uint64_t *seen)
{
	if (races) {
		races--;
		put(where.v, reference_read(where.v, size) ^ race_flip, size);
	}
	return pgm_compare_exchange(p, where, expected, desired, size, seen);
}

static uint64_t random_bits(void)
{
	return random_of(&seed);
}

static bool one_in(unsigned n)
{
	return random_bits() % n == 0;
}

static uint64_t random_entry(uint64_t address, bool eight)
{
	uint64_t entry = address;

	entry |= one_in(16) ? 0 : 1;
	entry |= one_in(3) ? 0 : 2;
	entry |= one_in(3) ? 0 : 4;
	entry |= random_bits() & 0xf78; /* all but present, write, user, large */
	if (eight && one_in(4))
		entry |= BIT(63);
	if (eight)
		entry |= random_bits() & BITS(62, 59) & (one_in(2) ? ~UINT64_C(0) : 0);
	if (one_in(6))
		entry ^= BIT(random_bits() % (eight ? 64 : 32));
	return eight ? entry : entry & UINT32_MAX;
}

static uint64_t random_leaf(void)
{
	return random_bits() & BITS(39, 12);
}

/* A page of its own for each level, the path of `la` written into it. Large entries have low address bits of zero. */
static void build_64(uint64_t la, unsigned top)
{
	for (unsigned level = top; level < 5; level--) {
		unsigned shift = 12 + 9 * level;
		bool large = level && one_in(4);
		uint64_t address = TABLES + (level + 9) * PAGE_SIZE, entry;

		if (!level || large)
			address = random_bits() & BITS(39, 12) & ~(BIT(shift) - 1);
		entry = random_entry(address, true);
		if (large)
			entry |= BIT(7);
		put(TABLES + (level + 10) * PAGE_SIZE + (la >> shift & 511) * 8, entry, 8);
	}
}

static void build_32(uint64_t la)
{
	bool large = one_in(3);
	uint64_t entry = random_entry(large ? random_bits() & BITS(31, 22) : TABLES + PAGE_SIZE, false);

	if (large)
		entry |= BIT(7) | (one_in(2) ? random_bits() & BITS(16, 13) : 0);
	put(TABLES + (la >> 22) * 4, entry, 4);
	put(TABLES + PAGE_SIZE + (la >> 12 & 1023) * 4, random_entry(random_leaf() & UINT32_MAX, false), 4);
}

static struct walk_context random_context(void)
{
	static const uint8_t widths[] = { 32, 36, 39, 40, 46, 52 };
	struct walk_context c = { .cr0 = CR0_PE | CR0_PG, .pkru = (uint32_t)random_bits(), .cpl = one_in(2) ? 3 : 0 };

	c.physical_bits = widths[random_bits() % ARRAY_SIZE(widths)];
	c.page_1g = one_in(2);
	c.bit8_reserved = one_in(8);
	c.cr0 |= one_in(2) ? CR0_WP : 0;
	c.cr4 |= one_in(2) ? CR4_SMEP : 0;
	c.cr4 |= one_in(2) ? CR4_SMAP : 0;
	c.cr4 |= one_in(2) ? CR4_PKE : 0;
	c.cr4 |= one_in(2) ? CR4_PSE : 0;
	c.efer |= one_in(2) ? EFER_NXE : 0;
	c.rflags = one_in(2) ? RFLAGS_AC : 0;
	return c;
}

static unsigned random_access(void)
{
	static const unsigned kinds[] = { ACCESS_READ,
					  ACCESS_WRITE,
					  ACCESS_READ | ACCESS_WRITE,
					  ACCESS_EXECUTE,
					  ACCESS_READ | WALK_SYSTEM,
					  ACCESS_WRITE | WALK_SYSTEM };

	return kinds[random_bits() % ARRAY_SIZE(kinds)];
}

static unsigned outcomes[3];

/* WALK_TRY: the same result, no entry touched, and the marks are those that the manual has the access set. */
static void try_first(const struct walk_context *c, uint64_t la, unsigned access, const struct reference *want,
		      enum status status)
{
	struct walk_result got = { 0 };

	assert_int_equal(guest_walk(pgm, c, gva(la), access | WALK_TRY, &got), status);
	if (status == OK)
		assert_int_equal(got.gpa.v, want->gpa);
	if (status == GUEST_FAULT)
		assert_int_equal(got.error_code, want->code);
	for (unsigned i = 0, at = 0; i < want->count; i++) {
		assert_int_equal(reference_read(want->used[i].where, want->used[i].size), want->used[i].before);
		for (at = 0; at < got.steps && got.step[at].where.v != want->used[i].where;)
			at++;
		if (status == OK)
			assert_int_equal(want->used[i].before | guest_walk_marks(c, access, &got, at),
					 want->used[i].after);
	}
}

static void compare(const struct walk_context *c, uint64_t la, unsigned access, uint64_t case_seed)
{
	struct reference want = reference_translate(c, la, access);
	static const enum status statuses[] = { OK, GUEST_FAULT, BAD_VALUE };
	struct walk_result got = { 0 };
	enum status status;
	bool right;

	try_first(c, la, access, &want, statuses[want.outcome]);
	status = guest_walk(pgm, c, gva(la), access, &got);
	right = status == statuses[want.outcome];
	if (right && want.outcome == REFERENCE_OK)
		right = got.gpa.v == want.gpa;
	if (right && want.outcome == REFERENCE_FAULT)
		right = got.error_code == want.code;
	if (!right)
		fail_msg(
			"seed %#llx: la %#llx access %#x cr0 %#llx cr4 %#llx efer %#llx cpl %u width %u: status %s gpa %#llx "
			"code %#x, the manual says %u %#llx %#x",
			(unsigned long long)case_seed, (unsigned long long)la, access, (unsigned long long)c->cr0,
			(unsigned long long)c->cr4, (unsigned long long)c->efer, c->cpl, c->physical_bits,
			status_text(status), (unsigned long long)got.gpa.v, got.error_code, want.outcome,
			(unsigned long long)want.gpa, want.code);
	for (unsigned i = 0; i < want.count; i++) {
		uint64_t now = reference_read(want.used[i].where, want.used[i].size);

		if (now != want.used[i].after)
			fail_msg("seed %#llx: entry at %#llx is %#llx, should be %#llx", (unsigned long long)case_seed,
				 (unsigned long long)want.used[i].where, (unsigned long long)now,
				 (unsigned long long)want.used[i].after);
	}
	outcomes[want.outcome]++;
}

static void one_case(enum guest_mode mode, unsigned number)
{
	struct walk_context c;
	uint64_t la, case_seed;

	seed = case_seed = 0x9e3779b97f4a7c15 * (number + 1) + (uint64_t)mode;
	c = random_context();
	la = random_bits();
	if (mode == MODE_32BIT) {
		la &= UINT32_MAX;
		c.cr3 = TABLES | 0x18;
		build_32(la);
	} else if (mode == MODE_PAE) {
		la &= UINT32_MAX;
		c.cr4 |= CR4_PAE;
		build_64(la, 1);
		for (unsigned i = 0; i < 4; i++)
			c.pdpte[i] = (TABLES + 11 * PAGE_SIZE) | (random_bits() & 0xe18) | !one_in(8);
	} else {
		unsigned width = mode == MODE_LA57 ? 57 : 48;

		c.cr4 |= CR4_PAE | (mode == MODE_LA57 ? CR4_LA57 : 0);
		c.efer |= EFER_LME | EFER_LMA;
		if (!one_in(16))
			la = sign_extend(la, width);
		build_64(la, mode == MODE_LA57 ? 4 : 3);
		c.cr3 = TABLES + (mode == MODE_LA57 ? 14 : 13) * PAGE_SIZE;
	}
	compare(&c, la, random_access(), case_seed);
}

static void run_mode(enum guest_mode mode)
{
	memset(outcomes, 0, sizeof(outcomes));
	for (unsigned i = 0; i < CASES; i++)
		one_case(mode, i);
	/* The cases reach both ends. */
	assert_true(outcomes[REFERENCE_OK] > CASES / 50);
	assert_true(outcomes[REFERENCE_FAULT] > CASES / 10);
}

static void test_32bit(void **state)
{
	run_mode(MODE_32BIT);
}
static void test_pae(void **state)
{
	run_mode(MODE_PAE);
}
static void test_4level(void **state)
{
	run_mode(MODE_AMD64);
	assert_true(outcomes[REFERENCE_NOT_CANONICAL] > 100);
}
static void test_5level(void **state)
{
	run_mode(MODE_LA57);
	assert_true(outcomes[REFERENCE_NOT_CANONICAL] > 100);
}

static void test_modes(void **state)
{
	static const struct {
		uint64_t cr0, cr4, efer;
		enum guest_mode mode;
	} cases[] = {
		{ 0, 0, 0, MODE_REAL },
		{ 0, CR4_PAE, EFER_NXE, MODE_REAL },
		{ CR0_PE, CR4_PAE, EFER_NXE, MODE_PROTECTED },
		{ CR0_PE | CR0_PG, 0, EFER_NXE, MODE_32BIT },
		{ CR0_PE | CR0_PG, CR4_PAE, 0, MODE_PAE },
		{ CR0_PE | CR0_PG, CR4_PAE, EFER_NXE, MODE_PAE_NX },
		{ CR0_PE | CR0_PG, CR4_PAE, EFER_LME | EFER_LMA, MODE_AMD64 },
		{ CR0_PE | CR0_PG, CR4_PAE, EFER_LME | EFER_LMA | EFER_NXE, MODE_AMD64_NX },
		{ CR0_PE | CR0_PG, CR4_PAE | CR4_LA57, EFER_LME | EFER_LMA, MODE_LA57 },
		{ CR0_PE | CR0_PG, CR4_PAE | CR4_LA57, EFER_LME | EFER_LMA | EFER_NXE, MODE_LA57_NX },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(guest_mode_of(cases[i].cr0, cases[i].cr4, cases[i].efer), cases[i].mode);
		assert_string_not_equal(guest_mode_name(cases[i].mode), "?");
	}
	assert_null(guest_mode_format(MODE_REAL));
	assert_null(guest_mode_format(GUEST_MODES));
	assert_string_equal(guest_mode_name(GUEST_MODES), "?");
}

static struct walk_context long_mode(void)
{
	return (struct walk_context){ .cr0 = CR0_PE | CR0_PG,
				      .cr4 = CR4_PAE,
				      .efer = EFER_LME | EFER_LMA,
				      .cr3 = TABLES + 13 * PAGE_SIZE,
				      .physical_bits = 40 };
}

#define LINEAR UINT64_C(0x7654321000)

static void plain_tables(uint64_t bits)
{
	for (unsigned level = 3; level < 4; level--)
		put(TABLES + (level + 10) * PAGE_SIZE + (LINEAR >> (12 + 9 * level) & 511) * 8,
		    (level ? TABLES + (level + 9) * PAGE_SIZE : 0x1234000) | bits, 8);
}

/* An entry that changes between reading and marking: the walk starts again with the new one. */
static void test_race(void **state)
{
	struct walk_context c = long_mode();
	struct walk_result r;

	plain_tables(7);
	races = 1;
	race_flip = BIT(9);
	assert_int_equal(guest_walk(pgm, &c, gva(LINEAR), ACCESS_WRITE, &r), OK);
	assert_int_equal(r.gpa.v, 0x1234000);
	assert_int_equal(r.entry, 0x1234000 | 7);
	plain_tables(7);
	races = 1;
	race_flip = BIT(0); /* gone */
	assert_int_equal(guest_walk(pgm, &c, gva(LINEAR), ACCESS_WRITE, &r), GUEST_FAULT);
	assert_int_equal(r.error_code, PF_W);
	plain_tables(7);
	races = UINT32_MAX;
	race_flip = BIT(9);
	assert_int_equal(guest_walk(pgm, &c, gva(LINEAR), ACCESS_WRITE, &r), BUSY);
	races = 0;
}

static void test_peek(void **state)
{
	struct walk_context c = long_mode();
	struct walk_result r;

	c.cpl = 3;
	plain_tables(1); /* supervisor, read-only */
	assert_int_equal(guest_walk(pgm, &c, gva(LINEAR + 5), ACCESS_WRITE | WALK_PEEK, &r), OK);
	assert_int_equal(r.gpa.v, 0x1234005);
	assert_int_equal(r.steps, 4);
	for (unsigned i = 0; i < r.steps; i++)
		assert_int_equal(reference_read(r.step[i].where.v, 8), r.step[i].entry);
	assert_int_equal(r.step[3].entry, 0x1234001);
}

/* Tables where nothing is read as all ones: reserved bits. Tables in ROM are used, and keep their bits. */
static void test_odd_tables(void **state)
{
	struct walk_context c = long_mode();
	struct walk_result r;
	uint64_t zero = 0, rom[512] = { 0 };

	c.cr3 = 3584 * MIB;
	assert_int_equal(guest_walk(pgm, &c, gva(LINEAR), ACCESS_READ, &r), GUEST_FAULT);
	assert_int_equal(r.error_code, PF_P | PF_RSVD);
	rom[LINEAR >> 39 & 511] = (TABLES + 12 * PAGE_SIZE) | 7;
	assert_int_equal(pgm_rom_load(pgm, gpa(0xe0000), rom, sizeof(rom)), OK);
	plain_tables(7);
	c.cr3 = 0xe0000;
	assert_int_equal(guest_walk(pgm, &c, gva(LINEAR), ACCESS_WRITE, &r), OK);
	assert_int_equal(r.gpa.v, 0x1234000);
	assert_int_equal(reference_read(0xe0000 + (LINEAR >> 39 & 511) * 8, 8), (TABLES + 12 * PAGE_SIZE) | 7);
	assert_int_equal(zero, 0);
	c = (struct walk_context){ .cr0 = CR0_PE };
	assert_int_equal(guest_walk(pgm, &c, gva(0x123456789abc), ACCESS_WRITE, &r), OK);
	assert_int_equal(r.gpa.v, 0x56789abc);
}

/* Table 4-8: bits 2:1, 8:5 and those from MAXPHYADDR on are reserved in a present PDPTE; CR3 counts from bit 5. */
static void test_pdptes(void **state)
{
	static const unsigned widths[] = { 32, 36, 40, 52 };

	for (unsigned w = 0; w < ARRAY_SIZE(widths); w++) {
		for (unsigned bit = 1; bit < 64; bit++) {
			bool bad = bit <= 2 || (bit >= 5 && bit <= 8) || bit >= widths[w];
			uint64_t old[4] = { 1, 2, 3, 4 }, got[4] = { 1, 2, 3, 4 };
			unsigned which = bit % 4;
			uint64_t at = TABLES + 0x7e0;

			for (unsigned i = 0; i < 4; i++)
				put(at + i * 8, (TABLES + i * PAGE_SIZE) | 1, 8);
			put(at + which * 8, 1 | BIT(bit), 8);
			assert_int_equal(guest_load_pdptes(pgm, at | 0x1f | BIT(40), widths[w], got),
					 bad ? DENIED : OK);
			if (bad)
				assert_memory_equal(got, old, sizeof(old));
			else
				assert_int_equal(got[which], 1 | BIT(bit));
			put(at + which * 8, BIT(bit), 8);
			assert_int_equal(guest_load_pdptes(pgm, at, widths[w], got), OK);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_32bit),  cmocka_unit_test(test_pae),        cmocka_unit_test(test_4level),
		cmocka_unit_test(test_5level), cmocka_unit_test(test_modes),      cmocka_unit_test(test_race),
		cmocka_unit_test(test_peek),   cmocka_unit_test(test_odd_tables), cmocka_unit_test(test_pdptes),
	};
	int failed;

	pgm_world_start(WORLD);
	pgm = make_pgm(RAM);
	assert_int_equal(pgm_add_rom(pgm, gpa(0xe0000), 0x20000, "rom"), OK);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	end_pgm(pgm);
	return failed;
}
