/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Composed entries that come: the tables on the way, from what L1's tables allow (a path), and the leaf (leaf.c). What stands there from
 * other entries of L1's goes first.
 */
#include "pgm/shadow/fill.h"

#define RWX (ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE)

/* What L1's levels down to this one grant. */
static void grant(struct fill *f, struct shadow_table *below)
{
	const struct pt_format *l1 = f->root->key.format;

	below->rights = RWX;
	below->user = true;
	for (const struct walk_step *s = f->path->step; s->level > below->level; s++) {
		below->rights &= (uint8_t)slat_entry_rights(l1, s->entry);
		below->user &= !l1->user || (s->entry & l1->user);
	}
}

/* The table below entry `index`; locked so that nobody else makes one. */
static enum status link(struct fill *f, struct shadow_table *t, unsigned index)
{
	const struct walk_step *step = step_of(f->path, t->level);
	uint64_t base = f->where.v & ~(BIT(pt_shift(f->format, t->level)) - 1);
	struct shadow_table *below;
	enum status status;

	TRY(shadow_cell(f->pgm, (void **)&below));
	status = shadow_table_make(f->pgm, below, t->level - 1u, f->path->steps && f->path->level < t->level);
	if (status != OK) {
		shadow_cell_free(f->pgm, below);
		return status;
	}
	below->hole = f->root->key.on ? 0 : A20_BIT;
	below->target = gpa(below->hole ? base : f->path->target.v - (f->where.v - base));
	if (t->source)
		t->source[index] = step->entry;
	if (below->source)
		grant(f, below);
	t->below[index] = below;
	__atomic_fetch_or(&t->live, BIT(index / SHADOW_CHUNK), __ATOMIC_RELAXED);
	__atomic_store_n(&t->entry[index], direct_address(below->entry).v | f->format->table_bits, __ATOMIC_RELEASE);
	COUNT(f->pgm, shadow_tables);
	return OK;
}

/* Does what stands at `index` come from another entry of L1's than the path? It may gain accessed and dirty. */
static bool stale(struct fill *f, struct shadow_table *t, unsigned index)
{
	const struct walk_step *step = step_of(f->path, t->level);
	uint64_t was;

	if (!t->source || !__atomic_load_n(&t->entry[index], __ATOMIC_ACQUIRE))
		return false;
	was = __atomic_load_n(&t->source[index], __ATOMIC_RELAXED);
	if ((was ^ step->entry) & ~(f->format->accessed | f->format->dirty))
		return true;
	if (step->entry & ~was)
		__atomic_fetch_or(&t->source[index], step->entry, __ATOMIC_RELAXED);
	return false;
}

/* The same for a path that began at a table of level 0: it must lead there still. */
static enum status same_way(struct fill *f, struct shadow_table **out)
{
	struct shadow_table *t = shadow_table_at(f->root, f->where, 1);
	unsigned index = shadow_index(1, f->where);

	*out = t;
	return t && t->source && t->below[index] &&
			       (t->source[index] & f->format->address) == (f->path->step->where.v & ~(PAGE_SIZE - 1))
		       ? OK
		       : BUSY;
}

/* The table of level 1 on the way, those above it made. */
static enum status descend(struct fill *f, struct shadow_table **out)
{
	struct shadow_table *t = &f->root->top;
	const struct walk_step *first = f->path->step;
	enum status status = OK;

	if (f->path->below)
		return same_way(f, out);
	if (f->path->steps && first->level > t->level &&
	    ((first->entry ^ f->root->above) & ~(f->format->accessed | f->format->dirty)))
		return CONFLICT;
	while (status == OK && t->level > 1) {
		unsigned index = shadow_index(t->level, f->where);

		if (unlikely(!__atomic_load_n(&t->entry[index], __ATOMIC_ACQUIRE))) {
			HOLD(&f->root->link);
			if (!t->entry[index])
				status = link(f, t, index);
		}
		/* Perhaps another fill's, which saw another entry of L1's. */
		if (status == OK && stale(f, t, index))
			return CONFLICT;
		if (status == OK)
			t = t->below[index];
	}
	*out = t;
	return status;
}

/* The place for a leaf of level 0; what stands in its way goes. The block is locked. */
static enum status page_table(struct fill *f, struct shadow_table *t, unsigned index, struct shadow_table **out)
{
	enum status status = OK;

	if (!t->below[index]) {
		if (t->entry[index]) { /* of 2 MiB, and of this very block: L1's entry is the same */
			__atomic_store_n(&t->entry[index], 0, __ATOMIC_RELEASE);
			panic_unless(reverse_remove(f->pgm, f->block, f->path->target, &t->entry[index], true));
			gather_flush(&f->gather);
		}
		status = link(f, t, index);
	}
	*out = t->below[index];
	return status;
}

/* BUSY: a table stood where a leaf may be, and it is for the caller to drop. The block is locked. */
static enum status fill_locked(struct fill *f, struct shadow_table *t)
{
	unsigned index = shadow_index(1, f->where), level;
	const struct walk_step *step = step_of(f->path, f->path->level);
	struct side l1 = { .target = f->path->target, .level = f->path->level, .entry = step ? step->entry : 0 };
	uint64_t leaf;
	enum status status;

	/* What the host put there for L1's own processor is none of L2's memory. */
	if (block_kind(f->block) == BLOCK_DETAILED &&
	    page_get_type(*page_of(f->block, l1.target)) == PAGE_SPECIAL_ALIAS_MMIO)
		return HANDLER;
	leaf = fill_derive(f, &l1, f->access, &level);
	if (!leaf)
		return NOT_FOUND;
	if (level) {
		if (t->below[index])
			return BUSY;
		if (t->source && !t->entry[index])
			t->source[index] = l1.entry;
		return fill_install(f, t, index, l1.target, leaf);
	}
	TRY(page_table(f, t, index, &t));
	t->begin |= !f->path->below && t->source && !f->root->loose;
	index = shadow_index(0, f->where);
	if (t->source && !t->entry[index])
		t->source[index] = l1.entry;
	status = fill_install(f, t, index, l1.target, leaf);
	if (status == OK && f->around)
		fill_around(f, t, index);
	return status;
}

/* The first leaf of its GROUP brings what it can of the others; of those that it can't, most want a walk of their own. */
static bool is_first(struct fill *f, const struct shadow_table *t, unsigned page)
{
	const struct walk_step *last = step_of(f->path, 0);
	uint64_t any = 0;

	for (unsigned i = page & ~(GROUP - 1); t && i <= (page | (GROUP - 1)) && !any; i++)
		any = __atomic_load_n(&t->entry[i], __ATOMIC_RELAXED);
	if (any || !last)
		return !any;
	return !f->root->loose &&
	       pgm_read_simple(f->pgm, gpa(last->where.v & ~(GROUP * 8 - 1)), f->near, sizeof(f->near)) == OK;
}

/* What isn't as L1's entries are now goes, of this 2 MiB; then the leaf comes. The lock of `where` is held. */
static enum status fill_below(struct fill *f, struct shadow_table *t)
{
	unsigned index = shadow_index(1, f->where), page = shadow_index(0, f->where);
	enum status status;

	if (!f->path->below && stale(f, t, index))
		shadow_drop_entry(f->pgm, t, index, &f->gather);
	if (t->below[index] && stale(f, t->below[index], page))
		shadow_drop_entry(f->pgm, t->below[index], page, &f->gather);
	f->around = is_first(f, t->below[index], page);
	do {
		block_lock(f->block);
		status = fill_locked(f, t);
		block_unlock(f->block);
		if (status == BUSY)
			shadow_drop_entry(f->pgm, t, index, &f->gather);
	} while (status == BUSY);
	return status;
}

enum status shadow_fill(struct pgm *pgm, struct shadow_root *root, gpa_t where, const struct shadow_path *path,
			unsigned access, uint64_t invalidations)
{
	struct fill f; /* field by field: the gather is large */
	struct shadow_table *t;
	enum status status = OK;

	f.pgm = pgm;
	f.root = root;
	f.format = pgm->slat.format;
	f.where = gpa(where.v & ~(PAGE_SIZE - 1));
	f.path = path;
	f.access = access;
	f.block = block_find(pgm, path->target);
	if (!f.block)
		return NOT_FOUND;
	gather_begin(&f.gather, &pgm->flush, &pgm->account);
	shadow_lock(root, where);
	/* Else the path may be older than a flush of L1's that is over. */
	if (__atomic_load_n(&root->invalidations, __ATOMIC_RELAXED) == invalidations) {
		status = descend(&f, &t);
		if (status == OK)
			status = fill_below(&f, t);
	}
	shadow_unlock(root, where);
	if (f.gather.flush || f.gather.count)
		gather_finish(&f.gather);
	return status;
}
