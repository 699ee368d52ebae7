/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The range table: which guest-physical addresses mean what. Sorted, disjoint, small. Writers
 * hold pgm->lock and make the generation odd while they change it; readers copy what they need
 * and look at the generation again, so a fault takes no lock here.
 */
#include <string.h>

#include "pgm/internal.h"

uint64_t ranges_begin(struct pgm *pgm)
{
	uint64_t generation;

	while ((generation = __atomic_load_n(&pgm->ranges.generation, __ATOMIC_ACQUIRE)) & 1)
		spin_pause();
	return generation;
}

bool ranges_changed(struct pgm *pgm, uint64_t generation)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(&pgm->ranges.generation, __ATOMIC_RELAXED) != generation;
}

/* While it changes the count may be anything. */
static unsigned bounded_count(const struct range_table *t)
{
	return min_u64(__atomic_load_n(&t->count, __ATOMIC_RELAXED), PGM_MAX_RANGES);
}

/* From the top: what is asked for most are devices, which lie above memory. */
static const struct pgm_range *search(const struct range_table *t, gpa_t where)
{
	for (unsigned i = bounded_count(t); i-- > 0;)
		if (where.v >= t->range[i].base)
			return where.v - t->range[i].base < t->range[i].size ? &t->range[i] : NULL;
	return NULL;
}

bool pgm_range_find(struct pgm *pgm, gpa_t where, struct pgm_range *out)
{
	const struct pgm_range *found;
	uint64_t generation;

	do {
		generation = ranges_begin(pgm);
		found = search(&pgm->ranges, where);
		if (found)
			*out = *found;
	} while (unlikely(ranges_changed(pgm, generation)));
	return found != NULL;
}

enum page_type range_type(struct pgm *pgm, gpa_t where)
{
	struct pgm_range range;

	return pgm_range_find(pgm, where, &range) ? range.type : PAGE_INVALID;
}

bool pgm_range_get(struct pgm *pgm, unsigned index, struct pgm_range *out)
{
	uint64_t generation;
	bool found;

	do {
		generation = ranges_begin(pgm);
		found = index < bounded_count(&pgm->ranges);
		if (found)
			*out = pgm->ranges.range[index];
	} while (ranges_changed(pgm, generation));
	return found;
}

/* Puts a range in at `at`; fresh NULL: takes out the one that is there. */
static void change(struct range_table *t, unsigned at, const struct pgm_range *fresh)
{
	struct pgm_range *r = &t->range[at];

	__atomic_store_n(&t->generation, t->generation + 1, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (fresh) {
		memmove(r + 1, r, (t->count++ - at) * sizeof(*r));
		*r = *fresh;
	} else {
		memmove(r, r + 1, (--t->count - at) * sizeof(*r));
	}
	__atomic_store_n(&t->generation, t->generation + 1, __ATOMIC_RELEASE);
}

static enum status range_insert(struct range_table *t, const struct pgm_range *range)
{
	unsigned at = 0;

	if (t->count == PGM_MAX_RANGES)
		return LIMIT;
	while (at < t->count && t->range[at].base < range->base)
		at++;
	if (at < t->count && t->range[at].base < range->base + range->size)
		return CONFLICT;
	if (at && t->range[at - 1].base + t->range[at - 1].size > range->base)
		return CONFLICT;
	change(t, at, range);
	return OK;
}

/*
 * Marks of MMIO that were once made here have left their tables under untouched blocks, where a fault may now put a large leaf.
 * handlers.lock held, and no handler within the range: no mark comes back.
 */
static enum status drop_marks(struct pgm *pgm, struct block *b, uint64_t first, uint64_t end, void *gather)
{
	if (block_kind(b) == BLOCK_UNTOUCHED)
		block_unmap(pgm, b, gpa(first), gather);
	return OK;
}

/* Blocks that have records already learn of the new range; records made from now on have it from the table. */
static enum status type_records(struct pgm *pgm, struct block *b, uint64_t first, uint64_t end, void *range)
{
	for (uint64_t a = first; block_kind(b) == BLOCK_DETAILED && a < end; a += PAGE_SIZE)
		page_set_type(page_of(b, gpa(a)), ((const struct pgm_range *)range)->type);
	return OK;
}

enum status range_add(struct pgm *pgm, gpa_t base, uint64_t size, enum page_type type, const char *name)
{
	uint64_t top = min_u64(PGM_MAX_GPA, pgm->directory_count << DIRECTORY_SHIFT);
	const struct removal *m = &pgm->removal;
	struct pgm_range range = { .base = base.v, .size = size, .type = type };
	enum status status = CONFLICT;
	struct gather gather;

	if (!size || !is_aligned(base.v | size, PAGE_SIZE) || size > top || base.v > top - size)
		return BAD_VALUE;
	for (unsigned i = 0; name[i] && i < PGM_NAME - 1; i++)
		range.name[i] = name[i];
	gather_begin(&gather, &pgm->flush, &pgm->account);
	lock_acquire(&pgm->handlers.lock); /* no handler comes between the look and the insertion */
	if (!handler_overlaps(&pgm->handlers, base.v, base.v + size - 1, UINT64_MAX) &&
	    blocks_visit(pgm, base.v, base.v + size, drop_marks, &gather) == OK) {
		HOLD(&pgm->lock);
		if (m->active && base.v < m->base + m->size && m->base < base.v + size)
			status = BUSY;
		else
			status = range_insert(&pgm->ranges, &range);
	}
	lock_release(&pgm->handlers.lock);
	if (gather.flush || gather.count)
		gather_finish(&gather);
	if (status != OK)
		return status;
	misconfig_remove(pgm, base.v, base.v + size - 1);
	return blocks_visit(pgm, base.v, base.v + size, type_records, &range);
}

void range_take_out(struct range_table *t, gpa_t base)
{
	unsigned at = 0;

	while (at < t->count && t->range[at].base != base.v)
		at++;
	if (at < t->count)
		change(t, at, NULL);
}

void range_remove(struct pgm *pgm, gpa_t base)
{
	HOLD(&pgm->lock);
	range_take_out(&pgm->ranges, base);
}

enum status pgm_add_ram(struct pgm *pgm, gpa_t base, uint64_t size, const char *name)
{
	enum status status = OK;

	if (!pgm->built) /* what it was created with is in the accounts already */
		return range_add(pgm, base, size, PAGE_RAM, name);
	if (!size || !is_aligned(size, PAGE_SIZE) || size > PGM_MAX_GPA)
		return BAD_VALUE;
	TRY(quota_grow(pgm, ACCOUNT_BASE, size >> PAGE_SHIFT));
	status = range_add(pgm, base, size, PAGE_RAM, name);
	if (status == OK)
		(void)__atomic_fetch_add(&pgm->config.ram, size, __ATOMIC_RELAXED);
	else
		quota_shrink(pgm, ACCOUNT_BASE, size >> PAGE_SHIFT);
	return status;
}
