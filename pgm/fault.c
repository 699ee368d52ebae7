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

/* What the fault turned out to be; FAULT_SYNC unless somebody says otherwise. */
static void cause(enum fault_cause what)
{
	vcpu_counters()->last_cause = what;
}

static enum pgm_verdict spurious(void)
{
	COUNT_VCPU(spurious);
	cause(FAULT_MISC);
	return PGM_RESUME;
}

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
		return spurious();
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
	unsigned mapped = 0;

	for (unsigned i = first; i < first + FAULT_AROUND; i++) {
		unsigned rights;

		if (table[i] || page_get_state(records[i]) != PAGE_ALLOCATED)
			continue;
		rights = page_rights(records[i]);
		__atomic_store_n(&table[i], slat_leaf(&pgm->slat, 0, page_frame(records[i]), rights, RAM_TYPE),
				 __ATOMIC_RELEASE);
		mapped++;
	}
	vcpu_counters()->around += mapped;
}

static void map_page(struct pgm *pgm, struct block *b, gpa_t where, page_record r, uint64_t *entry, bool around,
		     struct gather *gather)
{
	hpa_t frame = page_has_frame(r) ? page_frame(r) : pgm_zero_block;
	uint64_t leaf = slat_leaf(&pgm->slat, 0, frame, page_rights(r), RAM_TYPE);

	around = around && !*entry; /* one that was there and only lacked a right has its neighbours */
	if (unlikely(!((*entry ^ leaf) & ~(pgm->slat.format->accessed | pgm->slat.format->dirty))))
		(void)spurious();
	slat_set(&pgm->slat, entry, leaf, gather);
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
	cause(FAULT_MAKE_WRITABLE);
	dirty_unmonitor(pgm, r, where);
	__atomic_fetch_or(entry, f->write | __atomic_load_n(&pgm->slat.leaf_extra, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
	return true;
}

/* No memory, or memory that a handler watches. */
static enum pgm_verdict device(void)
{
	cause(FAULT_HANDLER);
	return PGM_EMULATE;
}

/* PGM_RESUME: this page is the guest's to write. */
static enum pgm_verdict refuse_write(page_record r)
{
	if (page_hardware_handler(r) == HANDLER_WRITE) {
		COUNT_VCPU(handlers_write);
		return device();
	}
	if (page_get_type(r) != PAGE_ROM && !(r.bits & PAGE_READ_ONLY))
		return PGM_RESUME;
	cause(FAULT_UNHANDLED);
	return PGM_EMULATE;
}

/* The record allows a write from now on; *fresh: the page got its frame just now. False: none is to be had. */
static bool make_writable(struct pgm *pgm, struct block *b, gpa_t where, bool *fresh, struct gather *gather)
{
	page_record *r = page_of(b, where);

	*fresh = !page_has_frame(*r);
	if (*fresh && page_allocate(pgm, b, where, gather) != OK)
		return false;
	if (*fresh && vcpu_counters()->last_cause == FAULT_SYNC)
		cause(FAULT_PAGE_ZEROING);
	if (page_get_type(*r) == PAGE_MMIO2) {
		mmio2_written(r);
		dirty_written(pgm, where);
	} else if (!*fresh && page_get_state(*r) == PAGE_MONITORED) {
		cause(FAULT_MAKE_WRITABLE);
		dirty_unmonitor(pgm, r, where);
	}
	return true;
}

static enum pgm_verdict fault_detailed(struct pgm *pgm, struct block *b, gpa_t where, unsigned access,
				       struct gather *gather)
{
	page_record *r = page_of(b, where);
	enum page_type type = page_get_type(*r);
	enum pgm_verdict verdict = PGM_RESUME;
	bool fresh = false;
	enum status status;
	uint64_t *entry;

	if (type == PAGE_INVALID || type == PAGE_MMIO)
		return device();
	if (page_hardware_handler(*r) == HANDLER_ALL) {
		COUNT_VCPU(handlers_all);
		return device();
	}
	if (unlikely(page_get_state(*r) == PAGE_BALLOONED))
		cause(FAULT_BALLOONED);
	if (unlikely(b->flags & BLOCK_COLLAPSING))
		collapse_touched(pgm, where);
	if ((access & ACCESS_WRITE) && unlikely(!page_is_plain(*r)))
		verdict = refuse_write(*r);
	if (verdict != PGM_RESUME)
		return verdict;
	/* The table before the frame: what fails leaves the record as it was. */
	status = slat_entry(&pgm->slat, where, 0, &entry);
	if (unlikely(status != OK))
		return out_of(status);
	if ((access & ACCESS_WRITE) && !make_writable(pgm, b, where, &fresh, gather))
		return PGM_NO_MEMORY;
	map_page(pgm, b, where, *r, entry, !fresh && page_has_frame(*r), gather);
	return PGM_RESUME;
}

static enum pgm_verdict fault_untouched(struct pgm *pgm, struct block *b, gpa_t where, unsigned access,
					struct gather *gather)
{
	enum pgm_verdict verdict;
	enum status status;

	if (block_plain(pgm, where)) {
		if (!(access & ACCESS_WRITE) && pgm->config.slat_2m) {
			COUNT(pgm, zero_mapped);
			return map_block(pgm, where, pgm_zero_block, ACCESS_READ | ACCESS_EXECUTE, gather);
		}
		if (pgm->config.large_pages && pgm->config.slat_2m && block_make_large(pgm, b, where) == OK) {
			cause(FAULT_PAGE_ZEROING);
			verdict = map_large(pgm, where, b, gather);
			if (unlikely(verdict != PGM_RESUME))
				block_unmake_large(pgm, b);
			return verdict;
		}
	} else if (type_is_mmio(range_type(pgm, where))) {
		return device();
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
		cause(FAULT_MAKE_WRITABLE);
		return fault_detailed(pgm, b, where, access, gather);
	case BLOCK_DETAILED:
		if ((access & ACCESS_WRITE) && dirty_mode(pgm) == DIRTY_WRITE_PROTECT && logged_write(pgm, b, where))
			return PGM_RESUME;
		return fault_detailed(pgm, b, where, access, gather);
	default: return fault_untouched(pgm, b, where, access, gather);
	}
}

/* Would this first touch need a chunk that must be cleared first? Then a slice of it has been cleared now. */
static bool clearing_first(struct pgm *pgm, gpa_t where)
{
	return pgm->config.large_pages && pgm->config.slat_2m && dirty_mode(pgm) == DIRTY_OFF &&
	       block_plain(pgm, where) && !block_ready();
}

/* again: whoever asks comes again if it is resumed too early. */
static inline enum pgm_verdict fault_inside(struct pgm *pgm, gpa_t where, unsigned access, bool again)
{
	enum pgm_verdict verdict;
	struct gather gather;
	struct block *b;
	enum status status;

	b = block_find(pgm, where);
	if (unlikely(!b || block_kind(b) == BLOCK_UNTOUCHED)) {
		if (block_nothing(pgm, where))
			return device();
		if (again && (access & ACCESS_WRITE) && clearing_first(pgm, where)) {
			cause(FAULT_PAGE_ZEROING);
			return PGM_RESUME;
		}
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
	return verdict;
}

static inline enum pgm_verdict counted_fault(struct pgm *pgm, gpa_t where, unsigned access, bool again)
{
	struct pgm_vcpu_counters *c = vcpu_counters();
	enum pgm_verdict verdict;

	c->faults++;
	c->last_cause = FAULT_SYNC;
	verdict = fault_inside(pgm, where, access, again);
	if (unlikely(verdict == PGM_NO_MEMORY)) {
		c->no_memory++;
		c->last_cause = FAULT_MISC;
	}
	c->cause[c->last_cause]++;
	if (verdict != PGM_EMULATE) {
		c->resumed += verdict == PGM_RESUME;
		return verdict;
	}
	c->emulated++;
	if (pgm->config.misconfig_exit)
		misconfig_install(pgm, where);
	return PGM_EMULATE;
}

enum pgm_verdict pgm_fault(struct pgm *pgm, gpa_t where, unsigned access)
{
	return counted_fault(pgm, where, access, false);
}

enum pgm_verdict pgm_guest_fault(struct pgm *pgm, gpa_t where, unsigned access)
{
	return counted_fault(pgm, where, access, true);
}
