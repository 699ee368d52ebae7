/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding a block for a collapse: full, with all its pages fit, and a chunk to be had for them, unless they are one already. A few
 * blocks a step, without a lock until one is worth it. collapse.c alone calls this, one CPU at a time.
 */
#include <string.h>

#include "pgm/internal.h"

#define LOOK_BLOCKS 64u

bool collapse_fit(struct block *b, bool *joined)
{
	page_record *records = block_records(b);
	hpa_t first = page_frame(records[0]);

	*joined = is_aligned(first.v, BLOCK_SIZE);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		if (!collapse_page_fit(records[i]))
			return false;
		*joined &= page_frame(records[i]).v == first.v + i * PAGE_SIZE;
	}
	return true;
}

/* Takes this block on if it is fit. */
static void take_on(struct pgm *pgm, struct block *b, gpa_t base)
{
	struct collapse *c = &pgm->collapse;
	hpa_t chunk = HPA_NONE;
	bool joined, full, fit, zero;

	block_lock(b);
	full = block_kind(b) == BLOCK_DETAILED && b->held == PAGES_PER_BLOCK;
	fit = full && collapse_fit(b, &joined);
	block_unlock(b);
	COUNT_BY(pgm, large_recheck, full);
	COUNT_BY(pgm, large_refused, full && !fit);
	if (!fit)
		return;
	if (!joined && block_alloc(&pgm->account, base, &chunk, &zero) != OK) {
		COUNT(pgm, large_alloc_failed);
		return;
	}
	c->block = b;
	c->base = base;
	c->chunk = chunk;
	c->rounds = 0;
	c->phase = joined ? COLLAPSE_UNMAP : COLLAPSE_PROTECT;
	memset(c->copied, 0, sizeof(c->copied));
	memset(c->clean, 0, sizeof(c->clean));
	block_lock(b); /* what has changed since shows at the switch, when all is looked at again */
	if (block_kind(b) == BLOCK_DETAILED)
		b->flags |= BLOCK_COLLAPSING;
	block_unlock(b);
}

bool collapse_look(struct pgm *pgm)
{
	uint64_t end = pgm->directory_count << (DIRECTORY_SHIFT - BLOCK_SHIFT), *cursor = &pgm->collapse.cursor;

	for (unsigned i = 0; i < LOOK_BLOCKS && *cursor < end; i++) {
		gpa_t base = gpa(*cursor << BLOCK_SHIFT);
		struct block *b = block_find(pgm, base);

		*cursor = (b ? *cursor : (*cursor | (DIRECTORY_BLOCKS - 1))) + 1;
		if (b && block_kind(b) == BLOCK_DETAILED &&
		    !(__atomic_load_n(&b->flags, __ATOMIC_RELAXED) & (BLOCK_EXECUTED | BLOCK_FUSING))) {
			take_on(pgm, b, base);
			return true;
		}
	}
	if (*cursor < end)
		return true;
	*cursor = 0;
	return false;
}
