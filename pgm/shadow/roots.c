/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The roots of composed tables. They are found by what L1's tables are; one that nobody uses stays until its place or its frames are
 * wanted. Which vcpus have had one is known, for what others have cached is nothing to one that comes for the first time.
 */
#include "pgm/internal.h"

#define PROMISE 1024u /* frames, and one for each so many pages of RAM: */
#define PAGES_PER_FRAME 128u
#define STEP_TABLES 256u

enum status shadow_root_make(struct pgm *pgm, const struct hv_nested_slat *key, struct shadow_root **out)
{
	struct shadow_root *r = heap_alloc(sizeof(*r));
	enum status status = NO_MEMORY;

	if (r)
		status = shadow_table_make(pgm, &r->top, pgm->slat.format->levels - 1u, hv_nested_composed(key));
	if (status != OK) {
		if (r)
			heap_free(r, sizeof(*r));
		return status;
	}
	r->key = *key;
	lock_init(&r->link, RANK_BLOCK, "shadow link");
	__atomic_store_n(out, r, __ATOMIC_RELEASE);
	return OK;
}

static bool same_key(const struct hv_nested_slat *a, const struct hv_nested_slat *b)
{
	return a->on == b->on && a->traps == b->traps && (!a->traps || a->trapped.v == b->trapped.v) &&
	       a->root.v == b->root.v && a->format == b->format && a->physical_bits == b->physical_bits &&
	       a->large_1g == b->large_1g && a->accessed_dirty == b->accessed_dirty && a->no_execute == b->no_execute;
}

/* The place of the root with this key; else the longest unused one, or, while there are few or all are in use, the next. NULL: no more. */
static struct shadow_root **choose(struct shadow_pool *pool, const struct hv_nested_slat *slat)
{
	struct shadow_root **best = NULL;

	for (unsigned i = 0; i < SHADOW_ROOTS; i++) {
		struct shadow_root **at = &pool->root[i], *r = *at;

		if (!r)
			return best && i >= SHADOW_KEPT ? best : at;
		if (same_key(&r->key, slat))
			return at;
		if (!r->users && (!best || r->used < (*best)->used))
			best = at;
	}
	return best;
}

/* Returns whether there was anything. */
static bool drop_flushed(struct pgm *pgm, struct shadow_root *root)
{
	bool any;

	GATHER(gather, &pgm->flush, &pgm->account);
	shadow_lock_all(root);
	any = shadow_drop_root(pgm, root, &gather);
	shadow_unlock_all(root);
	return any;
}

/* Gives it this key, and to this vcpu. */
static void take(struct pgm *pgm, struct shadow_root *r, const struct hv_nested_slat *slat, unsigned who)
{
	if (!same_key(&r->key, slat)) {
		(void)drop_flushed(pgm, r);
		r->known = 0;
	}
	r->key = *slat;
	/* 32-bit and PAE paging, or none. */
	r->loose = !slat->on || slat->format->levels < pgm->slat.format->levels;
	r->users++;
	r->used = ++pgm->shadow.clock;
	if (r->known & ~BIT(who) && !(r->known & BIT(who)))
		shadow_resync(pgm, r);
	r->known |= BIT(who);
}

/* pgm->lock held. */
static enum status get(struct pgm *pgm, const struct hv_nested_slat *slat, unsigned who, struct shadow_root **out)
{
	struct shadow_root **at = choose(&pgm->shadow, slat);
	uint64_t automatic = PROMISE + (pgm->config.ram >> PAGE_SHIFT) / PAGES_PER_FRAME;
	uint64_t promise = pgm->config.shadow_frames ? pgm->config.shadow_frames : automatic;
	enum status status = OK;

	if (!at)
		return LIMIT;
	if (!pgm->shadow.clock)
		TRY(shadow_promise(pgm, promise));
	if (!*at)
		status = shadow_root_make(pgm, slat, at);
	if (status != OK && !pgm->shadow.clock)
		shadow_unpromise(pgm, promise);
	TRY(status);
	take(pgm, *at, slat, who);
	*out = *at;
	return OK;
}

enum status shadow_root_get(struct pgm *pgm, const struct hv_nested_slat *slat, unsigned who, struct shadow_root **out)
{
	enum status status;

	do {
		HOLD(&pgm->lock);
		status = get(pgm, slat, who, out);
	} while (status != OK && shadow_shrink(pgm, NULL));
	return status;
}

void shadow_root_put(struct pgm *pgm, struct shadow_root *root)
{
	HOLD(&pgm->lock);
	root->users--;
}

hpa_t shadow_root_address(const struct shadow_root *root)
{
	return direct_address(root->top.entry);
}

bool shadow_shrink(struct pgm *pgm, struct shadow_root *own)
{
	struct shadow_pool *pool = &pgm->shadow;
	bool any = false;

	if (shadow_dig(pgm, SHADOW_DIG))
		return true;
	lock_acquire(&pgm->lock);
	for (unsigned left = SHADOW_ROOTS; left && !any; left--) {
		struct shadow_root *oldest = NULL;

		for (unsigned i = 0; i < SHADOW_ROOTS; i++) {
			struct shadow_root *r = pool->root[i];

			if (r && !r->users && r->used && (!oldest || r->used < oldest->used))
				oldest = r;
		}
		if (!oldest)
			break;
		oldest->used = 0; /* looked at */
		any = drop_flushed(pgm, oldest);
	}
	for (unsigned i = 0; i < SHADOW_ROOTS && !any && !own; i++)
		if (pool->root[i])
			any = drop_flushed(pgm, pool->root[i]);
	if (!any && own)
		any = drop_flushed(pgm, own);
	lock_release(&pgm->lock);
	return any && shadow_dig(pgm, SHADOW_DIG);
}

enum status shadow_clear_step(struct pgm *pgm)
{
	struct shadow_pool *pool = &pgm->shadow;

	for (unsigned i = 0; i < SHADOW_PLACES; i++)
		if (*shadow_place(pool, i))
			(void)drop_flushed(pgm, *shadow_place(pool, i));
	return shadow_dig(pgm, STEP_TABLES) ? BUSY : OK;
}

static void root_destroy(struct pgm *pgm, struct shadow_root **at)
{
	struct shadow_root *r = *at;
	void *frame[] = { r ? r->top.entry : NULL, r ? r->top.source : NULL, r ? r->top.below : NULL };

	for (unsigned i = 0; i < ARRAY_SIZE(frame); i++)
		if (frame[i])
			shadow_frame_free(pgm, direct_address(frame[i]));
	if (r)
		heap_free(r, sizeof(*r));
	*at = NULL;
}

enum status shadow_destroy_step(struct pgm *pgm)
{
	struct shadow_pool *pool = &pgm->shadow;

	if (shadow_clear_step(pgm) != OK)
		return BUSY;
	for (unsigned i = 0; i < SHADOW_PLACES; i++)
		root_destroy(pgm, shadow_place(pool, i));
	pool->free_cell = NULL;
	while (pool->cell_frames) {
		void *frame = pool->cell_frames;

		pool->cell_frames = *(void **)frame;
		shadow_frame_free(pgm, direct_address(frame));
	}
	return OK;
}
