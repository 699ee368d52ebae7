/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty log as a whole: on, off, reading. Its bitmap is in dirty/bitmap.c; what is done to a block, in dirty/block.c.
 *
 * Order is all. On: first the mode is set, under pgm->lock, so that any block locked from then on, and any block
 * that appears, is treated as logged; then every block is armed, some in each step, after which all CPUs flush. Reading: pages out of
 * the bitmap first, then their protection back, then the flush, then the answer. Off: the mode, then every block
 * disarmed, likewise in steps, which also waits for whoever noted a page under a block's lock; then the bitmap is unhooked; then all
 * CPUs leave their guests, which waits for PML buffers being emptied; only then it is freed. The machine runs in between: a block
 * that isn't armed yet, or not any more, is right by itself.
 */
#include "pgm/internal.h"

uint64_t pgm_dirty_extent(const struct pgm *pgm)
{
	return pgm->directory_count << (DIRECTORY_SHIFT - PAGE_SHIFT);
}

static bool enter(struct dirty_log *log)
{
	return !__atomic_exchange_n(&log->busy, 1, __ATOMIC_ACQUIRE);
}

static enum status leave(struct dirty_log *log, enum status status)
{
	__atomic_store_n(&log->busy, 0, __ATOMIC_RELEASE);
	return status;
}

/* ---- on and off ---- */
static void visit_arm(struct pgm *pgm, struct block *b, gpa_t base, void *gather)
{
	dirty_arm_block(pgm, b, base, gather);
}

static void visit_disarm(struct pgm *pgm, struct block *b, gpa_t base, void *gather)
{
	dirty_disarm_block(pgm, b, base, (enum dirty_mode)pgm->dirty.was, gather);
}

/* Some of the blocks that anyone has touched, and a flush, always: what is armed may have no entry, and still be in use. */
static enum status blocks_on_or_off(struct pgm *pgm, bool arm)
{
	enum status status;

	GATHER(gather, &pgm->flush, &pgm->account);
	status = blocks_step(pgm, &pgm->dirty.cursor, STEP_RECORDS, arm ? visit_arm : visit_disarm, &gather);
	gather_flush(&gather);
	return status;
}

static void set_mode(struct pgm *pgm, enum dirty_mode mode)
{
	bool by_processor = mode == DIRTY_PML || mode == DIRTY_ACCESSED_DIRTY;
	const struct pt_format *f = pgm->slat.format;

	HOLD(&pgm->lock);
	/* Leaves are made with their dirty bit set, unless someone looks at it. */
	__atomic_store_n(&pgm->slat.leaf_extra, f->accessed | (by_processor ? 0 : f->dirty), __ATOMIC_RELAXED);
	__atomic_store_n(&pgm->slat.leaving, mode == DIRTY_ACCESSED_DIRTY ? dirty_harvest : NULL, __ATOMIC_RELAXED);
	__atomic_store_n(&pgm->dirty.mode, mode, __ATOMIC_RELEASE);
}

static void flush_all(struct pgm *pgm)
{
	GATHER(gather, &pgm->flush, &pgm->account);
	gather_flush(&gather);
}

static void collect(struct pgm *pgm)
{
	if (pgm->dirty.collect)
		pgm->dirty.collect(pgm->dirty.context);
}

static enum status choose(const struct pgm *pgm, enum dirty_mode *mode)
{
	const struct pgm_config *c = &pgm->config;
	bool can[DIRTY_MODES] = { [DIRTY_PML] = c->pml && c->accessed_dirty && pgm->dirty.collect,
				  [DIRTY_ACCESSED_DIRTY] = c->accessed_dirty,
				  [DIRTY_WRITE_PROTECT] = true };

	if (*mode == DIRTY_AUTO)
		for (*mode = DIRTY_PML; !can[*mode];)
			++*mode;
	return (unsigned)*mode < DIRTY_MODES && can[*mode] ? OK : NOT_SUPPORTED;
}

/*
 * Nothing becomes large from here on. A collapse under way is called off, not just halted: it relies on seeing every
 * fault for a write, and the log's end gives rights back without one.
 */
static void hold_collapse(struct pgm *pgm)
{
	pgm_collapse_hold(pgm, true);
	(void)pgm_collapse_step(pgm);
	while (__atomic_load_n(&pgm->collapse.busy, __ATOMIC_ACQUIRE))
		spin_pause(); /* another CPU calls it off */
}

/* From the first step on all that is new is logged. */
static enum status begin(struct pgm *pgm, enum dirty_mode mode)
{
	uint64_t *frames;

	TRY(choose(pgm, &mode));
	frames = heap_alloc(dirty_slots(pgm) * sizeof(*frames));
	if (!frames)
		return NO_MEMORY;
	hold_collapse(pgm);
	collect(pgm); /* left over from before: nobody wants it */
	__atomic_store_n(&pgm->dirty.frame, frames, __ATOMIC_RELEASE);
	set_mode(pgm, mode);
	pgm->dirty.phase = DIRTY_ARMING;
	return OK;
}

static void end(struct pgm *pgm, bool running)
{
	uint64_t *frames = pgm->dirty.frame;

	__atomic_store_n(&pgm->dirty.frame, NULL, __ATOMIC_RELEASE);
	if (running)
		flush_all(pgm);
	dirty_bitmap_free(pgm, frames);
	pgm_collapse_hold(pgm, false);
	pgm->dirty.phase = DIRTY_IDLE;
}

enum status pgm_dirty_start(struct pgm *pgm, enum dirty_mode mode)
{
	struct dirty_log *log = &pgm->dirty;
	enum status status = BUSY;

	if (!enter(log))
		return BUSY;
	if (log->phase == DIRTY_ARMED)
		status = BAD_STATE;
	else if (log->phase == DIRTY_DISARMING && blocks_on_or_off(pgm, false) == OK)
		end(pgm, true);
	else if (log->phase == DIRTY_IDLE)
		status = begin(pgm, mode);
	if (log->phase == DIRTY_ARMING) {
		status = blocks_on_or_off(pgm, true);
		if (status == OK) {
			log->phase = DIRTY_ARMED;
			__atomic_store_n(&log->armed, 1, __ATOMIC_RELEASE);
			__atomic_fetch_add(&log->starts, 1, __ATOMIC_RELAXED);
		}
	}
	return leave(log, status);
}

enum status pgm_dirty_stop(struct pgm *pgm)
{
	struct dirty_log *log = &pgm->dirty;
	enum status status = BAD_STATE;

	if (!enter(log))
		return BUSY;
	if (log->phase == DIRTY_ARMING || log->phase == DIRTY_ARMED) {
		__atomic_store_n(&log->armed, 0, __ATOMIC_RELEASE);
		log->was = dirty_mode(pgm);
		log->cursor = 0;
		log->phase = DIRTY_DISARMING;
		set_mode(pgm, DIRTY_OFF);
	}
	if (log->phase == DIRTY_DISARMING) {
		status = blocks_on_or_off(pgm, false);
		if (status == OK)
			end(pgm, true);
	}
	return leave(log, status);
}

/* At the machine's end: no vcpu runs, and all records and tables go, so only the bitmap is to be given back. */
void dirty_abandon(struct pgm *pgm)
{
	if (pgm->dirty.phase == DIRTY_IDLE)
		return;
	set_mode(pgm, DIRTY_OFF);
	end(pgm, false);
}

/* ---- reading ---- */
static void take(struct pgm *pgm, uint64_t first, uint64_t count, uint64_t *bitmap)
{
	uint64_t page = first, end = first + count;

	GATHER(gather, &pgm->flush, &pgm->account);
	while (page < end) {
		gpa_t where = gpa(page << PAGE_SHIFT);
		gpa_t base = gpa(align_down(where.v, BLOCK_SIZE));
		unsigned word = (unsigned)(page % PAGES_PER_BLOCK) / DIRTY_WORD_PAGES;
		uint64_t pages = min_u64(PAGES_PER_BLOCK - page % PAGES_PER_BLOCK, end - page);
		unsigned words = (unsigned)((pages + DIRTY_WORD_PAGES - 1) / DIRTY_WORD_PAGES);
		uint64_t mask = ~UINT64_C(0) >> (words * DIRTY_WORD_PAGES - pages);
		struct block *b = block_find(pgm, where);

		HOLD_BLOCK(b);
		dirty_take_block(pgm, b, base, word, words, mask, bitmap, &gather);
		bitmap += words;
		page += pages;
	}
}

static enum status read_and_clear(struct pgm *pgm, uint64_t first, uint64_t count, uint64_t *bitmap)
{
	uint64_t extent = pgm_dirty_extent(pgm);

	if (pgm->dirty.phase != DIRTY_ARMED)
		return BAD_STATE;
	if (first % DIRTY_WORD_PAGES || first > extent || count > extent - first)
		return BAD_VALUE;
	if (!count)
		return OK;
	if (dirty_mode(pgm) == DIRTY_PML) {
		flush_all(pgm); /* all out of the guest: what they wrote is in their buffers */
		collect(pgm);
	}
	dirty_replace_missing(pgm, first, count);
	pins_note(pgm, first, count);
	take(pgm, first, count, bitmap);
	__atomic_fetch_add(&pgm->dirty.reads, 1, __ATOMIC_RELAXED);
	return OK;
}

enum status pgm_dirty_read_and_clear(struct pgm *pgm, uint64_t first, uint64_t count, uint64_t *bitmap)
{
	return enter(&pgm->dirty) ? leave(&pgm->dirty, read_and_clear(pgm, first, count, bitmap)) : BUSY;
}

/* ---- the rest ---- */
void pgm_dirty_set_source(struct pgm *pgm, void (*collect_all)(void *context), void *context)
{
	pgm->dirty.collect = collect_all;
	pgm->dirty.context = context;
}

static const char *const mode_names[DIRTY_MODES] = { "off", "auto", "pml", "ad", "wp" };

const char *dirty_mode_name(enum dirty_mode mode)
{
	return (unsigned)mode < DIRTY_MODES ? mode_names[mode] : "?";
}

void pgm_dirty_describe(const struct pgm *pgm, struct pgm_dirty_info *info)
{
	const struct dirty_log *log = &pgm->dirty;
	struct pgm_counters counters;

	pgm_counters_sum(pgm, &counters);
	*info = (struct pgm_dirty_info){
		.mode = dirty_mode(pgm),
		.bitmap_bytes = __atomic_load_n(&log->frames_used, __ATOMIC_RELAXED) * PAGE_SIZE,
		.starts = __atomic_load_n(&log->starts, __ATOMIC_RELAXED),
		.reads = __atomic_load_n(&log->reads, __ATOMIC_RELAXED),
		.faults = counters.dirty_faults,
		.splits = __atomic_load_n(&log->splits, __ATOMIC_RELAXED),
	};
}
