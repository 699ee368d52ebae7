/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables that nothing leads to any more. Until they are taken apart, a few at a time, their leaves stay in the reverse map, and whoever
 * changes a page zaps them as any other; the frames stay charged. Who wants frames takes buried tables first, and each fault takes one.
 *
 * Who unlinks a table asks for the flush before it is buried: so who digs it out knows by the pending flushes whether a processor
 * may still be in it, and settles that.
 */
#include "pgm/internal.h"

void shadow_drop_leaf(struct pgm *pgm, struct shadow_table *t, unsigned index, struct gather *gather)
{
	struct block *b;
	gpa_t target;

	if (!__atomic_load_n(&t->entry[index], __ATOMIC_RELAXED))
		return;
	target = shadow_target(t, index);
	b = block_find(pgm, target);
	panic_unless(b != NULL);
	HOLD_BLOCK(b);
	if (__atomic_exchange_n(&t->entry[index], 0, __ATOMIC_ACQ_REL)) {
		panic_unless(reverse_remove(pgm, b, target, &t->entry[index], t->level != 0));
		gather_flush(gather);
	}
}

void shadow_bury(struct pgm *pgm, struct shadow_table *t)
{
	struct shadow_pool *pool = &pgm->shadow;

	HOLD(&pool->lock);
	t->next = pool->buried;
	__atomic_store_n(&pool->buried, t, __ATOMIC_RELAXED);
}

static struct shadow_table *dig(struct shadow_pool *pool)
{
	HOLD(&pool->lock);
	struct shadow_table *t = pool->buried;
	if (t)
		__atomic_store_n(&pool->buried, t->next, __ATOMIC_RELAXED);
	return t;
}

/* The tables below are buried in turn. */
static void take_apart(struct pgm *pgm, struct shadow_table *t, struct gather *gather)
{
	const void *frame[] = { t->entry, t->source, t->below };

	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		if (t->below && t->below[i])
			shadow_bury(pgm, t->below[i]);
		else
			shadow_drop_leaf(pgm, t, i, gather);
	for (unsigned i = 0; i < ARRAY_SIZE(frame); i++)
		if (frame[i]) {
			gather_frame(gather, direct_address(frame[i]), ACCOUNT_TABLE);
			__atomic_fetch_sub(&pgm->shadow.frames, 1, __ATOMIC_RELAXED);
		}
	shadow_cell_free(pgm, t);
	COUNT(pgm, shadow_tables_dropped);
}

bool shadow_dig(struct pgm *pgm, unsigned tables)
{
	struct gather flushed;
	bool any = false;

	GATHER(gather, NULL, &pgm->account);
	for (struct shadow_table *t; tables && (t = dig(&pgm->shadow)); tables--) {
		gather_begin(&flushed, &pgm->flush, &pgm->account);
		gather_settle(&flushed);
		take_apart(pgm, t, &gather);
		any = true;
	}
	return any;
}
