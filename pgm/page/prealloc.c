/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preallocation: every page of RAM gets its frame when the machine is created, in bounded steps. GiBs of guest memory for which
 * there are 512 adjacent chunks get one 1 GiB leaf; other whole blocks a chunk; ragged ends, and blocks for which no
 * chunk is free, single frames. Afterwards no fault of this machine allocates guest memory.
 *
 * Before the machine's first entry, by one CPU. A machine whose preallocation fails is destroyed.
 */
#include "arch/x86_64/host.h"
#include "pgm/internal.h"

#define BLOCKS_PER_GIB (GIB / BLOCK_SIZE)

_Static_assert(sizeof(struct block) * BLOCKS_PER_GIB == 4 * PAGE_SIZE, "a GiB is four directory pages");

/* The RAM at or above *where: moves it there if it lies in none. */
static bool next_ram(struct pgm *pgm, uint64_t *where, struct pgm_range *range)
{
	for (unsigned i = 0; pgm_range_get(pgm, i, range); i++) {
		if (range->type != PAGE_RAM || range->base + range->size <= *where)
			continue;
		*where = max_u64(*where, range->base);
		return true;
	}
	return false;
}

/* Is a 1 GiB leaf possible at `where`? */
static bool huge_fits(struct pgm *pgm, uint64_t where, const struct pgm_range *range)
{
	return pgm->config.slat_1g && pgm->config.slat_2m && pgm->config.large_pages && is_aligned(where, GIB) &&
	       range->base + range->size - where >= GIB && pgm->preallocation.tried != where / GIB + 1;
}

/* One of the 512 blocks gets its chunk; false: somebody touched it before. */
static bool give_chunk(struct pgm *pgm, gpa_t where, hpa_t chunk)
{
	struct block *b;

	if (block_get(pgm, where, &b) != OK)
		return false;
	HOLD_BLOCK(b);
	bool untouched = block_kind(b) == BLOCK_UNTOUCHED;
	if (untouched)
		block_set(b, BLOCK_LARGE, chunk);
	return untouched;
}

/* All 512 chunks are zero: hands them to their blocks, and maps them as one. */
static void huge_finish(struct pgm *pgm)
{
	struct preallocation *p = &pgm->preallocation;
	struct gather gather;
	bool all = true;

	gather_begin(&gather, &pgm->flush, &pgm->account);
	for (unsigned i = 0; i < BLOCKS_PER_GIB; i++) {
		hpa_t chunk = hpa(p->chunks.v + i * BLOCK_SIZE);

		if (give_chunk(pgm, gpa(p->huge + i * BLOCK_SIZE), chunk)) {
			p->pages += PAGES_PER_BLOCK;
			COUNT(pgm, large_alloc);
		} else {
			gather_block(&gather, chunk);
			all = false;
		}
	}
	/* Where zeros were mapped before, or the table is wanting, 2 MiB leaves come from faults. */
	if (all &&
	    slat_map_huge(&pgm->slat, gpa(p->huge), slat_leaf(&pgm->slat, 2, p->chunks, ALL_RIGHTS, RAM_TYPE)) == OK)
		COUNT(pgm, huge_mapped);
	gather_finish(&gather);
	p->chunks = HPA_NONE;
	/* Blocks that were touched get the rest of their pages from the second passage. */
	p->tried = p->huge / GIB + 1;
	p->cursor = all ? p->huge + GIB : p->huge;
}

static void huge_step(struct pgm *pgm)
{
	struct preallocation *p = &pgm->preallocation;

	block_clear_dirty(hpa(p->chunks.v + p->cleared * BLOCK_SIZE));
	if (++p->cleared == BLOCKS_PER_GIB)
		huge_finish(pgm);
}

static bool huge_begin(struct pgm *pgm, uint64_t where)
{
	struct preallocation *p = &pgm->preallocation;
	hpa_t chunks;

	if (huge_take(&pgm->account, gpa(where), &chunks) != OK) {
		p->tried = where / GIB + 1;
		return false;
	}
	p->chunks = chunks;
	p->huge = where;
	p->cleared = 0;
	return true;
}

/* Locked and detailed: the pages first..end (bytes) that have no frame. */
static enum status fill_pages(struct pgm *pgm, struct block *b, uint64_t first, uint64_t end, struct gather *gather)
{
	enum status status = OK;

	for (uint64_t a = first; a < end && status == OK; a += PAGE_SIZE) {
		page_record r = *page_of(b, gpa(a));

		if (page_has_frame(r) || page_get_type(r) != PAGE_RAM || page_get_state(r) == PAGE_BALLOONED)
			continue;
		status = page_own(pgm, b, gpa(a), gather);
		pgm->preallocation.pages += status == OK;
	}
	return status;
}

/* A block of single pages is filled in as many steps as it takes frames out of the reserve; *end: up to here. */
static enum status fill_block(struct pgm *pgm, struct block *b, uint64_t first, uint64_t *end, struct gather *gather)
{
	bool plain = block_plain(pgm, gpa(first)) && pgm->config.large_pages && pgm->config.slat_2m;
	enum status status;

	if (block_kind(b) == BLOCK_UNTOUCHED && plain && block_make_large(pgm, b, gpa(first), gather) == OK)
		pgm->preallocation.pages += PAGES_PER_BLOCK;
	if (block_kind(b) == BLOCK_LARGE)
		return OK;
	status = block_make_detailed(pgm, b, gpa(first), gather);
	*end = min_u64(*end, first + HANDY_REFILL * PAGE_SIZE);
	return status == OK ? fill_pages(pgm, b, first, *end, gather) : status;
}

static enum status block_step(struct pgm *pgm, uint64_t first, uint64_t end)
{
	struct gather gather;
	enum status status;
	struct block *b;

	TRY(block_get(pgm, gpa(first), &b));
	if (pgm->common.handy.count < HANDY_REFILL)
		handy_refill(pgm);
	gather_begin(&gather, &pgm->flush, &pgm->account);
	block_lock(b);
	status = fill_block(pgm, b, first, &end, &gather);
	block_unlock(b);
	gather_finish(&gather);
	if (status == OK)
		pgm->preallocation.cursor = end;
	return status;
}

enum status pgm_preallocate_step(struct pgm *pgm, uint64_t *pages)
{
	struct preallocation *p = &pgm->preallocation;
	struct pgm_range range;
	enum status status = OK;
	bool more = true;

	if (!hpa_is_none(p->chunks))
		huge_step(pgm);
	else if (!next_ram(pgm, &p->cursor, &range))
		more = false;
	else if (!huge_fits(pgm, p->cursor, &range) || !huge_begin(pgm, p->cursor))
		status = block_step(pgm, p->cursor,
				    min_u64(range.base + range.size, align_down(p->cursor, BLOCK_SIZE) + BLOCK_SIZE));
	*pages = p->pages;
	if (status != OK)
		return status;
	return more ? BUSY : OK;
}

enum status pgm_preallocate(struct pgm *pgm, void (*progress)(void *context, uint64_t done, uint64_t total),
			    void *context)
{
	enum status status;
	uint64_t done;

	do {
		status = pgm_preallocate_step(pgm, &done);
		if (progress)
			progress(context, done, pgm->config.ram >> PAGE_SHIFT);
	} while (status == BUSY);
	return status;
}

void preallocation_abandon(struct pgm *pgm)
{
	struct preallocation *p = &pgm->preallocation;
	struct gather gather;

	if (hpa_is_none(p->chunks))
		return;
	gather_begin(&gather, NULL, &pgm->account);
	for (unsigned i = 0; i < BLOCKS_PER_GIB; i++)
		gather_block(&gather, hpa(p->chunks.v + i * BLOCK_SIZE));
	gather_finish(&gather);
	p->chunks = HPA_NONE;
}
