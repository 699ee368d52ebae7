/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking at the second-level tables while they are in use. Tables of level 1 and above stay until the machine ends
 * (or is reset, which the monitor's own CPU does); one of level 0 may go at any time, but not while its block
 * is locked.
 */
#include "pgm/slat/tables.h"

#include "pgm/internal.h"

static unsigned walk_locked(const struct slat *s, gpa_t where, struct pgm_table_step *step)
{
	const struct pt_format *f = s->format;
	hpa_t table = s->root;
	unsigned count = 0;

	for (unsigned level = f->levels - 1u;; level--) {
		uint64_t *slot = (uint64_t *)direct_pointer(table) + pt_index(f, level, where.v);
		uint64_t entry = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
		bool leaf = slat_present(s, entry) && pt_is_leaf(f, level, entry);

		step[count++] = (struct pgm_table_step){ .where = direct_address(slot),
							 .entry = entry,
							 .level = (uint8_t)level,
							 .rights = leaf ? slat_rights(s, entry) : 0 };
		if (leaf || !slat_present(s, entry))
			return count;
		table = hpa(entry & f->address);
	}
}

unsigned pgm_tables_walk(struct pgm *pgm, gpa_t where, struct pgm_table_step step[PT_MAX_LEVELS])
{
	struct block *b = block_find(pgm, where);
	unsigned count;

	if (b)
		block_lock(b);
	count = walk_locked(&pgm->slat, where, step);
	if (b)
		block_unlock(b);
	return count;
}

/* Tables of the upper levels, and the leaves that stand in them. */
static void count_upper(const struct slat *s, hpa_t table, unsigned level, struct pgm_tables_info *info)
{
	const struct pt_format *f = s->format;
	uint64_t *entries = direct_pointer(table);

	info->tables[level]++;
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		uint64_t entry = __atomic_load_n(&entries[i], __ATOMIC_ACQUIRE);

		if (!slat_present(s, entry))
			continue;
		if (pt_is_leaf(f, level, entry))
			info->leaves[level]++;
		else if (level > 1)
			count_upper(s, hpa(entry & f->address), level - 1, info);
	}
}

static void count_block(struct pgm *pgm, struct block *b, gpa_t base, struct pgm_tables_info *info)
{
	uint64_t *entries;

	block_lock(b);
	info->record_frames += block_kind(b) == BLOCK_DETAILED;
	entries = slat_table(&pgm->slat, b->slot, base);
	info->tables[0] += entries != NULL;
	for (unsigned i = 0; entries && i < PAGES_PER_BLOCK; i++) {
		info->leaves[0] += entries[i] != 0;
		info->marks += misconfig_is_mark(pgm, entries[i]);
	}
	block_unlock(b);
}

/* Calls visit for each block that has a descriptor, and after each 256 MiB of them `pause`. */
static void for_blocks(struct pgm *pgm, void (*visit)(struct pgm *, struct block *, gpa_t, void *),
		       void (*pause)(void *), void *context)
{
	for (uint64_t d = 0; d < pgm->directory_count; d++) {
		struct block *page = __atomic_load_n(&pgm->directory[d], __ATOMIC_ACQUIRE);

		for (unsigned i = 0; page && i < DIRECTORY_BLOCKS; i++)
			visit(pgm, &page[i], gpa(d << DIRECTORY_SHIFT | (uint64_t)i << BLOCK_SHIFT), context);
		if (page)
			pause(context);
	}
}

static void visit_count(struct pgm *pgm, struct block *b, gpa_t base, void *context)
{
	count_block(pgm, b, base, context);
}

static void count_directory_page(void *context)
{
	((struct pgm_tables_info *)context)->record_frames++;
}

void pgm_tables_describe(struct pgm *pgm, struct pgm_tables_info *info)
{
	*info = (struct pgm_tables_info){ 0 };
	count_upper(&pgm->slat, pgm->slat.root, pgm->slat.format->levels - 1u, info);
	for_blocks(pgm, visit_count, count_directory_page, info);
	info->shadow_frames = __atomic_load_n(&pgm->shadow.frames, __ATOMIC_RELAXED);
}

static void visit_drop(struct pgm *pgm, struct block *b, gpa_t base, void *context)
{
	block_lock(b);
	block_unmap(pgm, b, base, context);
	block_unlock(b);
}

/* The table frames wait in the gather until the flush, which comes when it is full at the latest. */
static void finish_drop(void *context)
{
	struct gather *gather = context;

	gather_flush(gather);
	gather_finish(gather);
}

void pgm_tables_drop(struct pgm *pgm)
{
	struct gather gather;

	COUNT(pgm, tables_dropped);
	/* First, and not taken off afterwards: another CPU may drop the same tables. One made meanwhile may count though it goes. */
	__atomic_store_n(&pgm->mark_tables, 0, __ATOMIC_RELAXED);
	gather_begin(&gather, &pgm->flush, &pgm->account);
	for_blocks(pgm, visit_drop, finish_drop, &gather);
}
