/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty log at work on one block, whose lock the caller holds.
 *
 * Invariant while the log is on ("armed"): a page that is not noted in the bitmap can't be written without leaving
 * a trace. By mode:
 *
 *   write protection   ALLOCATED implies noted; what isn't is MONITORED, and no table grants a write to it
 *   PML                a leaf with its dirty bit set implies noted, or still in a vcpu's PML buffer
 *   dirty bits         a leaf with its dirty bit set is itself the note; one that goes hands it to the bitmap
 *   all three          no large leaf grants a write
 *
 * Whatever is taken away here is flushed by the caller's gather before the caller reports a page. So a write through a
 * translation that is just being taken away falls before the flush, and its page is among those reported.
 */
#include "pgm/internal.h"

/* Entries change under the processors' hands: they set accessed and dirty bits at any time. */
static inline void entry_clear(uint64_t *entry, uint64_t bits)
{
	__atomic_fetch_and(entry, ~bits, __ATOMIC_RELAXED);
}

static inline void entry_set(uint64_t *entry, uint64_t bits)
{
	__atomic_fetch_or(entry, bits, __ATOMIC_RELAXED);
}

static inline uint64_t entry_load(const uint64_t *entry)
{
	return __atomic_load_n(entry, __ATOMIC_RELAXED);
}

/* A mark of MMIO (misconfig.c) looks like a leaf with the right to write; it has to stay just what it is. */
static inline bool is_leaf(const struct pgm *pgm, uint64_t entry)
{
	return slat_present(&pgm->slat, entry) && !misconfig_is_mark(pgm, entry);
}

static void arm_large(struct pgm *pgm, gpa_t base, struct gather *gather)
{
	const struct pt_format *f = pgm->slat.format;
	unsigned level;
	uint64_t *entry = slat_find(&pgm->slat, base, &level);

	if (!slat_present(&pgm->slat, entry_load(entry)))
		return;
	if (level > 1)
		slat_drop_page(&pgm->slat, NULL, base, gather); /* a 1 GiB leaf: its blocks come back one by one */
	else
		entry_clear(entry, f->write | f->dirty);
	gather_flush(gather);
}

/* An ALLOCATED page's next write must fault. What is dirty for its MMIO2 region stays so (mmio2_is_dirty). */
static inline void monitor(page_record *r)
{
	if (page_get_state(*r) != PAGE_ALLOCATED)
		return;
	r->bits ^= (uint64_t)(PAGE_ALLOCATED ^ PAGE_MONITORED) << PAGE_STATE_SHIFT;
	if (page_get_type(*r) == PAGE_MMIO2)
		r->bits |= PAGE_WRITTEN;
}

static void arm_detailed(struct pgm *pgm, struct block *b, gpa_t base, struct gather *gather)
{
	const struct pt_format *f = pgm->slat.format;
	page_record *records = block_records(b);
	uint64_t *table = slat_table(&pgm->slat, b->slot, base);
	bool protect = dirty_mode(pgm) == DIRTY_WRITE_PROTECT;
	uint64_t bit = protect ? f->write : f->dirty;

	for (unsigned i = 0; protect && i < PAGES_PER_BLOCK; i++)
		monitor(&records[i]);
	for (unsigned i = 0; table && i < PAGES_PER_BLOCK; i++)
		if ((entry_load(&table[i]) & bit) && is_leaf(pgm, entry_load(&table[i])))
			entry_clear(&table[i], bit);
	if (table)
		gather_flush(gather);
}

void dirty_arm_block(struct pgm *pgm, struct block *b, gpa_t base, struct gather *gather)
{
	if (block_kind(b) == BLOCK_LARGE)
		arm_large(pgm, base, gather);
	else if (block_kind(b) == BLOCK_DETAILED)
		arm_detailed(pgm, b, base, gather);
}

/* Watched for the log's sake: not clean pages of MMIO2, which their region's tracking watches. */
static bool watched(page_record r)
{
	return page_get_state(r) == PAGE_MONITORED && (page_get_type(r) != PAGE_MMIO2 || mmio2_is_dirty(r));
}

static void disarm_detailed(struct pgm *pgm, struct block *b, gpa_t base, enum dirty_mode mode)
{
	const struct pt_format *f = pgm->slat.format;
	page_record *records = block_records(b);
	uint64_t *table = slat_table(&pgm->slat, b->slot, base);

	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		bool present = table && is_leaf(pgm, entry_load(&table[i]));

		if (mode == DIRTY_WRITE_PROTECT && watched(records[i])) {
			page_set(&records[i], PAGE_ALLOCATED, page_frame(records[i]));
			if (present && (page_rights(records[i]) & ACCESS_WRITE))
				entry_set(&table[i], f->write);
		} else if (mode != DIRTY_WRITE_PROTECT && present && (entry_load(&table[i]) & f->write)) {
			entry_set(&table[i], f->dirty);
		}
	}
}

/* Nothing here narrows a right, so no flush is needed: who still holds the old one faults, and finds it gone. */
void dirty_disarm_block(struct pgm *pgm, struct block *b, gpa_t base, enum dirty_mode mode)
{
	unsigned level;
	uint64_t *entry;

	if (block_kind(b) == BLOCK_DETAILED)
		disarm_detailed(pgm, b, base, mode);
	if (block_kind(b) != BLOCK_LARGE)
		return;
	entry = slat_find(&pgm->slat, base, &level);
	if (level == 1 && slat_present(&pgm->slat, entry_load(entry)))
		entry_set(entry, pgm->slat.format->write | (pgm->slat.leaf_extra & pgm->slat.format->dirty));
}

/* Dirty bits of 64 leaves, as a word; they are clear afterwards. */
static uint64_t take_leaves(struct pgm *pgm, uint64_t *table, uint64_t mask)
{
	uint64_t dirty = pgm->slat.format->dirty, found = 0;

	for (unsigned i = 0; i < DIRTY_WORD_PAGES; i++)
		if ((entry_load(&table[i]) & dirty) && (mask >> i & 1)) {
			entry_clear(&table[i], dirty);
			found |= BIT(i);
		}
	return found;
}

/* The pages of `found`, noted until now, must leave a trace again. table and records: of the word's first page; may be NULL. */
static void protect(struct pgm *pgm, uint64_t *table, page_record *records, uint64_t found)
{
	const struct pt_format *f = pgm->slat.format;
	bool by_fault = dirty_mode(pgm) == DIRTY_WRITE_PROTECT;
	uint64_t bit = by_fault ? f->write : f->dirty;

	/* Two plain loops: this is done for each dirty page at each reading. */
	for (uint64_t left = by_fault && records ? found : 0; left; left &= left - 1)
		monitor(&records[__builtin_ctzll(left)]);
	for (uint64_t left = table ? found : 0; left; left &= left - 1)
		if (is_leaf(pgm, entry_load(&table[__builtin_ctzll(left)])))
			entry_clear(&table[__builtin_ctzll(left)], bit);
}

void dirty_take_block(struct pgm *pgm, struct block *b, gpa_t base, unsigned word, unsigned words, uint64_t mask,
		      uint64_t *out, struct gather *gather)
{
	bool detailed = b && block_kind(b) == BLOCK_DETAILED;
	page_record *records = detailed ? block_records(b) : NULL;
	uint64_t *table = detailed ? slat_table(&pgm->slat, b->slot, base) : NULL, any = 0;
	bool by_leaf = dirty_mode(pgm) == DIRTY_ACCESSED_DIRTY, all;
	uint64_t *notes = dirty_word(pgm, base, &all);

	for (unsigned i = 0; i < words; i++) {
		unsigned at = word + i, first = at * DIRTY_WORD_PAGES;
		uint64_t wanted = i + 1 == words ? mask : ~UINT64_C(0), found = all ? wanted : 0;

		if (notes && __atomic_load_n(&notes[at], __ATOMIC_RELAXED))
			found = __atomic_fetch_and(&notes[at], ~wanted, __ATOMIC_ACQ_REL) & wanted;
		if (by_leaf && table)
			found |= take_leaves(pgm, table + first, wanted);
		else if (found && !by_leaf)
			protect(pgm, table ? table + first : NULL, records ? records + first : NULL, found);
		out[i] = found;
		any |= found;
	}
	if (any)
		gather_flush(gather);
}

void dirty_block_split(struct pgm *pgm, struct block *b, gpa_t base)
{
	const struct pt_format *f = pgm->slat.format;
	page_record *records = block_records(b);
	uint64_t *table = slat_table(&pgm->slat, b->slot, base);
	bool by_fault = dirty_mode(pgm) == DIRTY_WRITE_PROTECT;

	__atomic_fetch_add(&pgm->dirty.splits, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		if (by_fault) {
			monitor(&records[i]);
		} else if (table) {
			entry_clear(&table[i], f->dirty);
			entry_set(&table[i], f->write); /* the processor traces it by itself: spare 511 faults */
		}
	}
}

void dirty_unmonitor(struct pgm *pgm, page_record *r, gpa_t where)
{
	page_set(r, PAGE_ALLOCATED, page_frame(*r));
	r->bits |= PAGE_WRITTEN;
	__atomic_fetch_add(&pgm->dirty.faults, 1, __ATOMIC_RELAXED);
	dirty_written(pgm, where);
}

void dirty_note_block(struct pgm *pgm, gpa_t base)
{
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		pgm_dirty_note(pgm, gpa(base.v + i * PAGE_SIZE));
}

unsigned dirty_large_rights(const struct pgm *pgm)
{
	return ACCESS_READ | ACCESS_EXECUTE | (dirty_mode(pgm) == DIRTY_OFF ? ACCESS_WRITE : 0);
}

void dirty_harvest(void *context, hpa_t frame)
{
	struct pgm *pgm = context;
	struct frame_info info;

	frame_describe(frame, &info);
	if (info.state == FRAME_PRIVATE && info.owner == pgm->account.owner)
		pgm_dirty_note(pgm, info.page);
}

const char *dirty_check_page(struct pgm *pgm, gpa_t where, page_record r, uint64_t entry, unsigned level)
{
	const struct block *b = block_find(pgm, where);

	if (!__atomic_load_n(&pgm->dirty.armed, __ATOMIC_ACQUIRE))
		return NULL;
	if (level && (slat_rights(&pgm->slat, entry) & ACCESS_WRITE))
		return "a large leaf is writable under the dirty log";
	if (dirty_mode(pgm) != DIRTY_WRITE_PROTECT || !b || block_kind(b) != BLOCK_DETAILED)
		return NULL;
	if (page_get_state(r) == PAGE_ALLOCATED && !dirty_is_noted(pgm, where))
		return "allocated, but neither watched nor noted by the dirty log";
	return NULL;
}
