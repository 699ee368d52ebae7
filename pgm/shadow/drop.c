/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Composed entries that go: because L1's tables are others now, because room is wanted, because the root gets another meaning. An
 * entry leaves the reverse map under the lock of the block that it shows. A table is only unlinked, with all below it: that is
 * one step however much it was. bury.c takes it apart.
 */
#include "pgm/internal.h"

#define CHUNK SHADOW_CHUNK

static unsigned lock_of(gpa_t where)
{
	return where.v >> BLOCK_SHIFT & (SHADOW_LOCKS - 1);
}

static void take(struct shadow_root *root, unsigned i)
{
	while (__atomic_exchange_n(&root->lock[i].held, 1, __ATOMIC_ACQUIRE))
		spin_pause();
}

static void give(struct shadow_root *root, unsigned i)
{
	__atomic_store_n(&root->lock[i].held, 0, __ATOMIC_RELEASE);
}

static void book(bool enter)
{
	if (QUIRE_DEBUG && unlikely(lock_rank_debug) && enter)
		lock_rank_enter(RANK_SHADOW, "shadow");
	else if (QUIRE_DEBUG && unlikely(lock_rank_debug))
		lock_rank_leave(RANK_SHADOW);
}

void shadow_lock(struct shadow_root *root, gpa_t where)
{
	book(true);
	take(root, lock_of(where));
}

void shadow_unlock(struct shadow_root *root, gpa_t where)
{
	give(root, lock_of(where));
	book(false);
}

void shadow_lock_all(struct shadow_root *root)
{
	book(true);
	for (unsigned i = 0; i < SHADOW_LOCKS; i++)
		take(root, i);
}

void shadow_unlock_all(struct shadow_root *root)
{
	for (unsigned i = 0; i < SHADOW_LOCKS; i++)
		give(root, i);
	book(false);
}

gpa_t shadow_target(const struct shadow_table *t, unsigned index)
{
	uint64_t reach = UINT64_C(1) << (PAGE_SHIFT + 9 * t->level);

	return t->source ? gpa(t->source[index] & BITS(51, 12) & ~(reach - 1))
			 : gpa((t->target.v + index * reach) & ~t->hole);
}

struct shadow_table *shadow_table_at(struct shadow_root *root, gpa_t where, unsigned level)
{
	struct shadow_table *t = &root->top;

	while (t && t->level > level) {
		unsigned i = shadow_index(t->level, where);

		t = __atomic_load_n(&t->entry[i], __ATOMIC_ACQUIRE) ? t->below[i] : NULL;
	}
	return t;
}

void shadow_drop_entry(struct pgm *pgm, struct shadow_table *t, unsigned index, struct gather *gather)
{
	struct shadow_table *below = t->below ? t->below[index] : NULL;

	if (!below) {
		shadow_drop_leaf(pgm, t, index, gather);
		return;
	}
	__atomic_store_n(&t->entry[index], 0, __ATOMIC_RELEASE);
	t->below[index] = NULL;
	gather_flush(gather); /* before anyone can find it to be buried */
	shadow_bury(pgm, below);
}

bool shadow_drop_root(struct pgm *pgm, struct shadow_root *root, struct gather *gather)
{
	bool any = false;

	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		if (__atomic_load_n(&root->top.entry[i], __ATOMIC_RELAXED)) {
			shadow_drop_entry(pgm, &root->top, i, gather);
			any = true;
		}
	root->top.settled = 0; /* it may come to stand for another table */
	return any;
}

bool shadow_still(const struct pt_format *f, uint64_t was, uint64_t now)
{
	return !((was ^ now) & ~(f->accessed | f->dirty)) && !(was & ~now);
}

struct resync {
	struct pgm *pgm;
	const struct pt_format *format;
	struct gather *gather;
	uint64_t pass;
};

/* The leaf of 4 KiB that shows L1's page to L1. NULL: none. The block is locked. */
static uint64_t *leaf_of(struct pgm *pgm, struct block *b, gpa_t at)
{
	unsigned level;
	uint64_t *leaf = slat_find_in(&pgm->slat, b->slot, at, &level);

	return level ? NULL : leaf;
}

/* Nobody has written the table at `at` since watch() was done with it. */
static bool quiet(struct pgm *pgm, gpa_t at)
{
	struct block *b = block_find(pgm, at);
	const uint64_t *leaf;

	if (!b)
		return false;
	HOLD_BLOCK(b);
	leaf = leaf_of(pgm, b, at);
	return leaf &&
	       (__atomic_load_n(leaf, __ATOMIC_RELAXED) & (SHADOW_WATCHED | pgm->slat.format->dirty)) ==
		       SHADOW_WATCHED &&
	       !__atomic_load_n(&pgm->dirty.frame, __ATOMIC_ACQUIRE);
}

/*
 * From the gather's flush on each write to this table makes its leaf dirty: L1's, by the processor (Intel SDM vol. 3 section 29.3.5, AMD
 * APM vol. 2 section 15.25); L2's, as composed leaves that may write go now, and come with it dirty; ours (dirty_written()); but not one
 * through a pin. The dirty log has its own use for the bit.
 */
static void watch(const struct resync *r, gpa_t at, uint64_t *watched)
{
	struct pgm *pgm = r->pgm;
	struct block *b = block_find(pgm, at);
	uint64_t *leaf;

	if (!b || !pgm->config.accessed_dirty)
		return;
	HOLD_BLOCK(b);
	page_record record = block_record(b, at);
	leaf = leaf_of(pgm, b, at);
	if (!leaf || !slat_present(&pgm->slat, *leaf) || !page_is_plain(record) || (record.bits & PAGE_PINNED) ||
	    __atomic_load_n(&pgm->dirty.frame, __ATOMIC_ACQUIRE))
		return;
	__atomic_fetch_or(leaf, SHADOW_WATCHED, __ATOMIC_RELAXED);
	__atomic_fetch_and(leaf, ~pgm->slat.format->dirty, __ATOMIC_RELAXED);
	*watched = r->pass;
	reverse_drop_page(pgm, b, at, r->gather);
	gather_flush(r->gather);
}

void shadow_written(struct pgm *pgm, gpa_t where)
{
	uint64_t *leaf = leaf_of(pgm, block_find(pgm, where), where);

	if (leaf && (*leaf & SHADOW_WATCHED))
		__atomic_fetch_or(leaf, pgm->slat.format->dirty, __ATOMIC_RELAXED);
}

/*
 * So many of L1's entries from the first on are what ours were made from. What the most of a flush consists of where L1 has changed
 * something: one instruction an entry where the string comparison counts so (Intel SDM vol. 2, CMPS). Where L1 has no plain memory: none.
 */
static size_t alike(struct pgm *pgm, gpa_t at, const uint64_t *source, size_t count)
{
	struct block *b = block_find(pgm, at);
	size_t left = count;
	bool equal = false;

	if (!b)
		return 0;
	HOLD_BLOCK(b);
	page_record r = block_record(b, at);
	if (page_is_plain(r) && page_has_frame(r)) {
		const uint64_t *bytes = frame_map(hpa(page_frame(r).v | (at.v & (PAGE_SIZE - 1)))), *now = bytes;

		__asm__ volatile("repe cmpsq" : "+S"(now), "+D"(source), "+c"(left), "=@cce"(equal) : : "memory");
		frame_unmap(bytes);
	}
	return equal ? count : count - left - (left < count);
}

/* CHUNK entries from `first` on, of which some have changed: those of ours go. */
static void resync_chunk(const struct resync *r, struct shadow_table *t, unsigned first, gpa_t at)
{
	uint64_t now[CHUNK];
	bool live = false;

	if (pgm_read_simple(r->pgm, gpa(at.v + first * sizeof(*now)), now, sizeof(now)) != OK)
		__builtin_memset(now, 0xff, sizeof(now));
	for (unsigned i = first; i < first + CHUNK; i++) {
		if (__atomic_load_n(&t->entry[i], __ATOMIC_RELAXED) &&
		    !shadow_still(r->format, t->source[i], now[i - first]))
			shadow_drop_entry(r->pgm, t, i, r->gather);
		if (__atomic_load_n(&t->entry[i], __ATOMIC_RELAXED))
			live = true;
		else
			t->source[i] = now[i - first]; /* of nothing: the next comparison finds no difference */
	}
	if (!live)
		t->live &= ~BIT(first / CHUNK);
}

static void resync_table(const struct resync *r, struct shadow_table *t, gpa_t at);

static void resync_below(const struct resync *r, struct shadow_table *t, unsigned first)
{
	for (unsigned i = first; i < first + CHUNK; i++)
		if (t->below[i] && t->below[i]->source)
			resync_table(r, t->below[i], gpa(t->source[i] & r->format->address));
}

/*
 * The table that L1's entries stand in at `at`, and those below. What nobody has written since it was compared isn't looked at, if that was
 * after the flush by which its page is watched: in a later pass than `watched`, for passes come one after the other, each with its
 * flush. Of the rest most are as they were: asked of all that are in use together. pgm->lock and all locks held.
 */
static void resync_table(const struct resync *r, struct shadow_table *t, gpa_t at)
{
	uint64_t *watched = &r->pgm->shadow.watched[at.v >> PAGE_SHIFT & (SHADOW_WATCHES - 1)];
	bool is_quiet = quiet(r->pgm, at), known = is_quiet && t->settled > *watched, changed = false;
	unsigned first = t->live ? (unsigned)__builtin_ctzll(t->live) * CHUNK : PAGES_PER_BLOCK;
	unsigned end = t->live && !known ? PAGES_PER_BLOCK - (unsigned)__builtin_clzll(t->live) * CHUNK : 0;

	while (first < end) {
		first += (unsigned)alike(r->pgm, gpa(at.v + first * sizeof(*t->source)), &t->source[first],
					 end - first) &
			 ~(CHUNK - 1);
		if (first < end) {
			resync_chunk(r, t, first, at);
			first += CHUNK;
			changed = true;
		}
	}
	if (is_quiet)
		t->settled = r->pass;
	else if (!changed)
		watch(r, at, watched);
	for (uint64_t left = t->below ? t->live : 0; left; left &= left - 1)
		resync_below(r, t, (unsigned)__builtin_ctzll(left) * CHUNK);
}

/* The table of L1's that stands for ours on top. Of five levels, it is the first table's first entry that leads to it. All locks held. */
static gpa_t top_table(struct pgm *pgm, struct shadow_root *root, struct gather *gather)
{
	const struct pt_format *f = root->key.format;
	uint64_t now;

	if (f->levels == pgm->slat.format->levels)
		return root->key.root;
	if (pgm_read_simple(pgm, root->key.root, &now, sizeof(now)) != OK)
		now = ~UINT64_C(0);
	if (!shadow_still(f, root->above, now))
		(void)shadow_drop_root(pgm, root, gather);
	root->above = now;
	return gpa(now & f->address);
}

void shadow_resync(struct pgm *pgm, struct shadow_root *root)
{
	GATHER(gather, &pgm->flush, &pgm->account);
	__atomic_fetch_add(&pgm->shadow.passes, 1, __ATOMIC_RELAXED);
	shadow_lock_all(root);
	__atomic_fetch_add(&root->invalidations, 1, __ATOMIC_RELAXED);
	if (root->loose)
		(void)shadow_drop_root(pgm, root, &gather);
	else
		resync_table(&(struct resync){ pgm, root->key.format, &gather, pgm->shadow.passes }, &root->top,
			     top_table(pgm, root, &gather));
	shadow_unlock_all(root);
	COUNT(pgm, shadow_resyncs);
}

void shadow_invalidate(struct pgm *pgm, const struct hv_nested_slat *slat)
{
	HOLD(&pgm->lock);
	for (unsigned i = 0; i < SHADOW_ROOTS && pgm->shadow.root[i]; i++)
		if (!slat || pgm->shadow.root[i]->key.root.v == slat->root.v)
			shadow_resync(pgm, pgm->shadow.root[i]);
}
