/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty log's bitmap: a bit per page, in frames that come when the first page of their 128 MiB is noted. A slot whose
 * frame could not be had says so (DIRTY_ALL) until the next reading finds one. Slots and words change by
 * atomic operations only, so that a page can be noted from anywhere; the array itself is unhooked and freed by dirty.c.
 */
#include <string.h>

#include "pgm/internal.h"

#define SLOT_FRAMES (BIT(DIRECTORY_SHIFT) >> DIRTY_FRAME_SHIFT)

uint64_t dirty_slots(const struct pgm *pgm)
{
	return pgm->directory_count * SLOT_FRAMES;
}

static uint64_t *slot_of(const struct pgm *pgm, gpa_t where)
{
	uint64_t *frames = __atomic_load_n(&pgm->dirty.frame, __ATOMIC_ACQUIRE);
	uint64_t index = where.v >> DIRTY_FRAME_SHIFT;

	return frames && index < dirty_slots(pgm) ? &frames[index] : NULL;
}

static uint64_t *word_in(uint64_t frame, gpa_t where)
{
	uint64_t page = (where.v & (BIT(DIRTY_FRAME_SHIFT) - 1)) >> PAGE_SHIFT;

	return (uint64_t *)direct_pointer(hpa(frame)) + page / DIRTY_WORD_PAGES;
}

static void free_frame(struct pgm *pgm, uint64_t frame)
{
	GATHER(unused, NULL, &pgm->account);
	gather_frame(&unused, hpa(frame), ACCOUNT_TABLE);
}

/* Replaces the slot's `old` by a fresh frame, each byte of it `fill`; returns what the slot holds then. */
static uint64_t frame_make(struct pgm *pgm, uint64_t *slot, uint64_t old, uint8_t fill)
{
	hpa_t fresh = hpa(DIRTY_ALL);
	bool got = table_alloc(&pgm->account, &fresh) == OK;

	if (got && fill)
		memset(direct_pointer(fresh), fill, PAGE_SIZE);
	if (!got)
		fresh = hpa(DIRTY_ALL);
	if (__atomic_compare_exchange_n(slot, &old, fresh.v, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		if (got)
			__atomic_fetch_add(&pgm->dirty.frames_used, 1, __ATOMIC_RELAXED);
		return fresh.v;
	}
	if (got)
		free_frame(pgm, fresh.v);
	return old;
}

void pgm_dirty_note(void *context, gpa_t where)
{
	struct pgm *pgm = context;
	uint64_t *slot = slot_of(pgm, where), frame, *word, bit = BIT(where.v >> PAGE_SHIFT & (DIRTY_WORD_PAGES - 1));

	if (!slot)
		return;
	frame = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
	if (unlikely(!frame))
		frame = frame_make(pgm, slot, 0, 0);
	if (frame == DIRTY_ALL)
		return;
	word = word_in(frame, where);
	if (!(__atomic_load_n(word, __ATOMIC_RELAXED) & bit))
		__atomic_fetch_or(word, bit, __ATOMIC_RELEASE);
}

uint64_t *dirty_word(struct pgm *pgm, gpa_t where, bool *all)
{
	uint64_t *slot = slot_of(pgm, where), frame = slot ? __atomic_load_n(slot, __ATOMIC_ACQUIRE) : 0;

	*all = frame == DIRTY_ALL;
	return frame && !*all ? word_in(frame, where) : NULL;
}

uint64_t dirty_noted(struct pgm *pgm, gpa_t where)
{
	bool all;
	const uint64_t *word = dirty_word(pgm, where, &all);

	return all ? ~UINT64_C(0) : word ? __atomic_load_n(word, __ATOMIC_RELAXED) : 0;
}

void dirty_replace_missing(struct pgm *pgm, uint64_t first, uint64_t count)
{
	uint64_t *frames = pgm->dirty.frame;
	uint64_t from = first << PAGE_SHIFT >> DIRTY_FRAME_SHIFT;
	uint64_t to = (first + count - 1) << PAGE_SHIFT >> DIRTY_FRAME_SHIFT;

	for (uint64_t i = from; i <= to; i++)
		if (unlikely(__atomic_load_n(&frames[i], __ATOMIC_ACQUIRE) == DIRTY_ALL))
			(void)frame_make(pgm, &frames[i], DIRTY_ALL, 0xff);
}

void dirty_bitmap_free(struct pgm *pgm, uint64_t *frames)
{
	struct gather gather;

	gather_begin(&gather, NULL, &pgm->account);
	for (uint64_t i = 0; i < dirty_slots(pgm); i++)
		if (frames[i] && frames[i] != DIRTY_ALL)
			gather_frame(&gather, hpa(frames[i]), ACCOUNT_TABLE);
	gather_finish(&gather);
	heap_free(frames, dirty_slots(pgm) * sizeof(*frames));
	__atomic_store_n(&pgm->dirty.frames_used, 0, __ATOMIC_RELAXED);
}
