/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a machine's memory, in steps that are bounded however much memory it had: what is in progress, MMIO2 region
 * by region, ROM, tables, then every block gives its chunk or its frames back, and the accounts must come out at zero. Nothing
 * here allocates. No vcpu runs any more, so nothing is flushed.
 */
#include "pgm/internal.h"

/* What one step may give back: single frames, or descriptors looked at. */
#define STEP_FRAMES (8u * PAGES_PER_BLOCK)
#define STEP_BLOCKS 4096u

static enum status end_beginnings(struct pgm *pgm)
{
	pgm_fusion_leave(pgm);
	dirty_abandon(pgm);
	collapse_abandon(pgm);
	preallocation_abandon(pgm);
	return OK;
}

static enum status end_regions(struct pgm *pgm)
{
	if (pgm->mmio2) {
		pgm_mmio2_deregister(pgm, pgm->mmio2);
		return BUSY;
	}
	rom_destroy(pgm);
	return shadow_destroy_step(pgm);
}

static enum status end_tables(struct pgm *pgm)
{
	return slat_destroy_step(&pgm->slat);
}

/* Returns how many frames that were. */
static unsigned release_block(struct block *b, struct gather *gather)
{
	unsigned frames = 1;

	if (block_kind(b) == BLOCK_LARGE) {
		gather_block(gather, block_address(b));
	} else if (block_kind(b) == BLOCK_DETAILED) {
		page_record *records = block_records(b);

		for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
			if (page_owns_frame(records[i]))
				gather_frame(gather, page_frame(records[i]), ACCOUNT_BASE);
		gather_frame(gather, block_address(b), ACCOUNT_TABLE);
		frames = PAGES_PER_BLOCK;
	} else {
		frames = 0;
	}
	*b = (struct block){ 0 };
	return frames;
}

static enum status end_blocks(struct pgm *pgm)
{
	uint64_t end = pgm->directory ? pgm->directory_count * DIRECTORY_BLOCKS : 0;
	unsigned frames = 0, looked = 0;

	GATHER(gather, NULL, &pgm->account);
	for (; pgm->end_cursor < end && frames < STEP_FRAMES && looked < STEP_BLOCKS; looked++) {
		struct block **page = &pgm->directory[pgm->end_cursor / DIRECTORY_BLOCKS];
		unsigned index = pgm->end_cursor % DIRECTORY_BLOCKS;

		if (*page)
			frames += release_block(&(*page)[index], &gather);
		pgm->end_cursor = *page ? pgm->end_cursor + 1 : (pgm->end_cursor | (DIRECTORY_BLOCKS - 1)) + 1;
		if (*page && index == DIRECTORY_BLOCKS - 1) {
			gather_frame(&gather, direct_address(*page), ACCOUNT_TABLE);
			*page = NULL;
		}
	}
	return pgm->end_cursor < end ? BUSY : OK;
}

static enum status release_rest(struct pgm *pgm)
{
	struct gather gather;

	gather_begin(&gather, NULL, &pgm->account);
	handy_drain(pgm, HPA_NONE, &gather);
	gather_finish(&gather);
	pins_destroy(pgm);
	handler_table_destroy(&pgm->handlers);
	locals_destroy(pgm);
	heap_free(pgm->modules.module, pgm->modules.pages * PAGE_SIZE);
	heap_free(pgm->directory, pgm->directory_count * sizeof(pgm->directory[0]));
	pgm->directory = NULL;
	return account_close(&pgm->account);
}

enum status pgm_destroy_step(struct pgm *pgm)
{
	static enum status (*const phases[])(struct pgm *) = { end_beginnings, end_regions, end_tables, end_blocks };
	enum status status;

	if (pgm->end_phase < ARRAY_SIZE(phases)) {
		pgm->end_phase += phases[pgm->end_phase](pgm) == OK;
		return BUSY;
	}
	status = release_rest(pgm);
	/* An account that isn't closed is still in mm's books, so it stays where it is. */
	if (status == OK)
		heap_free(pgm, sizeof(*pgm));
	return status;
}
