/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What composed tables are made of, and how many there may be. Frames and cells of 64 bytes are charged to the machine's table
 * account, out of a number that was promised when the first root was made. Roots are found by what L1's tables are; one that nobody
 * uses stays until its place or its frames are wanted.
 */
#include "pgm/internal.h"

#define PROMISE 1024u /* frames, and one for each so many pages of RAM: */
#define PAGES_PER_FRAME 128u
#define CELLS (PAGE_SIZE / SHADOW_CELL)
#define STEP_TABLES 256u

void shadow_init(struct pgm *pgm)
{
	lock_init(&pgm->shadow.lock, RANK_RESERVE, "shadow cells");
}

enum status shadow_promise(struct pgm *pgm, uint64_t frames)
{
	enum status status = account_adjust(&pgm->account, ACCOUNT_TABLE, (int64_t)frames);

	if (status == OK)
		pgm->shadow.limit += frames;
	return status;
}

void shadow_unpromise(struct pgm *pgm, uint64_t frames)
{
	quota_return(pgm, ACCOUNT_TABLE, frames);
	pgm->shadow.limit -= frames;
}

enum status shadow_frame(struct pgm *pgm, void **out)
{
	struct shadow_pool *pool = &pgm->shadow;
	enum status status = LIMIT;
	hpa_t frame;

	if (__atomic_fetch_add(&pool->frames, 1, __ATOMIC_RELAXED) < pool->limit)
		status = table_alloc(&pgm->account, &frame);
	if (status != OK) {
		__atomic_fetch_sub(&pool->frames, 1, __ATOMIC_RELAXED);
		return status;
	}
	*out = direct_pointer(frame);
	return OK;
}

void shadow_frame_free(struct pgm *pgm, hpa_t frame)
{
	struct gather gather;

	gather_begin(&gather, NULL, &pgm->account);
	gather_frame(&gather, frame, ACCOUNT_TABLE);
	gather_finish(&gather);
	__atomic_fetch_sub(&pgm->shadow.frames, 1, __ATOMIC_RELAXED);
}

/* A frame's first cell links the frames; the others are free. Locked. */
static void cut(struct shadow_pool *pool, void **frame)
{
	*frame = pool->cell_frames;
	pool->cell_frames = frame;
	for (unsigned i = 1; i < CELLS; i++) {
		void **cell = (void **)((uint8_t *)frame + i * SHADOW_CELL);

		*cell = pool->free_cell;
		pool->free_cell = cell;
	}
}

enum status shadow_cell(struct pgm *pgm, void **out)
{
	struct shadow_pool *pool = &pgm->shadow;
	enum status status = OK;
	void *frame;

	lock_acquire(&pool->lock);
	if (!pool->free_cell) {
		status = shadow_frame(pgm, &frame);
		if (status == OK)
			cut(pool, frame);
	}
	if (status == OK) {
		*out = pool->free_cell;
		pool->free_cell = *(void **)pool->free_cell;
		__builtin_memset(*out, 0, SHADOW_CELL);
	}
	lock_release(&pool->lock);
	return status;
}

void shadow_cell_free(struct pgm *pgm, void *cell)
{
	lock_acquire(&pgm->shadow.lock);
	*(void **)cell = pgm->shadow.free_cell;
	pgm->shadow.free_cell = cell;
	lock_release(&pgm->shadow.lock);
}

enum status shadow_table_make(struct pgm *pgm, struct shadow_table *t, unsigned level, bool source)
{
	void *frame[3] = { NULL };
	const bool wanted[3] = { true, source, level > 0 };
	enum status status = OK;

	for (unsigned i = 0; i < ARRAY_SIZE(frame) && status == OK; i++)
		if (wanted[i])
			status = shadow_frame(pgm, &frame[i]);
	for (unsigned i = 0; i < ARRAY_SIZE(frame) && status != OK; i++)
		if (frame[i])
			shadow_frame_free(pgm, direct_address(frame[i]));
	if (status == OK)
		*t = (struct shadow_table){
			.entry = frame[0], .source = frame[1], .below = frame[2], .level = (uint8_t)level
		};
	return status;
}

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

/* The place of the root with this key; else one not made yet, or the longest unused. NULL: all are in use. */
static struct shadow_root **choose(struct shadow_pool *pool, const struct hv_nested_slat *slat)
{
	struct shadow_root **best = NULL;

	for (unsigned i = 0; i < SHADOW_ROOTS; i++) {
		struct shadow_root **at = &pool->root[i], *r = *at;

		if (r && same_key(&r->key, slat))
			return at;
		if (r ? !r->users && (!best || (*best && r->used < (*best)->used)) : !best || *best)
			best = at;
	}
	return best;
}

/* Returns whether there was anything. */
static bool drop_flushed(struct pgm *pgm, struct shadow_root *root)
{
	struct gather gather;
	bool any;

	gather_begin(&gather, &pgm->flush, &pgm->account);
	shadow_lock_all(root);
	any = shadow_drop_root(pgm, root, &gather);
	shadow_unlock_all(root);
	gather_finish(&gather);
	return any;
}

/* pgm->lock held. */
static enum status get(struct pgm *pgm, const struct hv_nested_slat *slat, struct shadow_root **out)
{
	struct shadow_root **at = choose(&pgm->shadow, slat);
	uint64_t automatic = PROMISE + (pgm->config.ram >> PAGE_SHIFT) / PAGES_PER_FRAME;
	uint64_t promise = pgm->config.shadow_frames ? pgm->config.shadow_frames : automatic;
	enum status status = OK;

	if (!at)
		return LIMIT;
	if (!pgm->shadow.clock)
		status = shadow_promise(pgm, promise);
	if (status == OK && !*at) {
		status = shadow_root_make(pgm, slat, at);
		if (status != OK && !pgm->shadow.clock)
			shadow_unpromise(pgm, promise);
	}
	if (status != OK)
		return status;
	if (!same_key(&(*at)->key, slat))
		(void)drop_flushed(pgm, *at);
	(*at)->key = *slat;
	/* 32-bit and PAE paging, or none. */
	(*at)->loose = !slat->on || slat->format->levels < pgm->slat.format->levels;
	(*at)->users++;
	(*at)->used = ++pgm->shadow.clock;
	*out = *at;
	return OK;
}

enum status shadow_root_get(struct pgm *pgm, const struct hv_nested_slat *slat, struct shadow_root **out)
{
	enum status status;

	do {
		lock_acquire(&pgm->lock);
		status = get(pgm, slat, out);
		lock_release(&pgm->lock);
	} while (status != OK && shadow_shrink(pgm, NULL));
	return status;
}

void shadow_root_put(struct pgm *pgm, struct shadow_root *root)
{
	lock_acquire(&pgm->lock);
	root->users--;
	lock_release(&pgm->lock);
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
