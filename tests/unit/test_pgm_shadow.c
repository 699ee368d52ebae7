/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * Composed tables under an L2 that reads and writes by them, with two processors that keep what they translated until
 * they are flushed: while L1 changes its tables (with and without a flush), and while the host changes what is below: handlers,
 * collapse and split, the dirty log, tables dropped, resets. What L2 sees is always what L1's tables say of L1's memory; what it
 * writes is in L1's dirty bits, and in the host's log.
 */
#define WORLD_STRICT (getenv("QUIRE_LONG") ? 1u : 17u)
#include "common/pgm_world.h"
#include "common/shadow_view.h"
#include "pgm/dirty/dirty.h"
#include "pgm/shadow/shadow.h"
#include "pgm/slat/tables.h"
#include "pgm/walk.h"

#define RAM (32 * MIB)
#define TABLES (2 * MIB) /* L1's */
#define DATA (4 * MIB)
#define DATA_PAGES (12 * MIB / PAGE_SIZE)
#define TLB 64u
#define LIFE_PAGES 24u /* of each of the eight parts of L2 that are used */

struct cached {
	uint64_t where; /* 0: none */
	uint8_t *bytes;
	unsigned rights;
};

static struct pgm *pgm;
static struct hv_nested_slat slat;
static struct shadow_root *root;
static struct cached tlb[2][TLB];
static uint8_t content[RAM / PAGE_SIZE];
static bool written[RAM / PAGE_SIZE];
static uint64_t seed;
static bool logging;
static uint64_t handled;                  /* L1's page with a handler; 0: none */
static bool by_processor;                 /* what L1 writes to its tables is its processor's */
static bool known_dirty[RAM / PAGE_SIZE]; /* by that processor: it doesn't look into the tables until it is flushed */

static uint64_t any(uint64_t below)
{
	return random_of(&seed) % below;
}

static void flush_cpu(unsigned cpu)
{
	memset(tlb[cpu], 0, sizeof(tlb[cpu]));
}

static void flush_all(void)
{
	flush_cpu(0);
	flush_cpu(1);
	memset(known_dirty, 0, sizeof(known_dirty));
}

/* Marks the leaf dirty when it writes to the page for the first time. */
static void processor_puts(uint64_t where, uint64_t value)
{
	bool *known = &known_dirty[where >> PAGE_SHIFT];
	unsigned level;
	uint64_t *leaf = slat_find(&pgm->slat, gpa(where), &level);

	if (!*known && !(slat_rights(&pgm->slat, *leaf) & ACCESS_WRITE)) {
		assert_int_equal(pgm_fault(pgm, gpa(where), ACCESS_WRITE), PGM_RESUME);
		leaf = slat_find(&pgm->slat, gpa(where), &level);
	}
	assert_true(slat_present(&pgm->slat, *leaf));
	*leaf |= *known ? 0 : pgm->slat.format->dirty;
	*known = true;
	memcpy(host_memory_at(hpa(slat_frame(&pgm->slat, level, *leaf).v +
				  (where & (BIT(pt_shift(pgm->slat.format, level)) - 1)))),
	       &value, sizeof(value));
}

static void put64(uint64_t where, uint64_t value)
{
	if (by_processor && any(8))
		processor_puts(where, value);
	else
		assert_int_equal(pgm_write(pgm, gpa(where), &value, 8, ORIGIN_GUEST, NULL), OK);
	written[where >> PAGE_SHIFT] = true;
}

static uint64_t get64(uint64_t where)
{
	uint64_t value;

	assert_int_equal(pgm_read(pgm, gpa(where), &value, 8, ORIGIN_GUEST, NULL), OK);
	return value;
}

/* ---- L1's tables: two of each level below each of the level above ---- */
static uint64_t table_at(unsigned level, unsigned which)
{
	static const unsigned first[] = { [3] = 0, [2] = 1, [1] = 3, [0] = 7 };

	return TABLES + (first[level] + which) * PAGE_SIZE;
}

/* Part 0..7 of L2: its bits choose among the two tables of each level. */
static uint64_t l2_of(unsigned part, unsigned page)
{
	return (uint64_t)(part >> 2) << 39 | (uint64_t)(part >> 1 & 1) << 30 | (uint64_t)(part & 1) << 21 |
	       (uint64_t)page << PAGE_SHIFT;
}

static uint64_t slot_of(unsigned level, unsigned part, unsigned page)
{
	switch (level) {
	case 3: return table_at(3, 0) + (part >> 2) * 8;
	case 2: return table_at(2, part >> 2) + (part >> 1 & 1) * 8;
	case 1: return table_at(1, part >> 1) + (part & 1) * 8;
	default: return table_at(0, part) + page * 8;
	}
}

static void link_all(void)
{
	for (unsigned part = 0; part < 8; part++)
		for (unsigned level = 3; level; level--)
			put64(slot_of(level, part, 0),
			      table_at(level - 1, part >> (level - 1)) | slat.format->table_bits);
}

static uint64_t leaf_of(uint64_t target, unsigned rights, unsigned level)
{
	return target | slat.format->rights_bits[rights] | slat.format->type_bits[6] | (level ? slat.format->large : 0);
}

/* ---- L2 ---- */
static struct cached *cached_at(unsigned cpu, uint64_t where)
{
	return &tlb[cpu][(where >> PAGE_SHIFT) * 11 % TLB];
}

/* As a processor: its own, else what the tables hold. 0: it faults. */
static struct cached *translate(unsigned cpu, uint64_t where, unsigned access)
{
	struct cached *c = cached_at(cpu, where);
	struct slat *view = shadow_view(pgm, root);
	unsigned level;
	uint64_t entry;

	if (c->where == where && (c->rights & access) == access)
		return c;
	entry = *slat_find(view, gpa(where), &level);
	if ((slat_rights(view, entry) & access) != access)
		return NULL;
	*c = (struct cached){ .where = where,
			      .rights = slat_rights(view, entry),
			      .bytes = host_memory_at(hpa(slat_frame(view, level, entry).v +
							  (where & (BIT(pt_shift(view->format, level)) - 1)))) };
	return c;
}

/* True: L2 did it by memory. False: L1 was told, or it is to be emulated. */
static bool l2_access(unsigned cpu, uint64_t where, unsigned access, uint8_t value)
{
	struct hv_nested_fault fault;
	struct cached *c;
	gpa_t target;
	bool refused = shadow_walk(pgm, &slat, gpa(where), access | WALK_TRY, &target, &fault) == OUTER_FAULT;

	for (unsigned tries = 0; !(c = translate(cpu, where, access)); tries++) {
		enum shadow_verdict verdict = shadow_fault(pgm, root, gpa(where), access, false, &fault);

		assert_true(tries < 12);
		assert_int_equal(verdict == SHADOW_REFLECT, refused);
		if (verdict == SHADOW_EMULATE) {
			assert_true(handled && (target.v ^ handled) < PAGE_SIZE);
			return false;
		}
		if (verdict != SHADOW_RESUME)
			return false;
	}
	assert_false(refused);
	if (access == ACCESS_WRITE) {
		struct shadow_path p;

		*c->bytes = value;
		content[target.v >> PAGE_SHIFT] = value;
		written[target.v >> PAGE_SHIFT] = true;
		assert_int_equal(shadow_path(pgm, &slat, NULL, gpa(where), access | WALK_TRY, &p, &fault), OK);
		if (slat.accessed_dirty)
			for (unsigned i = 0; i < p.steps; i++)
				assert_true(
					(p.step[i].entry & slat.format->accessed || (slat.format == &pt_pae && !i)) &&
					(i + 1u < p.steps || (p.step[i].entry & slat.format->dirty)));
	}
	if (access != ACCESS_EXECUTE && *c->bytes != content[target.v >> PAGE_SHIFT])
		fail_msg("L2 %#llx is L1 %#llx: %#x, not %#x", (unsigned long long)where, (unsigned long long)target.v,
			 *c->bytes, content[target.v >> PAGE_SHIFT]);
	return true;
}

/* After a flush of L1's on one processor: nothing that any of them holds is more than L1's tables allow. */
static void nothing_stale(void)
{
	struct hv_nested_fault fault;
	gpa_t target;

	for (unsigned i = 0; i < 2 * TLB; i++) {
		struct cached *c = &tlb[i / TLB][i % TLB];

		for (unsigned access = 1; c->where && access <= 4; access <<= 1)
			if (c->rights & access) {
				assert_int_equal(
					shadow_walk(pgm, &slat, gpa(c->where), access | WALK_TRY, &target, &fault), OK);
				if (!handled || (target.v ^ handled) >= PAGE_SIZE)
					assert_int_equal(*c->bytes, content[target.v >> PAGE_SHIFT]);
			}
	}
}

static void l1_flush(void)
{
	shadow_invalidate(pgm, any(4) ? &slat : NULL);
	flush_cpu(0); /* the one that asked; the other was told */
	nothing_stale();
}

/* ---- what L1 does ---- */
static void l1_maps(bool flush)
{
	unsigned part = any(8), page = any(LIFE_PAGES), level = any(12) ? 0 : 1;
	static const unsigned rights[] = { RWX, RWX, RWX, RX, ACCESS_READ | ACCESS_WRITE, ACCESS_READ, 0 };
	unsigned r = rights[any(ARRAY_SIZE(rights))];
	uint64_t target = level ? DATA + any(6) * BLOCK_SIZE : DATA + any(DATA_PAGES) * PAGE_SIZE, entry;

	if (level && !any(3))
		entry = table_at(0, part) | slat.format->table_bits;
	else
		entry = r ? leaf_of(target, r, level) : 0;
	if (r == RX && slat.format->execute && !any(2))
		entry &= ~slat.format->read; /* execute-only */
	put64(slot_of(level, part, page), entry);
	if (flush)
		l1_flush();
}

/* More of the same: no flush is needed. */
static void l1_widens(void)
{
	uint64_t slot = slot_of(0, any(8), any(LIFE_PAGES)), entry = get64(slot);

	if (!slat_entry_rights(slat.format, entry))
		put64(slot, leaf_of(DATA + any(DATA_PAGES) * PAGE_SIZE, RWX, 0));
	else
		put64(slot, (entry | slat.format->rights_bits[RWX]) & ~slat.format->no_execute);
}

static void l1_moves_tables(void)
{
	unsigned level = 2 + any(2), a = any(8), b = any(8);
	uint64_t x = get64(slot_of(level, a, 0)), y = get64(slot_of(level, b, 0));

	put64(slot_of(level, a, 0), y);
	put64(slot_of(level, b, 0), x);
	l1_flush();
}

static void l1_cleans(void)
{
	for (unsigned part = 0; part < 8; part++)
		for (unsigned page = 0; page < LIFE_PAGES; page++) {
			uint64_t slot = slot_of(0, part, page);

			if (!any(4))
				put64(slot, get64(slot) & ~(slat.format->dirty | (any(2) ? slat.format->accessed : 0)));
		}
	for (unsigned part = 0; part < 8; part++)
		if (get64(slot_of(1, part, 0)) & slat.format->large)
			put64(slot_of(1, part, 0), get64(slot_of(1, part, 0)) & ~slat.format->dirty);
	l1_flush();
}

/* ---- what the host does ---- */
static handler_type watch;

static enum status answer(void *user, struct pgm_access *access)
{
	(void)user;
	access->value = 0xa5;
	return OK;
}

static void host_handler(void)
{
	if (handled) {
		assert_int_equal(pgm_handler_deregister(pgm, gpa(handled)), OK);
		handled = 0;
		return;
	}
	handled = DATA + any(DATA_PAGES) * PAGE_SIZE;
	assert_int_equal(pgm_handler_register(pgm, watch, gpa(handled), gpa(handled + PAGE_SIZE - 1), NULL, "w"), OK);
}

static void host_log(enum dirty_mode mode)
{
	static uint64_t bitmap[RAM / PAGE_SIZE / 64];

	if (!logging) {
		assert_int_equal(pgm_dirty_start(pgm, mode), OK);
		memset(written, 0, sizeof(written));
		logging = true;
		return;
	}
	assert_int_equal(pgm_dirty_read_and_clear(pgm, 0, RAM / PAGE_SIZE, bitmap), OK);
	for (unsigned i = 0; i < RAM / PAGE_SIZE; i++) {
		if (written[i] && !(bitmap[i / 64] >> i % 64 & 1))
			fail_msg("page %#x was written, and isn't in the log", i);
		written[i] = false;
	}
	if (any(3))
		return;
	assert_int_equal(pgm_dirty_stop(pgm), OK);
	logging = false;
}

static void host_acts(enum dirty_mode mode)
{
	switch (any(5)) {
	case 0: host_handler(); break;
	case 1: host_log(mode); break;
	case 2:
		if (!any(8))
			pgm_tables_drop(pgm);
		break;
	case 3: { /* written by a device */
		uint64_t page = DATA / PAGE_SIZE + any(DATA_PAGES);
		uint8_t value = (uint8_t)any(256);

		if (page << PAGE_SHIFT == handled)
			break;
		assert_int_equal(pgm_write(pgm, gpa(page << PAGE_SHIFT), &value, 1, ORIGIN_DEVICE, NULL), OK);
		content[page] = value;
		written[page] = true;
		break;
	}
	default:
		for (unsigned i = any(60); i; i--)
			pgm_collapse_step(pgm);
	}
}

static void begin(const struct pt_format *format, bool large, enum dirty_mode mode)
{
	struct pgm_config config = plain_config(RAM);

	config.slat = format;
	config.large_pages = large;
	config.accessed_dirty = mode != DIRTY_WRITE_PROTECT;
	config.misconfig_exit = format == &pt_ept4;
	pgm = make_pgm_of(&config);
	memset(content, 0, sizeof(content));
	slat = (struct hv_nested_slat){ .on = true,
					.root = gpa(table_at(3, 0)),
					.format = format,
					.physical_bits = 40,
					.large_1g = true,
					.accessed_dirty = true,
					.no_execute = true };
	handled = 0;
	logging = false;
	flush_all();
	at_flush = flush_all;
	link_all();
	assert_int_equal(shadow_root_get(pgm, &slat, 0, &root), OK);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_ALL, 0, answer, "watch", &watch), OK);
}

/* Blocks of single frames that lie anywhere: what a collapse has to copy. */
static void scatter_frames(void)
{
	assert_int_equal(pgm_dirty_start(pgm, DIRTY_AUTO), OK);
	for (uint64_t page = 0; page < DATA_PAGES; page++) {
		uint64_t at = DATA / PAGE_SIZE + page * 7 % DATA_PAGES;

		content[at] = (uint8_t)(at * 3 + 1);
		assert_int_equal(pgm_write(pgm, gpa(at << PAGE_SHIFT), &content[at], 1, ORIGIN_DEVICE, NULL), OK);
	}
	assert_int_equal(pgm_dirty_stop(pgm), OK);
}

static struct pgm_counters moved;

static void end(void)
{
	for (size_t i = 0; i < sizeof(moved) / sizeof(uint64_t); i++)
		((uint64_t *)&moved)[i] |= ((uint64_t *)&pgm->common.counters)[i];
	check_silent(pgm);
	shadow_root_put(pgm, root);
	at_flush = NULL;
	end_pgm(pgm);
}

static void life(unsigned n)
{
	enum dirty_mode mode = n & 4 ? DIRTY_ACCESSED_DIRTY : DIRTY_WRITE_PROTECT;
	unsigned done = 0;

	seed = 7001 + n;
	begin(n & 1 ? &pt_npt4 : &pt_ept4, n & 2, mode);
	slat.accessed_dirty = n % 8 != 5;
	shadow_root_put(pgm, root);
	assert_int_equal(shadow_root_get(pgm, &slat, 0, &root), OK);
	if (n & 8)
		scatter_frames();
	by_processor = mode == DIRTY_ACCESSED_DIRTY;
	for (unsigned step = 0; step < 20000; step++) {
		unsigned what = any(100);

		if (what < 12)
			l1_maps(true);
		else if (what < 16)
			l1_widens();
		else if (what == 16)
			l1_moves_tables();
		else if (what == 17)
			l1_cleans();
		else if (what < 21)
			host_acts(mode);
		else
			done += l2_access(any(2), l2_of(any(8), any(LIFE_PAGES)), 1u << any(3), (uint8_t)any(256));
		if (step % 1000 == 0)
			check_silent(pgm);
	}
	assert_true(done > 3000);
	by_processor = false;
	end();
}

static void test_life(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 16; n++)
		life(n);
}

/* An entry that leads elsewhere now: who faults gets there, though nobody has flushed. */
static void test_changed_without_a_flush(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 4; n++) {
		uint64_t old = DATA + 3 * PAGE_SIZE, new = DATA + BLOCK_SIZE + 9 * PAGE_SIZE;

		begin(n & 1 ? &pt_npt4 : &pt_ept4, n & 2, DIRTY_WRITE_PROTECT);
		put64(slot_of(0, 5, 1), leaf_of(old, ACCESS_READ, 0));
		assert_true(l2_access(0, l2_of(5, 1), ACCESS_READ, 0));
		put64(slot_of(0, 5, 1), leaf_of(new, RWX, 0));
		assert_true(l2_access(1, l2_of(5, 1), ACCESS_WRITE, 0x77));
		assert_true(l2_access(0, l2_of(5, 1), ACCESS_READ, 0));
		assert_int_equal(get64(new), 0x77);
		assert_int_equal(get64(old), 0);
		/* The same of an upper entry. */
		put64(slot_of(2, 5, 0), table_at(1, 0) | slat.format->table_bits);
		put64(slot_of(0, 1, 2), leaf_of(old, RWX, 0));
		assert_true(l2_access(1, l2_of(5, 2), ACCESS_WRITE, 0x66));
		assert_int_equal(get64(old), 0x66);
		end();
	}
}

/*
 * A walk may begin where an earlier one has passed, as a processor's may; but not for an address that L1 has just been told of: what L1
 * changes then, at whatever level, counts at once.
 */
static void test_changed_after_a_fault(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 4; n++) {
		uint64_t old = DATA + 3 * PAGE_SIZE, new = DATA + BLOCK_SIZE + 9 * PAGE_SIZE;

		begin(n & 1 ? &pt_npt4 : &pt_ept4, n & 2, DIRTY_WRITE_PROTECT);
		put64(slot_of(0, 5, 1), leaf_of(old, RWX, 0));
		assert_true(l2_access(0, l2_of(5, 1), ACCESS_WRITE, 1));
		assert_false(l2_access(0, l2_of(5, 2), ACCESS_WRITE, 2));
		put64(slot_of(0, 5, 2), leaf_of(old, RWX, 0));
		put64(slot_of(0, 1, 2), leaf_of(new, RWX, 0));
		put64(slot_of(1, 5, 0), table_at(0, 1) | slat.format->table_bits);
		assert_true(l2_access(0, l2_of(5, 2), ACCESS_WRITE, 0x55));
		assert_int_equal(get64(new), 0x55);
		end();
	}
}

/* The walk has begun in the middle, and what led there is another when the entry is to come: it doesn't. */
static void test_begun_elsewhere(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 2; n++) {
		struct shadow_start start = { .rights = RWX, .user = true };
		struct hv_nested_fault fault;
		struct shadow_path path;
		uint64_t seen;

		begin(n ? &pt_npt4 : &pt_ept4, false, DIRTY_WRITE_PROTECT);
		for (unsigned page = 0; page < 32; page += 16) {
			put64(slot_of(0, 5, page), leaf_of(DATA, RWX, 0));
			put64(slot_of(0, 1, page), leaf_of(DATA + PAGE_SIZE, RWX, 0));
		}
		assert_true(l2_access(0, l2_of(5, 0), ACCESS_READ, 0));
		seen = root->invalidations;
		start.table = gpa(table_at(0, 5));
		assert_int_equal(shadow_path(pgm, &slat, &start, gpa(l2_of(5, 16)), ACCESS_READ, &path, &fault), OK);
		put64(slot_of(1, 5, 0), table_at(0, 1) | slat.format->table_bits);
		assert_int_equal(shadow_fault(pgm, root, gpa(l2_of(5, 17)), ACCESS_READ, false, &fault),
				 SHADOW_REFLECT);
		assert_int_equal(shadow_fault(pgm, root, gpa(l2_of(5, 1)), ACCESS_READ, false, &fault), SHADOW_REFLECT);
		assert_int_equal(shadow_fault(pgm, root, gpa(l2_of(5, 0)), ACCESS_READ, false, &fault), SHADOW_RESUME);
		assert_int_equal(root->invalidations, seen);
		assert_int_equal(shadow_fill(pgm, root, gpa(l2_of(5, 16)), &path, ACCESS_READ, seen), BUSY);
		assert_true(l2_access(0, l2_of(5, 16), ACCESS_READ, 0));
		end();
	}
}

/* What another vcpu has derived isn't what a processor that comes to these tables for the first time has cached. */
static void test_first_use(void **state)
{
	struct shadow_root *same;

	(void)state;
	begin(&pt_ept4, false, DIRTY_WRITE_PROTECT);
	put64(slot_of(0, 5, 0), leaf_of(DATA, RWX, 0));
	assert_true(l2_access(0, l2_of(5, 0), ACCESS_READ, 0));
	put64(slot_of(0, 5, 0), 0);
	assert_int_equal(shadow_root_get(pgm, &slat, 0, &same), OK);
	assert_ptr_equal(same, root);
	assert_ptr_not_equal(translate(0, l2_of(5, 0), ACCESS_READ), NULL);
	shadow_root_put(pgm, same);
	assert_int_equal(shadow_root_get(pgm, &slat, 63, &same), OK);
	assert_ptr_equal(same, root);
	assert_ptr_equal(translate(0, l2_of(5, 0), ACCESS_READ), NULL);
	shadow_root_put(pgm, same);
	end();
}

/* A walk from before a flush leads nowhere after it. */
static void test_old_path(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 2; n++) {
		struct hv_nested_fault fault;
		struct shadow_path path;
		uint64_t seen;

		begin(n ? &pt_npt4 : &pt_ept4, false, DIRTY_WRITE_PROTECT);
		put64(slot_of(0, 5, 1), leaf_of(DATA, RWX, 0));
		put64(slot_of(0, 5, 2), leaf_of(DATA, RWX, 0));
		assert_true(l2_access(0, l2_of(5, 1), ACCESS_WRITE, 1));
		seen = root->invalidations;
		assert_int_equal(shadow_path(pgm, &slat, NULL, gpa(l2_of(5, 2)), ACCESS_READ, &path, &fault), OK);
		put64(slot_of(0, 5, 2), 0);
		l1_flush();
		assert_int_equal(shadow_fill(pgm, root, gpa(l2_of(5, 2)), &path, ACCESS_READ, seen), OK);
		assert_null(translate(0, l2_of(5, 2), ACCESS_READ));
		end();
	}
}

/* What an upper level withholds is withheld from who begins below it, too. */
static void test_upper_rights(void **state)
{
	static const unsigned rights[] = { RX, ACCESS_READ | ACCESS_WRITE, ACCESS_READ };

	(void)state;
	for (unsigned n = 0; n < 2 * 3 * ARRAY_SIZE(rights); n++) {
		unsigned level = 1 + n / 2 % 3, r = rights[n / 6];
		struct hv_nested_fault fault;

		begin(n & 1 ? &pt_npt4 : &pt_ept4, false, DIRTY_WRITE_PROTECT);
		for (unsigned page = 0; page < 64; page++)
			put64(slot_of(0, 5, page), leaf_of(DATA + page * PAGE_SIZE, RWX, 0));
		/* Of a table NX alone says that, and U is needed. */
		put64(slot_of(level, 5, 0), table_at(level - 1, 5 >> (level - 1)) | slat.format->rights_bits[r]);
		assert_true(l2_access(0, l2_of(5, 0), ACCESS_READ, 0));
		for (unsigned access = 1; access <= 4; access <<= 1)
			assert_int_equal(shadow_fault(pgm, root, gpa(l2_of(5, 16 * access - 1)), access, false, &fault),
					 access & r ? SHADOW_RESUME : SHADOW_REFLECT);
		end();
	}
}

/* Five levels of L1's over four of ours: addresses that differ above ours only have nothing in common. */
static void test_wider_than_ours(void **state)
{
	struct hv_nested_fault fault;

	(void)state;
	begin(&pt_npt4, false, DIRTY_WRITE_PROTECT);
	shadow_root_put(pgm, root);
	slat.format = &pt_5level;
	slat.root = gpa(TABLES + 256 * PAGE_SIZE);
	assert_int_equal(shadow_root_get(pgm, &slat, 0, &root), OK);
	put64(slat.root.v, table_at(3, 0) | 7);
	put64(slot_of(0, 5, 1), DATA | 7);
	assert_true(l2_access(0, l2_of(5, 1), ACCESS_WRITE, 1));
	assert_true(l2_access(1, l2_of(5, 1), ACCESS_READ, 1));
	assert_int_equal(shadow_fault(pgm, root, gpa(l2_of(5, 1) | UINT64_C(1) << 48), ACCESS_READ, false, &fault),
			 SHADOW_REFLECT);
	put64(slat.root.v + 8, table_at(3, 0) | 7);
	assert_int_equal(shadow_fault(pgm, root, gpa(l2_of(5, 1) | UINT64_C(1) << 48), ACCESS_READ, false, &fault),
			 SHADOW_EMULATE);
	end();
}

/* ---- tables of any geometry, with leaves of any size ---- */
static unsigned tables_used;

static uint64_t any_entry(const struct pt_format *f, uint64_t where)
{
	uint64_t value = 0;

	assert_int_equal(pgm_read(pgm, gpa(where), &value, f->entry_size, ORIGIN_GUEST, NULL), OK);
	return value;
}

/* L1 maps one leaf, with tables as they are needed; nothing if a leaf is above it already. */
static void map_leaf(const struct pt_format *f, uint64_t where, unsigned leaf_level, uint64_t target, bool write)
{
	uint64_t table = slat.root.v;

	for (unsigned level = f->levels - 1u;; level--) {
		uint64_t slot = table + pt_index(f, level, where) * (uint64_t)f->entry_size, entry = any_entry(f, slot);
		uint64_t bits = f->levels == 3 && level == 2 ? 1 : 7;

		if (level == leaf_level) {
			if (level && (entry & f->present) && !pt_is_leaf(f, level, entry))
				return;
			entry = (target & ~(BIT(pt_shift(f, level)) - 1)) | (write ? bits : bits & ~f->write) |
				(level ? f->large : 0) | (f == &pt_ept4 ? 6 << 3 : 0);
		} else if (!(entry & f->present)) {
			entry = (TABLES + ++tables_used * PAGE_SIZE) | bits;
		} else if (pt_is_leaf(f, level, entry)) {
			return;
		}
		assert_int_equal(pgm_write(pgm, gpa(slot), &entry, f->entry_size, ORIGIN_GUEST, NULL), OK);
		written[slot >> PAGE_SHIFT] = true;
		if (level == leaf_level)
			return;
		table = entry & f->address;
	}
}

static uint64_t any_address(const struct pt_format *f)
{
	static const uint64_t part[] = {
		0, 2 * MIB, 40 * MIB, GIB, GIB + 6 * MIB, 3 * GIB, BIT(39), BIT(40) + 2 * MIB
	};
	uint64_t where = part[any(ARRAY_SIZE(part))] + any(40) * PAGE_SIZE;

	return f->linear_bits == 32 ? where & UINT32_MAX : where;
}

static void any_step(const struct pt_format *f, unsigned *done)
{
	struct hv_nested_fault fault;
	uint64_t where = any_address(f);
	unsigned what = any(40), level = any(4) ? 0 : f->large_levels & 4 && !any(3) ? 2 : 1;
	gpa_t target;

	if (what == 1) {
		host_acts(DIRTY_WRITE_PROTECT);
	} else if (what) {
		/* A leaf of 1 GiB shows more than L1's memory, and its tables. */
		if (shadow_walk(pgm, &slat, gpa(where), ACCESS_READ | WALK_TRY, &target, &fault) == OUTER_FAULT ||
		    (target.v >= DATA && target.v < DATA + DATA_PAGES * PAGE_SIZE))
			*done += l2_access(any(2), where, 1u << any(3), (uint8_t)what);
	} else if (tables_used < 240) {
		map_leaf(f, where, level, level < 2 ? DATA + any(DATA_PAGES) * PAGE_SIZE : 0, any(3));
		l1_flush();
	}
}

/* Large leaves of L1's over small ones of ours, and the reverse; formats that have other levels or entries than ours. */
static void test_formats(void **state)
{
	static const struct pt_format *const formats[] = { &pt_ept4, &pt_npt4, &pt_5level, &pt_pae, &pt_32bit };

	(void)state;
	for (unsigned n = 0; n < 4 * ARRAY_SIZE(formats); n++) {
		const struct pt_format *f = formats[n % ARRAY_SIZE(formats)];
		unsigned done = 0;

		seed = 31 + n;
		begin(f == &pt_ept4 ? f : &pt_npt4, n % 4 < 2, DIRTY_WRITE_PROTECT);
		shadow_root_put(pgm, root);
		slat.format = f;
		slat.root = gpa(TABLES + 256 * PAGE_SIZE);
		assert_int_equal(shadow_root_get(pgm, &slat, 0, &root), OK);
		tables_used = 16; /* behind those that begin() has made */
		for (unsigned step = 0; step < 8000; step++)
			any_step(f, &done);
		if (f->levels == 5) { /* nothing can be written any more */
			put64(slat.root.v, get64(slat.root.v) & ~f->write);
			l1_flush();
		}
		assert_true(done > 200);
		end();
	}
}

/* L2 writes while pages are copied into a chunk: each write is in it at the end. */
static void test_collapse(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 8; n++) {
		seed = 90 + n;
		begin(n & 1 ? &pt_npt4 : &pt_ept4, true, DIRTY_WRITE_PROTECT);
		scatter_frames();
		for (unsigned page = 0; page < 500; page++)
			put64(slot_of(0, n, page), leaf_of(DATA + any(512) * PAGE_SIZE, RWX, 0));
		for (unsigned page = 0; page < 500; page++)
			assert_true(l2_access(1, l2_of(n, page), ACCESS_WRITE, (uint8_t)page));
		for (unsigned i = 0; i < 200000 && pgm->common.counters.large_collapsed < 6; i++) {
			if (!any(12))
				(void)l2_access(any(2), l2_of(n, any(500)), 1u << any(2), (uint8_t)i);
			(void)pgm_collapse_step(pgm);
		}
		assert_int_equal(pgm->common.counters.large_collapsed, 6);
		for (unsigned page = 0; page < 500; page++)
			assert_true(l2_access(0, l2_of(n, page), ACCESS_READ, 0));
		end();
	}
}

/* A page of L1's that is no memory for L2: never in the tables, its neighbours are, in large leaves that go around its 2 MiB. */
static void test_trapped_page(void **state)
{
	struct hv_nested_fault fault;
	struct shadow_root *other;
	unsigned level;

	(void)state;
	for (unsigned n = 0; n < 2; n++) {
		begin(&pt_ept4, true, DIRTY_WRITE_PROTECT);
		shadow_root_put(pgm, root);
		other = root;
		slat.traps = true;
		slat.trapped = gpa(DATA + 7 * PAGE_SIZE);
		slat.on = n;
		assert_int_equal(shadow_root_get(pgm, &slat, 0, &root), OK);
		assert_ptr_not_equal(root, other);
		for (unsigned block = 0; block < 2; block++) {
			uint64_t base = n ? l2_of(block, 0) : DATA + block * BLOCK_SIZE;

			if (n)
				put64(slot_of(1, block, 0), leaf_of(DATA + block * BLOCK_SIZE, RWX, 1));
			for (unsigned page = 0; page < 16; page++) {
				bool trapped = !block && page == 7;
				uint64_t where = base + page * PAGE_SIZE + 0x80;

				fault.trapped = false;
				for (unsigned tries = 0; tries < 12; tries++)
					assert_int_equal(
						shadow_fault(pgm, root, gpa(where), ACCESS_WRITE, false, &fault),
						trapped ? SHADOW_REFLECT : SHADOW_RESUME);
				assert_int_equal(trapped, fault.trapped);
				assert_true(!trapped || (fault.where.v == where && fault.access == ACCESS_WRITE));
				assert_int_equal(*slat_find(shadow_view(pgm, root), gpa(where), &level) == 0, trapped);
			}
			assert_int_equal(level, block && n ? 1 : 0);
		}
		/* Another page is another root. */
		other = root;
		shadow_root_put(pgm, root);
		slat.trapped.v += PAGE_SIZE;
		assert_int_equal(shadow_root_get(pgm, &slat, 0, &root), OK);
		assert_ptr_not_equal(root, other);
		shadow_invalidate(pgm, NULL);
		check_silent(pgm);
		slat.on = true;
		slat.traps = false;
		end();
	}
}

/* A page that L1 shows in very many places: all of them go at once, whatever the order they came and went in. */
static void test_many_aliases(void **state)
{
	const unsigned parts = 8, pages = 500;

	(void)state;
	begin(&pt_ept4, false, DIRTY_WRITE_PROTECT);
	for (unsigned part = 0; part < parts; part++)
		for (unsigned page = 0; page < pages; page++)
			put64(slot_of(0, part, page), leaf_of(DATA + page % 3 * PAGE_SIZE, RWX, 0));
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned part = 0; part < parts; part++)
			for (unsigned page = 0; page < pages; page++)
				assert_true(l2_access(part & 1, l2_of(part, page), ACCESS_WRITE, (uint8_t)page));
		assert_true(pgm->common.counters.shadow_overflows > 0);
		check_silent(pgm);
		if (round == 1)
			l1_flush();
		else
			host_handler();
		nothing_stale();
	}
	end();
}

extern void (*test_lock_taken)(unsigned rank, const char *name);
static unsigned parts_taken;

/* And, in mode secret-free, that of its own CPU's window. */
static void only_parts_and_blocks(unsigned rank, const char *name)
{
	if (strcmp(name, "shadow") != 0 && strcmp(name, "block") != 0 && strcmp(name, "chunk map") != 0)
		fail_msg("lock %s of rank %u", name, rank);
	parts_taken += rank == RANK_SHADOW;
}

/* A fill whose tables are there takes the lock of its part of the root and those of blocks, whatever other parts' fills do meanwhile. */
static void test_fills_that_dont_meet(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 2; n++) {
		begin(n ? &pt_npt4 : &pt_ept4, false, DIRTY_WRITE_PROTECT);
		for (unsigned page = 0; page < 48; page++) {
			put64(DATA + page * PAGE_SIZE, 0);
			put64(slot_of(0, 1, page), leaf_of(DATA + page * PAGE_SIZE, RWX, 0));
			assert_int_equal(pgm_fault(pgm, gpa(DATA + page * PAGE_SIZE), ACCESS_WRITE), PGM_RESUME);
		}
		assert_true(l2_access(0, l2_of(1, 0), ACCESS_WRITE, 1));
		for (unsigned i = 0; i < SHADOW_LOCKS; i++)
			root->lock[i].held = i != 1;
		parts_taken = 0;
		test_lock_taken = only_parts_and_blocks;
		for (unsigned page = 1; page < 48; page += 15)
			assert_true(l2_access(0, l2_of(1, page), ACCESS_WRITE, 1));
		test_lock_taken = NULL;
		assert_true(parts_taken >= 4);
		for (unsigned i = 0; i < SHADOW_LOCKS; i++)
			root->lock[i].held = 0;
		end();
	}
}

/* An entry that only the composed tables lacked counts as one that only the first ones lacked. */
static void test_faults_are_counted(void **state)
{
	struct pgm_vcpu_counters before;

	(void)state;
	begin(&pt_ept4, false, DIRTY_WRITE_PROTECT);
	put64(slot_of(0, 0, 0), leaf_of(DATA, RWX, 0));
	assert_true(l2_access(0, 0, ACCESS_WRITE, 1));
	assert_true(shadow_shrink(pgm, root));
	flush_all();
	before = *vcpu_counters();
	assert_true(l2_access(0, 0, ACCESS_WRITE, 1));
	assert_int_equal(vcpu_counters()->faults - before.faults, 1);
	assert_int_equal(vcpu_counters()->resumed - before.resumed, 1);
	assert_int_equal(vcpu_counters()->cause[FAULT_SYNC] - before.cause[FAULT_SYNC], 1);
	end();
}

/* However much a root was, each step of its end is small; until then nothing of it is lost or wrong. */
static void test_dropped_in_steps(void **state)
{
	const unsigned tables = 200;
	struct gather gather;
	uint64_t before;
	unsigned steps = 0;

	(void)state;
	begin(&pt_ept4, false, DIRTY_WRITE_PROTECT);
	put64(slot_of(0, 0, 0), leaf_of(DATA, RWX, 0));
	for (unsigned i = 0; i < tables; i++)
		put64(table_at(1, 0) + i * 8, table_at(0, 0) | slat.format->table_bits);
	for (unsigned i = 0; i < tables; i++)
		assert_true(l2_access(0, i * BLOCK_SIZE, ACCESS_WRITE, (uint8_t)i));
	/* Unlinked, and not flushed yet: who takes them apart sees to that. */
	gather_begin(&gather, &pgm->flush, &pgm->account);
	shadow_lock_all(root);
	assert_true(shadow_drop_root(pgm, root, &gather));
	shadow_unlock_all(root);
	flushes = 0;
	before = pgm->common.counters.shadow_tables_dropped;
	assert_true(shadow_dig(pgm, SHADOW_DIG));
	assert_true(flushes > 0);
	assert_int_equal(pgm->common.counters.shadow_tables_dropped - before, SHADOW_DIG);
	gather_finish(&gather);
	/* Its leaves are zapped with others. */
	check_silent(pgm);
	assert_int_equal(pgm_handler_register(pgm, watch, gpa(DATA), gpa(DATA + PAGE_SIZE - 1), NULL, "w"), OK);
	check_silent(pgm);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(DATA)), OK);
	/* Each fault takes one. */
	before = pgm->common.counters.shadow_tables_dropped;
	assert_true(l2_access(0, 0, ACCESS_WRITE, 1));
	assert_int_equal(pgm->common.counters.shadow_tables_dropped - before, 1);
	while (shadow_shrink(pgm, root) && pgm->shadow.buried)
		assert_true(++steps < tables);
	assert_in_range(steps, 8, 20);
	end();
}

/* More than the pool holds, many roots: the longest unused go, and all works on. */
static void test_pressure(void **state)
{
	struct shadow_root *held[SHADOW_ROOTS + 1], *fresh;
	struct hv_nested_slat other;

	(void)state;
	begin(&pt_npt4, false, DIRTY_WRITE_PROTECT);
	pgm->shadow.limit = 60;
	for (unsigned part = 0; part < 8; part++)
		for (unsigned page = 0; page < LIFE_PAGES; page++)
			put64(slot_of(0, part, page),
			      leaf_of(DATA + part * BLOCK_SIZE % (12 * MIB) + page * PAGE_SIZE, RWX, 0));
	for (unsigned i = 0; i < 20000; i++)
		assert_true(l2_access(i & 1, l2_of(any(8), any(LIFE_PAGES)), ACCESS_WRITE, (uint8_t)i));
	other = slat;
	for (unsigned i = 0; i < 4 * SHADOW_ROOTS; i++) {
		other.root.v += PAGE_SIZE;
		assert_int_equal(shadow_root_get(pgm, &other, 0, &fresh), OK);
		shadow_root_put(pgm, fresh);
		check_silent(pgm);
	}
	/* Not for so many are there more, but each vcpu may hold one, and none has to wait. */
	assert_ptr_equal(pgm->shadow.root[SHADOW_KEPT], NULL);
	pgm->shadow.limit += 3 * SHADOW_ROOTS;
	for (unsigned i = 0; i < SHADOW_ROOTS; i++) {
		other.root.v += PAGE_SIZE;
		assert_int_equal(shadow_root_get(pgm, &other, 0, &held[i]), i + 1 < SHADOW_ROOTS ? OK : LIMIT);
	}
	for (unsigned i = 0; i + 1 < SHADOW_ROOTS; i++)
		shadow_root_put(pgm, held[i]);
	assert_int_equal(shadow_root_get(pgm, &slat, 0, &fresh), OK);
	assert_ptr_equal(fresh, root);
	shadow_root_put(pgm, fresh);
	end();
}

/* Room for fewer tables than one page needs: that is said, and not tried for ever; with room it goes on. */
static void test_too_little_room(void **state)
{
	unsigned refused = 0;

	(void)state;
	for (uint64_t room = 0; room < 12; room++) {
		enum shadow_verdict verdict = SHADOW_RESUME;
		struct hv_nested_fault fault;
		uint64_t limit;

		begin(&pt_npt4, false, DIRTY_WRITE_PROTECT);
		put64(slot_of(0, 0, 0), leaf_of(DATA, RWX, 0));
		limit = pgm->shadow.limit;
		pgm->shadow.limit = pgm->shadow.frames + room;
		for (unsigned i = 0; i < 20 && verdict == SHADOW_RESUME && !translate(0, l2_of(0, 0), ACCESS_WRITE);
		     i++)
			verdict = shadow_fault(pgm, root, gpa(l2_of(0, 0)), ACCESS_WRITE, false, &fault);
		assert_true(verdict == SHADOW_NO_MEMORY || translate(0, l2_of(0, 0), ACCESS_WRITE));
		refused += verdict == SHADOW_NO_MEMORY;
		pgm->shadow.limit = limit;
		assert_true(l2_access(0, l2_of(0, 0), ACCESS_WRITE, 1));
		check_silent(pgm);
		end();
	}
	assert_true(refused > 1 && refused < 12);
}

/* Last: each counter of composed tables has moved. */
static void test_counters(void **state)
{
	(void)state;
	for (const uint64_t *at = &moved.shadow_faults; at < (const uint64_t *)(&moved + 1); at++)
		assert_true(*at != 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_changed_without_a_flush),
		cmocka_unit_test(test_changed_after_a_fault),
		cmocka_unit_test(test_begun_elsewhere),
		cmocka_unit_test(test_first_use),
		cmocka_unit_test(test_old_path),
		cmocka_unit_test(test_upper_rights),
		cmocka_unit_test(test_wider_than_ours),
		cmocka_unit_test(test_collapse),
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_trapped_page),
		cmocka_unit_test(test_many_aliases),
		cmocka_unit_test(test_dropped_in_steps),
		cmocka_unit_test(test_fills_that_dont_meet),
		cmocka_unit_test(test_faults_are_counted),
		cmocka_unit_test(test_pressure),
		cmocka_unit_test(test_too_little_room),
		cmocka_unit_test(test_counters),
	};

	pgm_world_start(96 * MIB);
	return cmocka_run_group_tests_name("pgm_shadow", tests, NULL, NULL);
}
