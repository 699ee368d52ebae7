/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the handlers' tree and the pages: what operations on handlers share. Private to pgm's handler files.
 * Everything here wants handlers.lock held, but for handler_edge_is_off().
 */
#ifndef PGM_HANDLER_MARK_H
#define PGM_HANDLER_MARK_H

#include "pgm/internal.h"

/* One operation: holds handlers.lock from begin to end, and flushes after it is released. */
struct handler_operation {
	struct pgm *pgm;
	struct handler_node node; /* the handler that is operated on */
	struct gather gather;
};

/* BUSY: inside a handler that keeps the lock. */
enum status handler_begin(struct handler_operation *o, struct pgm *pgm) must_check;
/* The same, and loads the handler that starts at `first`. NOT_FOUND. Nothing is held unless OK. */
enum status handler_begin_at(struct handler_operation *o, struct pgm *pgm, gpa_t first) must_check;
void handler_end(struct handler_operation *o);
/* Ends, and when all went well waits until no call that began before is in progress. */
enum status handler_end_quiet(struct handler_operation *o, enum status status) must_check;
/* o->node, whose range is the same, goes back into the tree. */
void handler_write_back(struct handler_operation *o);

struct handler_type_entry *handler_type_entry(struct pgm *pgm, handler_type type);
static inline bool handler_is_mmio(const struct pgm *pgm, const struct handler_node *n)
{
	return pgm->handlers.type[n->type].kind == HANDLER_KIND_MMIO;
}

/* Range, alignment and what is below, for a handler of this type. BAD_VALUE, BAD_ADDRESS, CONFLICT. */
enum status handler_check_bounds(struct pgm *pgm, const struct handler_type_entry *type, uint64_t first,
				 uint64_t last) must_check;

static inline bool handler_covers_page(const struct handler_node *n, uint64_t page)
{
	return n->first <= page && n->last >= page + PAGE_SIZE - 1;
}

/* The EDGE_* bit for a page that is covered in part. */
static inline unsigned handler_edge(const struct handler_node *n, uint64_t page)
{
	return n->first >> PAGE_SHIFT == page >> PAGE_SHIFT ? EDGE_HEAD : EDGE_TAIL;
}

/* Is it off where it covers only a part of the page around `where`? Whole pages have that in the record. */
static inline bool handler_edge_is_off(const struct handler_node *n, uint64_t where)
{
	uint64_t page = align_down(where, PAGE_SIZE);

	return !handler_covers_page(n, page) && (n->edges_off & handler_edge(n, page));
}

/*
 * What the record of this page must be by the tree: mark, software bit, and for an alias whose handler is gone,
 * type and frame. Without rearm a page that one handler covers whole stays off, or aliased, if it is.
 */
page_record handler_expected(struct pgm *pgm, gpa_t page, page_record now, bool rearm);
/* Makes the records from first to last as expected, and makes them detailed. NO_MEMORY, OVER_QUOTA: in part. */
enum status handler_mark(struct handler_operation *o, uint64_t first, uint64_t last) must_check;
/* The same where there are records already: never fails. */
void handler_remark(struct handler_operation *o, uint64_t first, uint64_t last, bool rearm);
/*
 * The table entry follows a narrowed or replaced record; one that may grant more now is left to the next fault.
 * Block locked.
 */
void handler_slat_follow(struct pgm *pgm, gpa_t page, page_record r, struct gather *gather);
/* Counts what is off and aliased from the records, and writes it into the node. */
void handler_count_exceptions(struct pgm *pgm, struct handler_node *n);

#endif
