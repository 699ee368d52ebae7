/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside PGM: struct pgm and what its files share. Nothing outside pgm/ includes this
 * (the unit tests do).
 *
 * Lock order within: handlers.lock → pgm->lock (ranges, directory growth) → a block's lock → the
 * reserve's lock → mm. Reading ranges, finding blocks and handlers takes no lock.
 */
#pragma once

#include "pgm/page/block.h"

/* fault.c: any fault; all that is counted of it, but that it came. b: as block_find() has found it. Not locked. */
enum pgm_verdict fault_long(struct pgm *pgm, struct block *b, gpa_t where, unsigned access, bool again,
			    struct pgm_vcpu_counters *count);

/* local.c: mark: fewer frames are few. The list goes when no vcpu runs any more. */
void local_init(struct pgm *pgm, struct pgm_local *l, unsigned mark);
void locals_destroy(struct pgm *pgm);

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

struct check; /* check/finding.h */
/* check/handler.c */
/* What is wrong with this record's mark, or NULL. handlers.lock and the block's lock held. */
const char *handler_check_page(struct pgm *pgm, gpa_t page, page_record r);
void handlers_check(struct check *c);

/* check/shadow.c: composed entries that show the block, which is locked; and all composed tables, without a lock. */
void shadow_check_block(struct check *c, struct block *b, gpa_t base);
void shadow_check(struct check *c);

/* check/sums.c: part of pgm_check_step(). BUSY: once more, it is the attempt-th, from 1 on. No lock held. */
enum status check_sums(struct check *c, unsigned attempt) must_check;

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
