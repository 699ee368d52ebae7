/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Second-level faults: from "the guest touched this" to "the tables are right", or to "a
 * handler must answer". Everything happens under one block's lock; the flush, if a present
 * translation was replaced, comes after it and before the guest runs on.
 *
 * A fault that finds the entry right already (another vcpu was first) simply resumes.
 */
#include "arch/x86_64/host.h"
#include "pgm/internal.h"

#define RAM_TYPE MEMORY_TYPE_WB /* intake takes in only memory that the MTRRs call WB */

static enum pgm_verdict out_of(enum status status)
{
	return status == BAD_ADDRESS ? PGM_EMULATE : PGM_NO_MEMORY;
}

static enum pgm_verdict map_block(struct pgm *pgm, gpa_t where, hpa_t chunk, unsigned rights, struct gather *gather)
{
	uint64_t *entry;
	enum status status = slat_entry(&pgm->slat, where, 1, &entry);

	if (status != OK)
		return out_of(status);
	slat_set(&pgm->slat, entry, slat_leaf(&pgm->slat, 1, chunk, rights, RAM_TYPE), gather);
	return PGM_RESUME;
}

/* The leaf of a large block. Under a 1 GiB leaf, or after another vcpu, it is there already. */
static enum pgm_verdict map_large(struct pgm *pgm, gpa_t where, struct block *b, struct gather *gather)
{
	unsigned rights = dirty_large_rights(pgm);
	unsigned level;
	uint64_t entry = *slat_find(&pgm->slat, where, &level);

	if (level && slat_present(&pgm->slat, entry) && slat_rights(&pgm->slat, entry) == rights) {
		COUNT(pgm, large_valid);
		return PGM_RESUME;
	}
	COUNT(pgm, large_setup);
	return map_block(pgm, where, block_address(b), rights, gather);
}

/* Neighbours in the same 64 KiB that are ALLOCATED and unmapped come along. */
static void map_around(struct pgm *pgm, struct block *b, gpa_t where, uint64_t *entry)
{
	unsigned index = where.v >> PAGE_SHIFT & (PAGES_PER_BLOCK - 1);
	unsigned first = index & ~(FAULT_AROUND - 1);
	page_record *records = block_records(b);
	uint64_t *table = entry - index;

	for (unsigned i = first; i < first + FAULT_AROUND; i++) {
		unsigned rights;

		if (table[i] || page_get_state(records[i]) != PAGE_ALLOCATED)
			continue;
		rights = page_rights(records[i]);
		__atomic_store_n(&table[i], slat_leaf(&pgm->slat, 0, page_frame(records[i]), rights, RAM_TYPE),
				 __ATOMIC_RELEASE);
	}
	COUNT(pgm, fault_around);
}

static void map_page(struct pgm *pgm, struct block *b, gpa_t where, page_record r, uint64_t *entry, bool around,
		     struct gather *gather)
{
	hpa_t frame = page_has_frame(r) ? page_frame(r) : pgm_zero_block;

	around = around && !*entry; /* one that was there and only lacked a right has its neighbours */
	slat_set(&pgm->slat, entry, slat_leaf(&pgm->slat, 0, frame, page_rights(r), RAM_TYPE), gather);
	if (around)
		map_around(pgm, b, where, entry);
}

/*
 * The write that the dirty log waits for, where the translation stands and only lacks that right: noted, and granted.
 * False: it is not that, and nothing has changed.
 */
static bool logged_write(struct pgm *pgm, struct block *b, gpa_t where)
{
	const struct pt_format *f = pgm->slat.format;
	page_record *r = page_of(b, where);
	uint64_t *entry;
	unsigned level;

	if (!page_is_plain(*r) || page_get_state(*r) != PAGE_MONITORED || (b->flags & BLOCK_COLLAPSING))
		return false;
	entry = slat_find(&pgm->slat, where, &level);
	if (level || !(*entry & f->present) || (*entry & f->address) != page_frame(*r).v)
		return false;
	dirty_unmonitor(pgm, r, where);
	__atomic_fetch_or(entry, f->write | __atomic_load_n(&pgm->slat.leaf_extra, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
	return true;
}

/* Not RAM, or watched: does someone answer for it, instead of a translation? */
static bool special_emulates(page_record r, unsigned access)
{
	enum page_type type = page_get_type(r);
	enum page_handler handler = page_hardware_handler(r);

	if (type == PAGE_INVALID || type == PAGE_MMIO || handler == HANDLER_ALL)
		return true;
	return (access & ACCESS_WRITE) && (type == PAGE_ROM || (r.bits & PAGE_READ_ONLY) || handler == HANDLER_WRITE);
}

static enum pgm_verdict fault_detailed(struct pgm *pgm, struct block *b, gpa_t where, unsigned access,
				       struct gather *gather)
{
	page_record *r = page_of(b, where);
	bool fresh = false;
	enum status status;
	uint64_t *entry;

	if (unlikely(!page_is_plain(*r)) && special_emulates(*r, access))
		return PGM_EMULATE;
	if (unlikely(b->flags & BLOCK_COLLAPSING))
		collapse_touched(pgm, where);
	/* The table before the frame: what fails leaves the record as it was. */
	status = slat_entry(&pgm->slat, where, 0, &entry);
	if (unlikely(status != OK))
		return out_of(status);
	if (access & ACCESS_WRITE) {
		fresh = !page_has_frame(*r);
		if (fresh && page_allocate(pgm, b, where, gather) != OK)
			return PGM_NO_MEMORY;
		if (unlikely(page_get_type(*r) == PAGE_MMIO2))
			mmio2_written(r);
		else if (!fresh && page_get_state(*r) == PAGE_MONITORED)
			dirty_unmonitor(pgm, r, where);
	}
	map_page(pgm, b, where, *r, entry, !fresh && page_has_frame(*r), gather);
	return PGM_RESUME;
}

static enum pgm_verdict fault_untouched(struct pgm *pgm, struct block *b, gpa_t where, unsigned access,
					struct gather *gather)
{
	enum status status;

	if (block_plain(pgm, where)) {
		if (!(access & ACCESS_WRITE) && pgm->config.slat_2m) {
			COUNT(pgm, zero_mapped);
			return map_block(pgm, where, pgm_zero_block, ACCESS_READ | ACCESS_EXECUTE, gather);
		}
		if (pgm->config.large_pages && pgm->config.slat_2m && block_make_large(pgm, b, where) == OK) {
			enum pgm_verdict verdict = map_large(pgm, where, b, gather);

			if (unlikely(verdict != PGM_RESUME))
				block_unmake_large(pgm, b);
			return verdict;
		}
	} else if (type_is_mmio(range_type(pgm, where))) {
		return PGM_EMULATE;
	}
	status = block_make_detailed(pgm, b, where, gather);
	return status == OK ? fault_detailed(pgm, b, where, access, gather) : PGM_NO_MEMORY;
}

static enum pgm_verdict fault_locked(struct pgm *pgm, struct block *b, gpa_t where, unsigned access,
				     struct gather *gather)
{
	switch (block_kind(b)) {
	case BLOCK_LARGE:
		if (likely(!(access & ACCESS_WRITE) || dirty_mode(pgm) == DIRTY_OFF))
			return map_large(pgm, where, b, gather);
		if (block_make_detailed(pgm, b, where, gather) != OK)
			return PGM_NO_MEMORY;
		return fault_detailed(pgm, b, where, access, gather);
	case BLOCK_DETAILED:
		if ((access & ACCESS_WRITE) && dirty_mode(pgm) == DIRTY_WRITE_PROTECT && logged_write(pgm, b, where))
			return PGM_RESUME;
		return fault_detailed(pgm, b, where, access, gather);
	default: return fault_untouched(pgm, b, where, access, gather);
	}
}

static enum pgm_verdict emulate(struct pgm *pgm, gpa_t where)
{
	COUNT(pgm, fault_emulate);
	if (pgm->config.misconfig_exit)
		misconfig_install(pgm, where);
	return PGM_EMULATE;
}

enum pgm_verdict pgm_fault(struct pgm *pgm, gpa_t where, unsigned access)
{
	enum pgm_verdict verdict;
	struct gather gather;
	struct block *b;
	enum status status;

	COUNT(pgm, faults);
	b = block_find(pgm, where);
	if (unlikely(!b || block_kind(b) == BLOCK_UNTOUCHED)) {
		if (block_nothing(pgm, where))
			return emulate(pgm, where);
		status = block_get(pgm, where, &b);
		if (unlikely(status != OK))
			return out_of(status);
	}
	gather_begin(&gather, &pgm->flush, &pgm->account);
	block_lock(b);
	verdict = fault_locked(pgm, b, where, access, &gather);
	block_unlock(b);
	if (gather.flush || gather.count)
		gather_finish(&gather);
	if (verdict == PGM_EMULATE)
		return emulate(pgm, where);
	if (verdict == PGM_NO_MEMORY)
		COUNT(pgm, fault_no_memory);
	return verdict;
}
