/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reserve ("handy pages"): zeroed frames kept ready, so that a fault doesn't wait for the allocator. Each vcpu has some of its
 * own, which others touch only in need; behind them stands the machine's stock, which also serves whoever is no vcpu.
 *
 * Accounted in two phases: a frame is charged to the machine when it enters the reserve, and given to its page when it
 * leaves. So a fault that finds a frame here can't fail for want of quota, and the reservation of the base account has
 * room for a full reserve besides all of RAM. The stock is refilled with no lock held, for that means clearing: by idle CPUs
 * (pgm_idle_step), and, when it is low, at the end of what took from it (handy_settle), which fills the vcpu's own as well. Who finds
 * both empty gets one frame in place; and if there is none, takes another vcpu's: no vcpu waits for memory that the machine has.
 *
 * Frames stay in the order in which mm gave them, and whole batches move: what lies side by side goes to one vcpu, and becomes one
 * large page more easily. Their frame records are written when they get their page: batches begin at a cache line of records.
 */
#include "mm/inject.h"
#include "pgm/internal.h"

#define LINE_FRAMES (CACHE_LINE / 8) /* frames whose records lie in one line */

_Static_assert(HANDY_LOW + 2 * HANDY_REFILL <= HANDY_SIZE, "a refill below the marks always fits");

/* Up to count frames, charged and cleared. Gives up quietly: an empty reserve tells by itself. */
static enum status fetch(struct pgm *pgm, unsigned count, hpa_t *frames, unsigned *got)
{
	enum status status = NO_MEMORY;

	*got = 0;
	if (!mm_fault_injected(MM_SITE_HANDY, pgm->account.owner))
		status = frame_alloc_many(&pgm->account, ACCOUNT_BASE, count, frames, got);
	if (*got)
		__atomic_store_n(&pgm->common.handy.skew,
				 (uint8_t)(((frames[*got - 1].v >> PAGE_SHIFT) + 1) % LINE_FRAMES), __ATOMIC_RELAXED);
	return status;
}

/* Another vcpu's. */
static bool take_anyones(struct pgm *pgm, gpa_t where, hpa_t *frame)
{
	for (struct pgm_local *l = &pgm->common; l; l = local_next(l))
		if (handy_pop(l, where, frame))
			return true;
	return false;
}

enum status handy_take(struct pgm *pgm, struct pgm_local *l, gpa_t where, hpa_t *frame)
{
	enum status status;
	unsigned got;

	if (likely(handy_pop(l, where, frame)) || (l != &pgm->common && handy_pop(&pgm->common, where, frame)))
		return OK;
	status = fetch(pgm, 1, frame, &got);
	if (status != OK)
		return take_anyones(pgm, where, frame) ? OK : status;
	frame_assign(*frame, where);
	LOCAL_COUNT(l, handy_allocs, 1);
	return OK;
}

static void give_back(struct pgm *pgm, const hpa_t *frames, unsigned count)
{
	GATHER(gather, NULL, &pgm->account);
	while (count)
		gather_frame(&gather, frames[--count], ACCOUNT_BASE);
}

static inline void set_count(struct handy *h, unsigned count)
{
	__atomic_store_n(&h->count, count, __ATOMIC_RELAXED);
}

/* The first of the frames will be the next to be taken. Those left over are the caller's. */
static bool push(struct handy *h, const hpa_t *frames, unsigned *count)
{
	HOLD(&h->lock);
	unsigned before = h->count;
	while (*count && h->count < HANDY_SIZE) {
		h->frame[h->count] = frames[--*count];
		set_count(h, h->count + 1);
	}
	return h->count != before;
}

static inline uint64_t line_of(hpa_t frame)
{
	return frame.v >> PAGE_SHIFT >> __builtin_ctz(LINE_FRAMES);
}

/* A batch, in the order in which they would be taken; fewer where that keeps frames together whose records lie in one line. */
static unsigned pull(struct handy *h, hpa_t *frames)
{
	unsigned got, least, left;

	HOLD(&h->lock);
	got = h->count < HANDY_REFILL ? h->count : HANDY_REFILL;
	least = got < LINE_FRAMES ? got : got - LINE_FRAMES + 1;
	for (left = h->count - got; left && got > least && line_of(h->frame[left]) == line_of(h->frame[left - 1]);
	     left++)
		got--;
	for (unsigned i = 0; i < got; i++)
		frames[i] = h->frame[h->count - 1 - i];
	set_count(h, h->count - got);
	return got;
}

bool handy_refill(struct pgm *pgm)
{
	unsigned got, room = HANDY_SIZE - __atomic_load_n(&pgm->common.handy.count, __ATOMIC_RELAXED);
	unsigned batch = HANDY_REFILL - __atomic_load_n(&pgm->common.handy.skew, __ATOMIC_RELAXED);
	hpa_t frames[HANDY_REFILL];
	bool added;

	if (!room || fetch(pgm, room < batch ? room : batch, frames, &got) != OK)
		return false;
	COUNT(pgm, handy_refills);
	added = push(&pgm->common.handy, frames, &got);
	give_back(pgm, frames, got); /* another CPU was first */
	return added;
}

void handy_settle_low(struct pgm *pgm, struct pgm_local *l)
{
	struct handy *stock = &pgm->common.handy;
	bool own = l != &pgm->common;
	hpa_t frames[HANDY_REFILL];
	unsigned got;

	__atomic_store_n(&l->handy.low, false, __ATOMIC_RELAXED);
	if (__atomic_load_n(&stock->count, __ATOMIC_RELAXED) < HANDY_LOW + (own ? HANDY_REFILL : 0))
		handy_refill(pgm);
	if (!own)
		return;
	got = pull(stock, frames);
	(void)push(&l->handy, frames, &got); /* there is room: nobody else puts any there */
	LOCAL_COUNT(l, handy_fills, 1);
}

void handy_return(struct pgm_local *l)
{
	hpa_t frames[HANDY_REFILL];
	unsigned got;

	while ((got = pull(&l->handy, frames))) {
		(void)push(&l->pgm->common.handy, frames, &got);
		give_back(l->pgm, frames, got);
	}
}

void handy_drain(struct pgm *pgm, hpa_t chunk, struct gather *gather)
{
	for (struct pgm_local *l = &pgm->common; l; l = local_next(l)) {
		struct handy *h = &l->handy;
		unsigned left = 0;

		HOLD(&h->lock);
		for (unsigned i = 0; i < h->count; i++) {
			if (hpa_is_none(chunk) || align_down(h->frame[i].v, BLOCK_SIZE) == chunk.v)
				gather_frame(gather, h->frame[i], ACCOUNT_BASE);
			else
				h->frame[left++] = h->frame[i];
		}
		set_count(h, left);
	}
}

unsigned handy_count(const struct pgm *pgm)
{
	unsigned count = 0;

	for (const struct pgm_local *l = &pgm->common; l; l = local_next(l))
		count += __atomic_load_n(&l->handy.count, __ATOMIC_RELAXED);
	return count;
}
