/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine for attack 4 that has something of everything: a large block, a detailed one with a handler and a pin, one
 * that reads as zeros through a large leaf, untouched ones; a shadowed ROM, MMIO with a handler, MMIO2. What must stay: every
 * page's record and content, ranges, handlers, pins, accounts; and each translation stays or goes, but doesn't change.
 */
#pragma once

#include "common/pgm_world.h"
#include "common/sweep.h"

#define RAM (16 * MIB)
#define LARGE_AT (2 * MIB)
#define DETAILED_AT (4 * MIB)
#define ZEROS_AT (6 * MIB)
#define FRESH_AT (10 * MIB)
#define EXTRA_AT (64 * MIB)
#define MMIO_AT UINT64_C(0xf0000000)
#define MMIO2_AT UINT64_C(0xf1000000)
#define ROM_AT UINT64_C(0xffe00000)
#define ROM_PAGES 4u
#define HANDLED_AT (DETAILED_AT + 5 * PAGE_SIZE)
#define PINNED_AT (DETAILED_AT + 2 * PAGE_SIZE)

/* Nothing of all that, and no frame ever taken: the first one needs a chunk. */
#define BARE SWEEP_WORLD_FLAGS
/* The operation changes what was written before. */
#define CHANGES (2 * SWEEP_WORLD_FLAGS)

static const uint64_t places[] = {
	0,
	LARGE_AT,
	DETAILED_AT,
	ZEROS_AT,
	8 * MIB,
	FRESH_AT,
	12 * MIB,
	14 * MIB,
	EXTRA_AT,
	EXTRA_AT + 2 * MIB,
	EXTRA_AT + 4 * MIB,
	MMIO_AT,
	MMIO2_AT,
	ROM_AT,
	MMIO2_AT + 2 * MIB,
	ROM_AT - 32 * MIB,
};
#define PLACES ARRAY_SIZE(places)

static struct pgm *pgm;
static struct mmio2 *region;
static handler_type write_type, mmio_type, all_type;
static const char pin_owner[] = "pin";
static uint8_t rom_bytes[300];

QUIET enum status take_none(void *user, struct pgm_access *access)
{
	return NOT_FOUND;
}

QUIET void no_list(void *context)
{
}

QUIET void write_at(uint64_t where, uint64_t word)
{
	assert_int_equal(pgm_write(pgm, gpa(where), &word, 8, ORIGIN_DEVICE, NULL), OK);
}

QUIET uint64_t read_at(uint64_t where)
{
	uint64_t word = 0;

	assert_int_equal(pgm_read(pgm, gpa(where), &word, 8, ORIGIN_DEVICE, NULL), OK);
	return word;
}

QUIET handler_type type_of(enum handler_kind kind)
{
	handler_type type;

	assert_int_equal(pgm_handler_type_register(pgm, kind, 0, take_none, "none", &type), OK);
	return type;
}

QUIET void make_detailed(uint64_t base, unsigned pages)
{
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	for (unsigned i = 0; i < pages; i++)
		write_at(base + i * PAGE_SIZE + 8, base + i);
	inject_disarm(MM_SITE_LARGE);
}

static void furnish_ram(void)
{
	hpa_t frame;

	write_at(LARGE_AT + 77 * PAGE_SIZE + 8, 77);
	assert_int_equal(pgm_fault(pgm, gpa(LARGE_AT), ACCESS_WRITE), PGM_RESUME);
	make_detailed(DETAILED_AT, 5);
	assert_int_equal(pgm_fault(pgm, gpa(DETAILED_AT), ACCESS_WRITE), PGM_RESUME);
	assert_int_equal(pgm_fault(pgm, gpa(DETAILED_AT + 7 * PAGE_SIZE), ACCESS_READ), PGM_RESUME);
	assert_int_equal(pgm_fault(pgm, gpa(ZEROS_AT), ACCESS_READ), PGM_RESUME);
	assert_int_equal(pgm_pin(pgm, gpa(PINNED_AT), true, pin_owner, &frame), OK);
	assert_int_equal(pgm_handler_register(pgm, write_type, gpa(HANDLED_AT), gpa(HANDLED_AT + 2 * PAGE_SIZE - 1),
					      NULL, "handled"),
			 OK);
}

static void furnish_devices(void)
{
	uint64_t word = 0x1234;

	for (unsigned i = 0; i < sizeof(rom_bytes); i++)
		rom_bytes[i] = (uint8_t)(i * 7 + 1);
	assert_int_equal(pgm_add_shadowed_rom(pgm, gpa(ROM_AT), ROM_PAGES * PAGE_SIZE, "rom"), OK);
	assert_int_equal(pgm_rom_load(pgm, gpa(ROM_AT + PAGE_SIZE - 100), rom_bytes, sizeof(rom_bytes)), OK);
	assert_int_equal(pgm_mmio2_register(pgm, 16 * PAGE_SIZE, "vram", &region), OK);
	assert_int_equal(pgm_mmio2_map(pgm, region, gpa(MMIO2_AT)), OK);
	assert_int_equal(pgm_mmio2_write(pgm, region, 8, &word, 8), OK);
	assert_int_equal(
		pgm_handler_register(pgm, mmio_type, gpa(MMIO_AT), gpa(MMIO_AT + 4 * PAGE_SIZE - 1), NULL, "registers"),
		OK);
	assert_int_equal(pgm_fault(pgm, gpa(MMIO_AT), ACCESS_READ), PGM_EMULATE);
}

QUIET struct pgm_config sweep_config(void)
{
	struct pgm_config config = plain_config(RAM);

	config.misconfig_exit = config.accessed_dirty = config.pml = true;
	return config;
}

/* The reserve is empty, so that each page asks for frames. */
static void drain(void)
{
	struct gather gather;

	gather_begin(&gather, NULL, &pgm->account);
	handy_drain(pgm, HPA_NONE, &gather);
	gather_finish(&gather);
}

QUIET void sweep_start(const struct sweep_operation *op)
{
	struct pgm_config config = sweep_config();

	pgm = make_pgm_of(&config);
	region = NULL;
	pgm_dirty_set_source(pgm, no_list, NULL);
	write_type = type_of(HANDLER_KIND_WRITE);
	all_type = type_of(HANDLER_KIND_ALL);
	mmio_type = type_of(HANDLER_KIND_MMIO);
	if (!(op->flags & BARE)) {
		furnish_ram();
		furnish_devices();
	}
	drain();
}

/* ---- what must stay ---- */
static uint64_t content_of(hpa_t frame)
{
	const uint64_t *words = frame_map(frame);
	uint64_t sum = 0;

	for (unsigned i = 0; i < PAGE_SIZE / sizeof(*words); i++)
		sum = (sum ^ words[i]) * UINT64_C(0x9e3779b97f4a7c15) + (sum >> 29);
	frame_unmap((void *)(uintptr_t)words);
	return sum;
}

static void look_at_page(struct sweep_notes *notes, uint64_t where)
{
	struct pgm_page_info info;
	struct pgm_range range;
	page_record none = { 0 };

	pgm_page_describe(pgm, gpa(where), &info);
	if (pgm_range_find(pgm, gpa(where), &range))
		page_set_type(&none, range.type);
	if (info.record.bits == none.bits)
		return;
	if (info.block == BLOCK_LARGE)
		info.record.bits |= PAGE_WRITTEN; /* as its records say once it has some */
	sweep_put(notes, "record", where, info.record.bits);
	if (!hpa_is_none(info.frame))
		sweep_put(notes, "content", where, content_of(info.frame));
}

static void look_at_handlers(struct sweep_notes *notes)
{
	struct pgm_handler_info info;

	for (gpa_t from = gpa(0); pgm_handler_next(pgm, from, &info); from = gpa(info.last + 1)) {
		sweep_put(notes, "handler", info.first, info.last);
		sweep_put(notes, "handler's kind, and whether pages are excepted", info.kind, info.excepted);
		sweep_put(notes, "handler's user", (uintptr_t)info.user, 0);
	}
	for (unsigned i = 0; i < HANDLER_TYPES; i++)
		sweep_put(notes, "type", i, pgm->handlers.type[i].tag);
}

static void look_at_accounts(struct sweep_notes *notes)
{
	const struct account *a = &pgm->account;
	uint64_t reads, writes;

	for (unsigned kind = 0; kind < ACCOUNT_KINDS; kind++)
		sweep_put(notes, "reserved", kind, a->reserved[kind]);
	sweep_put(notes, "base", 0, base_pages(pgm));
	sweep_put(notes, "fixed", 0, a->allocated[ACCOUNT_FIXED]);
	sweep_put(notes, "ballooned", 0, a->ballooned);
	sweep_put(notes, "promised", 0, admission_promised());
	sweep_put(notes, "ROM pages", pgm->rom_pages, (uint64_t)pgm->beside_blocks);
	sweep_put(notes, "RAM", 0, pgm_ram_bytes(pgm));
	pgm_pin_totals(pgm, &reads, &writes);
	sweep_put(notes, "pins", reads, writes);
	sweep_put(notes, "dirty log", dirty_mode(pgm), pgm->dirty.armed);
	sweep_put(notes, "collapse", pgm->collapse.phase, pgm->collapse.chunk.v);
	sweep_put(notes, "removal", pgm->removal.active, pgm->removal.cursor);
}

/* Rights and frame of each page before; afterwards each is that, or gone. */
static uint64_t translations[PLACES * PAGES_PER_BLOCK];

static uint64_t translation_of(uint64_t where)
{
	hpa_t frame = hpa(0);
	unsigned level, rights;

	if (misconfig_is_mark(pgm, *slat_find(&pgm->slat, gpa(where), &level)))
		return 0;
	rights = granted(pgm, where, &frame);
	return rights ? frame.v | rights : 0;
}

static void look_at_translations(bool first)
{
	for (unsigned i = 0; i < PLACES * PAGES_PER_BLOCK; i++) {
		uint64_t where = places[i / PAGES_PER_BLOCK] + (uint64_t)(i % PAGES_PER_BLOCK) * PAGE_SIZE;
		uint64_t now = translation_of(where);

		if (first)
			translations[i] = now;
		else if (now && now != translations[i])
			fail_msg("%#llx: translation %#llx has become %#llx", (unsigned long long)where,
				 (unsigned long long)translations[i], (unsigned long long)now);
	}
}

QUIET void sweep_look(struct sweep_notes *notes, unsigned flags, bool again)
{
	struct pgm_range range;

	look_at_accounts(notes);
	for (unsigned i = 0; pgm_range_get(pgm, i, &range); i++) {
		sweep_put(notes, "range", range.base, range.size);
		sweep_put(notes, "range's type", range.base, range.type);
	}
	look_at_handlers(notes);
	for (unsigned i = 0; i < PLACES; i++) {
		struct block *b = block_find(pgm, gpa(places[i]));

		if (!b)
			continue;
		if (block_kind(b) == BLOCK_LARGE && !(flags & SWEEP_MAY_SPLIT))
			sweep_put(notes, "large", places[i], block_address(b).v);
		for (unsigned page = 0; block_kind(b) != BLOCK_UNTOUCHED && page < PAGES_PER_BLOCK; page++)
			look_at_page(notes, places[i] + page * PAGE_SIZE);
	}
	if (!(flags & SWEEP_PARTIAL))
		look_at_translations(!again);
}

/* Tables and records: may come with a failure, but not more with the next. */
QUIET uint64_t sweep_scraps(void)
{
	return table_pages_of(pgm) + host_account.allocated[ACCOUNT_BASE];
}

QUIET void sweep_check(void)
{
	check_silent(pgm);
}

QUIET void content_holds(void)
{
	uint8_t rom[sizeof(rom_bytes)];
	uint64_t word = 0;

	assert_int_equal(read_at(LARGE_AT + 77 * PAGE_SIZE + 8), 77);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(read_at(DETAILED_AT + i * PAGE_SIZE + 8), DETAILED_AT + i);
	assert_int_equal(pgm_read(pgm, gpa(ROM_AT + PAGE_SIZE - 100), rom, sizeof(rom), ORIGIN_DEVICE, NULL), OK);
	assert_memory_equal(rom, rom_bytes, sizeof(rom));
	if (region) {
		assert_int_equal(pgm_mmio2_read(pgm, region, 8, &word, 8), OK);
		assert_int_equal(word, 0x1234);
	}
}

QUIET void sweep_end(const struct sweep_operation *op)
{
	if (!pgm)
		return;
	if (!(op->flags & (BARE | CHANGES)))
		content_holds();
	end_pgm(pgm);
	assert_int_equal(admission_promised(), 0);
}

static const struct sweep_world sweep_pgm = { sweep_start, sweep_look, sweep_scraps, sweep_check, sweep_end };

QUIET int sweep_setup(void **state)
{
	pgm_world_start(96 * MIB);
	chunk_map_strict = 0; /* all of memory is read after each failure: mapping each frame anew takes minutes */
	return 0;
}
