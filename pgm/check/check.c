/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Integrity of one machine's memory, on a running machine: block by block, each under its lock.
 *
 * What must hold: every frame of a record belongs to this machine and to this page; the record's type is its range's
 * and its handler mark the tree's; no second-level entry grants more than the record, points elsewhere, or
 * is anything but what slat_leaf() makes; what is held adds up to the accounts (check/sums.c).
 */
#include "pgm/check/finding.h"
#include "pgm/internal.h"
#include "pgm/slat/tables.h"

#define CHECK_RECORDS 4u /* blocks with records in a step */

static void check_frame(struct check *c, gpa_t where, hpa_t frame, bool large)
{
	struct frame_info info;

	frame_describe(frame, &info);
	if (info.state != FRAME_PRIVATE && info.state != FRAME_SHARED)
		finding(c, where, "its frame is neither private nor shared", frame.v);
	else if (info.state == FRAME_PRIVATE && info.owner != c->pgm->account.owner)
		finding(c, where, "its frame belongs to another owner", frame.v);
	else if (info.state == FRAME_PRIVATE && info.page.v != where.v)
		finding(c, where, "its frame is recorded for another page", info.page.v);
	if (info.large != large)
		finding(c, where, "large in the record and in the chunk don't agree", frame.v);
}

/* entry translates where; the record allows `rights` to `frame`. */
static void check_entry(struct check *c, gpa_t where, uint64_t entry, unsigned level, hpa_t frame, unsigned rights)
{
	const struct slat *s = &c->pgm->slat;
	hpa_t target = hpa(slat_frame(s, level, entry).v +
			   (where.v & (BIT(pt_shift(s->format, level)) - 1) & ~(PAGE_SIZE - 1)));

	if (slat_rights(s, entry) & ~rights)
		finding(c, where, "the table grants more than the record", entry);
	if (level && c->pgm->config.large_no_execute && (slat_rights(s, entry) & ACCESS_EXECUTE))
		finding(c, where, "a large leaf may be executed", entry);
	if (target.v != frame.v)
		finding(c, where, "the table points to another frame", entry);
	if ((entry ^ slat_leaf(s, level, slat_frame(s, level, entry), slat_rights(s, entry), MEMORY_TYPE_WB)) &
	    ~(s->format->accessed | s->format->dirty | (level ? 0 : SHADOW_WATCHED)))
		finding(c, where, "the table has bits that no leaf should have", entry);
}

static void check_mapping(struct check *c, gpa_t where, page_record r)
{
	unsigned level;
	uint64_t entry = *slat_find(&c->pgm->slat, where, &level);
	const char *wrong;
	hpa_t zero = hpa(pgm_zero_block.v + (level ? where.v & (BLOCK_SIZE - 1) & ~(PAGE_SIZE - 1) : 0));

	if (misconfig_is_mark(c->pgm, entry)) {
		if (misconfig_wrong(c->pgm, where, r))
			finding(c, where, "marked as MMIO where no handler stands alone", entry);
	} else if (slat_present(&c->pgm->slat, entry)) {
		check_entry(c, where, entry, level, page_has_frame(r) ? page_frame(r) : zero, page_rights(r));
	}
	wrong = dirty_check_page(c->pgm, where, entry, level);
	if (wrong)
		finding(c, where, wrong, entry);
}

/* A shadowed ROM's page shows one copy or the other. */
static bool type_fits(enum page_type range, page_record r)
{
	return range == page_get_type(r) || (range == PAGE_ROM && page_get_type(r) == PAGE_ROM_SHADOW);
}

static void check_pin(struct check *c, gpa_t where, page_record r)
{
	bool marked = r.bits & PAGE_PINNED;
	struct pgm_pin_info info;

	if (!marked && !__atomic_load_n(&c->pgm->pins.count, __ATOMIC_RELAXED))
		return;
	if (marked != pgm_pin_find(c->pgm, where, &info))
		finding(c, where, "its mark of a pin and the table of pins don't agree", r.bits);
	else if (marked && !page_has_frame(r) && !page_is_device(r)) /* MMIO2 may have moved away from under it */
		finding(c, where, "it is pinned and has no frame", r.bits);
}

static void check_record(struct check *c, gpa_t where, page_record r)
{
	const char *wrong = handler_check_page(c->pgm, where, r);

	if (r.bits & ~PAGE_RECORD_BITS)
		finding(c, where, "the record has bits without a meaning", r.bits);
	if (!type_fits(range_type(c->pgm, where), r) && !page_is_alias(r) && !removal_covers(c->pgm, where))
		finding(c, where, "the record's type isn't that of the range", r.bits);
	if (wrong)
		finding(c, where, wrong, page_get_handler(r));
	check_pin(c, where, r);
}

static void check_other_copy(struct check *c, gpa_t where)
{
	const struct rom_page *p = rom_page_at(c->pgm, where);

	if (p && !hpa_is_none(p->other))
		check_frame(c, where, p->other, false);
}

static void check_page(struct check *c, struct block *b, gpa_t where)
{
	page_record r = *page_of(b, where);

	if (page_owns_frame(r))
		check_frame(c, where, page_frame(r), false);
	if (page_get_type(r) == PAGE_ROM || page_get_type(r) == PAGE_ROM_SHADOW)
		check_other_copy(c, where);
	check_record(c, where, r);
	check_mapping(c, where, r);
}

static void check_detailed(struct check *c, struct block *b, gpa_t base)
{
	unsigned held = 0, ballooned = 0;

	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		gpa_t where = gpa(base.v + i * PAGE_SIZE);
		page_record r = *page_of(b, where);

		held += page_owns_frame(r);
		ballooned += page_get_state(r) == PAGE_BALLOONED;
		check_page(c, b, where);
	}
	if (held != b->held)
		finding(c, base, "the block's count of held pages is wrong", b->held);
	if (ballooned != b->ballooned)
		finding(c, base, "the block's count of ballooned pages is wrong", b->ballooned);
}

/* Where no records are, one leaf maps the block or nothing does. */
static void check_no_small(struct check *c, gpa_t base)
{
	unsigned level;

	slat_find(&c->pgm->slat, base, &level);
	if (!level)
		finding(c, base, "a table of pages under a block without records",
			block_kind(block_find(c->pgm, base)));
}

static void check_large(struct check *c, struct block *b, gpa_t base)
{
	bool fine = b->flags & BLOCK_FINE; /* else the first and the last say it for all: one leaf, one chunk */

	if (!fine)
		check_no_small(c, base);
	else if (dirty_mode(c->pgm) == DIRTY_OFF && !c->pgm->dirty.busy)
		finding(c, base, "a large block by 4 KiB without a dirty log", b->flags);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i += fine ? 1 : 511) {
		gpa_t where = gpa(base.v + i * PAGE_SIZE);
		page_record r = block_record(b, where);

		check_frame(c, where, page_frame(r), true);
		check_mapping(c, where, r);
	}
}

/* Marks of MMIO, and nothing else, may stand in a table under a block without records. */
static void check_marks(struct check *c, gpa_t base)
{
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		gpa_t where = gpa(base.v + i * PAGE_SIZE);
		unsigned level;
		uint64_t entry = *slat_find(&c->pgm->slat, where, &level);

		if (entry && !misconfig_is_mark(c->pgm, entry))
			finding(c, where, "a page is mapped under a block without records", entry);
		else if (entry && misconfig_wrong(c->pgm, where, (page_record){ 0 }))
			finding(c, where, "marked as MMIO where no handler stands alone", entry);
	}
}

static void check_untouched(struct check *c, gpa_t base)
{
	page_record r = { 0 };
	unsigned level;

	slat_find(&c->pgm->slat, base, &level);
	if (!level) {
		check_marks(c, base);
		return;
	}
	page_set_type(&r, block_plain(c->pgm, base) ? PAGE_RAM : PAGE_INVALID);
	check_mapping(c, base, r);
}

/* Locked, and the handlers held still, so that marks can be held against them. */
static void check_block(struct pgm *pgm, struct block *b, gpa_t base, void *context)
{
	struct check *c = context;

	if (block_kind(b) != BLOCK_DETAILED && b->ballooned != (block_kind(b) == BLOCK_BALLOONED ? PAGES_PER_BLOCK : 0))
		finding(c, base, "the block's count of ballooned pages is wrong", b->ballooned);
	if (b->slot && b->slot != slat_block_entry(&pgm->slat, base))
		finding(c, base, "the block knows a wrong place for its second-level entry", block_kind(b));
	switch (block_kind(b)) {
	case BLOCK_LARGE: check_large(c, b, base); break;
	case BLOCK_DETAILED: check_detailed(c, b, base); break;
	default: check_untouched(c, base); break;
	}
	shadow_check_block(c, b, base);
}

/* Frames that wait for their page: the machine's, and nobody's page yet. */
static void check_handy(struct check *c, struct handy *h)
{
	struct frame_info info;

	HOLD(&h->lock);
	for (unsigned i = 0; i < h->count && i < HANDY_SIZE; i++) {
		frame_describe(h->frame[i], &info);
		if (info.state != FRAME_PRIVATE || info.owner != c->pgm->account.owner || info.page.v < PGM_MAX_GPA)
			finding(c, info.page, "a frame of the reserve is somebody's", h->frame[i].v);
	}
}

unsigned pgm_check_page(struct pgm *pgm, gpa_t where, void (*report)(void *context, const char *line), void *context)
{
	struct check c = { .pgm = pgm, .report = report, .context = context };
	struct block *b = block_find(pgm, where);

	if (!b)
		return 0;
	HOLD(&pgm->handlers.lock);
	block_lock(b);
	switch (block_kind(b)) {
	case BLOCK_LARGE: check_large(&c, b, gpa(align_down(where.v, BLOCK_SIZE))); break;
	case BLOCK_DETAILED: check_page(&c, b, gpa(align_down(where.v, PAGE_SIZE))); break;
	default: break;
	}
	block_unlock(b);
	return c.findings;
}

enum status pgm_check_step(struct pgm *pgm, struct pgm_check *check)
{
	struct check c = {
		.pgm = pgm, .report = check->report, .context = check->context, .findings = check->findings
	};
	enum status status = BUSY;

	switch (check->phase) {
	case 0:
		lock_acquire(&pgm->handlers.lock);
		check->phase = blocks_step(pgm, &check->cursor, CHECK_RECORDS, check_block, &c) == OK;
		lock_release(&pgm->handlers.lock);
		break;
	case 1:
		for (struct pgm_local *l = &pgm->common; l; l = local_next(l))
			check_handy(&c, &l->handy);
		handlers_check(&c);
		shadow_check(&c);
		check->phase++;
		break;
	default: status = check_sums(&c, check->phase++ - 1);
	}
	check->findings = c.findings;
	return status;
}
