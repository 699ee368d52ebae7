/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * Second-level tables in both formats. An own, naive reader of the tables, written from the manuals (Intel SDM vol. 3
 * section 29.3.2, AMD APM vol. 2 section 15.25), translates 1026 pages after each single store to a live table of an
 * operation: every page translates as before or as after, at any moment, and everything that isn't asked for stays.
 */
#define _GNU_SOURCE
#include "common/pgm_world.h"
#include "common/table_steps.h"

#define WORLD (64 * MIB)
#define BASE (4 * GIB + 6 * MIB) /* of the block under test */
#define FIRST (BASE - PAGE_SIZE)
#define PAGES (2 * PAGES_PER_BLOCK + 2)

struct translation {
	bool there;
	uint64_t frame;
	unsigned rights, type; /* type: raw bits of the leaf */
};

static struct translation before[PAGES], after[PAGES];
static struct slat *subject;
static bool is_ept;
static unsigned bad_steps, bad_page;

/* EPT: R, W, X bits 0..2, type 5:3, ignore PAT 6, large 7. */
static struct translation read_ept(uint64_t root, uint64_t where)
{
	struct translation t = { 0 };
	uint64_t table = root;
	unsigned rights = 7;

	for (int level = 3; level >= 0; level--) {
		uint64_t entry = ((uint64_t *)(direct_map + table))[where >> (12 + 9 * level) & 511];
		uint64_t address = entry & 0xffffffffff000;

		steps_live(table);
		if (!(entry & 7))
			return t;
		rights &= entry & 7;
		if (level == 0 || (entry >> 7 & 1)) {
			uint64_t offset = (UINT64_C(1) << (12 + 9 * level)) - 1;

			t.there = true;
			t.frame = (address & ~offset) | (where & offset & ~UINT64_C(4095));
			t.rights = rights;
			t.type = entry >> 3 & 15;
			return t;
		}
		table = address;
	}
	return t;
}

/* NPT: present 0, write 1, user 2, PWT 3, PCD 4, large 7, no-execute 63. */
static struct translation read_npt(uint64_t root, uint64_t where)
{
	struct translation t = { 0 };
	uint64_t table = root;
	bool write = true, user = true, no_execute = false;

	for (int level = 3; level >= 0; level--) {
		uint64_t entry = ((uint64_t *)(direct_map + table))[where >> (12 + 9 * level) & 511];
		uint64_t address = entry & 0xffffffffff000;

		steps_live(table);
		if (!(entry & 1))
			return t;
		write = write && (entry & 2);
		user = user && (entry & 4);
		no_execute = no_execute || entry >> 63;
		if (level == 0 || (level < 3 && (entry >> 7 & 1))) {
			uint64_t offset = (UINT64_C(1) << (12 + 9 * level)) - 1;

			t.there = user; /* each nested walk counts as a user's */
			t.frame = (address & ~offset) | (where & offset & ~UINT64_C(4095));
			t.rights = ACCESS_READ | (write ? ACCESS_WRITE : 0) | (no_execute ? 0 : ACCESS_EXECUTE);
			t.type = entry >> 3 & 3;
			return t;
		}
		table = address;
	}
	return t;
}

static struct translation translate(unsigned page)
{
	uint64_t where = FIRST + page * PAGE_SIZE;

	return is_ept ? read_ept(subject->root.v, where) : read_npt(subject->root.v, where);
}

static bool same(const struct translation *a, const struct translation *b)
{
	if (!a->there || !b->there)
		return a->there == b->there;
	return a->frame == b->frame && a->rights == b->rights && a->type == b->type;
}

static void look(void)
{
	for (unsigned i = 0; i < PAGES; i++) {
		struct translation now = translate(i);

		if (!same(&now, &before[i]) && !same(&now, &after[i])) {
			bad_steps++;
			bad_page = i;
		}
	}
}

static void take(struct translation *into)
{
	for (unsigned i = 0; i < PAGES; i++)
		into[i] = translate(i);
}

static struct translation map_of(uint64_t frame, unsigned rights, unsigned memory_type)
{
	/* As the manuals number them: EPT takes the type itself; NPT has WB 0, WT 1, UC- 2, UC 3 by the power-on PAT. */
	unsigned npt_type = memory_type == 6 ? 0 : memory_type == 0 ? 3 : memory_type == 1 ? 2 : 1;

	return (struct translation){ .there = rights != 0,
				     .frame = frame,
				     .rights = rights | (rights ? ACCESS_READ : 0),
				     .type = is_ept ? memory_type : npt_type };
}

/* The page of the array that is page `index` of the block. */
static unsigned slot(int index)
{
	return (unsigned)(index + 1);
}

static void begin(void)
{
	take(before);
	memcpy(after, before, sizeof(after));
	bad_steps = 0;
}

static void watch(void)
{
	steps_begin(direct_map, look);
}

static void done(unsigned long least)
{
	unsigned long seen = steps_end();

	if (bad_steps)
		fail_msg("%u times neither the old nor the new mapping, page %u last", bad_steps, bad_page);
	assert_true(seen >= least);
	for (unsigned i = 0; i < PAGES; i++) {
		struct translation now = translate(i);

		if (!same(&now, &after[i]))
			fail_msg("page %u: frame %#llx rights %u type %u, wanted %#llx %u %u", i,
				 (unsigned long long)now.frame, now.rights, now.type,
				 (unsigned long long)after[i].frame, after[i].rights, after[i].type);
	}
}

static void set(struct slat *slat, uint64_t where, unsigned level, uint64_t frame, unsigned rights, unsigned type,
		struct gather *gather)
{
	uint64_t *entry;

	assert_int_equal(slat_entry(slat, gpa(where), level, &entry), OK);
	slat_set(slat, entry, slat_leaf(slat, level, hpa(frame), rights, type), gather);
}

static const unsigned rights_used[] = { ACCESS_READ, RX, ACCESS_READ | ACCESS_WRITE, RWX };
static const unsigned types_used[] = { 6, 0, 5, 1, 4 };

/* Attack 1: split of a leaf with odd rights and type and an address that is no identity, and one page of it changed. */
static void split_once(struct slat *slat, struct account *account, struct flush_domain *domain, unsigned rights,
		       unsigned type)
{
	uint64_t frame = 10 * MIB;
	struct gather g;

	gather_begin(&g, domain, account);
	begin();
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		after[slot((int)i)] = map_of(frame + i * PAGE_SIZE, rights, type);
	watch();
	set(slat, BASE, 1, frame, rights, type, &g);
	done(1);
	assert_false(g.flush);

	begin();
	watch();
	assert_int_equal(slat_split_block(slat, gpa(BASE + 77 * PAGE_SIZE), 0, &g), OK);
	done(1);
	assert_true(g.flush);
	gather_finish(&g);

	slat_drop_page(slat, NULL, gpa(BASE + 300 * PAGE_SIZE), &g);
	assert_true(g.flush);
	gather_settle(&g);
	assert_false(g.flush);

	begin();
	after[slot(300)] = map_of(0x123000, RWX, 6);
	watch();
	set(slat, BASE + 300 * PAGE_SIZE, 0, 0x123000, RWX, 6, &g);
	done(1);

	begin();
	after[slot(511)] = (struct translation){ 0 };
	watch();
	slat_drop_page(slat, NULL, gpa(BASE + 511 * PAGE_SIZE), &g);
	done(1);
	/* Again, and a split of what is no leaf: nothing. */
	watch();
	slat_drop_page(slat, NULL, gpa(BASE + 511 * PAGE_SIZE), &g);
	assert_int_equal(slat_split_block(slat, gpa(BASE), 0, &g), OK);
	done(0);
	assert_int_equal(steps.count, 0);

	begin();
	memset(&after[slot(0)], 0, PAGES_PER_BLOCK * sizeof(after[0]));
	watch();
	slat_drop_block(slat, NULL, gpa(BASE), &g);
	done(1);
	assert_int_equal(g.count, 1);
	gather_finish(&g);
}

static void slat_end(struct slat *slat)
{
	while (slat_destroy_step(slat) == BUSY)
		;
	assert_int_equal(slat->tables, 0);
}

static void run_splits(const struct pt_format *format, bool ept)
{
	struct account *account = open_account(0, 40, 0);
	struct flush_domain domain = { .sync = count_flush };
	struct gather g;
	struct slat slat;

	is_ept = ept;
	assert_int_equal(slat_create(&slat, format, account), OK);
	subject = &slat;
	gather_begin(&g, &domain, account);
	/* Neighbours on both sides, that must never change. */
	set(&slat, FIRST, 0, 0x777000, RX, 6, &g);
	set(&slat, BASE + BLOCK_SIZE, 1, 8 * MIB, RWX, 6, &g);
	for (unsigned r = 0; r < ARRAY_SIZE(rights_used); r++)
		for (unsigned t = 0; t < ARRAY_SIZE(types_used); t++)
			split_once(&slat, account, &domain, rights_used[r], types_used[t]);
	/* Root, levels 2 and 1, and the neighbour's table. */
	assert_int_equal(slat.tables, 4);
	assert_int_equal(account->allocated[ACCOUNT_TABLE], 4);
	slat_end(&slat);
	close_account(account);
}

static void test_attack1_splits(void **state)
{
	run_splits(&pt_ept4, true);
	run_splits(&pt_npt4, false);
}

/* A leaf of 1 GiB: each page of it where the manuals say, whatever was split; but one may have been changed. */
static void compare_gib(uint64_t frame, unsigned rights, unsigned type, uint64_t changed, const struct translation *its)
{
	struct translation want = map_of(frame, rights, type);

	for (uint64_t offset = 0; offset < GIB; offset += PAGE_SIZE) {
		struct translation now =
			is_ept ? read_ept(subject->root.v, GIB + offset) : read_npt(subject->root.v, GIB + offset);

		want.frame = frame + offset;
		if (!same(&now, offset == changed ? its : &want))
			fail_msg("at %#llx: frame %#llx rights %u type %u", (unsigned long long)offset,
				 (unsigned long long)now.frame, now.rights, now.type);
	}
}

/* 1 GiB to 512 blocks, one of these to pages, one of these changed, and all of it joined again. */
static void split_gib(struct slat *slat, struct account *account, unsigned rights, unsigned type)
{
	const uint64_t frame = 5 * GIB, at = 200 * BLOCK_SIZE + 33 * PAGE_SIZE;
	struct translation changed = map_of(0x9000, RWX, 6);
	struct flush_domain domain = { .sync = count_flush };
	struct gather g;

	gather_begin(&g, &domain, account);
	assert_int_equal(slat_map_huge(slat, gpa(GIB), slat_leaf(slat, 2, hpa(frame), rights, type)), OK);
	assert_int_equal(slat_map_huge(slat, gpa(GIB), 0), CONFLICT);
	compare_gib(frame, rights, type, GIB, NULL);
	assert_int_equal(slat_split_huge(slat, gpa(GIB + at), &g), OK);
	assert_true(g.flush);
	compare_gib(frame, rights, type, GIB, NULL);
	assert_int_equal(slat_split_block(slat, gpa(GIB + at), 0, &g), OK);
	compare_gib(frame, rights, type, GIB, NULL);
	slat_drop_page(slat, NULL, gpa(GIB + at), &g);
	set(slat, GIB + at, 0, 0x9000, RWX, 6, &g);
	compare_gib(frame, rights, type, at, &changed);
	/* Back: the page, then its block as one leaf. */
	slat_drop_page(slat, NULL, gpa(GIB + at), &g);
	set(slat, GIB + at, 0, frame + at, rights, type, &g);
	slat_drop_block(slat, NULL, gpa(GIB + at), &g);
	set(slat, GIB + align_down(at, BLOCK_SIZE), 1, frame + align_down(at, BLOCK_SIZE), rights, type, &g);
	compare_gib(frame, rights, type, GIB, NULL);
	gather_finish(&g);
}

static void test_attack1_gib(void **state)
{
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(rights_used); i++) {
		struct account *account = open_account(0, 40, 0);
		struct slat slat;

		is_ept = i & 1;
		assert_int_equal(slat_create(&slat, is_ept ? &pt_ept4 : &pt_npt4, account), OK);
		subject = &slat;
		split_gib(&slat, account, rights_used[i / 2], types_used[i / 2 + is_ept]);
		slat_end(&slat);
		close_account(account);
	}
}

/* Every page at its old frame, at its new one, or nowhere; never with a right it has not. */
static unsigned wandered;

static void look_at_move(void)
{
	for (unsigned i = 0; i < PAGES; i++) {
		struct translation now = translate(i);

		if (now.there && (now.rights & ~before[i].rights || now.type != before[i].type ||
				  (now.frame != before[i].frame && now.frame != after[i].frame)))
			wandered++;
	}
}

/* A block of single frames is copied and becomes large, is split by a handler, and joined: at each store of it all. */
static void test_attack2_collapse(void **state)
{
	for (unsigned ept = 0; ept < 2; ept++) {
		struct pgm_config config = plain_config(5 * GIB);
		struct pgm *pgm;
		unsigned steps_done = 0;

		config.slat = ept ? &pt_ept4 : &pt_npt4;
		pgm = make_pgm_of(&config);
		is_ept = ept;
		subject = &pgm->slat;
		inject_arm(MM_SITE_LARGE, 0, 1, 0);
		for (uint64_t a = BASE; a < BASE + BLOCK_SIZE; a += PAGE_SIZE)
			assert_int_equal(pgm_fault(pgm, gpa(a), ACCESS_WRITE), PGM_RESUME);
		inject_disarm(MM_SITE_LARGE);
		begin();
		wandered = 0;
		steps_begin(direct_map, look_at_move);
		while (pgm->collapse.phase != COLLAPSE_SWITCH && steps_done++ < 5000) {
			(void)pgm_collapse_step(pgm);
			for (unsigned i = 0; pgm->collapse.block && i < PAGES_PER_BLOCK; i++)
				after[slot((int)i)].frame = pgm->collapse.chunk.v + i * PAGE_SIZE;
		}
		while (!pgm->common.counters.large_collapsed && steps_done++ < 10000)
			(void)pgm_collapse_step(pgm);
		assert_true(steps_end() > PAGES_PER_BLOCK);
		assert_int_equal(wandered, 0);
		assert_int_equal(pgm->common.counters.large_collapsed, 1);
		for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
			struct translation now = translate(slot((int)i));

			assert_true(now.there && now.rights == RWX && now.frame == after[slot((int)i)].frame);
		}
		end_pgm(pgm);
	}
}

/* The first mapping in an empty space makes three tables: each is complete before it is linked. */
static void test_attack2_first_map(void **state)
{
	for (unsigned ept = 0; ept < 2; ept++) {
		struct account *account = open_account(0, 40, 0);
		struct gather g;
		struct slat slat;

		is_ept = ept;
		assert_int_equal(slat_create(&slat, ept ? &pt_ept4 : &pt_npt4, account), OK);
		subject = &slat;
		gather_begin(&g, NULL, account);
		begin();
		after[slot(5)] = map_of(0x345000, RX, 6);
		watch();
		set(&slat, BASE + 5 * PAGE_SIZE, 0, 0x345000, RX, 6, &g);
		done(1);
		assert_int_equal(slat.tables, 4);
		slat_end(&slat);
		close_account(account);
	}
}

/* A handler on one page of a large block: the other 511 translate as ever at each step, the one as before or not. */
static void test_attack2_handler_on_large(void **state)
{
	for (unsigned ept = 0; ept < 2; ept++) {
		struct pgm_config config = plain_config(16 * MIB);
		struct gather g;
		struct pgm *pgm;
		struct block *b;

		config.ram = 5 * GIB;
		config.slat = ept ? &pt_ept4 : &pt_npt4;
		pgm = make_pgm_of(&config);
		is_ept = ept;
		subject = &pgm->slat;
		assert_int_equal(pgm_fault(pgm, gpa(BASE), ACCESS_WRITE), PGM_RESUME);
		assert_int_equal(pgm_fault(pgm, gpa(BASE + BLOCK_SIZE), ACCESS_READ), PGM_RESUME);
		assert_int_equal(block_get(pgm, gpa(BASE), &b), OK);
		assert_int_equal(block_kind(b), BLOCK_LARGE);
		gather_begin(&g, &pgm->flush, &pgm->account);
		begin();
		watch();
		block_lock(b);
		assert_int_equal(block_make_detailed(pgm, b, gpa(BASE), &g), OK);
		block_unlock(b);
		done(1);
		assert_true(g.flush);
		gather_finish(&g);
		end_pgm(pgm);
	}
}

/* Failures leave tables and counts as they were. */
static void test_no_table(void **state)
{
	struct account *account = open_account(0, 4, 0);
	struct slat slat;
	struct gather g;
	uint64_t *entry;

	is_ept = true;
	inject_arm(MM_SITE_TABLE, 0, 1, 0);
	assert_int_equal(slat_create(&slat, &pt_ept4, account), NO_MEMORY);
	inject_disarm(MM_SITE_TABLE);
	slat_end(&slat);
	assert_int_equal(slat_create(&slat, &pt_ept4, account), OK);
	subject = &slat;
	gather_begin(&g, NULL, account);
	set(&slat, BASE, 1, 10 * MIB, RX, 6, &g);
	assert_int_equal(slat_entry(&slat, gpa(BASE), 0, &entry), CONFLICT);
	begin();
	inject_arm(MM_SITE_TABLE, 0, 1, 0);
	assert_int_equal(slat_split_block(&slat, gpa(BASE), 0, &g), NO_MEMORY);
	inject_disarm(MM_SITE_TABLE);
	look();
	assert_int_equal(bad_steps, 0);
	assert_int_equal(slat.tables, 3);
	assert_false(g.flush);
	/* One table is left of the quota, two are wanted. */
	assert_int_equal(slat_entry(&slat, gpa(700 * GIB), 0, &entry), OVER_QUOTA);
	assert_int_equal(account->allocated[ACCOUNT_TABLE], slat.tables);
	slat_end(&slat);
	close_account(account);
}

/* A flush is asked for when a present translation changes its frame or loses a right, and only then. */
static void test_flush_rule(void **state)
{
	struct account *account = open_account(0, 10, 0);
	static const struct {
		unsigned old, new;
		bool flush;
	} cases[] = {
		{ 0, RWX, false },
		{ RX, RX, false },
		{ RX, RWX, false },
		{ RWX, RX, true },
		{ RX, 0, true },
		{ 0, 0, false },
		{ RWX, ACCESS_READ | ACCESS_WRITE, true },
	};

	for (unsigned ept = 0; ept < 2; ept++) {
		struct slat slat;

		assert_int_equal(slat_create(&slat, ept ? &pt_ept4 : &pt_npt4, account), OK);
		for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
			struct gather g;

			gather_begin(&g, NULL, account);
			set(&slat, BASE, 0, 0x200000, 0, 6, &g);
			g.flush = false;
			set(&slat, BASE, 0, 0x200000, cases[i].old, 6, &g);
			assert_false(g.flush);
			set(&slat, BASE, 0, 0x200000, cases[i].new, 6, &g);
			assert_int_equal(g.flush, cases[i].flush);
		}
		slat_end(&slat);
	}
	close_account(account);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attack1_splits),
		cmocka_unit_test(test_attack1_gib),
		cmocka_unit_test(test_attack2_collapse),
		cmocka_unit_test(test_attack2_first_map),
		cmocka_unit_test(test_attack2_handler_on_large),
		cmocka_unit_test(test_no_table),
		cmocka_unit_test(test_flush_rule),
	};

	pgm_world_start(WORLD);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
