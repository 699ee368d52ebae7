/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The short way of the three commonest second-level faults: the first write of a page of zeros, the write
 * that the dirty log waits for, and the first touch of a large block that has its chunk. The first finds plain memory, an absent
 * entry in a table that is there, nobody's flush owed, and a frame in the reserve; the second an entry that only lacks a right; the
 * third no entry and no log. If anything is otherwise, nothing has changed, and fault.c goes the long way.
 *
 * Invariant: what is done here is what the long way would have done. Inline, for short.c and for the test of its conditions.
 */
#pragma once

#include "pgm/internal.h"

/* Nothing stands in the entry, and nobody can still use what stood there: so no flush before the frame appears (gather.h). */
static inline bool first_write(struct pgm *pgm, struct pgm_local *l, struct block *b, gpa_t where, uint64_t *entry)
{
	hpa_t frame;

	if (*entry || __atomic_load_n(&pgm->flush.pending, __ATOMIC_SEQ_CST) || !handy_pop(l, where, &frame))
		return false;
	page_give(pgm, l, b, where, frame);
	__atomic_store_n(entry, slat_leaf(&pgm->slat, 0, frame, ALL_RIGHTS, RAM_TYPE), __ATOMIC_RELEASE);
	return true;
}

/* Noted, and granted. An absent entry has no frame. */
static inline bool logged_write(struct pgm *pgm, struct pgm_local *l, gpa_t where, page_record r, uint64_t *entry)
{
	const struct pt_format *f = pgm->slat.format;

	if (dirty_mode(pgm) != DIRTY_WRITE_PROTECT || (*entry & f->address) != page_frame(r).v)
		return false;
	dirty_caught(pgm, l, where);
	__atomic_fetch_or(entry, f->write | __atomic_load_n(&pgm->slat.leaf_extra, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
	return true;
}

static inline enum fault_cause page_write(struct pgm *pgm, struct pgm_local *l, struct block *b, gpa_t where,
					  page_record r)
{
	uint64_t table = __atomic_load_n(b->slot, __ATOMIC_RELAXED), *entry;

	if ((table & pgm->slat.format->large) || !(table & pgm->slat.format->present) || !page_is_plain(r))
		return FAULT_CAUSES;
	entry = slat_in_table(&pgm->slat, table, where);
	if (page_get_state(r) == PAGE_ALLOCATED)
		return logged_write(pgm, l, where, r, entry) ? FAULT_MAKE_WRITABLE : FAULT_CAUSES;
	return page_get_state(r) == PAGE_ZERO && first_write(pgm, l, b, where, entry) ? FAULT_PAGE_ZEROING
										      : FAULT_CAUSES;
}

static inline enum fault_cause large_touch(struct pgm *pgm, struct pgm_local *l, struct block *b, unsigned access)
{
	if (*b->slot || dirty_mode(pgm) != DIRTY_OFF || (access & ~(unsigned)pgm->slat.large_access))
		return FAULT_CAUSES;
	LOCAL_COUNT(l, large_setup, 1);
	__atomic_store_n(b->slot, slat_leaf(&pgm->slat, 1, block_address(b), ALL_RIGHTS, RAM_TYPE), __ATOMIC_RELEASE);
	return FAULT_SYNC;
}

/* Returns what it was, or FAULT_CAUSES if it is anything else. Not locked. */
static inline enum fault_cause fault_short(struct pgm *pgm, struct pgm_local *l, struct block *b, gpa_t where,
					   unsigned access)
{
	enum fault_cause cause = FAULT_CAUSES;
	enum block_kind kind;

	block_lock(b);
	kind = block_kind(b);
	/* The long way tells a collapse of the write, and what a table's lack comes to. */
	if (kind < BLOCK_LARGE || (b->flags & BLOCK_COLLAPSING) || block_own_slot(pgm, b, where) != OK)
		;
	else if (kind == BLOCK_LARGE && !(b->flags & BLOCK_FINE))
		cause = large_touch(pgm, l, b, access);
	else if (access & ACCESS_WRITE)
		cause = page_write(pgm, l, b, where, kind == BLOCK_LARGE ? block_record(b, where) : *page_of(b, where));
	block_unlock(b);
	if (cause == FAULT_PAGE_ZEROING)
		handy_settle(pgm, l);
	return cause;
}
