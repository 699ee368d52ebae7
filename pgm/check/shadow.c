/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Composed tables against the records, and against the reverse map in both directions: no entry grants more than the record of
 * the page that it shows, none is missing from the map, and none that the map names is empty.
 */
#include "pgm/check/finding.h"
#include "pgm/internal.h"

struct shadow_check {
	struct check *check;
	/* The page looked at. */
	gpa_t where;
	hpa_t frame;
	unsigned rights;
	const uint64_t *wanted;
	bool found;
};

static void check_entry(void *context, uint64_t *entry, bool large)
{
	struct shadow_check *c = context;
	const struct pt_format *f = c->check->pgm->slat.format;
	uint64_t value = __atomic_load_n(entry, __ATOMIC_RELAXED);
	uint64_t offset = large ? c->where.v & (BLOCK_SIZE - 1) : 0;

	if (!(value & f->present))
		finding(c->check, c->where, "the reverse map names an empty entry", value);
	else if (slat_entry_rights(f, value) & ~c->rights)
		finding(c->check, c->where, "a composed table grants more than the record", value);
	else if ((value & f->address & ~(large ? BLOCK_SIZE - 1 : 0)) + offset != c->frame.v)
		finding(c->check, c->where, "a composed table points to another frame", value);
}

void shadow_check_block(struct check *check, struct block *b, gpa_t base)
{
	struct shadow_check c = { .check = check };
	page_record r = { 0 };

	page_set_type(&r, PAGE_RAM);
	for (unsigned i = 0; b->shadows && i < PAGES_PER_BLOCK; i++) {
		if (block_kind(b) == BLOCK_LARGE)
			page_set(&r, PAGE_ALLOCATED, hpa(block_address(b).v + i * PAGE_SIZE));
		else if (block_kind(b) == BLOCK_DETAILED)
			r = block_records(b)[i];
		c.where = gpa(base.v + i * PAGE_SIZE);
		c.rights = page_rights(r);
		c.frame = page_has_frame(r) ? page_frame(r) : pgm_zero_block;
		/* Under a large leaf of zeros each page has its own. */
		if (!page_has_frame(r) && block_kind(b) < BLOCK_LARGE)
			c.frame.v += i * PAGE_SIZE;
		reverse_for_page(b, c.where, check_entry, &c);
	}
}

static void compare(void *context, uint64_t *entry, bool large)
{
	struct shadow_check *c = context;

	c->found |= entry == c->wanted;
}

/* Each leaf is known to the reverse map. All the root's locks are held. */
static void check_table(struct shadow_check *c, const struct shadow_table *t)
{
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		gpa_t target;
		struct block *b;

		if (t->below && t->below[i]) {
			check_table(c, t->below[i]);
			continue;
		}
		if (!__atomic_load_n(&t->entry[i], __ATOMIC_RELAXED))
			continue;
		target = shadow_target(t, i);
		b = block_find(c->check->pgm, target);
		if (!b)
			continue;
		HOLD_BLOCK(b);
		c->wanted = &t->entry[i];
		c->found = !t->entry[i];
		reverse_for_page(b, target, compare, c);
		if (!c->found)
			finding(c->check, target, "the reverse map lacks a composed entry", t->entry[i]);
	}
}

void shadow_check(struct check *check)
{
	struct shadow_check c = { .check = check };
	struct pgm *pgm = check->pgm;

	HOLD(&pgm->lock);
	for (unsigned i = 0; i < SHADOW_PLACES; i++) {
		struct shadow_root *r = *shadow_place(&pgm->shadow, i);

		if (!r)
			continue;
		shadow_lock_all(r);
		check_table(&c, &r->top);
		shadow_unlock_all(r);
	}
}
