/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks: the directory that finds a block's descriptor in two loads, and the passage of a
 * block between untouched (or ballooned), large and detailed. A directory page appears when something in
 * its 256 MiB is first written or mapped; a missing one means "all untouched".
 */
#include "pgm/internal.h"

#define BLOCK_WEIGHT 64u /* of one with records, in blocks without */

hpa_t pgm_zero_block SET_ONCE;

enum status block_get(struct pgm *pgm, gpa_t where, struct block **out)
{
	uint64_t slot = where.v >> DIRECTORY_SHIFT;
	enum status status = OK;
	hpa_t frame;

	*out = block_find(pgm, where);
	if (likely(*out != NULL))
		return OK;
	if (slot >= pgm->directory_count)
		return BAD_ADDRESS;
	lock_acquire(&pgm->lock);
	if (!pgm->directory[slot]) {
		status = table_alloc(&pgm->account, &frame);
		if (status == OK)
			__atomic_store_n(&pgm->directory[slot], (struct block *)direct_pointer(frame),
					 __ATOMIC_RELEASE);
	}
	lock_release(&pgm->lock);
	*out = block_find(pgm, where);
	return status;
}

bool block_nothing(struct pgm *pgm, gpa_t where)
{
	const struct block *b = block_find(pgm, where);

	return (!b || block_kind(b) == BLOCK_UNTOUCHED) && type_is_mmio(range_type(pgm, where));
}

enum status blocks_visit(struct pgm *pgm, uint64_t first, uint64_t end, block_visitor *visit, void *context)
{
	enum status status = OK;

	for (uint64_t a = first, next; a < end && status == OK; a = next) {
		struct block *b = block_find(pgm, gpa(a));
		uint64_t stride = b ? BLOCK_SIZE : BIT(DIRECTORY_SHIFT);

		next = min_u64(end, align_down(a, stride) + stride);
		if (!b)
			continue;
		HOLD_BLOCK(b);
		status = visit(pgm, b, a, next, context);
	}
	return status;
}

/* A visit of blocks that ends when it has weighed enough. */
struct step {
	void (*visit)(struct pgm *pgm, struct block *b, gpa_t base, void *context);
	void *context;
	uint64_t end; /* of the last block */
	unsigned left;
};

static enum status step_block(struct pgm *pgm, struct block *b, uint64_t first, uint64_t end, void *context)
{
	struct step *s = context;
	unsigned weight = block_kind(b) == BLOCK_DETAILED || (b->flags & BLOCK_FINE) ? BLOCK_WEIGHT : 1;

	s->visit(pgm, b, gpa(first), s->context);
	s->end = end;
	s->left -= min_u64(weight, s->left);
	return s->left ? OK : BUSY;
}

enum status blocks_step(struct pgm *pgm, uint64_t *cursor, unsigned records,
			void (*visit)(struct pgm *pgm, struct block *b, gpa_t base, void *context), void *context)
{
	struct step s = { .visit = visit, .context = context, .left = records * BLOCK_WEIGHT };
	enum status status = blocks_visit(pgm, *cursor, pgm->directory_count << DIRECTORY_SHIFT, step_block, &s);

	*cursor = status == OK ? 0 : s.end;
	return status;
}

static gpa_t block_base(gpa_t where)
{
	return gpa(align_down(where.v, BLOCK_SIZE));
}

/* The blocks of a directory page lie in one table of level 1: the entry is beside the neighbour's, if that knows its own. */
enum status block_find_slot(struct pgm *pgm, struct block *b, gpa_t where)
{
	bool first = !(where.v >> BLOCK_SHIFT & (DIRECTORY_BLOCKS - 1));
	const struct block *before = first ? NULL : block_find(pgm, gpa(where.v - BLOCK_SIZE));
	uint64_t *slot = first ? NULL : __atomic_load_n(&before->slot, __ATOMIC_ACQUIRE);
	enum status status = OK;

	if (slot)
		slot++;
	else
		status = slat_entry(&pgm->slat, where, 1, &slot);
	if (status == OK)
		__atomic_store_n(&b->slot, slot, __ATOMIC_RELEASE);
	return status;
}

enum status block_leaf(struct pgm *pgm, struct block *b, gpa_t where, uint64_t **leaf)
{
	const struct pt_format *f = pgm->slat.format;
	enum status status = block_own_slot(pgm, b, where);
	uint64_t entry;

	if (unlikely(status != OK))
		return status;
	entry = __atomic_load_n(b->slot, __ATOMIC_ACQUIRE);
	if (!(entry & f->present))
		status = slat_make_table(&pgm->slat, b->slot, &entry);
	if (unlikely(status != OK))
		return status;
	*leaf = slat_in_table(&pgm->slat, entry, where);
	return likely(!(entry & f->large)) ? OK : CONFLICT;
}

static void type_pages(page_record *records, gpa_t base, const struct pgm_range *range)
{
	uint64_t from = max_u64(range->base, base.v);
	uint64_t to = min_u64(range->base + range->size, base.v + BLOCK_SIZE);

	for (uint64_t a = from; a < to; a += PAGE_SIZE)
		page_set_type(&records[(a - base.v) >> PAGE_SHIFT], range->type);
}

/*
 * Fills fresh records of an untouched block: every page ZERO, of the type that its range has. A change of the table that
 * comes later passes the block when it has our lock.
 */
static void records_from_ranges(struct pgm *pgm, page_record *records, gpa_t base)
{
	struct pgm_range range;
	uint64_t generation;

	do {
		generation = ranges_begin(pgm);
		__builtin_memset(records, 0, PAGE_SIZE);
		for (unsigned i = 0; pgm_range_get(pgm, i, &range); i++)
			type_pages(records, base, &range);
	} while (ranges_changed(pgm, generation));
}

static void records_from_chunk(page_record *records, hpa_t chunk)
{
	page_record r = { 0 };

	page_set_type(&r, PAGE_RAM);
	r.bits |= PAGE_WRITTEN;
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		page_set(&r, PAGE_ALLOCATED, hpa(chunk.v + i * PAGE_SIZE));
		records[i] = r;
	}
}

/* Large → detailed. All that can fail comes before anything is changed. */
static enum status split_large(struct pgm *pgm, struct block *b, gpa_t base, page_record *records,
			       struct gather *gather)
{
	hpa_t chunk = block_address(b), table;
	enum status status;

	TRY(slat_split_prepare(&pgm->slat, base, gather, &table));
	status = block_split(&pgm->account, chunk);
	if (status != OK) {
		if (!hpa_is_none(table))
			slat_free_unused(&pgm->slat, table);
		return status;
	}
	records_from_chunk(records, chunk);
	slat_split_commit(&pgm->slat, base, table, dirty_split_bits(pgm), gather);
	b->held = PAGES_PER_BLOCK;
	COUNT(pgm, split);
	return OK;
}

enum status block_make_detailed(struct pgm *pgm, struct block *b, gpa_t where, struct gather *gather)
{
	gpa_t base = block_base(where);
	enum status status;
	hpa_t frame;

	if (block_kind(b) == BLOCK_DETAILED)
		return OK;
	TRY(table_alloc_raw(&pgm->account, &frame));
	if (block_kind(b) == BLOCK_LARGE) {
		status = split_large(pgm, b, base, direct_pointer(frame), gather);
		if (status != OK) {
			slat_free_unused(&pgm->slat, frame);
			return status;
		}
	} else {
		records_from_ranges(pgm, direct_pointer(frame), base);
		for (unsigned i = 0; i < b->ballooned; i++) /* all, or none */
			page_set((page_record *)direct_pointer(frame) + i, PAGE_BALLOONED, hpa(0));
		b->held = 0;
		block_unmap(pgm, b, base, gather);
	}
	b->flags = 0;
	COUNT(pgm, detailed);
	block_set(b, BLOCK_DETAILED, frame);
	return OK;
}

static enum status visit_make_detailed(struct pgm *pgm, struct block *b, uint64_t first, uint64_t end, void *gather)
{
	(void)end;
	return block_make_detailed(pgm, b, gpa(first), gather);
}

enum status blocks_make_detailed(struct pgm *pgm, uint64_t first, uint64_t end)
{
	enum status status = OK;
	struct block *b;

	for (uint64_t a = first; a < end && status == OK;
	     a = align_down(a, BIT(DIRECTORY_SHIFT)) + BIT(DIRECTORY_SHIFT))
		status = block_get(pgm, gpa(a), &b);
	if (status != OK)
		return status;
	GATHER(gather, &pgm->flush, &pgm->account);
	status = blocks_visit(pgm, first, end, visit_make_detailed, &gather);
	return status;
}

bool block_plain(struct pgm *pgm, gpa_t where)
{
	gpa_t base = block_base(where);
	struct pgm_range range;

	return pgm_range_find(pgm, base, &range) && range.type == PAGE_RAM &&
	       range.base + range.size - base.v >= BLOCK_SIZE;
}

enum status block_make_large(struct pgm *pgm, struct block *b, gpa_t where, struct gather *gather)
{
	enum status status;
	hpa_t chunk;
	bool zero, before;

	if (dirty_mode(pgm) != DIRTY_OFF || block_kind(b) == BLOCK_BALLOONED)
		return BUSY; /* the log is by 4 KiB page; and what the guest gave back comes back page by page */
	status = block_alloc(&pgm->account, block_base(where), &chunk, &zero);
	if (status != OK) {
		COUNT(pgm, large_alloc_failed);
		return status;
	}
	if (!zero)
		block_zero(chunk);
	before = gather->flush;
	block_unmap(pgm, b, block_base(where), gather);
	if (gather->flush && !before)
		COUNT(pgm, large_zero_evict);
	gather_settle(gather); /* the zeros go before the chunk comes */
	block_set(b, BLOCK_LARGE, chunk);
	COUNT(pgm, large_alloc);
	return OK;
}

bool block_clearing(struct pgm *pgm, gpa_t where)
{
	return pgm->config.large_pages && dirty_mode(pgm) == DIRTY_OFF && block_plain(pgm, where) && !block_ready();
}
