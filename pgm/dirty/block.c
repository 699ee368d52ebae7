/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty log at work on one block, whose lock the caller holds.
 *
 * Invariant while the log is on ("armed"): a page that is not noted in the bitmap can't be written without leaving
 * a trace. By mode:
 *
 *   write protection   a leaf with the right to write implies noted (dirty_open): the bitmap alone says what is watched
 *   PML                a leaf with its dirty bit set implies noted, or still in a vcpu's PML buffer
 *   dirty bits         a leaf with its dirty bit set is itself the note; one that goes hands it to the bitmap
 *   all three          no large leaf grants a write; a large block that is written has 4 KiB leaves meanwhile (BLOCK_FINE)
 *
 * So there is one bit per leaf that must go for its page to be watched (watch_bit), and one place where it does
 * (watch_leaf); what is derived from the leaves (followers of the tables) follows by the flush. An entry that marks MMIO has neither
 * of these bits (pt_format.h).
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

static inline uint64_t watch_bit(const struct pgm *pgm)
{
	const struct pt_format *f = pgm->slat.format;

	return dirty_mode(pgm) == DIRTY_WRITE_PROTECT ? f->write : f->dirty;
}

/* Tells whether there was anything to take away. */
static inline bool watch_leaf(uint64_t *entry, uint64_t bit)
{
	if (!(entry_load(entry) & bit))
		return false;
	entry_clear(entry, bit);
	return true;
}

uint64_t dirty_split_bits(const struct pgm *pgm)
{
	enum dirty_mode mode = dirty_mode(pgm);

	/* Where the processor traces a write by itself, that spares 511 faults. */
	return mode == DIRTY_PML || mode == DIRTY_ACCESSED_DIRTY ? pgm->slat.format->write : 0;
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

void dirty_arm_block(struct pgm *pgm, struct block *b, gpa_t base, struct gather *gather)
{
	uint64_t *table, bit = watch_bit(pgm);

	reverse_drop_block(pgm, b, gather);
	if (block_kind(b) == BLOCK_LARGE && !(b->flags & BLOCK_FINE))
		arm_large(pgm, base, gather);
	if (block_kind(b) == BLOCK_UNTOUCHED || !(table = slat_table(&pgm->slat, b->slot, base)))
		return;
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		(void)watch_leaf(&table[i], bit);
	gather_flush(gather);
}

/* Nothing here narrows a right but where a large block's fine leaves go: who holds another old one faults, and finds it gone. */
static void disarm_detailed(struct pgm *pgm, struct block *b, gpa_t base, enum dirty_mode mode)
{
	const struct pt_format *f = pgm->slat.format;
	page_record *records = block_records(b);
	uint64_t *table = slat_table(&pgm->slat, b->slot, base);

	for (unsigned i = 0; table && i < PAGES_PER_BLOCK; i++) {
		uint64_t entry = entry_load(&table[i]);

		if (!slat_present(&pgm->slat, entry) || !(page_rights(records[i]) & ACCESS_WRITE))
			continue;
		if (mode == DIRTY_WRITE_PROTECT || (entry & f->write))
			entry_set(&table[i], f->write | (pgm->slat.leaf_extra & f->dirty));
	}
}

static void disarm_large(struct pgm *pgm, struct block *b, gpa_t base, struct gather *gather)
{
	unsigned level;
	uint64_t *entry;

	if (b->flags & BLOCK_FINE) { /* the next touch brings the one leaf */
		b->flags &= ~(uint32_t)BLOCK_FINE;
		block_unmap(pgm, b, base, gather);
		return;
	}
	entry = slat_find(&pgm->slat, base, &level);
	if (level == 1 && slat_present(&pgm->slat, entry_load(entry)))
		entry_set(entry, pgm->slat.format->write | (pgm->slat.leaf_extra & pgm->slat.format->dirty));
}

void dirty_disarm_block(struct pgm *pgm, struct block *b, gpa_t base, enum dirty_mode mode, struct gather *gather)
{
	if (block_kind(b) == BLOCK_DETAILED)
		disarm_detailed(pgm, b, base, mode);
	else if (block_kind(b) == BLOCK_LARGE)
		disarm_large(pgm, b, base, gather);
}

enum status dirty_refine(struct pgm *pgm, struct block *b, gpa_t where, struct gather *gather)
{
	if (b->flags & BLOCK_FINE)
		return OK;
	TRY(slat_split_block(&pgm->slat, where, dirty_split_bits(pgm), gather));
	b->flags |= BLOCK_FINE;
	__atomic_fetch_add(&pgm->dirty.splits, 1, __ATOMIC_RELAXED);
	return OK;
}

/* The leaves of a word's pages: those wanted that are dirty, which they aren't any more. */
static uint64_t take_leaves(uint64_t *table, uint64_t wanted, uint64_t bit)
{
	uint64_t found = 0;

#pragma GCC unroll 8 /* for each page of the machine at each reading */
	for (unsigned i = 0; i < DIRTY_WORD_PAGES; i++)
		if ((entry_load(&table[i]) & bit) && (wanted >> i & 1)) {
			entry_clear(&table[i], bit);
			found |= BIT(i);
		}
	return found;
}

/* Pages that were noted until now must leave a trace again. */
static void watch_again(uint64_t *table, uint64_t found, uint64_t bit)
{
	for (; found; found &= found - 1)
		(void)watch_leaf(&table[__builtin_ctzll(found)], bit);
}

/* Written through another place that shows their frames, perhaps: dirty at each reading. */
static void note_aliased(struct pgm *pgm, struct block *b, gpa_t base)
{
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		if (block_records(b)[i].bits & PAGE_ALIASED)
			pgm_dirty_note(pgm, gpa(base.v + i * PAGE_SIZE));
}

void dirty_take_block(struct pgm *pgm, struct block *b, gpa_t base, unsigned word, unsigned words, uint64_t mask,
		      uint64_t *out, struct gather *gather)
{
	uint64_t *table = b && block_kind(b) != BLOCK_UNTOUCHED ? slat_table(&pgm->slat, b->slot, base) : NULL;
	bool by_leaf = dirty_mode(pgm) == DIRTY_ACCESSED_DIRTY, all;
	uint64_t *notes, bit = watch_bit(pgm), any = 0;

	if (b && unlikely(b->flags & BLOCK_ALIASED) && block_kind(b) == BLOCK_DETAILED)
		note_aliased(pgm, b, base);
	notes = dirty_word(pgm, base, &all);
	for (unsigned i = 0; i < words; i++) {
		unsigned at = word + i;
		unsigned first = at * DIRTY_WORD_PAGES;
		uint64_t *leaves = table ? table + first : NULL;
		uint64_t wanted = i + 1 == words ? mask : ~UINT64_C(0), found = all ? wanted : 0;

		if (notes && __atomic_load_n(&notes[at], __ATOMIC_RELAXED))
			found = __atomic_fetch_and(&notes[at], ~wanted, __ATOMIC_ACQ_REL) & wanted;
		if (leaves && by_leaf)
			found |= take_leaves(leaves, wanted, bit);
		else if (leaves)
			watch_again(leaves, found, bit);
		for (uint64_t left = b && b->shadows ? found : 0; left; left &= left - 1)
			reverse_drop_page(pgm, b, gpa(base.v + (first + (unsigned)__builtin_ctzll(left)) * PAGE_SIZE),
					  gather);
		out[i] = found;
		any |= found;
	}
	if (any)
		gather_flush(gather);
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

const char *dirty_check_page(struct pgm *pgm, gpa_t where, uint64_t entry, unsigned level)
{
	if (!__atomic_load_n(&pgm->dirty.armed, __ATOMIC_ACQUIRE) || !(slat_rights(&pgm->slat, entry) & ACCESS_WRITE))
		return NULL;
	if (level)
		return "a large leaf is writable under the dirty log";
	return dirty_is_open(pgm, where) ? NULL : "writable, but neither watched nor noted by the dirty log";
}
