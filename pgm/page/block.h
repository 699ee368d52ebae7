/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks and pages, for all of pgm/: how they are found, become detailed or large, get frames of their own and lose what maps
 * them. A block's lock guards its descriptor, its records and its entries; finding a block takes none.
 */
#pragma once

#include "pgm/state.h"

/* NULL: above the directory or, without create, in a 256 MiB that nothing touched; create: also out of memory. */
static inline struct block *block_find(const struct pgm *pgm, gpa_t where)
{
	uint64_t slot = where.v >> DIRECTORY_SHIFT;
	struct block *page;

	if (unlikely(slot >= pgm->directory_count))
		return NULL;
	page = __atomic_load_n(&pgm->directory[slot], __ATOMIC_ACQUIRE);
	return page ? &page[(where.v >> BLOCK_SHIFT) * DIRECTORY_STRIDE & (DIRECTORY_BLOCKS - 1)] : NULL;
}
enum status block_get(struct pgm *pgm, gpa_t where, struct block **out) must_check;
/* No records and no range: a guest that pokes about must not make us keep records of nothing. No lock. */
bool block_nothing(struct pgm *pgm, gpa_t where);
static inline page_record *block_records(struct block *b)
{
	return direct_pointer(block_address(b));
}
static inline page_record *page_of(struct block *b, gpa_t where)
{
	return &block_records(b)[where.v >> PAGE_SHIFT & (PAGES_PER_BLOCK - 1)];
}
/* The record of one of its pages; where there are none what it would be, if it is RAM. Locked. */
static inline page_record block_record(struct block *b, gpa_t where)
{
	enum block_kind kind = block_kind(b);
	page_record r = { (uint64_t)PAGE_RAM << PAGE_TYPE_SHIFT };

	if (kind == BLOCK_DETAILED)
		return *page_of(b, where);
	if (unlikely(kind < BLOCK_LARGE)) {
		page_set(&r, kind == BLOCK_BALLOONED ? PAGE_BALLOONED : PAGE_ZERO, hpa(0));
		return r;
	}
	page_set(&r, PAGE_ALLOCATED, hpa(block_address(b).v | (where.v & (BLOCK_SIZE - 1) & ~(PAGE_SIZE - 1))));
	r.bits |= PAGE_WRITTEN;
	return r;
}
/* b->slot is known afterwards. CONFLICT: a 1 GiB leaf is above. NO_MEMORY, OVER_QUOTA. Locked. */
enum status block_find_slot(struct pgm *pgm, struct block *b, gpa_t where) must_check;
static inline enum status block_own_slot(struct pgm *pgm, struct block *b, gpa_t where)
{
	return likely(b->slot != NULL) ? OK : block_find_slot(pgm, b, where);
}
/* Visits the blocks that have a descriptor, locked, with what of first..end (bytes) lies in each; ends at the first status that isn't OK. */
typedef enum status block_visitor(struct pgm *pgm, struct block *b, uint64_t first, uint64_t end, void *context);
enum status blocks_visit(struct pgm *pgm, uint64_t first, uint64_t end, block_visitor *visit, void *context) must_check;
/*
 * The same in bounded steps, over all of memory from *cursor on (an address, 0 at first): up to `records` blocks with records or a
 * table of pages, or 64 times as many others. BUSY: go on with this cursor; OK: that was the last, and it is 0 again.
 */
enum status blocks_step(struct pgm *pgm, uint64_t *cursor, unsigned records,
			void (*visit)(struct pgm *pgm, struct block *b, gpa_t base, void *context),
			void *context) must_check;
/* For visits that look at each page, with some instructions for it. */
#define STEP_RECORDS 64u
/* The leaf of 4 KiB at `where`, for which a table is made if need be. As block_own_slot(); CONFLICT also: a large leaf is there. */
enum status block_leaf(struct pgm *pgm, struct block *b, gpa_t where, uint64_t **leaf) must_check;
/* Any kind → detailed. Locked. NO_MEMORY, OVER_QUOTA leave it as it was. Updates the tables. */
enum status block_make_detailed(struct pgm *pgm, struct block *b, gpa_t where, struct gather *gather) must_check;
/*
 * What maps the page at `where`, or anything in the block, goes: of the first tables, and of what was derived from them. Locked;
 * the gather flushes.
 */
static inline void page_unmap(struct pgm *pgm, struct block *b, gpa_t where, struct gather *gather)
{
	slat_drop_page(&pgm->slat, b->slot, where, gather);
	reverse_drop_page(pgm, b, where, gather);
}
static inline void block_unmap(struct pgm *pgm, struct block *b, gpa_t where, struct gather *gather)
{
	slat_drop_block(&pgm->slat, b->slot, where, gather);
	reverse_drop_block(pgm, b, gather);
}
/* Every block from `first` to `end` (bytes): their records are there, and no operation on their pages allocates any. No lock. */
enum status blocks_make_detailed(struct pgm *pgm, uint64_t first, uint64_t end) must_check;
/* Untouched and not mixed → large, zeroed. Locked. Nobody sees the zeros any more that were mapped until now. */
enum status block_make_large(struct pgm *pgm, struct block *b, gpa_t where, struct gather *gather) must_check;
/* Would that need a chunk which must be cleared first? Then a slice of it has been cleared now. No lock. */
bool block_clearing(struct pgm *pgm, gpa_t where);
/* Is the 2 MiB block around `where` RAM of one range from end to end? */
bool block_plain(struct pgm *pgm, gpa_t where);

/* balloon.c, with the block locked: so many of its ballooned pages aren't any more. */
void balloon_shrunk(struct pgm *pgm, struct block *b, unsigned pages);
/*
 * Detailed, and nothing in its records that the ranges don't say, or that all of it is ballooned? Then it needs neither them nor
 * a table.
 */
void block_fold(struct pgm *pgm, struct block *b, gpa_t where, struct gather *gather);

/* page.c: all with the block locked and detailed */
/*
 * The one way by which a page gets a frame of its own, out of ZERO, BALLOONED or SHARED; one that has it keeps it. When it
 * comes no processor uses the page's old translation any more. NO_MEMORY, OVER_QUOTA: all is as it was.
 */
enum status page_own_slow(struct pgm *pgm, struct block *b, gpa_t where, struct gather *gather) must_check;
static inline enum status page_own(struct pgm *pgm, struct block *b, gpa_t where, struct gather *gather)
{
	return likely(page_is_private(*page_of(b, where))) ? OK : page_own_slow(pgm, b, where, gather);
}
/* page_own()'s last step: the record has this frame from now on. */
static inline void page_give(struct pgm *pgm, struct pgm_local *l, struct block *b, gpa_t where, hpa_t frame)
{
	page_record *r = page_of(b, where);

	if (likely(page_get_state(*r) != PAGE_SHARED)) {
		b->held++;
		LOCAL_COUNT(l, allocated, 1);
	}
	if (unlikely(page_get_state(*r) == PAGE_BALLOONED))
		balloon_shrunk(pgm, b, 1);
	page_set(r, PAGE_ALLOCATED, frame);
	r->bits |= PAGE_WRITTEN;
	dirty_written(pgm, where);
}
/* share.c; one CPU at a time does either of the next two: the worker. No lock held. */
/* Reads the page, which may change meanwhile. CONFLICT: nothing that could be shared, or shared already and no such one asked for; NOT_FOUND: nothing at all. */
enum status page_look(struct pgm *pgm, gpa_t where, bool shared, struct page_sight *sight) must_check;
/*
 * The page at `where` shows *with from now on: pgm_zero_block, and holds no frame any more; or a shared frame of the machine's group;
 * HPA_NONE: a new one. CONFLICT: it can't be, or has another content; NOT_FOUND, LIMIT: see frame_share_more(); NO_MEMORY, OVER_QUOTA. In
 * all of these it is as it was.
 */
enum status page_share(struct pgm *pgm, gpa_t where, hpa_t *with) must_check;
/*
 * The one engine by which a page that has a frame gets another with the same content: what maps it goes and is flushed, then `to` gets the
 * content, or is compared with it; the old frame goes to `old`, which needs no flush of its own any more. CONFLICT: they
 * differ, and only what mapped it is gone. Locked, detailed, page_fit(), PAGE_ALLOCATED or PAGE_SHARED.
 */
enum status page_replace(struct pgm *pgm, struct block *b, gpa_t where, enum page_state state, hpa_t to, bool copy,
			 struct gather *gather, struct gather *old) must_check;
/* What the tables may grant for this record: for any, and the quick answer for most. */
unsigned page_rights_special(page_record record);
static inline unsigned page_rights(page_record record)
{
	if (unlikely(!page_is_plain(record)))
		return page_rights_special(record);
	return ACCESS_READ | ACCESS_EXECUTE | (page_get_state(record) == PAGE_ALLOCATED ? ACCESS_WRITE : 0);
}

/*
 * reserve.c: a zeroed frame for the page at `where`, from the reserve if it has one, even if another vcpu's; NO_MEMORY, OVER_QUOTA when
 * mm says so.
 */
enum status handy_take(struct pgm *pgm, struct pgm_local *l, gpa_t where, hpa_t *frame) must_check;
/* The same, only if this part of the reserve has one. */
static inline bool handy_pop(struct pgm_local *l, gpa_t where, hpa_t *frame)
{
	struct handy *h = &l->handy;
	unsigned left;
	bool any;

	lock_acquire(&h->lock);
	left = h->count;
	any = left != 0;
	if (likely(any)) {
		*frame = h->frame[--left];
		__atomic_store_n(&h->count, left, __ATOMIC_RELAXED);
	}
	if (unlikely(left < h->mark))
		__atomic_store_n(&h->low, true, __ATOMIC_RELAXED);
	lock_release(&h->lock);
	if (unlikely(!any))
		return false;
	frame_assign(*frame, where);
	LOCAL_COUNT(l, handy_allocs, 1);
	return true;
}
/* One batch more for the stock, if there is room; false: none came. No lock may be held: it clears what isn't zero. */
bool handy_refill(struct pgm *pgm);
void handy_settle_low(struct pgm *pgm, struct pgm_local *l);
/* At the end of what may have taken from it: no lock is held any more. */
static inline void handy_settle(struct pgm *pgm, struct pgm_local *l)
{
	if (unlikely(__atomic_load_n(&l->handy.low, __ATOMIC_RELAXED)))
		handy_settle_low(pgm, l);
}
/* The vcpu's own frames go to the stock; what it has no room for, back to mm. No lock held. */
void handy_return(struct pgm_local *l);
/* All of it, the vcpus' too; or what of it lies in this chunk. */
void handy_drain(struct pgm *pgm, hpa_t chunk, struct gather *gather);
/* How many frames there are; by and large, while vcpus run. */
unsigned handy_count(const struct pgm *pgm);
