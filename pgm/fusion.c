/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page fusion. A pass goes over a machine's pages in the order of their addresses. One that looks as it did at the last pass is quiet: if it is
 * zero it gives its frame back; else the table of candidates is asked for its content. There stands, by the hash, the page that
 * was last seen with it, or the shared frame that has it. With a page a new shared frame is made, to which first that one is
 * switched, then ours, each under its own block's lock (page/share.c); so what the table says needs not be true, nor the hash unique:
 * contents decide.
 *
 * The table is one for all groups (candidates.h). The group is part of what is hashed, and asked again before any page is compared: nothing of
 * another group is ever read, compared or written.
 *
 * A large block is looked at page by page, too. If at two passes running at least WORTH of its pages were zero or equal to others it is
 * split, and its pages are fused at once; it can't become large again while one of them is. What comes out without any frame is
 * untouched again.
 *
 * Pages that share a frame already are passed by, but for each WHOLE-th at a pass. Such a one goes from a shared frame to another with its content, to the
 * one in the fuller chunk; and if its own lies in a chunk that is nearly empty, to a new one in a fuller chunk, where the others
 * of its frame follow it. So equal frames come together, and chunks of shared frames become whole again (mm/share.c).
 *
 * Modules (modules.h) are looked at by the same steps, with a place of their own in the machine's memory. One that was just named has those of
 * the same name looked at, too; for what the table knew of them may be gone.
 *
 * Work on a machine goes on inside its collapse's `busy`: who holds collapses off (reset, the dirty log's monitor) holds this off.
 */
#include "pgm/candidates.h"
#include "pgm/internal.h"

#define WORTH (PAGES_PER_BLOCK / 8)
#define WHOLE 8u
#define SKIPPED_BLOCKS 256u /* untouched ones in one step */

static struct pgm *members[MAX_OWNERS];

static uint64_t key_of(const struct pgm *pgm, uint64_t hash)
{
	return hash ^ pgm->config.share_group * UINT64_C(0x9e3779b97f4a7c15);
}

static bool enter(struct pgm *pgm)
{
	if (__atomic_exchange_n(&pgm->collapse.busy, 1, __ATOMIC_ACQUIRE))
		return false;
	if (!__atomic_load_n(&pgm->collapse.holds, __ATOMIC_ACQUIRE))
		return true;
	__atomic_store_n(&pgm->collapse.busy, 0, __ATOMIC_RELEASE);
	return false;
}

static void leave(struct pgm *pgm)
{
	__atomic_store_n(&pgm->collapse.busy, 0, __ATOMIC_RELEASE);
}

/* The frame that the page of the table has, if it is the same still, or will have: a shared one. HPA_NONE: nothing to share with. */
static hpa_t frame_of_page(struct pgm *other, gpa_t page, uint64_t hash)
{
	struct page_sight sight;
	hpa_t frame;

	if (page_look(other, page, true, &sight) != OK || sight.hash != hash)
		return HPA_NONE;
	frame = sight.shared;
	if (!hpa_is_none(frame))
		return frame;
	if (page_share(other, page, &frame) != OK)
		return HPA_NONE;
	COUNT(other, fusion_shared);
	return frame;
}

static hpa_t frame_of_entry(struct pgm *pgm, uint64_t *slot, uint64_t hash)
{
	owner_t owner = entry_owner(*slot);
	uint64_t page = (*slot & ENTRY_PAGE) << PAGE_SHIFT;
	struct pgm *other = members[owner];
	hpa_t frame;

	if (owner == OWNER_SHARED)
		return hpa(page);
	if (!other || other->config.share_group != pgm->config.share_group)
		return HPA_NONE;
	if (other != pgm && !enter(other)) {
		pgm->fusion.missed |= !__atomic_load_n(&other->collapse.holds, __ATOMIC_RELAXED); /* that may last */
		return HPA_NONE;
	}
	frame = frame_of_page(other, gpa(page), hash);
	if (other != pgm)
		leave(other);
	if (!hpa_is_none(frame) && frame.v >> PAGE_SHIFT <= ENTRY_PAGE)
		*slot = entry_of(key_of(pgm, hash), OWNER_SHARED, frame.v);
	return frame;
}

/* One that shares a frame. */
static void meet_shared(struct pgm *pgm, gpa_t where, struct page_sight *sight, uint64_t entry)
{
	hpa_t to = entry_owner(entry) == OWNER_SHARED ? hpa((entry & ENTRY_PAGE) << PAGE_SHIFT) : HPA_NONE;

	if (to.v == sight->shared.v)
		to = HPA_NONE;
	if (!frame_share_worse(sight->shared, to) || page_share(pgm, where, &to) != OK)
		return;
	sight->shared = to;
	COUNT(pgm, moved);
}

/* A page of known content meets what the table has. True: that stays there. */
static bool meet(struct pgm *pgm, gpa_t where, struct page_sight *sight, uint64_t *slot)
{
	enum status status;
	hpa_t frame;

	if (!hpa_is_none(sight->shared))
		meet_shared(pgm, where, sight, *slot);
	if (!*slot || !hpa_is_none(sight->shared))
		return false;
	if (sight->large) {
		pgm->fusion.worth++;
		return entry_owner(*slot) == OWNER_SHARED;
	}
	frame = frame_of_entry(pgm, slot, sight->hash);
	if (hpa_is_none(frame))
		return false;
	status = page_share(pgm, where, &frame);
	if (status == OK)
		COUNT(pgm, fusion_shared);
	return status == OK || status_is_shortage(status);
}

static void look_at_content(struct pgm *pgm, gpa_t where, struct page_sight *sight)
{
	uint64_t key = key_of(pgm, sight->hash), *slot, self = entry_of(key, pgm->account.owner, where.v);

	slot = candidate_slot(key);
	if (!slot || *slot == self)
		return;
	if (*slot && ((*slot ^ key) & ENTRY_HASH))
		*slot = 0;
	if (meet(pgm, where, sight, slot) || pgm->fusion.missed)
		return;
	if (hpa_is_none(sight->shared))
		*slot = self;
	else if (sight->shared.v >> PAGE_SHIFT <= ENTRY_PAGE)
		*slot = entry_of(key, OWNER_SHARED, sight->shared.v);
}

static void look_at_page(struct pgm *pgm, gpa_t where, bool now)
{
	bool shared = !pgm->fusion.pass || ((where.v >> PAGE_SHIFT) + pgm->fusion.pass) % WHOLE == 0;
	struct page_sight sight;
	hpa_t zero = pgm_zero_block;

	COUNT(pgm, fusion_looks);
	if (page_look(pgm, where, shared, &sight) != OK || !(sight.quiet || sight.large || now))
		return;
	if (!sight.zero)
		look_at_content(pgm, where, &sight);
	else if (sight.large)
		pgm->fusion.worth++;
	else if (page_share(pgm, where, &zero) == OK)
		COUNT(pgm, fusion_zeroed);
}

/* Locked. True: it was split, and is looked at once more. */
static bool large_seen(struct pgm *pgm, struct block *b, gpa_t base, bool now, struct gather *gather)
{
	bool worth = pgm->fusion.worth >= WORTH, again = b->flags & BLOCK_EQUAL;

	b->flags = worth ? b->flags | BLOCK_EQUAL : b->flags & ~(uint32_t)BLOCK_EQUAL;
	if (!worth || !(again || now) || block_make_detailed(pgm, b, base, gather) != OK)
		return false;
	b->flags |= BLOCK_FUSING;
	COUNT(pgm, fusion_splits);
	return true;
}

/* The block's last page has been looked at. */
static void block_seen(struct pgm *pgm, struct block *b, gpa_t base, bool now)
{
	struct gather gather;

	gather_begin(&gather, &pgm->flush, &pgm->account);
	block_lock(b);
	pgm->fusion.eager = false;
	if (block_kind(b) == BLOCK_LARGE) {
		pgm->fusion.eager = large_seen(pgm, b, base, now, &gather);
	} else if (block_kind(b) == BLOCK_DETAILED) {
		b->flags &= ~(uint32_t)BLOCK_FUSING;
		block_fold(pgm, b, base, &gather);
	}
	block_unlock(b);
	gather_finish(&gather);
	pgm->fusion.worth = 0;
	pgm->fusion.cursor = base.v + (pgm->fusion.eager ? 0 : BLOCK_SIZE);
}

/* Goes on past what holds nothing. NULL: nothing more here, or enough looked at. */
static struct block *next_block(struct fusion *f, struct pgm *pgm)
{
	for (unsigned i = 0; f->cursor < f->end && i < SKIPPED_BLOCKS; i++) {
		struct block *b = block_find(pgm, gpa(f->cursor));

		if (b && block_kind(b) >= BLOCK_LARGE)
			return b;
		f->cursor = align_down(f->cursor, BLOCK_SIZE) + BLOCK_SIZE;
		f->worth = 0;
		f->eager = false;
	}
	return NULL;
}

static enum status step(struct pgm *pgm, bool now, unsigned *looked)
{
	struct fusion *f = &pgm->fusion;
	struct block *b = next_block(f, pgm);

	f->missed = false;
	for (; b && *looked < FUSION_STEP; ++*looked) {
		look_at_page(pgm, gpa(f->cursor), now || f->eager);
		f->cursor += PAGE_SIZE;
		if (is_aligned(f->cursor, BLOCK_SIZE) || f->cursor == f->end) {
			block_seen(pgm, b, gpa(align_down(f->cursor - 1, BLOCK_SIZE)), now);
			b = next_block(f, pgm);
		}
	}
	return f->cursor < f->end ? BUSY : OK;
}

enum status pgm_fusion_step(struct pgm *pgm, bool now, unsigned *looked)
{
	enum status status;

	*looked = 0;
	if (!pgm->config.share_group || !enter(pgm))
		return OK;
	members[pgm->account.owner] = pgm;
	pgm->fusion.end = pgm->directory_count << DIRECTORY_SHIFT;
	if (!pgm->fusion.cursor)
		pgm->fusion.pass = pgm->fusion.pass % WHOLE + 1;
	status = step(pgm, now, looked);
	if (status == OK)
		pgm->fusion.cursor = 0;
	leave(pgm);
	return status;
}

bool pgm_fusion_is_named(const struct pgm *pgm)
{
	return pgm->named.cursor < pgm->named.end || __atomic_load_n(&pgm->modules.waiting, __ATOMIC_RELAXED);
}

static void wake_others(const struct pgm *pgm)
{
	for (unsigned i = 0; i < MAX_OWNERS; i++)
		if (members[i] && members[i] != pgm && members[i]->config.share_group == pgm->config.share_group)
			modules_wake(members[i], pgm->named.name);
}

static bool at_region(struct pgm *pgm)
{
	if (pgm->named.cursor < pgm->named.end)
		return true;
	if (!modules_next(pgm, &pgm->named))
		return false;
	if (pgm->named.fresh)
		wake_others(pgm);
	return true;
}

void pgm_fusion_named_step(struct pgm *pgm, unsigned *looked)
{
	const struct fusion ordinary = pgm->fusion;
	bool split;

	*looked = 0;
	if (!enter(pgm))
		return;
	members[pgm->account.owner] = pgm;
	if (at_region(pgm)) {
		pgm->fusion = pgm->named;
		if (step(pgm, true, looked) == OK && !pgm->fusion.missed)
			COUNT(pgm, fusion_regions);
		split = pgm->fusion.eager && !pgm->named.eager;
		if (!pgm->fusion.missed) /* else the same pages once more: nobody comes by again soon */
			pgm->named = pgm->fusion;
		pgm->fusion = ordinary;
		if (split) /* its pages have taken the others' places in the table */
			wake_others(pgm);
		(void)at_region(pgm);
	}
	leave(pgm);
}

void pgm_fusion_leave(struct pgm *pgm)
{
	if (members[pgm->account.owner] == pgm)
		members[pgm->account.owner] = NULL;
}
