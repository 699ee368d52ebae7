/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collapse: a detailed block whose 512 pages are all plain private RAM becomes one large page, in the background, in
 * bounded steps, while the machine runs.
 *
 *   LOOK     (candidate.c) finds a full block, has a chunk ready. If the 512 frames are one chunk already (it was split, and nothing
 *            changed), nothing need be copied: straight to UNMAP.
 *   PROTECT  takes the right to write from the block's translations, and flushes; those pages are now `clean`.
 *   COPY     copies clean pages, a few at a time under the block's lock; those are `copied`.
 *   UNMAP    once all are copied: takes the block's table out, and flushes.
 *   SWITCH   if still nobody came near: the record becomes LARGE, the leaf is put in, the old frames go.
 *
 * Invariant: a page that is clean can't have been written since, because each way to write it (a fault of the guest,
 * pgm_write and its kin) passes collapse_touched() under the block's lock, which makes it dirty again. Between UNMAP and
 * SWITCH every access of the guest faults, so SWITCH replaces frames that no processor can still reach.
 * A guest that keeps writing makes it go round; after MAX_ROUNDS it is given up.
 *
 * The counters of /PGM/LargePage/: Alloc: blocks made large at first touch. Alloc2: made large by a copy here. Reused: by
 * joining their own frames. Setup: 2 MiB leaves written. IsValid: faults that found the leaf there already. AllocFailed: no
 * whole chunk or no quota. ZeroEvict: read-only leaves of zeros replaced. TlbFlush: flushes for a collapse. Recheck: full blocks looked
 * at. Refused: of these, not fit (handler, monitor, share, pin). Overflow: given up since the guest kept writing.
 *
 * One CPU at a time (`busy`); locks: the block's, and what mm takes.
 */
#include <string.h>

#include "arch/x86_64/host.h"
#include "pgm/internal.h"

#define COPY_PAGES 16u
#define MAX_ROUNDS 4u

static bool all(const uint64_t *map)
{
	uint64_t sum = ~UINT64_C(0);

	for (unsigned i = 0; i < COLLAPSE_WORDS; i++)
		sum &= map[i];
	return sum == ~UINT64_C(0);
}

/* With all its neighbours that the same fault may map. */
void collapse_touched(struct pgm *pgm, gpa_t where)
{
	unsigned first = (where.v >> PAGE_SHIFT & (PAGES_PER_BLOCK - 1)) & ~(FAULT_AROUND - 1);
	uint64_t group = BITS(FAULT_AROUND - 1, 0) << first % 64;

	_Static_assert(64 % FAULT_AROUND == 0, "a group lies in one word");
	pgm->collapse.clean[first / 64] &= ~group;
	pgm->collapse.copied[first / 64] &= ~group;
}

static void leave(struct pgm *pgm, uint64_t *counter)
{
	struct collapse *c = &pgm->collapse;

	(void)__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
	c->chunk = HPA_NONE;
	c->block = NULL;
	c->phase = COLLAPSE_LOOK;
}

/* The flag is off, or goes off; nothing else has changed. */
static void give_up(struct pgm *pgm, uint64_t *why)
{
	struct collapse *c = &pgm->collapse;
	struct gather gather;

	block_lock(c->block);
	c->block->flags &= ~(uint32_t)BLOCK_COLLAPSING;
	block_unlock(c->block);
	gather_begin(&gather, NULL, &pgm->account); /* the chunk was never mapped */
	if (!hpa_is_none(c->chunk))
		gather_block(&gather, c->chunk);
	gather_finish(&gather);
	leave(pgm, why);
}

void collapse_abandon(struct pgm *pgm)
{
	if (pgm->collapse.block)
		give_up(pgm, &pgm->common.counters.large_refused);
}

/* Locked: nothing below the block's level-1 entry can be written from now on, after the flush. */
static void write_protect(struct pgm *pgm, struct block *b, gpa_t base, struct gather *gather)
{
	const struct slat *s = &pgm->slat;
	uint64_t *table = slat_table(s, b->slot, base);

	reverse_drop_block(pgm, b, gather);
	if (!table)
		block_unmap(pgm, b, base, gather);
	for (unsigned i = 0; table && i < PAGES_PER_BLOCK; i++) {
		uint64_t entry = __atomic_load_n(&table[i], __ATOMIC_RELAXED);
		unsigned rights = slat_rights(s, entry);
		uint64_t leaf = slat_leaf(s, 0, slat_frame(s, 0, entry), rights & ~ACCESS_WRITE, RAM_TYPE);

		if (rights & ACCESS_WRITE)
			slat_set(s, &table[i], leaf, gather);
	}
}

/* Locked. Copies up to COPY_PAGES clean pages; returns how many. A clean one that lost its frame stays uncopied. */
static unsigned copy_some(struct collapse *c)
{
	page_record *records = block_records(c->block);
	unsigned done = 0;

	for (unsigned word = 0; word < COLLAPSE_WORDS; word++) {
		uint64_t left = c->clean[word] & ~c->copied[word];

		for (; left && done < COPY_PAGES; left &= left - 1) {
			unsigned i = word * 64 + (unsigned)__builtin_ctzll(left);

			if (!collapse_page_fit(records[i]))
				continue;
			copy_frame(hpa(c->chunk.v + i * PAGE_SIZE), page_frame(records[i]));
			c->copied[word] |= left & -left;
			done++;
		}
	}
	return done;
}

/* Locked. Did nobody map or write anything since the block was unmapped? */
static bool still_unmapped(struct pgm *pgm)
{
	struct collapse *c = &pgm->collapse;
	unsigned level;
	uint64_t entry = *slat_find(&pgm->slat, c->base, &level);

	return level >= 1 && !slat_present(&pgm->slat, entry) && (hpa_is_none(c->chunk) || all(c->copied));
}

/* Locked, unmapped, all in place: the record and the leaf. The records' frame is the caller's from now on. */
static enum status become_large(struct pgm *pgm, struct block *b, gpa_t base, hpa_t chunk)
{
	TRY(hpa_is_none(pgm->collapse.chunk) ? block_join(&pgm->account, chunk, base) : OK);
	b->held = 0;
	b->flags = 0;
	block_set(b, BLOCK_LARGE, chunk);
	/* Without a table for the leaf the next fault brings it. Nothing is replaced, so there's nothing to flush. */
	if (block_own_slot(pgm, b, base) == OK) {
		__atomic_store_n(b->slot, slat_leaf(&pgm->slat, 1, chunk, ALL_RIGHTS, RAM_TYPE), __ATOMIC_RELEASE);
		COUNT(pgm, large_setup);
	}
	return OK;
}

/* What the block was made of: unmapped and flushed before the switch, and out of everybody's reach since. */
static void release_old(struct pgm *pgm, hpa_t records_frame, bool frames)
{
	page_record *records = direct_pointer(records_frame);

	GATHER(gather, NULL, &pgm->account);
	for (unsigned i = 0; frames && i < PAGES_PER_BLOCK; i++)
		gather_frame(&gather, page_frame(records[i]), ACCOUNT_BASE);
	gather_frame(&gather, records_frame, ACCOUNT_TABLE);
}

/* Locked. SWITCH, or back if someone came near; *old: the records, if it is done. Returns why not, if it is given up. */
static uint64_t *try_switch(struct pgm *pgm, struct block *b, hpa_t *old)
{
	struct collapse *c = &pgm->collapse;
	bool copied = !hpa_is_none(c->chunk), joined;
	hpa_t records = block_address(b);

	if (!collapse_fit(b, &joined) || !(copied || joined))
		return &pgm->common.counters.large_refused;
	if (!still_unmapped(pgm)) {
		c->phase = copied ? COLLAPSE_PROTECT : COLLAPSE_UNMAP;
		return !copied && c->rounds++ == MAX_ROUNDS ? &pgm->common.counters.large_overflow : NULL;
	}
	if (become_large(pgm, b, c->base, copied ? c->chunk : page_frame(*block_records(b))) != OK)
		return &pgm->common.counters.large_refused;
	*old = records;
	return NULL;
}

/* Locked. One step of the phase. Returns why it is given up, or NULL. */
static uint64_t *act(struct pgm *pgm, struct block *b, struct gather *gather, hpa_t *old)
{
	struct collapse *c = &pgm->collapse;

	if (!(b->flags & BLOCK_COLLAPSING))
		return &pgm->common.counters.large_refused;
	switch (c->phase) {
	case COLLAPSE_PROTECT:
		if (c->rounds++ == MAX_ROUNDS)
			return &pgm->common.counters.large_overflow;
		write_protect(pgm, b, c->base, gather);
		gather_flush(gather); /* also for what others took away just now */
		memset(c->clean, 0xff, sizeof(c->clean));
		c->phase = COLLAPSE_COPY;
		return NULL;
	case COLLAPSE_COPY:
		if (!copy_some(c))
			c->phase = COLLAPSE_PROTECT;
		if (all(c->copied))
			c->phase = COLLAPSE_UNMAP;
		return NULL;
	case COLLAPSE_UNMAP:
		block_unmap(pgm, b, c->base, gather);
		gather_flush(gather);
		c->phase = COLLAPSE_SWITCH;
		return NULL;
	default: return try_switch(pgm, b, old);
	}
}

static bool work(struct pgm *pgm)
{
	struct collapse *c = &pgm->collapse;
	bool copied = !hpa_is_none(c->chunk);
	hpa_t old = HPA_NONE;
	struct gather gather;
	uint64_t *why;

	gather_begin(&gather, &pgm->flush, &pgm->account);
	block_lock(c->block);
	why = act(pgm, c->block, &gather, &old);
	block_unlock(c->block);
	if (gather.flush) {
		COUNT(pgm, large_flush);
		gather_finish(&gather);
	}
	if (why) {
		give_up(pgm, why);
	} else if (!hpa_is_none(old)) {
		release_old(pgm, old, copied);
		leave(pgm, copied ? &pgm->common.counters.large_collapsed : &pgm->common.counters.large_reused);
	}
	return true;
}

bool pgm_collapse_step(struct pgm *pgm)
{
	struct collapse *c = &pgm->collapse;
	bool more = false;

	if (!pgm->config.large_pages || !pgm->config.slat_2m)
		return false;
	if (__atomic_exchange_n(&c->busy, 1, __ATOMIC_ACQUIRE))
		return false;
	if (__atomic_load_n(&c->holds, __ATOMIC_ACQUIRE))
		collapse_abandon(pgm);
	else if (c->phase == COLLAPSE_LOOK)
		more = collapse_look(pgm);
	else
		more = work(pgm);
	__atomic_store_n(&c->busy, 0, __ATOMIC_RELEASE);
	return more;
}

void pgm_collapse_hold(struct pgm *pgm, bool hold)
{
	__atomic_fetch_add(&pgm->collapse.holds, hold ? 1u : -1u, __ATOMIC_ACQ_REL);
	/* A step that didn't see it yet ends soon; after that nothing becomes large. */
	while (hold && __atomic_load_n(&pgm->collapse.busy, __ATOMIC_ACQUIRE))
		spin_pause();
}

bool pgm_idle_step(struct pgm *pgm)
{
	bool more = handy_refill(pgm);

	return pgm_collapse_step(pgm) || more;
}
