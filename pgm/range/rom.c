/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ROM pages. The page record always holds the copy that is *read*; a shadowed ROM keeps the frame
 * of the other copy here. Only "read RAM, write RAM" maps a page writable: in the other modes a write comes as
 * a fault, is emulated, and asks rom_write_frame() where it goes. The list of ROMs (pgm->lock) only grows.
 */
#include "pgm/copy.h"
#include "pgm/internal.h"

#define ROM_MAX_SIZE (16 * MIB)

struct rom {
	struct rom *next;
	uint64_t base, size;
	struct rom_page page[];
};

static size_t rom_bytes(uint64_t size)
{
	return sizeof(struct rom) + (size >> PAGE_SHIFT) * sizeof(struct rom_page);
}

static bool reads_ram(enum rom_mode mode)
{
	return mode >= ROM_READ_RAM_WRITE_IGNORED;
}

struct rom_page *rom_page_at(struct pgm *pgm, gpa_t where)
{
	struct rom *rom = __atomic_load_n(&pgm->roms, __ATOMIC_ACQUIRE);

	while (rom && where.v - rom->base >= rom->size)
		rom = rom->next;
	return rom ? &rom->page[(where.v - rom->base) >> PAGE_SHIFT] : NULL;
}

/*
 * What goes beyond the pages that every machine is promised for ROM is in its account besides. That comes first: a range that
 * is there can't be taken back without a trace in the records.
 */
static enum status add_reserved(struct pgm *pgm, gpa_t base, uint64_t size, const char *name, unsigned copies)
{
	uint64_t pages = pgm->rom_pages + (size >> PAGE_SHIFT) * copies;
	uint64_t more = max_u64(pages, PGM_ROM_PAGES) - max_u64(pgm->rom_pages, PGM_ROM_PAGES);
	enum status status;

	if (size > ROM_MAX_SIZE)
		return BAD_VALUE;
	TRY(account_adjust(&pgm->account, ACCOUNT_BASE, (int64_t)more));
	status = range_add(pgm, base, size, PAGE_ROM, name);
	if (status == OK)
		pgm->rom_pages = pages;
	else
		quota_return(pgm, ACCOUNT_BASE, more);
	return status;
}

enum status pgm_add_rom(struct pgm *pgm, gpa_t base, uint64_t size, const char *name)
{
	return add_reserved(pgm, base, size, name, 1);
}

enum status pgm_add_shadowed_rom(struct pgm *pgm, gpa_t base, uint64_t size, const char *name)
{
	enum status status;
	struct rom *rom;

	if (!size || !is_aligned(size, PAGE_SIZE) || size > ROM_MAX_SIZE)
		return BAD_VALUE;
	rom = heap_alloc(rom_bytes(size));
	if (!rom)
		return NO_MEMORY;
	rom->base = base.v;
	rom->size = size;
	for (uint64_t i = 0; i < size >> PAGE_SHIFT; i++)
		rom->page[i] = (struct rom_page){ HPA_NONE, ROM_READ_ROM_WRITE_IGNORED };
	status = add_reserved(pgm, base, size, name, 2);
	if (status != OK) {
		heap_free(rom, rom_bytes(size));
		return status;
	}
	HOLD(&pgm->lock);
	rom->next = pgm->roms;
	__atomic_store_n(&pgm->roms, rom, __ATOMIC_RELEASE);
	return OK;
}

/* A frame that only `other` knows: the check counts it. */
static void count_other(struct pgm *pgm, int change)
{
	__atomic_fetch_add(&pgm->beside_blocks, change, __ATOMIC_RELAXED);
}

static void swap_copies(struct pgm *pgm, struct block *b, page_record *r, hpa_t *other)
{
	hpa_t live = page_has_frame(*r) ? page_frame(*r) : HPA_NONE;

	b->held += !hpa_is_none(*other) - !hpa_is_none(live);
	page_set(r, hpa_is_none(*other) ? PAGE_ZERO : PAGE_ALLOCATED, hpa_is_none(*other) ? hpa(0) : *other);
	count_other(pgm, !hpa_is_none(live) - !hpa_is_none(*other));
	*other = live;
}

/* Within one block: one copy is out of everybody's sight before the other comes. */
static enum status protect_block(struct pgm *pgm, uint64_t first, uint64_t end, enum rom_mode mode,
				 struct gather *gather)
{
	struct block *b = block_find(pgm, gpa(first));
	enum status status;

	HOLD_BLOCK(b);
	status = block_make_detailed(pgm, b, gpa(first), gather);
	for (uint64_t a = first; a < end && status == OK; a += PAGE_SIZE)
		if (rom_page_at(pgm, gpa(a))->mode != mode)
			page_unmap(pgm, b, gpa(a), gather);
	gather_settle(gather);
	for (uint64_t a = first; a < end && status == OK; a += PAGE_SIZE) {
		struct rom_page *p = rom_page_at(pgm, gpa(a));
		page_record *r = page_of(b, gpa(a));

		if (p->mode == mode)
			continue;
		if (reads_ram(p->mode) != reads_ram(mode))
			swap_copies(pgm, b, r, &p->other);
		page_set_type(r, reads_ram(mode) ? PAGE_ROM_SHADOW : PAGE_ROM);
		r->bits &= ~(PAGE_READ_ONLY | PAGE_WRITTEN);
		if (mode == ROM_READ_RAM_WRITE_IGNORED)
			r->bits |= PAGE_READ_ONLY;
		__atomic_store_n(&p->mode, mode, __ATOMIC_RELAXED);
		dirty_written(pgm, gpa(a)); /* it may read as the other copy now */
	}
	return status;
}

static enum status protect_range(struct pgm *pgm, uint64_t first, uint64_t end, enum rom_mode mode)
{
	enum status status = blocks_make_detailed(pgm, first, end); /* so that no page changes if not all can */

	GATHER(gather, &pgm->flush, &pgm->account);
	for (uint64_t a = first, next; a < end && status == OK; a = next) {
		next = min_u64(end, align_down(a, BLOCK_SIZE) + BLOCK_SIZE);
		status = protect_block(pgm, a, next, mode, &gather);
	}
	return status;
}

/* Do these bytes lie within one ROM? */
static bool within_rom(struct pgm *pgm, gpa_t where, uint64_t size)
{
	struct pgm_range range;

	return pgm_range_find(pgm, where, &range) && range.type == PAGE_ROM &&
	       size <= range.size - (where.v - range.base);
}

enum status pgm_rom_protect(struct pgm *pgm, gpa_t first, uint64_t size, enum rom_mode mode)
{
	if (!size || !is_aligned(first.v | size, PAGE_SIZE) || (unsigned)mode >= ROM_MODES)
		return BAD_VALUE;
	if (!within_rom(pgm, first, size))
		return BAD_ADDRESS;
	if (!rom_page_at(pgm, first)) /* a plain one */
		return mode == ROM_READ_ROM_WRITE_IGNORED ? OK : NOT_SUPPORTED;
	return protect_range(pgm, first.v, first.v + size, mode);
}

static enum status make_other(struct pgm *pgm, struct rom_page *p, gpa_t where, hpa_t *frame)
{
	enum status status = OK;

	if (hpa_is_none(p->other)) {
		status = handy_take(pgm, local_of(pgm), where, &p->other);
		count_other(pgm, status == OK);
	}
	*frame = p->other;
	return status;
}

enum status rom_write_frame(struct pgm *pgm, struct block *b, gpa_t where, bool debugger, hpa_t *frame,
			    struct gather *gather)
{
	struct rom_page *p = rom_page_at(pgm, where);
	enum status status = OK;

	*frame = HPA_NONE;
	if (debugger) {
		status = page_own(pgm, b, where, gather);
		*frame = page_frame(*page_of(b, where));
	} else if (p && p->mode == ROM_READ_ROM_WRITE_RAM) {
		status = make_other(pgm, p, where, frame);
		if (status == OK)
			COUNT_VCPU(rom_write_handled);
	} else {
		COUNT_VCPU(rom_write_unhandled);
	}
	return status;
}

/* Within one page, into the ROM copy, whichever of the two is read. */
static enum status load_piece(struct pgm *pgm, struct block *b, gpa_t where, const void *data, size_t size,
			      struct gather *gather)
{
	struct rom_page *p = rom_page_at(pgm, where);
	enum status status;
	hpa_t frame;

	TRY(block_make_detailed(pgm, b, where, gather));
	if (p && reads_ram(p->mode)) {
		status = make_other(pgm, p, where, &frame);
	} else {
		status = page_own(pgm, b, where, gather);
		frame = page_frame(*page_of(b, where));
		dirty_written(pgm, where);
	}
	if (status != OK)
		return status;
	copy_in(hpa(frame.v | (where.v & (PAGE_SIZE - 1))), data, size);
	return OK;
}

enum status pgm_rom_load(struct pgm *pgm, gpa_t where, const void *data, uint64_t size)
{
	enum status status = within_rom(pgm, where, size) ? OK : BAD_ADDRESS;

	if (status == OK)
		status = blocks_make_detailed(pgm, where.v, where.v + size);
	GATHER(gather, &pgm->flush, &pgm->account);
	for (uint64_t at = 0, piece; at < size && status == OK; at += piece) {
		gpa_t here = gpa(where.v + at);
		struct block *b = block_find(pgm, here);

		piece = to_page_end(here, size - at);
		HOLD_BLOCK(b);
		status = load_piece(pgm, b, here, (const uint8_t *)data + at, piece, &gather);
	}
	return status;
}

/* domain NULL: the machine's end. Else one that was live may have been pinned then, and stays, zeroed. */
static void free_others(struct pgm *pgm, struct rom *rom, struct flush_domain *domain)
{
	struct pgm_pin_info pin;

	GATHER(gather, domain, &pgm->account);
	for (uint64_t i = 0; i < rom->size >> PAGE_SHIFT; i++) {
		hpa_t *other = &rom->page[i].other;

		if (hpa_is_none(*other))
			continue;
		if (domain && pgm_pin_find(pgm, gpa(rom->base + i * PAGE_SIZE), &pin)) {
			reset_clear_frame(*other);
			continue;
		}
		gather_frame(&gather, *other, ACCOUNT_BASE);
		*other = HPA_NONE;
		count_other(pgm, -1);
	}
}

void rom_reset(struct pgm *pgm)
{
	for (struct rom *rom = pgm->roms; rom; rom = rom->next) {
		for (uint64_t i = 0; i < rom->size >> PAGE_SHIFT; i++) {
			uint64_t a = rom->base + i * PAGE_SIZE;

			if (rom->page[i].mode == ROM_READ_ROM_WRITE_IGNORED)
				continue;
			/* Its block has had records since the mode was set: only a reset takes records away, and it comes here first. So nothing is allocated. */
			panic_unless(protect_range(pgm, a, a + PAGE_SIZE, ROM_READ_ROM_WRITE_IGNORED) == OK);
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
		heap_free(rom, rom_bytes(rom->size));
	}
}
