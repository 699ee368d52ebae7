/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ROM pages. The page record always holds the copy that is *read*; a shadowed ROM keeps the frame
 * of the other copy here. Only "read RAM, write RAM" maps a page writable: in the other modes a write comes as
 * a fault, is emulated, and asks rom_write_frame() where it goes.
 *
 * The list of ROMs only grows until the machine ends (pgm->lock); other[] and mode[] of a page are
 * guarded by its block's lock.
 */
#include "pgm/copy.h"
#include "pgm/internal.h"

#define ROM_MAX_SIZE (16 * MIB)

struct rom {
	struct rom *next;
	uint64_t base, size;
	hpa_t *other;  /* per page: the copy that isn't read; HPA_NONE: none yet, it reads as zero */
	uint8_t *mode; /* per page: enum rom_mode */
};

static const char *const mode_names[ROM_MODES] = {
	"read ROM, write ignored",
	"read ROM, write RAM",
	"read RAM, write ignored",
	"read RAM, write RAM",
};

const char *rom_mode_name(enum rom_mode mode)
{
	return (unsigned)mode < ROM_MODES ? mode_names[mode] : "?";
}

static bool reads_ram(enum rom_mode mode)
{
	return mode >= ROM_READ_RAM_WRITE_IGNORED;
}

/* The shadowed ROM around `where`, or NULL. */
static struct rom *rom_find(struct pgm *pgm, uint64_t where)
{
	struct rom *rom = __atomic_load_n(&pgm->roms, __ATOMIC_ACQUIRE);

	while (rom && where - rom->base >= rom->size)
		rom = rom->next;
	return rom;
}

static uint64_t index_of(const struct rom *rom, uint64_t where)
{
	return (where - rom->base) >> PAGE_SHIFT;
}

static enum status add_range(struct pgm *pgm, gpa_t base, uint64_t size, const char *name)
{
	struct pgm_range range = { .base = base.v, .size = size, .type = PAGE_ROM };

	for (unsigned i = 0; name[i] && i < PGM_NAME - 1; i++)
		range.name[i] = name[i];
	return range_add(pgm, &range);
}

/* What goes beyond the pages that every machine is promised for ROM is in its account besides. */
static uint64_t beyond_promise(uint64_t pages)
{
	return max_u64(pages, PGM_ROM_PAGES) - PGM_ROM_PAGES;
}

static enum status reserve(struct pgm *pgm, uint64_t pages)
{
	uint64_t more = beyond_promise(pgm->rom_pages + pages) - beyond_promise(pgm->rom_pages);
	enum status status = account_adjust(&pgm->account, ACCOUNT_BASE, (int64_t)more);

	if (status == OK)
		pgm->rom_pages += pages;
	return status;
}

static void unreserve(struct pgm *pgm, uint64_t pages)
{
	pgm->rom_pages -= pages;
	quota_return(pgm, ACCOUNT_BASE, beyond_promise(pgm->rom_pages + pages) - beyond_promise(pgm->rom_pages));
}

/* The account first: a range that is there can't be taken back without a trace in the records. */
static enum status add_reserved(struct pgm *pgm, gpa_t base, uint64_t size, const char *name, unsigned copies)
{
	uint64_t pages = (size >> PAGE_SHIFT) * copies;
	enum status status;

	if (size > ROM_MAX_SIZE)
		return BAD_VALUE;
	status = reserve(pgm, pages);
	if (status != OK)
		return status;
	status = add_range(pgm, base, size, name);
	if (status != OK)
		unreserve(pgm, pages);
	return status;
}

enum status pgm_add_rom(struct pgm *pgm, gpa_t base, uint64_t size, const char *name)
{
	return add_reserved(pgm, base, size, name, 1);
}

static void rom_free(struct rom *rom)
{
	uint64_t pages = rom->size >> PAGE_SHIFT;

	if (rom->other)
		heap_free(rom->other, pages * sizeof(rom->other[0]));
	if (rom->mode)
		heap_free(rom->mode, pages);
	heap_free(rom, sizeof(*rom));
}

static struct rom *rom_make(gpa_t base, uint64_t size)
{
	struct rom *rom = heap_alloc(sizeof(*rom));
	uint64_t pages = size >> PAGE_SHIFT;

	if (!rom)
		return NULL;
	*rom = (struct rom){ .base = base.v,
			     .size = size,
			     .other = heap_alloc(pages * sizeof(rom->other[0])),
			     .mode = heap_alloc(pages) };
	if (!rom->other || !rom->mode) {
		rom_free(rom);
		return NULL;
	}
	for (uint64_t i = 0; i < pages; i++)
		rom->other[i] = HPA_NONE;
	return rom;
}

enum status pgm_add_shadowed_rom(struct pgm *pgm, gpa_t base, uint64_t size, const char *name)
{
	enum status status;
	struct rom *rom;

	if (!size || !is_aligned(size, PAGE_SIZE) || size > ROM_MAX_SIZE)
		return BAD_VALUE;
	rom = rom_make(base, size);
	if (!rom)
		return NO_MEMORY;
	status = add_reserved(pgm, base, size, name, 2);
	if (status != OK) {
		rom_free(rom);
		return status;
	}
	lock_acquire(&pgm->lock);
	rom->next = pgm->roms;
	__atomic_store_n(&pgm->roms, rom, __ATOMIC_RELEASE);
	lock_release(&pgm->lock);
	return OK;
}

/* The record of a ROM page: which copy it is, and whether writes go straight to it. */
static void mark(page_record *r, enum rom_mode mode)
{
	page_set_type(r, reads_ram(mode) ? PAGE_ROM_SHADOW : PAGE_ROM);
	r->bits &= ~(PAGE_READ_ONLY | PAGE_WRITTEN);
	if (mode == ROM_READ_RAM_WRITE_IGNORED)
		r->bits |= PAGE_READ_ONLY;
}

/* A frame that only other[] knows: the check counts it. */
static void count_other(struct pgm *pgm, int change)
{
	__atomic_fetch_add(&pgm->beside_blocks, change, __ATOMIC_RELAXED);
}

static void swap_copies(struct pgm *pgm, struct block *b, page_record *r, hpa_t *other)
{
	hpa_t live = page_has_frame(*r) ? page_frame(*r) : HPA_NONE;

	b->held = (uint16_t)(b->held + !hpa_is_none(*other) - !hpa_is_none(live));
	page_set(r, hpa_is_none(*other) ? PAGE_ZERO : PAGE_ALLOCATED, hpa_is_none(*other) ? hpa(0) : *other);
	count_other(pgm, !hpa_is_none(live) - !hpa_is_none(*other));
	*other = live;
}

/* The page's translation is gone, and settled. */
static void protect_page(struct pgm *pgm, struct rom *rom, struct block *b, gpa_t where, enum rom_mode mode)
{
	uint64_t i = index_of(rom, where.v);
	page_record *r = page_of(b, where);

	if (rom->mode[i] == mode)
		return;
	if (reads_ram((enum rom_mode)rom->mode[i]) != reads_ram(mode))
		swap_copies(pgm, b, r, &rom->other[i]);
	mark(r, mode);
	rom->mode[i] = (uint8_t)mode;
	dirty_written(pgm, where); /* it may read as the other copy now */
}

/* Within one block, locked: one copy is out of everybody's sight before the other comes. */
static enum status protect_block(struct pgm *pgm, struct rom *rom, uint64_t first, uint64_t end, enum rom_mode mode,
				 struct gather *gather)
{
	struct block *b = block_find(pgm, gpa(first));
	enum status status;

	block_lock(b);
	status = block_make_detailed(pgm, b, gpa(first), gather);
	for (uint64_t a = first; a < end && status == OK; a += PAGE_SIZE)
		if (rom->mode[index_of(rom, a)] != mode)
			slat_drop_page(&pgm->slat, b->slot, gpa(a), gather);
	gather_settle(gather);
	for (uint64_t a = first; a < end && status == OK; a += PAGE_SIZE)
		protect_page(pgm, rom, b, gpa(a), mode);
	block_unlock(b);
	return status;
}

static enum status protect_range(struct pgm *pgm, struct rom *rom, uint64_t first, uint64_t end, enum rom_mode mode)
{
	enum status status = blocks_make_detailed(pgm, first, end); /* so that no page changes if not all can */
	struct gather gather;

	gather_begin(&gather, &pgm->flush, &pgm->account);
	for (uint64_t a = first, next; a < end && status == OK; a = next) {
		next = min_u64(end, align_down(a, BLOCK_SIZE) + BLOCK_SIZE);
		status = protect_block(pgm, rom, a, next, mode, &gather);
	}
	gather_finish(&gather);
	return status;
}

enum status pgm_rom_protect(struct pgm *pgm, gpa_t first, uint64_t size, enum rom_mode mode)
{
	struct rom *rom = rom_find(pgm, first.v);
	struct pgm_range range;

	if (!size || !is_aligned(first.v | size, PAGE_SIZE) || (unsigned)mode >= ROM_MODES)
		return BAD_VALUE;
	if (!pgm_range_find(pgm, first, &range) || range.type != PAGE_ROM || size > range.size - (first.v - range.base))
		return BAD_ADDRESS;
	if (!rom)
		return mode == ROM_READ_ROM_WRITE_IGNORED ? OK : NOT_SUPPORTED;
	return protect_range(pgm, rom, first.v, first.v + size, mode);
}

enum status pgm_rom_mode(struct pgm *pgm, gpa_t where, enum rom_mode *mode)
{
	struct rom *rom = rom_find(pgm, where.v);
	struct pgm_range range;

	if (!pgm_range_find(pgm, where, &range) || range.type != PAGE_ROM)
		return BAD_ADDRESS;
	*mode = rom ? (enum rom_mode)__atomic_load_n(&rom->mode[index_of(rom, where.v)], __ATOMIC_RELAXED)
		    : ROM_READ_ROM_WRITE_IGNORED;
	return OK;
}

static bool make_other(struct pgm *pgm, struct rom *rom, gpa_t where, enum status *status)
{
	hpa_t *other = &rom->other[index_of(rom, where.v)];

	if (hpa_is_none(*other)) {
		*status = handy_take(pgm, gpa(align_down(where.v, PAGE_SIZE)), other);
		count_other(pgm, *status == OK);
	}
	return *status == OK;
}

hpa_t rom_other_copy(struct pgm *pgm, gpa_t where)
{
	const struct rom *rom = rom_find(pgm, where.v);

	return rom ? rom->other[index_of(rom, where.v)] : HPA_NONE;
}

static bool live_frame(struct pgm *pgm, struct block *b, gpa_t where, hpa_t *frame, struct gather *gather,
		       enum status *status)
{
	*status = page_own(pgm, b, where, gather);
	*frame = page_frame(*page_of(b, where));
	return *status == OK;
}

bool rom_write_frame(struct pgm *pgm, struct block *b, gpa_t where, bool debugger, hpa_t *frame, struct gather *gather,
		     enum status *status)
{
	struct rom *rom;

	if (debugger)
		return live_frame(pgm, b, where, frame, gather, status);
	rom = rom_find(pgm, where.v);
	*frame = HPA_NONE;
	if (!rom || rom->mode[index_of(rom, where.v)] != ROM_READ_ROM_WRITE_RAM) {
		COUNT_VCPU(rom_write_unhandled);
		return true;
	}
	if (!make_other(pgm, rom, where, status))
		return false;
	COUNT_VCPU(rom_write_handled);
	*frame = rom->other[index_of(rom, where.v)];
	return true;
}

/* Within one page, into the ROM copy, whichever of the two is read. */
static enum status load_piece(struct pgm *pgm, struct block *b, gpa_t where, const void *data, size_t size,
			      struct gather *gather)
{
	struct rom *rom = rom_find(pgm, where.v);
	enum status status = block_make_detailed(pgm, b, where, gather);
	hpa_t frame;

	if (status != OK)
		return status;
	if (rom && reads_ram((enum rom_mode)rom->mode[index_of(rom, where.v)])) {
		if (!make_other(pgm, rom, where, &status))
			return status;
		frame = rom->other[index_of(rom, where.v)];
	} else if (!live_frame(pgm, b, where, &frame, gather, &status)) {
		return status;
	}
	copy_in(hpa(frame.v | (where.v & (PAGE_SIZE - 1))), data, size);
	return OK;
}

enum status pgm_rom_load(struct pgm *pgm, gpa_t where, const void *data, uint64_t size)
{
	struct pgm_range range;
	struct gather gather;
	enum status status = OK;

	if (!pgm_range_find(pgm, where, &range) || range.type != PAGE_ROM || size > range.size - (where.v - range.base))
		return BAD_ADDRESS;
	gather_begin(&gather, &pgm->flush, &pgm->account);
	for (uint64_t at = 0; at < size && status == OK;) {
		gpa_t here = gpa(where.v + at);
		uint64_t piece = min_u64(PAGE_SIZE - (here.v & (PAGE_SIZE - 1)), size - at);
		struct block *b;

		status = block_get(pgm, here, &b);
		if (status != OK)
			break;
		block_lock(b);
		status = load_piece(pgm, b, here, (const uint8_t *)data + at, piece, &gather);
		block_unlock(b);
		at += piece;
	}
	gather_finish(&gather);
	return status;
}

static bool is_pinned(struct pgm *pgm, gpa_t where)
{
	struct block *b = block_find(pgm, where);
	bool pinned;

	if (!b)
		return false;
	block_lock(b);
	pinned = block_kind(b) == BLOCK_DETAILED && (page_of(b, where)->bits & PAGE_PINNED);
	block_unlock(b);
	return pinned;
}

/* domain NULL: the machine's end. Else one that was live may have been pinned then, and stays, zeroed. */
static void free_others(struct pgm *pgm, struct rom *rom, struct flush_domain *domain)
{
	struct gather gather;

	gather_begin(&gather, domain, &pgm->account);
	for (uint64_t i = 0; i < rom->size >> PAGE_SHIFT; i++) {
		if (hpa_is_none(rom->other[i]))
			continue;
		if (domain && is_pinned(pgm, gpa(rom->base + i * PAGE_SIZE))) {
			reset_clear_frame(rom->other[i]);
			continue;
		}
		gather_frame(&gather, rom->other[i], ACCOUNT_BASE);
		rom->other[i] = HPA_NONE;
		count_other(pgm, -1);
	}
	gather_finish(&gather);
}

void rom_reset(struct pgm *pgm)
{
	for (struct rom *rom = pgm->roms; rom; rom = rom->next) {
		for (uint64_t i = 0; i < rom->size >> PAGE_SHIFT; i++) {
			gpa_t where = gpa(rom->base + i * PAGE_SIZE);

			if (rom->mode[i] == ROM_READ_ROM_WRITE_IGNORED)
				continue;
			/* Its block has had records since the mode was set: only a reset takes records away, and it comes here first. So nothing is allocated. */
			if (protect_range(pgm, rom, where.v, where.v + PAGE_SIZE, ROM_READ_ROM_WRITE_IGNORED) != OK)
				panic("a ROM page without records has a mode of its own");
		}
		free_others(pgm, rom, &pgm->flush);
	}
}

void rom_destroy(struct pgm *pgm)
{
	while (pgm->roms) {
		struct rom *rom = pgm->roms;

		pgm->roms = rom->next;
		free_others(pgm, rom, NULL);
		rom_free(rom);
	}
}
