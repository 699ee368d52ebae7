/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside PGM: struct pgm and what its files share. Nothing outside pgm/ includes this
 * (the unit tests do).
 *
 * Lock order within: handlers.lock → pgm->lock (ranges, directory growth) → a block's lock → the
 * reserve's lock → mm. Reading ranges, finding blocks and handlers takes no lock.
 */
#pragma once

#include "arch/x86_64/log.h"
#include "lib/memory.h"
#include "mm/frame.h"
#include "mm/map.h"
#include "pgm/shadow/a20.h"
#include "pgm/shadow/reverse.h"
#include "pgm/shadow/shadow.h"
#include "pgm/dirty/internal.h"
#include "pgm/handler/handler.h"
#include "pgm/page/large.h"
#include "pgm/slat/misconfig.h"
#include "pgm/range/mmio2.h"
#include "pgm/pgm.h"
#include "pgm/reset.h"
#include "pgm/range/rom.h"
#include "pgm/slat/slat.h"

/* The directory: one page of 128 descriptors per 256 MiB of guest-physical space. */
#define DIRECTORY_SHIFT 28
#define DIRECTORY_BLOCKS 128u
_Static_assert(DIRECTORY_BLOCKS * sizeof(struct block) == PAGE_SIZE, "a directory page is one page");
_Static_assert(BLOCK_SHIFT + 7 == DIRECTORY_SHIFT, "128 blocks are 256 MiB");

#define HANDY_SIZE 128u
#define HANDY_LOW 32u
#define HANDY_REFILL 32u
#define FAULT_AROUND 16u
#define ALL_RIGHTS (ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE)
#define RAM_TYPE MEMORY_TYPE_WB /* intake takes in only memory that the MTRRs call WB */
#define PGM_ROM_PAGES 64u       /* every machine is promised so many beside its RAM */

struct range_table {
	uint64_t generation; /* atomic; odd while it changes */
	unsigned count;
	struct pgm_range range[PGM_MAX_RANGES]; /* sorted by base, disjoint */
};

struct handy {
	struct spinlock lock; /* RANK_RESERVE */
	unsigned count;
	bool low; /* atomic: taken from since the last refill, and below HANDY_LOW */
	hpa_t frame[HANDY_SIZE];
};

struct pgm {
	struct spinlock lock; /* RANK_PGM */
	struct account account;
	struct flush_domain flush;
	struct pgm_config config;
	struct slat slat;
	struct block **directory;
	uint64_t directory_count;
	struct range_table ranges;
	struct handy handy;
	struct handler_table handlers;
	struct dirty_log dirty;
	struct pgm_counters counters;
	struct rom *roms;      /* the shadowed ones; rom.c */
	uint64_t rom_pages;    /* that pgm_add_rom and pgm_add_shadowed_rom have promised */
	int64_t beside_blocks; /* BASE pages that no block holds, less pages in blocks that are not BASE; atomic */
	struct mmio2 *mmio2;   /* under the machine's lock; mmio2.c */
	struct shadow_pool shadow;
	uint32_t aliases;     /* pages that show one of MMIO2 beside it, or are about to; atomic */
	uint32_t mark_tables; /* tables made for misconfig.c's marks; atomic */
	struct reset_state reset;
	unsigned end_phase; /* end.c */
	uint64_t end_cursor;
	bool built; /* what is added now is beyond what the accounts were opened for */
	struct collapse collapse;
	struct pins pins;
	struct removal removal;
	struct preallocation preallocation;
};

#define COUNT_BY(pgm, name, by) ((void)__atomic_fetch_add(&(pgm)->counters.name, by, __ATOMIC_RELAXED))
#define COUNT(pgm, name) COUNT_BY(pgm, name, 1)

static inline enum dirty_mode dirty_mode(const struct pgm *pgm)
{
	return (enum dirty_mode)__atomic_load_n(&pgm->dirty.mode, __ATOMIC_RELAXED);
}

/* The hypervisor writes this page, or gives it a frame. The block is locked. */
static inline void dirty_written(struct pgm *pgm, gpa_t where)
{
	if (unlikely(dirty_mode(pgm) != DIRTY_OFF))
		pgm_dirty_note(pgm, where);
}

/*
 * Which of the 64 pages around `where` the log lets a guest write: all; by write protection those that it has noted. The records
 * know nothing of it. The block is locked.
 */
static inline uint64_t dirty_open(struct pgm *pgm, gpa_t where)
{
	return likely(dirty_mode(pgm) != DIRTY_WRITE_PROTECT) ? ~UINT64_C(0) : dirty_noted(pgm, where);
}
static inline bool dirty_is_open(struct pgm *pgm, gpa_t where)
{
	return dirty_open(pgm, where) >> (where.v >> PAGE_SHIFT & (DIRTY_WORD_PAGES - 1)) & 1;
}

/* The guest's write to a page for which only dirty_open() refuses it: noted. */
static inline void dirty_caught(struct pgm *pgm, gpa_t where)
{
	__atomic_fetch_add(&pgm->dirty.faults, 1, __ATOMIC_RELAXED);
	pgm_dirty_note(pgm, where);
}

/* The host's 2 MiB of zeros; its first page serves as the zero page. */
extern hpa_t pgm_zero_block;

/* block.c */
/* NULL: above the directory or, without create, in a 256 MiB that nothing touched; create: also out of memory. */
static inline struct block *block_find(const struct pgm *pgm, gpa_t where)
{
	uint64_t slot = where.v >> DIRECTORY_SHIFT;
	struct block *page;

	if (unlikely(slot >= pgm->directory_count))
		return NULL;
	page = __atomic_load_n(&pgm->directory[slot], __ATOMIC_ACQUIRE);
	return page ? &page[where.v >> BLOCK_SHIFT & (DIRECTORY_BLOCKS - 1)] : NULL;
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
/* The record of one of its pages; of a large one what it would be. Locked, and not untouched. */
static inline page_record block_record(struct block *b, gpa_t where)
{
	page_record r = { (uint64_t)PAGE_RAM << PAGE_TYPE_SHIFT | PAGE_WRITTEN };

	if (block_kind(b) == BLOCK_DETAILED)
		return *page_of(b, where);
	page_set(&r, PAGE_ALLOCATED, hpa(block_address(b).v | (where.v & (BLOCK_SIZE - 1) & ~(PAGE_SIZE - 1))));
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
/* Untouched → detailed, large → detailed. Locked. NO_MEMORY, OVER_QUOTA leave it as it was. Updates the tables. */
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
static inline void page_give(struct pgm *pgm, struct block *b, gpa_t where, hpa_t frame)
{
	page_record *r = page_of(b, where);

	if (likely(page_get_state(*r) != PAGE_SHARED)) {
		b->held++;
		COUNT(pgm, allocated);
	}
	page_set(r, PAGE_ALLOCATED, frame);
	r->bits |= PAGE_WRITTEN;
	dirty_written(pgm, where);
}
/* What the tables may grant for this record: for any, and the quick answer for most. */
unsigned page_rights_special(page_record record);
static inline unsigned page_rights(page_record record)
{
	if (unlikely(!page_is_plain(record)))
		return page_rights_special(record);
	return ACCESS_READ | ACCESS_EXECUTE | (page_get_state(record) == PAGE_ALLOCATED ? ACCESS_WRITE : 0);
}

/* reserve.c: a zeroed frame for the page at `where`, from the reserve if it has one; NO_MEMORY, OVER_QUOTA when mm says so. */
enum status handy_take(struct pgm *pgm, gpa_t where, hpa_t *frame) must_check;
/* The same, only if the reserve has one. */
static inline bool handy_pop(struct pgm *pgm, gpa_t where, hpa_t *frame)
{
	struct handy *h = &pgm->handy;
	bool any;

	lock_acquire(&h->lock);
	any = h->count != 0;
	if (likely(any))
		*frame = h->frame[--h->count];
	if (unlikely(h->count < HANDY_LOW))
		__atomic_store_n(&h->low, true, __ATOMIC_RELAXED);
	lock_release(&h->lock);
	if (unlikely(!any))
		return false;
	frame_assign(*frame, where);
	COUNT(pgm, handy_allocs);
	return true;
}
/* One batch more, if there is room; false: none came. No lock may be held. */
bool handy_refill(struct pgm *pgm);
/* At the end of what may have taken from it: none is held any more. */
static inline void handy_settle(struct pgm *pgm)
{
	if (likely(!__atomic_load_n(&pgm->handy.low, __ATOMIC_RELAXED)))
		return;
	__atomic_store_n(&pgm->handy.low, false, __ATOMIC_RELAXED);
	handy_refill(pgm);
}
void handy_drain(struct pgm *pgm, struct gather *gather);

/* fault.c: any fault; all that is counted of it, but that it came. b: as block_find() has found it. Not locked. */
enum pgm_verdict fault_long(struct pgm *pgm, struct block *b, gpa_t where, unsigned access, bool again,
			    struct pgm_vcpu_counters *count);

/* What of these bytes lies in their first page. */
static inline size_t to_page_end(gpa_t where, size_t length)
{
	return min_u64(PAGE_SIZE - (where.v & (PAGE_SIZE - 1)), length);
}

/* phys.c: the ordinary access, past all handlers, within one page; all ones and ignored where no memory is. */
#define WAY_ROM 1u  /* writes ROM too */
#define WAY_PAST 2u /* as if no handler were there */
enum status phys_read_past(struct pgm *pgm, gpa_t from, void *to, size_t length) must_check;
enum status phys_write_past(struct pgm *pgm, gpa_t to, const void *from, size_t length, unsigned way) must_check;

/*
 * handler/access.c: an access within one page of which a handler may cover some or all. *served tells how many bytes
 * were done before an error.
 */
enum status handler_read(struct pgm *pgm, gpa_t from, uint8_t *to, size_t length, enum pgm_origin origin,
			 size_t *served) must_check;
enum status handler_write(struct pgm *pgm, gpa_t to, const uint8_t *from, size_t length, enum pgm_origin origin,
			  unsigned way, size_t *served) must_check;
/* Does an armed handler want a write to any of these bytes? */
bool handler_wants_write(struct pgm *pgm, gpa_t where, size_t length);

/* check/mark.c */
/* What is wrong with this record's mark, or NULL. handlers.lock and the block's lock held. */
const char *handler_check_page(struct pgm *pgm, gpa_t page, page_record r);
unsigned handlers_check(struct pgm *pgm, void (*report)(void *context, const char *line), void *context);

/* check/shadow.c: composed entries that show the block, which is locked; and all composed tables, without a lock. */
unsigned shadow_check_block(struct pgm *pgm, struct block *b, gpa_t base,
			    void (*report)(void *context, const char *line), void *context);
unsigned shadow_check(struct pgm *pgm, void (*report)(void *context, const char *line), void *context);

/* check/sums.c: part of pgm_check_step(). BUSY: once more, it is the attempt-th, from 1 on. No lock held. */
enum status check_sums(struct pgm *pgm, unsigned attempt, void (*report)(void *context, const char *line),
		       void *context, unsigned *findings) must_check;

/* range.c */
/*
 * For who goes through the table by index, where a change may move the ranges: begins, and tells whether to begin anew.
 *	do { generation = ranges_begin(pgm); ... } while (ranges_changed(pgm, generation));
 */
uint64_t ranges_begin(struct pgm *pgm);
bool ranges_changed(struct pgm *pgm, uint64_t generation);
/* The type at an address, PAGE_INVALID where nothing is: pgm_range_find for those who need no more. */
enum page_type range_type(struct pgm *pgm, gpa_t where);
/* Nobody answers here but a handler, if one. */
static inline bool type_is_mmio(enum page_type type)
{
	return type == PAGE_INVALID || type == PAGE_MMIO;
}
enum status range_add(struct pgm *pgm, gpa_t base, uint64_t size, enum page_type type, const char *name) must_check;
/* Takes the range that begins at `base`, if there is one, out of the table. pgm->lock held. */
void range_take_out(struct range_table *t, gpa_t base);
/* The same, takes the lock. The records are the caller's business. */
void range_remove(struct pgm *pgm, gpa_t base);
