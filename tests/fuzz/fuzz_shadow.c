/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c tests/unit/common/host.c tests/unit/common/host_memory.c
/*
 * libFuzzer: L1's tables, its flushes, and what the host does below, as bytes; then each composed translation held against a plain
 * reference: L1's tables walked by the manual's words, and the page's record. The first byte chooses the machine, each further six
 * are one step. Any of L1's tables may be linked at any level, at itself too.
 *
 * While L1 owes a flush an L2 may see what was or what is; what it may never see is more than the records grant.
 */
#include "fuzz_world.h"

#include <stdio.h>

#include "common/whole.h"
#include "pgm/dirty/dirty.h"
#include "pgm/slat/tables.h"

#define RAM (16 * MIB)
#define TABLES UINT64_C(0x200000)
#define TABLE_COUNT 12u
#define DATA UINT64_C(0x400000)
#define DATA_PAGES (8 * MIB / PAGE_SIZE)
#define ROM (RAM + 2 * MIB)
#define PAGES 16u /* of each of the eight 2 MiB of L2 that are used */
#define WIDTH 40u
#define TRIES 12u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct step {
	uint8_t op, a, b, c, d, e;
};

/* What an L2 address is by L1's tables. */
struct reference {
	bool misconfigured, leaf, user, accessed, dirty;
	unsigned rights, level;
	uint64_t target, entry;
};

static struct pgm *pgm;
static struct hv_nested_slat slat;
static struct shadow_root *root;
static bool ept, owes_flush, logging;
static uint64_t handled;
static uint64_t log_bits[RAM / PAGE_SIZE / 64 + 1];
static bool written[RAM / PAGE_SIZE];

static uint64_t get64(uint64_t where)
{
	uint64_t value;

	must(pgm_read(pgm, gpa(where), &value, 8, ORIGIN_DEBUGGER, NULL) == OK);
	return value;
}

static void put64(uint64_t where, uint64_t value)
{
	must(pgm_write(pgm, gpa(where), &value, 8, ORIGIN_GUEST, NULL) == OK);
	written[where >> PAGE_SHIFT] = true;
}

static uint64_t l2_of(unsigned part, unsigned page)
{
	return (uint64_t)(part >> 2 & 1) << 39 | (uint64_t)(part >> 1 & 1) << 30 | (uint64_t)(part & 1) << 21 |
	       (uint64_t)(page % PAGES) << PAGE_SHIFT;
}

static unsigned rights_of(uint64_t e)
{
	if (ept)
		return e & 7;
	return e & 1 ? 1u | (e & 2) | (e >> 63 ? 0 : 4) : 0;
}

/* Intel SDM vol. 3 section 29.3.3.1, AMD APM vol. 2 sections 5.3 and 15.25.6. */
static bool invalid(unsigned level, uint64_t e, bool leaf)
{
	uint64_t must_be_zero = BITS(51, WIDTH);

	if (leaf && level)
		must_be_zero |= BITS(level == 1 ? 20 : 29, ept ? 12 : 13);
	if (ept) {
		unsigned type = e >> 3 & 7;

		must_be_zero |= leaf ? 0 : level == 3 ? BITS(7, 3) : BITS(6, 3);
		return (e & must_be_zero) || (e & 3) == 2 || (leaf && (type == 2 || type == 3 || type == 7));
	}
	must_be_zero |= level == 3 ? BITS(8, 7) : level == 2 && !leaf ? BIT(8) : 0;
	return (e & must_be_zero) || (!slat.no_execute && e >> 63);
}

static struct reference look(uint64_t where)
{
	struct reference r = { .rights = 7, .user = true, .accessed = true };
	uint64_t table = TABLES;

	for (r.level = 3;; r.level--) {
		uint64_t e = get64(table + (where >> (12 + 9 * r.level) & 511) * 8);
		bool large = r.level && r.level < 3 && (e >> 7 & 1), leaf = !r.level || large;

		r.entry = e;
		if (!(e & (ept ? 7 : 1))) {
			r.rights = 0;
			return r;
		}
		if (invalid(r.level, e, leaf)) {
			r.misconfigured = true;
			return r;
		}
		r.rights &= rights_of(e);
		r.user &= ept || (e >> 2 & 1);
		r.accessed &= e >> (ept ? 8 : 5) & 1;
		if (leaf) {
			uint64_t reach = BIT(12 + 9 * r.level) - 1;

			r.leaf = true;
			r.dirty = e >> (ept ? 9 : 6) & 1;
			r.target = (e & BITS(51, 12) & ~reach) | (where & reach);
			return r;
		}
		table = e & BITS(51, 12);
	}
}

/* What the processor would find; 0: nothing. */
static uint64_t composed(uint64_t where, unsigned *level)
{
	const uint64_t *table = root->top.entry;

	for (*level = 3;; --*level) {
		uint64_t e = table[where >> (12 + 9 * *level) & 511];

		if (!(e & (ept ? 7 : 1)) || !*level || (e >> 7 & 1))
			return e & (ept ? 7 : 1) ? e : 0;
		table = direct_pointer(hpa(e & BITS(51, 12)));
	}
}

static page_record record_of(uint64_t target)
{
	struct block *b = block_find(pgm, gpa(target));
	page_record r = { 0 };

	page_set_type(&r, range_type(pgm, gpa(target)));
	return b && block_kind(b) ? block_record(b, gpa(target)) : r;
}

/* A composed entry is no more than both sides allow, and leads to the very frame. */
static void judge(uint64_t where)
{
	unsigned level;
	uint64_t e = composed(where, &level), frame;
	struct reference r;
	page_record record;

	if (!e || owes_flush)
		return;
	r = look(where);
	must(r.leaf && !r.misconfigured && r.user && level <= r.level);
	must(!(rights_of(e) & ~r.rights));
	record = record_of(r.target);
	must(!(rights_of(e) & ~page_rights(record)));
	must(((e ^ r.entry) & (ept ? BITS(6, 3) : BITS(4, 3))) == 0);
	frame = (e & BITS(51, 12)) + (level ? where & (BLOCK_SIZE - 1) & ~(PAGE_SIZE - 1) : 0);
	if (page_has_frame(record))
		must(frame == page_frame(record).v);
	else
		must(frame - pgm_zero_block.v < BLOCK_SIZE && !(rights_of(e) & ACCESS_WRITE));
	must(!slat.accessed_dirty || r.accessed);
	must(!slat.accessed_dirty || r.dirty || !(rights_of(e) & ACCESS_WRITE));
}

static void judge_all(void)
{
	for (unsigned part = 0; part < 8; part++)
		for (unsigned page = 0; page < PAGES; page++)
			judge(l2_of(part, page));
}

static void flush(bool all)
{
	shadow_invalidate(pgm, all ? NULL : &slat);
	owes_flush = false;
	judge_all();
}

/* L2's access. Where nothing is owed the answer is the reference's. */
static void access_page(uint64_t where, unsigned access, bool guest_table)
{
	struct hv_nested_fault fault = { 0 };
	unsigned needed = access | (guest_table && (!ept || slat.accessed_dirty) ? 3 : 0), level;
	struct reference r = look(where);
	bool refused = r.misconfigured || !r.leaf || (needed & ~r.rights) || !r.user;

	for (unsigned tries = 0; (rights_of(composed(where, &level)) & needed) != needed; tries++) {
		enum shadow_verdict verdict = shadow_fault(pgm, root, gpa(where), access, guest_table, &fault);

		must(tries < TRIES);
		if (owes_flush && verdict != SHADOW_RESUME)
			return;
		must(owes_flush || (verdict == SHADOW_REFLECT) == refused);
		if (verdict == SHADOW_REFLECT) {
			must(fault.misconfigured == r.misconfigured && fault.level == r.level);
			must(r.misconfigured || (fault.rights == r.rights && fault.present == r.leaf));
			must(r.misconfigured || !r.leaf || fault.user == r.user);
			return;
		}
		if (verdict == SHADOW_EMULATE) {
			enum page_type type = page_get_type(record_of(r.target));

			must(type != PAGE_RAM || (r.target ^ handled) < PAGE_SIZE);
			return;
		}
		if (verdict == SHADOW_NO_MEMORY)
			return;
	}
	judge(where);
	if (owes_flush)
		return;
	must(!refused);
	if ((needed & ACCESS_WRITE) && r.target < RAM)
		written[r.target >> PAGE_SHIFT] = true;
}

static void l1_writes(const struct step *s)
{
	static const unsigned often[] = { 7, 7, 7, 5, 3, 1, 4, 0 };
	uint64_t slot = TABLES + s->a % TABLE_COUNT * PAGE_SIZE + s->b % PAGES * 8, was = get64(slot), now;
	uint64_t page = DATA + (s->d | s->e << 8) % DATA_PAGES * PAGE_SIZE;
	unsigned rights = often[s->e >> 5];
	bool widens;

	switch (s->c % 8) {
	case 0: now = 0; break;
	case 1:
	case 2: now = (TABLES + s->d % TABLE_COUNT * PAGE_SIZE) | slat.format->table_bits; break;
	case 3: now = was ^ BIT(s->d % 64); break;
	case 4: now = was & ~(slat.format->accessed | slat.format->dirty); break;
	case 5: now = (page & ~(BLOCK_SIZE - 1)) | slat.format->rights_bits[rights] | slat.format->large; break;
	case 6: now = (s->d & 1 ? RAM + s->e * PAGE_SIZE : ROM) | slat.format->rights_bits[rights]; break;
	default: now = page | slat.format->rights_bits[rights]; break;
	}
	if (s->c % 8 >= 5)
		now |= slat.format->type_bits[s->c & 8 ? 0 : 6];
	if (rights == 4 && ept && s->c & 16)
		now &= ~UINT64_C(1);
	put64(slot, now);
	widens = !(was & slat.format->present) || now == was;
	if (s->c & 128 && !widens)
		owes_flush = true;
	else if (!widens)
		flush(s->c & 64);
}

static void host_log(uint8_t what)
{
	if (!logging) {
		must(pgm_dirty_start(pgm, DIRTY_AUTO) == OK);
		memset(written, 0, sizeof(written));
		logging = true;
		return;
	}
	must(pgm_dirty_read_and_clear(pgm, 0, RAM / PAGE_SIZE, log_bits) == OK);
	for (unsigned i = 0; i < RAM / PAGE_SIZE; i++)
		must(!written[i] || (log_bits[i / 64] >> i % 64 & 1));
	memset(written, 0, sizeof(written));
	if (what & 3)
		return;
	must(pgm_dirty_stop(pgm) == OK);
	logging = false;
}

static handler_type watch;

static enum status answer(void *user, struct pgm_access *access)
{
	(void)user;
	(void)access;
	return OK;
}

static void host_handler(uint64_t page)
{
	if (handled)
		must(pgm_handler_deregister(pgm, gpa(handled)) == OK);
	else
		must(pgm_handler_register(pgm, watch, gpa(page), gpa(page + PAGE_SIZE - 1), NULL, "w") == OK);
	handled = handled ? 0 : page;
}

static void host_acts(const struct step *s)
{
	uint64_t page = DATA + (s->d | s->e << 8) % DATA_PAGES * PAGE_SIZE;

	switch (s->a % 8) {
	case 0: host_handler(page); break;
	case 1: host_log(s->b); break;
	case 2: pgm_tables_drop(pgm); break;
	case 3: (void)shadow_shrink(pgm, s->b & 1 ? root : NULL); break;
	case 4: /* little room */
		pgm->shadow.limit =
			s->b & 1 ? 2048 : __atomic_load_n(&pgm->shadow.frames, __ATOMIC_RELAXED) + s->c % 16;
		break;
	case 5:
		if (page != handled)
			put64(page, s->b);
		break;
	case 6: /* a reset that keeps L1's memory, or not */
		if (logging)
			break;
		while (pgm_reset_step(pgm, s->b & 1) == BUSY)
			;
		break;
	default:
		for (unsigned i = s->b; i; i--)
			(void)pgm_collapse_step(pgm);
	}
	judge_all();
}

static void begin(uint8_t what)
{
	struct pgm_config config = {
		.ram = RAM, .slat_2m = true, .slat_1g = true, .physical_bits = WIDTH, .max_access_handlers = 32
	};
	char why[200];

	ept = what & 1;
	config.slat = ept ? &pt_ept4 : &pt_npt4;
	config.large_pages = what & 2;
	config.accessed_dirty = what & 4;
	config.misconfig_exit = what & 8;
	must(pgm_create(&pgm, &config, fuzz_sync, NULL, why, sizeof(why)) == OK);
	must(pgm_add_rom(pgm, gpa(ROM), PAGE_SIZE, "rom") == OK);
	slat = (struct hv_nested_slat){ .on = true,
					.root = gpa(TABLES),
					.format = config.slat,
					.physical_bits = WIDTH,
					.large_1g = true,
					.accessed_dirty = what & 16 || !ept,
					.no_execute = what & 32 };
	owes_flush = logging = false;
	handled = 0;
	for (unsigned i = 0; i < 3; i++) /* a beginning of its own would be found late */
		put64(TABLES + i * PAGE_SIZE, (TABLES + (i + 1) * PAGE_SIZE) | slat.format->table_bits);
	must(shadow_root_get(pgm, &slat, 0, &root) == OK);
	must(pgm_handler_type_register(pgm, HANDLER_KIND_ALL, 0, answer, "w", &watch) == OK);
}

static void tell(void *context, const char *line)
{
	(void)context;
	fprintf(stderr, "%s\n", line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct step s;

	if (!size)
		return 0;
	if (!direct_map)
		fuzz_end(fuzz_pgm(RAM));
	begin(data[0]);
	for (data++, size--; size >= sizeof(s); data += sizeof(s), size -= sizeof(s)) {
		memcpy(&s, data, sizeof(s));
		switch (s.op % 16) {
		case 0:
		case 1:
		case 2:
		case 3:
		case 4: l1_writes(&s); break;
		case 5: flush(s.a & 1); break;
		case 6: host_acts(&s); break;
		default: access_page(l2_of(s.a, s.b), 1u << s.c % 3, !(s.d % 16)); break;
		}
	}
	if (owes_flush)
		flush(false);
	must(!pgm_check(pgm, tell, NULL));
	shadow_root_put(pgm, root);
	fuzz_end(pgm);
	return 0;
}
