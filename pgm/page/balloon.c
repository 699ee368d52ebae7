/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest gives back: pages that it puts into its balloon (they stay its own, but hold nothing until it takes them out again, or
 * simply writes to them), and pages of which it says that nobody needs their content. The page numbers are the guest's
 * word: each page is looked at under its block's lock, and what a lie costs is the liar's.
 *
 * Invariant: block->ballooned counts its ballooned pages, and the account's number is their sum. A frame is freed by
 * the gather, after the flush; until then the account has it twice, for which the quota of an empty reserve has room (GATHER_ITEMS are
 * fewer). A block of which all is ballooned, or all is zero, is bare again: no records, no table.
 */
#include "pgm/internal.h"

_Static_assert(GATHER_ITEMS <= HANDY_SIZE,
	       "what waits for a flush and counts as ballooned already fits into the reserve's quota");

enum way { WAY_IN, WAY_OUT, WAY_DISCARD };

struct giving {
	struct pgm *pgm;
	enum way way;
	enum status refusal; /* OK, or why the last page was refused */
	unsigned changed, refused;
	struct gather gather;
};

void balloon_shrunk(struct pgm *pgm, struct block *b, unsigned pages)
{
	if (!pages)
		return;
	b->ballooned = (uint16_t)(b->ballooned - pages);
	account_balloon(&pgm->account, -(int64_t)pages);
	COUNT_BY(pgm, balloon_back, pages);
}

#define RECORD_SAYS_MORE (PAGE_WRITTEN | PAGE_PINNED | PAGE_SHADOWED | PAGE_READ_ONLY | PAGE_HANDLER_SOFTWARE)

void block_fold(struct pgm *pgm, struct block *b, gpa_t where, struct gather *gather)
{
	bool ballooned = b->ballooned == PAGES_PER_BLOCK;

	if (block_kind(b) != BLOCK_DETAILED || b->held || (b->ballooned && !ballooned))
		return;
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		page_record r = block_records(b)[i];

		if (page_get_state(r) != (ballooned ? PAGE_BALLOONED : PAGE_ZERO) ||
		    page_get_handler(r) != HANDLER_NONE || (r.bits & RECORD_SAYS_MORE))
			return;
	}
	block_unmap(pgm, b, gpa(align_down(where.v, BLOCK_SIZE)), gather);
	gather_frame(gather, block_address(b), ACCOUNT_TABLE);
	block_set(b, ballooned ? BLOCK_BALLOONED : BLOCK_UNTOUCHED, hpa(0));
	b->flags = 0;
}

static enum status judge(page_record r, enum way way)
{
	if (!page_is_plain(r))
		return page_get_type(r) == PAGE_RAM ? HANDLER : BAD_ADDRESS;
	if (r.bits & PAGE_PINNED)
		return CONFLICT;
	return (page_get_state(r) == PAGE_BALLOONED) == (way == WAY_OUT) ? OK : BAD_STATE;
}

/* It holds nothing from now on. */
static void release_frame(struct giving *g, struct block *b, gpa_t where, page_record *r)
{
	page_unmap(g->pgm, b, where, &g->gather);
	gather_frame(&g->gather, page_frame(*r), ACCOUNT_BASE);
	page_set(r, PAGE_ZERO, hpa(0));
	b->held--;
	dirty_written(g->pgm, where);
}

static void change_page(struct giving *g, struct block *b, gpa_t where)
{
	page_record *r = page_of(b, where);
	enum status status = judge(*r, g->way);

	if (status != OK) {
		g->refusal = status;
		g->refused++;
		return;
	}
	if (page_has_frame(*r))
		release_frame(g, b, where, r);
	else if (g->way == WAY_DISCARD)
		return;
	page_set(r, g->way == WAY_IN ? PAGE_BALLOONED : PAGE_ZERO, hpa(0));
	r->bits &= ~PAGE_WRITTEN;
	g->changed++;
}

/* A whole chunk at once. Locked. */
static void discard_large(struct giving *g, struct block *b, gpa_t base)
{
	block_unmap(g->pgm, b, base, &g->gather);
	gather_block(&g->gather, block_address(b));
	if (dirty_mode(g->pgm) != DIRTY_OFF)
		dirty_note_block(g->pgm, base);
	gather_finish(&g->gather); /* before zeros are seen there */
	block_set(b, BLOCK_UNTOUCHED, hpa(0));
	b->flags = 0;
	g->changed += PAGES_PER_BLOCK;
}

/* Is there anything to be done that needs records? Untouched memory is zero, and what is no RAM gets none. Locked. */
static bool worth_records(struct giving *g, const struct block *b, gpa_t first)
{
	enum block_kind kind = block_kind(b);

	if (kind >= BLOCK_LARGE)
		return kind == BLOCK_DETAILED || g->way != WAY_OUT;
	return kind == BLOCK_BALLOONED ? g->way == WAY_OUT : g->way == WAY_IN && range_type(g->pgm, first) == PAGE_RAM;
}

/* Pages of one block, which is locked. */
static enum status change_block(struct giving *g, struct block *b, gpa_t first, unsigned pages)
{
	enum status status;

	b->flags &= ~(uint32_t)BLOCK_COLLAPSING;
	if (pages == PAGES_PER_BLOCK && block_kind(b) == BLOCK_LARGE && g->way == WAY_DISCARD) {
		discard_large(g, b, first);
		return OK;
	}
	if (!worth_records(g, b, first)) {
		g->refused += pages;
		g->refusal = range_type(g->pgm, first) == PAGE_RAM ? BAD_STATE : BAD_ADDRESS;
		return OK;
	}
	status = block_make_detailed(g->pgm, b, first, &g->gather);
	for (unsigned i = 0; i < pages && status == OK; i++)
		change_page(g, b, gpa(first.v + i * PAGE_SIZE));
	return status;
}

static enum status change(struct giving *g, gpa_t first, unsigned pages)
{
	struct block *b = block_find(g->pgm, first);
	unsigned before = g->changed;
	enum status status = OK;

	/* A guest that names pages that it doesn't have must not make us keep records of them. */
	if (!b && g->way == WAY_IN && range_type(g->pgm, first) == PAGE_RAM)
		status = block_get(g->pgm, first, &b);
	if (!b) {
		g->refused += pages;
		g->refusal = range_type(g->pgm, first) == PAGE_RAM ? BAD_STATE : BAD_ADDRESS;
		return status;
	}
	HOLD_BLOCK(b);
	status = change_block(g, b, first, pages);
	if (g->way == WAY_IN) {
		b->ballooned = (uint16_t)(b->ballooned + (g->changed - before));
		account_balloon(&g->pgm->account, g->changed - before);
	} else if (g->way == WAY_OUT) {
		balloon_shrunk(g->pgm, b, g->changed - before);
	}
	if (g->changed != before)
		block_fold(g->pgm, b, first, &g->gather);
	return status;
}

static enum status begin(struct giving *g, struct pgm *pgm, enum way way)
{
	g->pgm = pgm;
	g->way = way;
	g->refusal = OK;
	g->changed = g->refused = 0;
	gather_begin(&g->gather, &pgm->flush, &pgm->account);
	return pgm->preallocation.pages ? CONFLICT : OK;
}

enum status pgm_balloon(struct pgm *pgm, bool in, const uint32_t *page, unsigned count)
{
	struct giving g;
	enum status status = begin(&g, pgm, in ? WAY_IN : WAY_OUT);

	for (unsigned i = 0, n; i < count && status == OK; i += n) {
		for (n = 1; i + n < count && page[i + n] == page[i] + n && page[i + n] % PAGES_PER_BLOCK;)
			n++;
		status = change(&g, gpa((uint64_t)page[i] << PAGE_SHIFT), n);
	}
	gather_finish(&g.gather);
	COUNT_BY(pgm, balloon_in, in ? g.changed : 0);
	COUNT_BY(pgm, balloon_refused, g.refused);
	return status == OK ? g.refusal : status;
}

uint64_t pgm_discard(struct pgm *pgm, gpa_t from, uint64_t length)
{
	uint64_t at = align_down(from.v + PAGE_SIZE - 1, PAGE_SIZE);
	uint64_t end = align_down(from.v + min_u64(length, PGM_DISCARD_MOST), PAGE_SIZE);
	struct giving g;

	if (begin(&g, pgm, WAY_DISCARD) != OK || at < from.v || end < from.v)
		return 0;
	for (uint64_t next; at < end; at = next) {
		next = min_u64(end, align_down(at, BLOCK_SIZE) + BLOCK_SIZE);
		if (change(&g, gpa(at), (unsigned)((next - at) >> PAGE_SHIFT)) != OK)
			continue; /* its neighbours may do without memory */
	}
	gather_finish(&g.gather);
	COUNT_BY(pgm, discarded, g.changed);
	return g.changed;
}
