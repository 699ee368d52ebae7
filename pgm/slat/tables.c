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
	HOLD_BLOCK(block_find(pgm, where));
	return walk_locked(&pgm->slat, where, step);
}

/* From level 2 on: the leaves that stand there, and the tables, those of level 1 included. */
static void count_upper(const struct slat *s, hpa_t table, unsigned level, struct pgm_tables_info *info)
{
	const struct pt_format *f = s->format;
	uint64_t *entries = direct_pointer(table);

	info->tables[level]++;
	for (unsigned i = 0; level > 1 && i < PAGES_PER_BLOCK; i++) {
		uint64_t entry = __atomic_load_n(&entries[i], __ATOMIC_ACQUIRE);

		if (!slat_present(s, entry))
			continue;
		if (pt_is_leaf(f, level, entry))
			info->leaves[level]++;
		else
			count_upper(s, hpa(entry & f->address), level - 1, info);
	}
}

static void count_block(struct pgm *pgm, struct block *b, gpa_t base, void *context)
{
	struct pgm_tables_info *info = context;
	const uint64_t *slot = b->slot ? b->slot : slat_block_entry(&pgm->slat, base);
	uint64_t *entries = slat_table(&pgm->slat, b->slot, base);

	info->record_frames += (block_kind(b) == BLOCK_DETAILED) + !(base.v & (BIT(DIRECTORY_SHIFT) - 1));
	info->leaves[1] += slot && !entries && slat_present(&pgm->slat, *slot);
	info->tables[0] += entries != NULL;
	for (unsigned i = 0; entries && i < PAGES_PER_BLOCK; i++) {
		info->leaves[0] += entries[i] != 0;
		info->marks += misconfig_is_mark(pgm, entries[i]);
	}
}

enum status pgm_tables_describe_step(struct pgm *pgm, uint64_t *cursor, struct pgm_tables_info *info)
{
	if (!*cursor) {
		*info = (struct pgm_tables_info){ .shadow_frames =
							  __atomic_load_n(&pgm->shadow.frames, __ATOMIC_RELAXED) };
		count_upper(&pgm->slat, pgm->slat.root, pgm->slat.format->levels - 1u, info);
	}
	return blocks_step(pgm, cursor, STEP_RECORDS, count_block, info);
}

static void drop_block(struct pgm *pgm, struct block *b, gpa_t base, void *context)
{
	block_unmap(pgm, b, base, context);
}

enum status pgm_tables_drop_step(struct pgm *pgm, uint64_t *cursor)
{
	enum status status;

	if (!*cursor) {
		COUNT(pgm, tables_dropped);
		/* First, and not taken off afterwards: another CPU may drop the same tables. One made meanwhile may count though it goes. */
		__atomic_store_n(&pgm->mark_tables, 0, __ATOMIC_RELAXED);
	}
	GATHER(gather, &pgm->flush, &pgm->account);
	status = blocks_step(pgm, cursor, STEP_RECORDS, drop_block, &gather);
	gather_flush(&gather); /* also for what others took away just now */
	return status;
}
