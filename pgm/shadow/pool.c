/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What composed tables are made of, and how many there may be. Frames and cells of 64 bytes are charged to the machine's table
 * account, out of a number that was promised when the first root was made (roots.c).
 */
#include "pgm/internal.h"

#define CELLS (PAGE_SIZE / SHADOW_CELL)

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
	GATHER(gather, NULL, &pgm->account);
	gather_frame(&gather, frame, ACCOUNT_TABLE);
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
	void *frame;

	HOLD(&pool->lock);
	if (!pool->free_cell) {
		TRY(shadow_frame(pgm, &frame));
		cut(pool, frame);
	}
	*out = pool->free_cell;
	pool->free_cell = *(void **)pool->free_cell;
	__builtin_memset(*out, 0, SHADOW_CELL);
	return OK;
}

void shadow_cell_free(struct pgm *pgm, void *cell)
{
	HOLD(&pgm->shadow.lock);
	*(void **)cell = pgm->shadow.free_cell;
	pgm->shadow.free_cell = cell;
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
