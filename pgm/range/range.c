/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The range table: which guest-physical addresses mean what. Sorted, disjoint, small. Writers
 * hold pgm->lock and make the generation odd while they change it; readers copy what they need
 * and look at the generation again, so a fault takes no lock here.
 */
#include <string.h>

#include "pgm/internal.h"

static uint64_t read_begin(const struct range_table *t)
{
	uint64_t generation;

	while ((generation = __atomic_load_n(&t->generation, __ATOMIC_ACQUIRE)) & 1)
		spin_pause();
	return generation;
}

static bool read_retry(const struct range_table *t, uint64_t generation)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(&t->generation, __ATOMIC_RELAXED) != generation;
}

uint64_t ranges_begin(struct pgm *pgm)
{
	return read_begin(&pgm->ranges);
}

bool ranges_changed(struct pgm *pgm, uint64_t generation)
{
	return read_retry(&pgm->ranges, generation);
}

static unsigned bounded_count(const struct range_table *t)
{
	unsigned count = __atomic_load_n(&t->count, __ATOMIC_RELAXED);

	return count <= PGM_MAX_RANGES ? count : PGM_MAX_RANGES;
}

bool pgm_range_find(struct pgm *pgm, gpa_t where, struct pgm_range *out)
{
	const struct range_table *t = &pgm->ranges;
	uint64_t generation;
	bool found;

	do {
		unsigned count;

		generation = read_begin(t);
		count = bounded_count(t);
		found = false;
		for (unsigned i = 0; i < count && !found; i++) {
			if (where.v - t->range[i].base < t->range[i].size) {
				*out = t->range[i];
				found = true;
			}
		}
	} while (unlikely(read_retry(t, generation)));
	return found;
}

enum page_type range_type(struct pgm *pgm, gpa_t where)
{
	const struct range_table *t = &pgm->ranges;
	enum page_type type;
	uint64_t generation;

	do {
		unsigned count;

		generation = read_begin(t);
		count = bounded_count(t);
		type = PAGE_INVALID;
		/* From the top: what is asked for most are devices, which lie above memory. */
		for (unsigned i = count; i-- > 0;) {
			if (where.v < t->range[i].base)
				continue;
			if (where.v - t->range[i].base < t->range[i].size)
				type = t->range[i].type;
			break;
		}
	} while (unlikely(read_retry(t, generation)));
	return type;
}

bool pgm_range_get(struct pgm *pgm, unsigned index, struct pgm_range *out)
{
	const struct range_table *t = &pgm->ranges;
	uint64_t generation;
	bool found;

	do {
		generation = read_begin(t);
		found = index < bounded_count(t);
		if (found)
			*out = t->range[index];
	} while (read_retry(t, generation));
	return found;
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
	__atomic_store_n(&t->generation, t->generation + 1, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	memmove(&t->range[at + 1], &t->range[at], (t->count - at) * sizeof(t->range[0]));
	t->range[at] = *range;
	t->count++;
	__atomic_store_n(&t->generation, t->generation + 1, __ATOMIC_RELEASE);
	return OK;
}

/* The block at or above `at` that has a descriptor, or NULL; *next: where to go on, by block or by directory page. */
static struct block *next_block(struct pgm *pgm, uint64_t at, uint64_t *next)
{
	struct block *b = block_find(pgm, gpa(at));
	uint64_t step = b ? BLOCK_SIZE : BIT(DIRECTORY_SHIFT);

	*next = align_down(at, step) + step;
	return b;
}

/*
 * Marks of MMIO that were once made here have left their tables under untouched blocks, where a fault may now put a large leaf.
 * handlers.lock held, and no handler within the range: no mark comes back.
 */
static void drop_mark_tables(struct pgm *pgm, const struct pgm_range *range, struct gather *gather)
{
	for (uint64_t at = range->base, next; at < range->base + range->size; at = next) {
		struct block *b = next_block(pgm, at, &next);

		if (!b)
			continue;
		block_lock(b);
		if (block_kind(b) == BLOCK_UNTOUCHED)
			slat_drop_block(&pgm->slat, b->slot, gpa(at), gather);
		block_unlock(b);
	}
}

/* Blocks that have records already learn of the new range; records made from now on have it from the table. */
static void type_records(struct pgm *pgm, const struct pgm_range *range)
{
	uint64_t end = range->base + range->size;

	for (uint64_t at = range->base, next; at < end; at = next) {
		struct block *b = next_block(pgm, at, &next);

		if (!b)
			continue;
		block_lock(b);
		for (uint64_t a = at; block_kind(b) == BLOCK_DETAILED && a < min_u64(end, next); a += PAGE_SIZE)
			page_set_type(page_of(b, gpa(a)), range->type);
		block_unlock(b);
	}
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
	if (!handler_overlaps(&pgm->handlers, base.v, base.v + size - 1, UINT64_MAX)) {
		drop_mark_tables(pgm, &range, &gather);
		lock_acquire(&pgm->lock);
		if (m->active && base.v < m->base + m->size && m->base < base.v + size)
			status = BUSY;
		else
			status = range_insert(&pgm->ranges, &range);
		lock_release(&pgm->lock);
	}
	lock_release(&pgm->handlers.lock);
	if (gather.flush || gather.count)
		gather_finish(&gather);
	if (status == OK) {
		type_records(pgm, &range);
		misconfig_remove(pgm, base.v, base.v + size - 1);
	}
	return status;
}

void range_take_out(struct range_table *t, gpa_t base)
{
	unsigned at = 0;

	while (at < t->count && t->range[at].base != base.v)
		at++;
	if (at == t->count)
		return;
	__atomic_store_n(&t->generation, t->generation + 1, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	t->count--;
	memmove(&t->range[at], &t->range[at + 1], (t->count - at) * sizeof(t->range[0]));
	__atomic_store_n(&t->generation, t->generation + 1, __ATOMIC_RELEASE);
}

void range_remove(struct pgm *pgm, gpa_t base)
{
	lock_acquire(&pgm->lock);
	range_take_out(&pgm->ranges, base);
	lock_release(&pgm->lock);
}

enum status pgm_add_ram(struct pgm *pgm, gpa_t base, uint64_t size, const char *name)
{
	enum status status = OK;

	if (!pgm->built) /* what it was created with is in the accounts already */
		return range_add(pgm, base, size, PAGE_RAM, name);
	if (!size || !is_aligned(size, PAGE_SIZE) || size > PGM_MAX_GPA)
		return BAD_VALUE;
	status = quota_grow(pgm, size);
	if (status != OK)
		return status;
	status = range_add(pgm, base, size, PAGE_RAM, name);
	if (status == OK)
		(void)__atomic_fetch_add(&pgm->config.ram, size, __ATOMIC_RELAXED);
	else
		quota_shrink(pgm, size);
	return status;
}
