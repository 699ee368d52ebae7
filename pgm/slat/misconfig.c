/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Marks for pure MMIO. A mark is made and taken away under its block's lock. Its maker looks for the handler
 * under that lock, and whoever removes a handler does so before it takes the marks away, and looks at every block for that:
 * so no mark outlives its handler. The processor caches no misconfigured entry, so none needs a flush.
 */

#include "pgm/internal.h"

/* Tables that exist for marks alone are bounded: the table account is reckoned for RAM. */
#define MARK_TABLES 32u

bool misconfig_is_mark(const struct pgm *pgm, uint64_t entry)
{
	return pgm->config.misconfig_exit && entry && entry == pgm->config.slat->misconfigured;
}

static bool pure_mmio(struct pgm *pgm, gpa_t where)
{
	struct handler_node n;
	struct pgm_range range;

	return handler_next(&pgm->handlers, where.v, &n) && n.first <= where.v && n.kind == HANDLER_KIND_MMIO &&
	       (!pgm_range_find(pgm, where, &range) || range.type == PAGE_MMIO);
}

bool misconfig_wrong(struct pgm *pgm, gpa_t where, page_record record)
{
	enum page_type type = page_get_type(record);

	return (type != PAGE_INVALID && type != PAGE_MMIO) || !pure_mmio(pgm, where);
}

/*
 * How many tables a mark at `where` needs: as many as the level at which the walk ends now. Where another CPU makes an upper one
 * at the same time it counts twice; what others link and drop elsewhere never counts.
 */
static unsigned tables_needed(struct pgm *pgm, gpa_t where)
{
	unsigned level;

	slat_find(&pgm->slat, where, &level);
	return level;
}

static void install_locked(struct pgm *pgm, struct block *b, gpa_t where)
{
	unsigned needed = tables_needed(pgm, where);
	uint64_t *entry, none = 0;
	page_record record = { 0 };

	if (block_kind(b) == BLOCK_DETAILED)
		record = *page_of(b, where);
	if (block_kind(b) == BLOCK_LARGE || misconfig_wrong(pgm, where, record))
		return;
	if (needed && __atomic_load_n(&pgm->mark_tables, __ATOMIC_RELAXED) >= MARK_TABLES)
		return;
	if (block_leaf(pgm, b, where, &entry) != OK)
		return; /* the slow way serves as well */
	if (needed)
		__atomic_fetch_add(&pgm->mark_tables, needed, __ATOMIC_RELAXED);
	if (__atomic_compare_exchange_n(entry, &none, pgm->config.slat->misconfigured, false, __ATOMIC_RELEASE,
					__ATOMIC_RELAXED))
		COUNT(pgm, misconfig_marks);
}

void misconfig_install(struct pgm *pgm, gpa_t where)
{
	struct block *b;

	/* Looked for first without a lock: pages without a handler are not worth a directory page. */
	if (!pure_mmio(pgm, where) || block_get(pgm, where, &b) != OK)
		return;
	HOLD_BLOCK(b);
	install_locked(pgm, b, where);
}

static enum status remove_in_block(struct pgm *pgm, struct block *b, uint64_t first, uint64_t end, void *context)
{
	uint64_t *table = slat_table(&pgm->slat, b->slot, gpa(first));

	for (uint64_t a = align_down(first, PAGE_SIZE); table && a < end; a += PAGE_SIZE) {
		uint64_t *entry = &table[a >> PAGE_SHIFT & (PAGES_PER_BLOCK - 1)];

		if (misconfig_is_mark(pgm, *entry))
			__atomic_store_n(entry, 0, __ATOMIC_RELEASE);
	}
	return OK;
}

void misconfig_remove(struct pgm *pgm, uint64_t first, uint64_t last)
{
	uint64_t top = (pgm->directory_count << DIRECTORY_SHIFT) - 1;

	if (pgm->config.misconfig_exit)
		panic_unless(blocks_visit(pgm, first, min_u64(last, top) + 1, remove_in_block, NULL) == OK);
}

void pgm_count_misconfig(struct pgm *pgm)
{
	COUNT_VCPU(misconfig);
}
