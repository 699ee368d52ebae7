/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reset. The tables go first, so that no block has to look for its entries; then the directory is walked block
 * by block. A step ends after so many cleared chunks or so many blocks looked at.
 *
 * What is detailed and holds nothing any more becomes untouched again, and its records' frame goes back: a machine
 * that was reset costs what a fresh one does, but for the large blocks that it keeps.
 */

#include <string.h>

#include "pgm/internal.h"

#define STEP_CLEARED (16 * BLOCK_SIZE)
#define STEP_BLOCKS 512u
#define STEP_DETACHED 65536u

/* The upper tables go, so no block may keep its place in them. True at the end. */
static bool detach_blocks(struct pgm *pgm)
{
	uint64_t end = pgm->directory_count * DIRECTORY_BLOCKS, *cursor = &pgm->reset.cursor;

	for (unsigned looked = 0; *cursor < end && looked < STEP_DETACHED; ++*cursor, looked++) {
		struct block *b = block_find(pgm, gpa(*cursor << BLOCK_SHIFT));

		if (b)
			b->slot = NULL;
		else
			*cursor |= DIRECTORY_BLOCKS - 1;
	}
	if (*cursor < end)
		return false;
	*cursor = 0;
	return true;
}

static enum status drop_tables(struct pgm *pgm)
{
	enum status status;
	struct gather gather;

	TRY(shadow_clear_step(pgm));
	gather_begin(&gather, &pgm->flush, &pgm->account);
	status = slat_clear_step(&pgm->slat, &gather);
	gather_flush(&gather);
	gather_finish(&gather);
	__atomic_store_n(&pgm->mark_tables, 0, __ATOMIC_RELAXED);
	return status;
}

void reset_clear_frame(hpa_t frame)
{
	void *bytes = frame_map(frame);

	memset(bytes, 0, PAGE_SIZE);
	frame_unmap(bytes);
}

/* A pinned page keeps its frame, since someone outside knows where it is, and so does a preallocated one. Returns bytes cleared. */
static uint64_t zero_page(struct pgm *pgm, struct block *b, page_record *r, struct gather *gather)
{
	if ((r->bits & PAGE_PINNED) || (pgm->preallocation.pages && page_get_state(*r) != PAGE_SHARED)) {
		reset_clear_frame(page_frame(*r));
		page_set(r, PAGE_ALLOCATED, page_frame(*r));
		return PAGE_SIZE;
	}
	if (page_has_frame(*r)) {
		gather_frame(gather, page_frame(*r), ACCOUNT_BASE);
		b->held--;
	}
	page_set(r, PAGE_ZERO, hpa(0));
	r->bits &= ~PAGE_WRITTEN;
	return 0;
}

static uint64_t reset_detailed(struct pgm *pgm, struct block *b, gpa_t base, bool zero_ram, struct gather *gather)
{
	page_record *records = block_records(b);
	uint64_t cleared = 0;

	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		enum page_state state = page_get_state(records[i]);

		if (page_get_type(records[i]) != PAGE_RAM)
			continue;
		if (state == PAGE_BALLOONED)
			page_set(&records[i], PAGE_ZERO, hpa(0));
		else if (zero_ram && state != PAGE_ZERO)
			cleared += zero_page(pgm, b, &records[i], gather);
	}
	block_fold(pgm, b, base, gather);
	return cleared;
}

static uint64_t reset_block(struct pgm *pgm, struct block *b, gpa_t base, bool zero_ram, struct gather *gather)
{
	uint64_t cleared = 0;

	HOLD_BLOCK(b);
	balloon_shrunk(pgm, b, b->ballooned);
	if (unlikely(dirty_mode(pgm) != DIRTY_OFF && block_kind(b) != BLOCK_UNTOUCHED))
		dirty_note_block(pgm, base); /* dirty bits went with the tables */
	if (block_kind(b) == BLOCK_DETAILED) {
		cleared = reset_detailed(pgm, b, base, zero_ram, gather) +
			  BLOCK_SIZE / 4; /* some time for the frames freed */
	} else if (block_kind(b) == BLOCK_LARGE && zero_ram) {
		block_zero(block_address(b));
		cleared = BLOCK_SIZE;
	} else if (block_kind(b) == BLOCK_BALLOONED) {
		block_set(b, BLOCK_UNTOUCHED, hpa(0));
	}
	return cleared;
}

/* BUSY until the cursor has passed the last block. */
static enum status reset_blocks(struct pgm *pgm, bool zero_ram)
{
	uint64_t end = pgm->directory_count * DIRECTORY_BLOCKS, cleared = 0, *cursor = &pgm->reset.cursor;

	/* No domain: drop_tables() has flushed all, and nobody has entered since. */
	GATHER(gather, NULL, &pgm->account);
	for (unsigned looked = 0; *cursor < end && looked < STEP_BLOCKS && cleared < STEP_CLEARED; ++*cursor) {
		struct block *b = block_find(pgm, gpa(*cursor << BLOCK_SHIFT));

		if (!b) {
			*cursor |= DIRECTORY_BLOCKS - 1;
			continue;
		}
		cleared += reset_block(pgm, b, gpa(*cursor << BLOCK_SHIFT), zero_ram, &gather);
		looked++;
	}
	return *cursor < end ? BUSY : OK;
}

enum status pgm_reset_step(struct pgm *pgm, bool zero_ram)
{
	enum status status;

	if (!pgm->reset.started) {
		pgm_collapse_hold(pgm, true);
		while (__atomic_load_n(&pgm->collapse.block, __ATOMIC_ACQUIRE))
			(void)pgm_collapse_step(pgm); /* held: it gives up what it has begun */
		pgm->reset = (struct reset_state){ .started = true };
		modules_clear(pgm);
	}
	if (!pgm->reset.detached) {
		pgm->reset.detached = detach_blocks(pgm);
		return BUSY;
	}
	if (!pgm->reset.unmapped) {
		pgm->reset.unmapped = drop_tables(pgm) == OK;
		if (pgm->reset.unmapped)
			rom_reset(pgm);
		return BUSY;
	}
	status = reset_blocks(pgm, zero_ram);
	if (status == OK) {
		pgm->reset.started = false;
		pgm_collapse_hold(pgm, false);
	}
	return status;
}
