/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Second-level faults: from "the guest touched this" to "the tables are right", or to "a handler must answer". Everything happens
 * under one block's lock; the flush, if a present translation lost a right, comes after it and before the guest runs on. One
 * that changes its frame is flushed before the new frame appears (page_own, block_make_large). A fault that finds the entry
 * right already (another vcpu was first) simply resumes.
 *
 * Where a processor can be brought to a machine check by a change of a page's size under execution (large_no_execute: on many of
 * Intel's a fetch may find two translations in the instruction TLB, CVE-2018-12207), large leaves are for data alone: the
 * first fetch from such a block splits it, and it stays so. No leaf then changes its size while code is fetched by it.
 */
#include "pgm/internal.h"

#define TRACKED(slat) ((slat)->format->accessed | (slat)->format->dirty) /* the processor's own bits of a leaf */

struct fault {
	struct pgm *pgm;
	struct block *b;
	gpa_t where;
	unsigned access;
	enum fault_cause cause; /* what it turned out to be; FAULT_SYNC unless somebody says otherwise */
	struct pgm_vcpu_counters *count;
	struct gather gather;
};

static enum pgm_verdict spurious(struct fault *f)
{
	f->count->spurious++;
	f->cause = FAULT_MISC;
	return PGM_RESUME;
}

/* No memory, or memory that a handler watches. */
static enum pgm_verdict device(struct fault *f)
{
	f->cause = FAULT_HANDLER;
	return PGM_EMULATE;
}

/* One leaf for the whole block. Under a 1 GiB leaf, or after another vcpu, it is there already. */
static enum pgm_verdict map_block(struct fault *f, hpa_t chunk, unsigned rights, uint64_t *count)
{
	const struct slat *s = &f->pgm->slat;
	enum status status = block_own_slot(f->pgm, f->b, f->where);
	uint64_t leaf = slat_leaf(s, 1, chunk, rights, RAM_TYPE);

	if (unlikely(status == CONFLICT || (status == OK && !((*f->b->slot ^ leaf) & ~TRACKED(s))))) {
		COUNT(f->pgm, large_valid);
		return spurious(f);
	}
	if (unlikely(status != OK))
		return PGM_NO_MEMORY;
	(void)__atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
	slat_set(s, f->b->slot, leaf, &f->gather);
	return PGM_RESUME;
}

static enum pgm_verdict map_large(struct fault *f)
{
	return map_block(f, block_address(f->b), dirty_large_rights(f->pgm), &local_of(f->pgm)->counters.large_setup);
}

/* What the page's leaf of 4 KiB may grant; open: whether the dirty log lets it be written. */
static inline unsigned leaf_rights(page_record r, bool open)
{
	return page_rights(r) & (open ? ALL_RIGHTS : ALL_RIGHTS & ~(unsigned)ACCESS_WRITE);
}

/* Neighbours in the same 64 KiB that are ALLOCATED and unmapped come along. */
static void map_around(struct fault *f, uint64_t *entry)
{
	unsigned index = f->where.v >> PAGE_SHIFT & (PAGES_PER_BLOCK - 1);
	unsigned first = index & ~(FAULT_AROUND - 1);
	page_record *records = block_records(f->b);
	uint64_t *table = entry - index, open = dirty_open(f->pgm, f->where);

	for (unsigned i = first; i < first + FAULT_AROUND; i++) {
		unsigned rights;

		if (table[i] || page_get_state(records[i]) != PAGE_ALLOCATED)
			continue;
		rights = leaf_rights(records[i], open >> i % DIRTY_WORD_PAGES & 1);
		__atomic_store_n(&table[i], slat_leaf(&f->pgm->slat, 0, page_frame(records[i]), rights, RAM_TYPE),
				 __ATOMIC_RELEASE);
		f->count->around++;
	}
}

static enum pgm_verdict map_page(struct fault *f, page_record r, uint64_t *entry)
{
	const struct slat *s = &f->pgm->slat;
	hpa_t frame = page_has_frame(r) ? page_frame(r) : pgm_zero_block;
	unsigned rights = leaf_rights(r, dirty_is_open(f->pgm, f->where));
	bool around = page_has_frame(r) && !*entry; /* one that was there and only lacked a right has its neighbours */
	uint64_t leaf;

	if (unlikely(block_kind(f->b) == BLOCK_LARGE)) { /* its leaf will be one again */
		rights &= s->large_access;
		around = false;
	}
	leaf = slat_leaf(s, 0, frame, rights, RAM_TYPE);
	if (unlikely(!((*entry ^ leaf) & ~TRACKED(s))))
		(void)spurious(f);
	slat_set(s, entry, leaf, &f->gather);
	if (around)
		map_around(f, entry);
	return PGM_RESUME;
}

/* A write to what has no frame of its own: it gets one, and nothing stands in the entry any more. */
static enum pgm_verdict map_own(struct fault *f, page_record *r, uint64_t *entry)
{
	if (page_own_slow(f->pgm, f->b, f->where, &f->gather) != OK)
		return PGM_NO_MEMORY;
	if (f->cause == FAULT_SYNC)
		f->cause = FAULT_PAGE_ZEROING;
	__atomic_store_n(entry, slat_leaf(&f->pgm->slat, 0, page_frame(*r), page_rights(*r), RAM_TYPE),
			 __ATOMIC_RELEASE);
	return PGM_RESUME;
}

/* PGM_RESUME: this page is the guest's to write. */
static enum pgm_verdict refuse_write(struct fault *f, page_record r)
{
	if (page_hardware_handler(r) == HANDLER_WRITE) {
		f->count->handlers_write++;
		return device(f);
	}
	if (page_get_type(r) != PAGE_ROM && !(r.bits & PAGE_READ_ONLY))
		return PGM_RESUME;
	f->cause = FAULT_UNHANDLED;
	return PGM_EMULATE;
}

/* It has a frame of its own: the record allows a write from now on. */
static void make_writable(struct fault *f, page_record *r)
{
	if (page_get_type(*r) == PAGE_MMIO2)
		mmio2_written(r);
	if (unlikely(!dirty_is_open(f->pgm, f->where))) {
		f->cause = FAULT_MAKE_WRITABLE;
		dirty_caught(f->pgm, local_of(f->pgm), f->where);
	}
}

static enum pgm_verdict fault_detailed(struct fault *f)
{
	page_record *record = page_of(f->b, f->where), r = *record;
	bool write = f->access & ACCESS_WRITE;
	enum pgm_verdict verdict = PGM_RESUME;
	uint64_t *entry;

	if (unlikely(!page_is_plain(r))) {
		if (page_get_type(r) == PAGE_INVALID || page_get_type(r) == PAGE_MMIO)
			return device(f);
		if (page_hardware_handler(r) == HANDLER_ALL) {
			f->count->handlers_all++;
			return device(f);
		}
		if (write)
			verdict = refuse_write(f, r);
	}
	if (unlikely(page_get_state(r) == PAGE_BALLOONED))
		f->cause = FAULT_BALLOONED;
	if (unlikely(f->b->flags & BLOCK_COLLAPSING))
		collapse_touched(f->pgm, f->where);
	if (verdict != PGM_RESUME)
		return verdict;
	/* The table before the frame: what fails leaves the record as it was. */
	if (unlikely(block_leaf(f->pgm, f->b, f->where, &entry) != OK))
		return PGM_NO_MEMORY;
	if (write && !page_is_private(r))
		return map_own(f, record, entry);
	if (write)
		make_writable(f, record);
	return map_page(f, *record, entry);
}

/* A fetch that no large leaf may serve. */
static bool split_fetch(const struct fault *f)
{
	return f->access & ~(unsigned)f->pgm->slat.large_access & ACCESS_EXECUTE;
}

/* By single pages from now on. */
static enum pgm_verdict fault_split(struct fault *f)
{
	if (block_make_detailed(f->pgm, f->b, f->where, &f->gather) != OK)
		return PGM_NO_MEMORY;
	f->b->flags |= split_fetch(f) ? BLOCK_EXECUTED : 0;
	return fault_detailed(f);
}

static enum pgm_verdict fault_untouched(struct fault *f)
{
	struct pgm *pgm = f->pgm;
	bool fetch = split_fetch(f);

	if (block_plain(pgm, f->where)) {
		if (!(f->access & ACCESS_WRITE) && pgm->config.slat_2m && !fetch)
			return map_block(f, pgm_zero_block, ACCESS_READ | ACCESS_EXECUTE,
					 &local_of(pgm)->counters.zero_mapped);
		/* The place for the leaf before the chunk: mapping it can't fail then. */
		if (pgm->config.large_pages && !fetch && block_own_slot(pgm, f->b, f->where) == OK &&
		    block_make_large(pgm, f->b, f->where, &f->gather) == OK) {
			f->cause = FAULT_PAGE_ZEROING;
			return map_large(f);
		}
	} else if (type_is_mmio(range_type(pgm, f->where))) {
		return device(f);
	}
	return fault_split(f);
}

/* A large block under the dirty log: by 4 KiB leaves, from its first write on. */
static enum pgm_verdict fault_fine(struct fault *f)
{
	page_record r = block_record(f->b, f->where);
	enum status status = block_own_slot(f->pgm, f->b, f->where);
	uint64_t *entry;

	/* All its leaves come at once, out of the large one. */
	if (status == OK && !(f->b->flags & BLOCK_FINE) && !slat_present(&f->pgm->slat, *f->b->slot))
		(void)map_large(f);
	if (status == OK || status == CONFLICT)
		status = dirty_refine(f->pgm, f->b, f->where, &f->gather);
	if (status == OK)
		status = block_leaf(f->pgm, f->b, f->where, &entry);
	if (unlikely(status != OK))
		return PGM_NO_MEMORY;
	if (f->access & ACCESS_WRITE) {
		f->cause = FAULT_MAKE_WRITABLE;
		make_writable(f, &r);
	}
	return map_page(f, r, entry);
}

static enum pgm_verdict fault_large(struct fault *f)
{
	bool logged = f->access & ACCESS_WRITE && dirty_mode(f->pgm) != DIRTY_OFF;

	if (unlikely(split_fetch(f)))
		return fault_split(f);
	return likely(!logged && !(f->b->flags & BLOCK_FINE)) ? map_large(f) : fault_fine(f);
}

static enum pgm_verdict fault_inside(struct fault *f, bool again)
{
	enum pgm_verdict verdict;
	enum status status;

	if (unlikely(!f->b || block_kind(f->b) == BLOCK_UNTOUCHED)) {
		if (block_nothing(f->pgm, f->where))
			return device(f);
		if (again && (f->access & ACCESS_WRITE) && block_clearing(f->pgm, f->where)) {
			f->cause = FAULT_PAGE_ZEROING;
			return PGM_RESUME;
		}
		status = block_get(f->pgm, f->where, &f->b);
		if (unlikely(status != OK))
			return status == BAD_ADDRESS ? PGM_EMULATE : PGM_NO_MEMORY;
	}
	gather_begin(&f->gather, &f->pgm->flush, &f->pgm->account);
	block_lock(f->b);
	if (block_kind(f->b) == BLOCK_DETAILED)
		verdict = fault_detailed(f);
	else
		verdict = block_kind(f->b) == BLOCK_LARGE ? fault_large(f) : fault_untouched(f);
	block_unlock(f->b);
	if (f->gather.flush || f->gather.count)
		gather_finish(&f->gather);
	handy_settle(f->pgm, local_of(f->pgm));
	return verdict;
}

enum pgm_verdict fault_long(struct pgm *pgm, struct block *b, gpa_t where, unsigned access, bool again,
			    struct pgm_vcpu_counters *count)
{
	enum pgm_verdict verdict;
	struct fault f; /* field by field: the gather is large */

	f.pgm = pgm;
	f.b = b;
	f.where = where;
	f.access = access;
	f.cause = FAULT_SYNC;
	f.count = count;
	verdict = fault_inside(&f, again);
	if (verdict == PGM_NO_MEMORY)
		f.cause = FAULT_MISC;
	count->last_cause = f.cause;
	count->cause[f.cause]++;
	count->resumed += verdict == PGM_RESUME;
	count->no_memory += verdict == PGM_NO_MEMORY;
	count->emulated += verdict == PGM_EMULATE;
	if (verdict == PGM_EMULATE && pgm->config.misconfig_exit)
		misconfig_install(pgm, where);
	return verdict;
}
