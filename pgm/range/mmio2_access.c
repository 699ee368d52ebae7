/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device does with its MMIO2 region: reads and writes by itself, and asks which pages were written. The true record of a page
 * is the block's while the region is mapped (mmio2.c).
 */
#include "pgm/copy.h"
#include "pgm/internal.h"

/* Visits page i's true record, its block locked while it's mapped. */
static void visit(struct pgm *pgm, struct mmio2 *m, uint64_t i, struct gather *gather,
		  void (*what)(struct pgm *, page_record *, gpa_t, struct gather *, bool *), bool *flag)
{
	gpa_t where = gpa(m->base.v + (i << PAGE_SHIFT));
	struct block *b;

	if (!m->mapped) {
		what(pgm, &m->page[i], where, NULL, flag);
		return;
	}
	b = block_find(pgm, where);
	HOLD_BLOCK(b);
	what(pgm, page_of(b, where), where, gather, flag);
}

/*
 * May someone write this page without a trace: through a pin, or where an alias shows its frame? Then it is dirty at each
 * asking, and once more when the last alias has gone: until our flush a processor may still write through that.
 */
static bool written_elsewhere(struct pgm *pgm, page_record *r, gpa_t where, struct gather *gather)
{
	struct pgm_pin_info pin;

	if ((r->bits & PAGE_PINNED) && pgm_pin_find(pgm, where, &pin) && pin.writes)
		return true;
	if (!(r->bits & PAGE_ALIASED))
		return false;
	if (!gather || __atomic_load_n(&pgm->aliases, __ATOMIC_ACQUIRE))
		return true;
	r->bits &= ~PAGE_ALIASED;
	dirty_written(pgm, where);
	gather_flush(gather);
	return false;
}

/* *flag: track from now on; comes back as "was dirty". */
static void clean_page(struct pgm *pgm, page_record *r, gpa_t where, struct gather *gather, bool *flag)
{
	bool dirty = mmio2_is_dirty(*r);

	if (*flag && dirty && !written_elsewhere(pgm, r, where, gather)) {
		page_set(r, PAGE_MONITORED, page_frame(*r));
		r->bits &= ~PAGE_WRITTEN;
		if (gather) {
			page_unmap(pgm, block_find(pgm, where), where, gather);
			gather_flush(gather);
		}
	}
	*flag = dirty;
}

enum status mmio2_alias(struct pgm *pgm, gpa_t where, hpa_t *frame, bool *fresh)
{
	struct block *b = block_find(pgm, where);
	page_record *r;

	if (!b)
		return BAD_ADDRESS;
	HOLD_BLOCK(b);
	if (block_kind(b) != BLOCK_DETAILED || page_get_type(*(r = page_of(b, where))) != PAGE_MMIO2)
		return BAD_ADDRESS;
	*fresh = !(r->bits & PAGE_ALIASED);
	b->flags |= BLOCK_ALIASED;
	r->bits |= PAGE_ALIASED;
	mmio2_written(r);
	*frame = page_frame(*r);
	return OK;
}

void mmio2_unalias(struct pgm *pgm, gpa_t where)
{
	struct block *b = block_find(pgm, where);

	HOLD_BLOCK(b);
	/* Whoever else just makes one has counted it before it marks the page. */
	if (__atomic_load_n(&pgm->aliases, __ATOMIC_ACQUIRE) == 1)
		page_of(b, where)->bits &= ~PAGE_ALIASED;
}

/* *flag: it's mapped, and its block locked: the machine's log wants to know. */
static void dirty_page(struct pgm *pgm, page_record *r, gpa_t where, struct gather *gather, bool *flag)
{
	mmio2_written(r);
	if (*flag)
		dirty_written(pgm, where);
}

/* All pages; bitmap, if not NULL: those that were dirty. */
static void sweep(struct pgm *pgm, struct mmio2 *m, bool clean, bool wanted, uint64_t *bitmap)
{
	GATHER(gather, &pgm->flush, &pgm->account);
	for (uint64_t i = 0; i < m->pages; i++) {
		uint64_t bit = BIT(i % 64);
		bool flag = wanted;

		visit(pgm, m, i, &gather, clean ? clean_page : dirty_page, &flag);
		if (bitmap)
			bitmap[i / 64] = flag ? bitmap[i / 64] | bit : bitmap[i / 64] & ~bit;
	}
}

void pgm_mmio2_track(struct pgm *pgm, struct mmio2 *m, bool on)
{
	sweep(pgm, m, on, on || m->mapped, NULL);
	m->tracked = on;
}

enum status pgm_mmio2_query_dirty(struct pgm *pgm, struct mmio2 *m, uint64_t *bitmap, uint64_t bits)
{
	if (bits < m->pages)
		return BAD_VALUE;
	COUNT(pgm, mmio2_queries);
	sweep(pgm, m, true, m->tracked, bitmap);
	return OK;
}

/* One way or the other: to or from, page by page. */
static enum status copy(struct pgm *pgm, struct mmio2 *m, uint64_t offset, uint8_t *to, const uint8_t *from,
			size_t length)
{
	uint64_t size = m->pages << PAGE_SHIFT, end = offset + length, at = offset;
	bool mapped = m->mapped;

	if (offset > size || length > size - offset)
		return BAD_ADDRESS;
	for (size_t piece; at < end; at += piece) {
		hpa_t place = hpa(page_frame(m->page[at >> PAGE_SHIFT]).v | (at & (PAGE_SIZE - 1)));

		piece = min_u64(PAGE_SIZE - (at & (PAGE_SIZE - 1)), end - at);
		if (to) {
			copy_out(place, to + (at - offset), piece);
			continue;
		}
		copy_in(place, from + (at - offset), piece);
		visit(pgm, m, at >> PAGE_SHIFT, NULL, dirty_page, &mapped);
	}
	return OK;
}

enum status pgm_mmio2_read(struct pgm *pgm, struct mmio2 *m, uint64_t offset, void *to, size_t length)
{
	return copy(pgm, m, offset, to, NULL, length);
}

enum status pgm_mmio2_write(struct pgm *pgm, struct mmio2 *m, uint64_t offset, const void *from, size_t length)
{
	return copy(pgm, m, offset, NULL, from, length);
}
