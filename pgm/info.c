/* SPDX-License-Identifier: Apache-2.0 */
/* What the monitor asks of PGM: one page, and the sums over all of them. */
#include "pgm/internal.h"

void pgm_page_describe(struct pgm *pgm, gpa_t where, struct pgm_page_info *info)
{
	struct block *b = block_find(pgm, where);
	struct pgm_range range;
	uint64_t *entry;

	*info = (struct pgm_page_info){ .frame = HPA_NONE };
	if (pgm_range_find(pgm, where, &range))
		info->type = range.type;
	HOLD_BLOCK(b);
	if (b)
		info->block = block_kind(b);
	page_set_type(&info->record, info->type);
	if (b && info->block != BLOCK_UNTOUCHED)
		info->record = block_record(b, where);
	if (page_has_frame(info->record))
		info->frame = page_frame(info->record);
	entry = slat_find(&pgm->slat, where, &info->slat_level);
	info->slat_entry = *entry;
	info->slat_present = slat_present(&pgm->slat, info->slat_entry);
}

static void count_block(struct pgm *pgm, struct block *b, gpa_t base, void *context)
{
	struct pgm_usage *u = context;
	page_record *records;
	uint64_t open = 0;
	bool kept = false;

	u->record_bytes += base.v & (BIT(DIRECTORY_SHIFT) - 1) ? 0 : PAGE_SIZE; /* the directory's page */
	u->ballooned_pages += b->ballooned;
	if (block_kind(b) == BLOCK_LARGE) {
		u->large_blocks++;
		u->private_pages += PAGES_PER_BLOCK;
		return;
	}
	if (block_kind(b) != BLOCK_DETAILED)
		return;
	u->detailed_blocks++;
	u->record_bytes += PAGE_SIZE;
	records = block_records(b);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		enum page_state state = page_get_state(records[i]);

		if (i % DIRTY_WORD_PAGES == 0)
			open = dirty_open(pgm, gpa(base.v + i * PAGE_SIZE));
		kept |= page_get_handler(records[i]) != HANDLER_NONE || (records[i].bits & PAGE_PINNED);
		u->monitored_pages +=
			state == PAGE_MONITORED || (page_has_frame(records[i]) && !(open >> i % DIRTY_WORD_PAGES & 1));
		u->written_pages += (records[i].bits & PAGE_WRITTEN) != 0;
		if (page_get_type(records[i]) == PAGE_ROM)
			u->rom_pages += page_has_frame(records[i]);
		else if (page_is_alias(records[i]))
			continue;
		else if (state == PAGE_SHARED)
			u->shared_pages++;
		else if (page_has_frame(records[i]))
			u->private_pages++;
	}
	u->large_disabled += kept && b->held == PAGES_PER_BLOCK;
}

static uint64_t count_mmio(struct pgm *pgm)
{
	uint64_t from = 0, pages = 0;
	struct handler_node n;

	for (uint32_t limit = pgm->handlers.capacity; limit && handler_next(&pgm->handlers, from, &n); limit--) {
		if (n.kind == HANDLER_KIND_MMIO)
			pages += ((n.last - n.first) >> PAGE_SHIFT) + 1;
		from = n.last + 1;
	}
	return pages;
}

enum status pgm_usage_step(struct pgm *pgm, uint64_t *cursor, struct pgm_usage *u)
{
	if (!*cursor)
		*u = (struct pgm_usage){ .ram_pages = pgm->config.ram >> PAGE_SHIFT };
	if (blocks_step(pgm, cursor, STEP_RECORDS, count_block, u) == BUSY)
		return BUSY;
	u->zero_pages = u->ram_pages - min_u64(u->ram_pages, u->private_pages + u->shared_pages + u->ballooned_pages);
	u->mmio_pages = count_mmio(pgm);
	pgm_pin_totals(pgm, &u->read_locked_pages, &u->write_locked_pages);
	u->handy_pages = handy_count(pgm);
	u->table_pages = __atomic_load_n(&pgm->slat.tables, __ATOMIC_RELAXED);
	return OK;
}
