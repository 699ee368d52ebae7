/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Do the parts add up: pages held by blocks and the reserve against the base account, tables and records against the
 * table account, the tables that can be reached against their count; and no table leads to where no block is.
 *
 * On a running machine the sums move under the count. They count for something only if nothing was charged, handed
 * out or linked meanwhile, and since a CPU may stand for long between a charge and its link, only if they fail
 * several times running.
 */
#include "pgm/check/finding.h"
#include "pgm/internal.h"

#define ATTEMPTS 4u

struct sums {
	uint64_t base, table; /* pages as counted */
	uint64_t ballooned;
	uint64_t slat;  /* of these, second-level tables */
	uint64_t stray; /* leaves where no block is */
};

static void count_block(struct pgm *pgm, struct block *b, gpa_t base, void *context)
{
	struct sums *s = context;

	s->ballooned += b->ballooned;
	s->table +=
		(block_kind(b) == BLOCK_DETAILED) + !(base.v & (BIT(DIRECTORY_SHIFT) - 1)); /* the directory's page */
	s->base += block_kind(b) == BLOCK_DETAILED ? b->held : block_kind(b) == BLOCK_LARGE ? PAGES_PER_BLOCK : 0;
}

/* Tables of level 0 are counted, not read: they may go at any time. */
static void count_tables(struct pgm *pgm, struct sums *s, hpa_t table, unsigned level, uint64_t base)
{
	const struct pt_format *f = pgm->slat.format;
	uint64_t *entries = direct_pointer(table);

	s->slat++;
	for (unsigned i = 0; level && i < PAGES_PER_BLOCK; i++) {
		uint64_t entry = __atomic_load_n(&entries[i], __ATOMIC_ACQUIRE);
		uint64_t where = base + ((uint64_t)i << pt_shift(f, level));

		if (!(entry & f->present))
			continue;
		if (level == 1 || pt_is_leaf(f, level, entry))
			s->stray += !block_find(pgm, gpa(where));
		if (!pt_is_leaf(f, level, entry))
			count_tables(pgm, s, hpa(entry & f->address), level - 1, where);
	}
}

/* Moves on whenever something happens that the sums depend on. */
static uint64_t events(struct pgm *pgm)
{
	uint64_t events = __atomic_load_n(&pgm->account.changes, __ATOMIC_ACQUIRE);

	for (const struct pgm_local *l = &pgm->common; l; l = local_next(l))
		events += __atomic_load_n(&l->counters.handy_allocs, __ATOMIC_ACQUIRE);
	return events;
}

static unsigned compare(const struct check *c, const struct sums *s, bool tell)
{
	const struct pgm *pgm = c->pgm;
	const struct {
		const char *what;
		uint64_t counted, said;
	} pairs[] = {
		{ "pages in the records", s->base, pgm->account.allocated[ACCOUNT_BASE] },
		{ "ballooned pages", s->ballooned, pgm->account.ballooned },
		{ "tables and records", s->table + __atomic_load_n(&pgm->dirty.frames_used, __ATOMIC_RELAXED),
		  pgm->account.allocated[ACCOUNT_TABLE] },
		{ "second-level tables", s->slat, pgm->slat.tables },
		{ "mappings where no memory is", s->stray, 0 },
	};
	unsigned findings = 0;
	char line[160];

	for (unsigned i = 0; i < ARRAY_SIZE(pairs); i++) {
		if (pairs[i].counted == pairs[i].said)
			continue;
		findings++;
		format_string(line, sizeof(line), "%s: %lu counted, %lu said", pairs[i].what, pairs[i].counted,
			      pairs[i].said);
		if (tell)
			c->report(c->context, line);
	}
	return findings;
}

enum status check_sums(struct check *c, unsigned attempt)
{
	struct pgm *pgm = c->pgm;
	uint64_t before = events(pgm), cursor = 0;
	struct sums s = { 0 };
	bool still;

	s.base = handy_count(pgm);
	/* Chunks that are on their way to their blocks. */
	s.base += hpa_is_none(pgm->collapse.chunk) ? 0 : PAGES_PER_BLOCK;
	s.base += hpa_is_none(pgm->preallocation.chunks) ? 0 : GIB / PAGE_SIZE;
	while (blocks_step(pgm, &cursor, STEP_RECORDS, count_block, &s) == BUSY)
		; /* in one go, or the guest would change what was counted */
	s.base += (uint64_t)__atomic_load_n(&pgm->beside_blocks, __ATOMIC_RELAXED);
	count_tables(pgm, &s, pgm->slat.root, pgm->slat.format->levels - 1u, 0);
	s.table += s.slat + __atomic_load_n(&pgm->shadow.frames, __ATOMIC_RELAXED);
	still = events(pgm) == before;
	if ((!still || compare(c, &s, false)) && attempt < ATTEMPTS)
		return BUSY;
	c->findings += still ? compare(c, &s, true) : 0;
	return OK;
}
