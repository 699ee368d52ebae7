/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Composed entries that go: because L1's tables are others now, because room is wanted, because the root gets another meaning. An
 * entry leaves the reverse map under the lock of the block that it shows. A table is only unlinked, with all below it: that is
 * one step however much it was. bury.c takes it apart.
 */
#include "pgm/internal.h"

#define STRIDE 4u          /* entries looked at together */
#define CHUNK SHADOW_CHUNK /* of L1's entries, read at once */

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
};

/*
 * Are L1's entries what ours were made from? What the most of a flush consists of: one instruction an entry where the string
 * comparison counts so (Intel SDM vol. 2, CMPS). Where L1 has no plain memory of its own: no.
 */
static bool same(struct pgm *pgm, gpa_t at, const uint64_t *source, size_t count)
{
	struct block *b = block_find(pgm, at);
	bool equal = false;

	if (!b)
		return false;
	HOLD_BLOCK(b);
	page_record r = block_record(b, at);
	if (page_is_plain(r) && page_has_frame(r)) {
		const uint64_t *bytes = frame_map(hpa(page_frame(r).v | (at.v & (PAGE_SIZE - 1)))), *now = bytes;

		__asm__ volatile("repe cmpsq" : "+S"(now), "+D"(source), "+c"(count), "=@cce"(equal) : : "memory");
		frame_unmap(bytes);
	}
	return equal;
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
		t->live &= (uint8_t) ~(1u << first / CHUNK);
}

static void resync_table(const struct resync *r, struct shadow_table *t, gpa_t at);

static void resync_below(const struct resync *r, struct shadow_table *t, unsigned first)
{
	for (unsigned i = first; i < first + CHUNK; i++) {
		const uint64_t *e = &t->entry[i];

		if (i % STRIDE == 0 && !(e[0] | e[1] | e[2] | e[3]))
			i += STRIDE - 1;
		else if (t->below[i] && t->below[i]->source)
			resync_table(r, t->below[i], gpa(t->source[i] & r->format->address));
	}
}

/* The table that L1's entries stand in at `at`, and those below. Most are as they were: asked of all that are in use together. All locks held. */
static void resync_table(const struct resync *r, struct shadow_table *t, gpa_t at)
{
	unsigned live = t->live, first = live ? (unsigned)__builtin_ctz(live) : 0;
	unsigned count = live ? 32u - (unsigned)__builtin_clz(live) - first : 0;
	const size_t size = CHUNK * sizeof(*t->source);

	if (count && same(r->pgm, gpa(at.v + first * size), &t->source[first * CHUNK], count * CHUNK))
		live = 0;
	for (unsigned left = live; left; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctz(left);

		if (!same(r->pgm, gpa(at.v + i * size), &t->source[i * CHUNK], CHUNK))
			resync_chunk(r, t, i * CHUNK, at);
	}
	for (unsigned left = t->below ? t->live : 0; left; left &= left - 1)
		resync_below(r, t, (unsigned)__builtin_ctz(left) * CHUNK);
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
	shadow_lock_all(root);
	__atomic_fetch_add(&root->invalidations, 1, __ATOMIC_RELAXED);
	if (root->loose)
		(void)shadow_drop_root(pgm, root, &gather);
	else
		resync_table(&(struct resync){ pgm, root->key.format, &gather }, &root->top,
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
