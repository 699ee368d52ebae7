/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Composed entries that come: from what L1's tables allow (a path) and what the first tables grant at L1's address, never more than
 * either. The leaf is the smaller of both. It is derived, entered in the reverse map and put in under the lock of the block that it
 * shows; so whoever narrows the first tables finds it.
 *
 * Dirty: whoever reads dirty bits reads them in the first tables. What may be written through a composed entry is dirty
 * there; and in L1's own tables, if it keeps such bits: until then the right to write is withheld.
 */
#include "arch/x86_64/host.h"
#include "pgm/internal.h"

#define RWX (ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE)
#define GROUP FAULT_AROUND

struct fill {
	struct pgm *pgm;
	struct shadow_root *root;
	const struct pt_format *format; /* of ours, and L1's but for what it wasn't offered */
	gpa_t where;
	const struct shadow_path *path;
	unsigned access;
	struct block *block;
	struct gather gather;
	uint64_t near[GROUP]; /* L1's entries around the leaf of level 0 */
	bool have_near;
};

static unsigned index_of(unsigned level, gpa_t where)
{
	return where.v >> (PAGE_SHIFT + 9 * level) & (PAGES_PER_BLOCK - 1);
}

/* L1's entry of this level; NULL: its leaf is above, or there are no tables of its. */
static const struct walk_step *step_of(const struct shadow_path *p, unsigned level)
{
	return p->steps && level >= p->level ? &p->step[p->step[0].level - level] : NULL;
}

/* What one page of L2 is on L1's side. */
struct side {
	gpa_t target;
	uint64_t entry; /* L1's leaf */
	unsigned level;
};

/* With all that must be so for it. 0: nothing, or less than `access`. *level: of the leaf. The block is locked. */
static uint64_t derive(struct fill *f, const struct side *l1, unsigned access, unsigned *level)
{
	const struct hv_nested_slat *key = &f->root->key;
	const struct slat *first = &f->pgm->slat;
	unsigned first_level, rights;
	uint64_t *entry = slat_find_in(first, f->block->slot, l1->target, &first_level), value = *entry, leaf;
	uint64_t offset = l1->target.v & (BIT(pt_shift(f->format, first_level)) - 1);

	rights = slat_rights(first, value) & f->path->rights;
	*level = l1->level && first_level;
	if (*level)
		rights &= first->large_access;
	if (misconfig_is_mark(f->pgm, value) || !rights || (access & ~rights))
		return 0;
	if (access & ACCESS_WRITE) {
		__atomic_fetch_or(entry, f->format->dirty, __ATOMIC_RELAXED);
		dirty_written(f->pgm, l1->target); /* a processor's own list would have L2's address */
	} else if (!(value & f->format->dirty) || (key->accessed_dirty && !(l1->entry & f->format->dirty))) {
		rights &= ~ACCESS_WRITE;
	}
	leaf = (slat_frame(first, first_level, value).v + offset) & ~((*level ? BLOCK_SIZE : PAGE_SIZE) - 1);
	leaf |= f->format->rights_bits[rights] | f->format->accessed | f->format->dirty;
	leaf |= key->on ? l1->entry & f->format->type_mask : f->format->type_bits[MEMORY_TYPE_WB];
	/* Our own leaves can always be read. */
	return (rights & ACCESS_READ ? leaf : leaf & ~f->format->read) | (*level ? f->format->large : 0);
}

/* Nothing, or the same with fewer or more rights, stands there. The block is locked. */
static enum status install(struct fill *f, struct shadow_table *t, unsigned index, gpa_t target, uint64_t leaf)
{
	const struct pt_format *s = f->format;
	uint64_t *entry = &t->entry[index], old = __atomic_load_n(entry, __ATOMIC_RELAXED);
	enum status status = old ? OK : reverse_add(f->pgm, f->block, target, entry, t->level, &f->gather);

	if (status != OK)
		return status;
	if (old && ((old & ~leaf & (s->present | s->read | s->write | s->execute)) | (leaf & ~old & s->no_execute)))
		gather_flush(&f->gather);
	if (!old)
		__atomic_fetch_or(&t->live, 1u << index / SHADOW_CHUNK, __ATOMIC_RELAXED);
	__atomic_store_n(entry, leaf, __ATOMIC_RELEASE);
	return OK;
}

/* Parts of the same leaf, or neighbours in L1's table with the same rights: those that the first tables map already. */
static void fill_around(struct fill *f, struct shadow_table *t, unsigned index)
{
	/* An accessed bit that L1 keeps is set where the path ends, and must be here. */
	const uint64_t alike =
		~(f->format->address | f->format->dirty | (f->root->key.accessed_dirty ? 0 : f->format->accessed));
	const struct walk_step *step = step_of(f->path, f->path->level);
	unsigned first = index & ~(GROUP - 1), level;

	for (unsigned i = first; i < first + GROUP; i++) {
		struct side l1 = { .entry = t->source ? f->near[i - first] : step ? step->entry : 0 };
		uint64_t leaf;

		if ((t->source && ((l1.entry ^ step->entry) & alike)) ||
		    __atomic_load_n(&t->entry[i], __ATOMIC_RELAXED))
			continue;
		l1.target = t->source ? gpa(l1.entry & f->format->address) : shadow_target(t, i);
		if ((l1.target.v ^ f->path->target.v) >> BLOCK_SHIFT)
			continue;
		leaf = derive(f, &l1, 0, &level);
		if (!leaf)
			continue;
		if (t->source)
			t->source[i] = l1.entry;
		if (install(f, t, i, l1.target, leaf) != OK)
			return;
	}
}

/* The table below entry `index`; locked so that nobody else makes one. */
static enum status link(struct fill *f, struct shadow_table *t, unsigned index)
{
	const struct walk_step *step = step_of(f->path, t->level);
	uint64_t base = f->where.v & ~(BIT(pt_shift(f->format, t->level)) - 1);
	struct shadow_table *below;
	enum status status = shadow_cell(f->pgm, (void **)&below);

	if (status != OK)
		return status;
	status = shadow_table_make(f->pgm, below, t->level - 1u, f->path->steps && f->path->level < t->level);
	if (status != OK) {
		shadow_cell_free(f->pgm, below);
		return status;
	}
	below->hole = f->root->key.on ? 0 : A20_BIT;
	below->target = gpa(below->hole ? base : f->path->target.v - (f->where.v - base));
	if (t->source)
		t->source[index] = step->entry;
	t->below[index] = below;
	__atomic_fetch_or(&t->live, 1u << index / SHADOW_CHUNK, __ATOMIC_RELAXED);
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

/* The table of level 1 on the way, those above it made. */
static enum status descend(struct fill *f, struct shadow_table **out)
{
	struct shadow_table *t = &f->root->top;
	const struct walk_step *first = f->path->step;
	enum status status = OK;

	if (f->path->steps && first->level > t->level &&
	    ((first->entry ^ f->root->above) & ~(f->format->accessed | f->format->dirty)))
		return CONFLICT;
	while (status == OK && t->level > 1) {
		unsigned index = index_of(t->level, f->where);

		if (unlikely(!__atomic_load_n(&t->entry[index], __ATOMIC_ACQUIRE))) {
			lock_acquire(&f->root->link);
			if (!t->entry[index])
				status = link(f, t, index);
			lock_release(&f->root->link);
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
	unsigned index = index_of(1, f->where), level;
	const struct walk_step *step = step_of(f->path, f->path->level);
	struct side l1 = { .target = f->path->target, .level = f->path->level, .entry = step ? step->entry : 0 };
	uint64_t leaf;
	enum status status;
	bool alone;

	/* What the host put there for L1's own processor is none of L2's memory. */
	if (block_kind(f->block) == BLOCK_DETAILED &&
	    page_get_type(*page_of(f->block, l1.target)) == PAGE_SPECIAL_ALIAS_MMIO)
		return HANDLER;
	leaf = derive(f, &l1, f->access, &level);
	if (!leaf)
		return NOT_FOUND;
	if (level) {
		if (t->below[index])
			return BUSY;
		if (t->source && !t->entry[index])
			t->source[index] = l1.entry;
		return install(f, t, index, l1.target, leaf);
	}
	status = page_table(f, t, index, &t);
	if (status != OK)
		return status;
	index = index_of(0, f->where);
	alone = !t->entry[index];
	if (t->source && alone)
		t->source[index] = l1.entry;
	status = install(f, t, index, l1.target, leaf);
	if (status == OK && alone && (!t->source || f->have_near))
		fill_around(f, t, index);
	return status;
}

/* What isn't as L1's entries are now goes, of this 2 MiB; then the leaf comes. The lock of `where` is held; have_near is a guess. */
static enum status fill_below(struct fill *f, struct shadow_table *t)
{
	unsigned index = index_of(1, f->where), page = index_of(0, f->where);
	const struct walk_step *last = step_of(f->path, 0);
	enum status status;

	if (stale(f, t, index))
		shadow_drop_entry(f->pgm, t, index, &f->gather);
	if (t->below[index] && stale(f, t->below[index], page))
		shadow_drop_entry(f->pgm, t->below[index], page, &f->gather);
	if (last && !f->root->loose &&
	    !(t->below[index] && __atomic_load_n(&t->below[index]->entry[page], __ATOMIC_RELAXED)))
		f->have_near =
			pgm_read_simple(f->pgm, gpa(last->where.v & ~(GROUP * 8 - 1)), f->near, sizeof(f->near)) == OK;
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
	f.have_near = false;
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
