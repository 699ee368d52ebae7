/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the reverse map stands: in block.shadows, guarded by the block's lock.
 *
 *   0                          no entry shows any page of the block
 *   an entry's address | LARGE one entry of 2 MiB, and nothing else
 *   a frame | slots << 1 | 1   the frame has a slot for each of the 512 pages; so many of them are in use
 *
 * A slot is 0, one entry's address (| LARGE; those stand in slot 0, whatever else does), or an extent | 1: a cell of 64 bytes with
 * more of them. A page is shown by a bounded number of entries: one more, and all others go and come back from faults.
 */

#include "pgm/internal.h"

#define EXTENT BIT(0) /* in a slot: it is one; in block.shadows: it is a frame of slots */
#define LARGE BIT(1)
#define EXTENT_ENTRIES 6u
#define EXTENTS_MAX 64u

struct extent {
	struct extent *next;
	uint64_t depth; /* extents in the list from here on */
	uint64_t entry[EXTENT_ENTRIES];
};
_Static_assert(sizeof(struct extent) == SHADOW_CELL, "an extent is one cell");
_Static_assert(PAGES_PER_BLOCK << 1 < PAGE_SIZE, "the number of slots in use stands below the frame's address");

static struct extent *extent_of(uint64_t slot)
{
	return slot & EXTENT ? direct_pointer(hpa(slot & ~EXTENT)) : NULL;
}

static uint64_t value_of(const uint64_t *entry, bool large)
{
	return direct_address(entry).v | (large ? LARGE : 0);
}

static uint64_t *slots_of(const struct block *b)
{
	return b->shadows & EXTENT ? direct_pointer(hpa(b->shadows & BITS(51, 12))) : NULL;
}

static unsigned index_of(gpa_t where, bool large)
{
	return large ? 0 : where.v >> PAGE_SHIFT & (PAGES_PER_BLOCK - 1);
}

static enum status slot_add(struct pgm *pgm, uint64_t *slot, uint64_t value)
{
	struct extent *x = extent_of(*slot), *fresh;

	if (!*slot) {
		*slot = value;
		return OK;
	}
	for (unsigned i = 0; x && i < EXTENT_ENTRIES; i++)
		if (!x->entry[i]) {
			x->entry[i] = value;
			return OK;
		}
	if (x && x->depth == EXTENTS_MAX)
		return LIMIT;
	TRY(shadow_cell(pgm, (void **)&fresh));
	fresh->next = x;
	fresh->depth = x ? x->depth + 1 : 1;
	fresh->entry[0] = value;
	fresh->entry[1] = x ? 0 : *slot;
	*slot = direct_address(fresh).v | EXTENT;
	COUNT(pgm, shadow_aliases);
	return OK;
}

/* Puts the first extent's own into its place where that is empty, so that a list never begins with an empty one. */
static void slot_trim(struct pgm *pgm, uint64_t *slot)
{
	struct extent *x = extent_of(*slot);
	unsigned i = 0;

	while (x) {
		for (i = 0; i < EXTENT_ENTRIES && !x->entry[i]; i++)
			;
		if (i < EXTENT_ENTRIES)
			return;
		*slot = x->next ? direct_address(x->next).v | EXTENT : 0;
		shadow_cell_free(pgm, x);
		x = extent_of(*slot);
	}
}

static bool slot_remove(struct pgm *pgm, uint64_t *slot, uint64_t value)
{
	if (*slot == value) {
		*slot = 0;
		return true;
	}
	for (struct extent *x = extent_of(*slot); x; x = x->next)
		for (unsigned i = 0; i < EXTENT_ENTRIES; i++)
			if (x->entry[i] == value) {
				x->entry[i] = 0;
				slot_trim(pgm, slot);
				return true;
			}
	return false;
}

static void zap(uint64_t *value, struct gather *gather)
{
	if (*value && __atomic_exchange_n((uint64_t *)direct_pointer(hpa(*value & ~LARGE)), 0, __ATOMIC_ACQ_REL))
		gather_flush(gather);
	*value = 0;
}

/* All that stand in a slot, or only those of 2 MiB. */
static void slot_zap(struct pgm *pgm, uint64_t *slot, bool only_large, struct gather *gather)
{
	struct extent *x = extent_of(*slot);

	if (!x && (!only_large || (*slot & LARGE)))
		zap(slot, gather);
	for (; x; x = x->next)
		for (unsigned i = 0; i < EXTENT_ENTRIES; i++)
			if (!only_large || (x->entry[i] & LARGE))
				zap(&x->entry[i], gather);
	slot_trim(pgm, slot);
}

/* Slots came into use, or went; the frame goes with the last. */
static void count_slots(struct pgm *pgm, struct block *b, int by)
{
	b->shadows += (uint64_t)(int64_t)(by * 2);
	if (!(b->shadows & (BITS(11, 1)))) {
		shadow_frame_free(pgm, hpa(b->shadows & BITS(51, 12)));
		b->shadows = 0;
	}
}

/* From one entry in the descriptor to a frame of slots. */
static enum status make_slots(struct pgm *pgm, struct block *b)
{
	uint64_t *slots;

	if (b->shadows & EXTENT)
		return OK;
	TRY(shadow_frame(pgm, (void **)&slots));
	slots[0] = b->shadows;
	b->shadows = direct_address(slots).v | EXTENT | (slots[0] ? 2 : 0);
	return OK;
}

enum status reverse_add(struct pgm *pgm, struct block *b, gpa_t where, const uint64_t *entry, bool large,
			struct gather *gather)
{
	uint64_t value = value_of(entry, large), *slot;
	enum status status;
	bool was;

	COUNT(pgm, shadow_entries);
	if (large && !b->shadows) {
		b->shadows = value;
		return OK;
	}
	TRY(make_slots(pgm, b));
	slot = &slots_of(b)[index_of(where, large)];
	was = *slot != 0;
	status = slot_add(pgm, slot, value);
	if (status == LIMIT) {
		COUNT(pgm, shadow_overflows);
		slot_zap(pgm, slot, false, gather);
		status = slot_add(pgm, slot, value);
	}
	count_slots(pgm, b, status == OK && !was);
	return status;
}

bool reverse_remove(struct pgm *pgm, struct block *b, gpa_t where, const uint64_t *entry, bool large)
{
	uint64_t value = value_of(entry, large), *slots = slots_of(b), *slot;
	bool found = b->shadows == value;

	COUNT(pgm, shadow_removals);
	if (found)
		b->shadows = 0;
	if (!slots)
		return found;
	slot = &slots[index_of(where, large)];
	found = slot_remove(pgm, slot, value);
	if (found && !*slot)
		count_slots(pgm, b, -1);
	return found;
}

void reverse_drop_page_slow(struct pgm *pgm, struct block *b, gpa_t where, struct gather *gather)
{
	uint64_t *slots = slots_of(b);
	unsigned index = index_of(where, false);
	int gone;

	COUNT(pgm, shadow_page_drops);
	if (!slots) {
		zap(&b->shadows, gather);
		return;
	}
	gone = slots[0] != 0;
	slot_zap(pgm, &slots[0], index, gather);
	gone -= slots[0] != 0;
	if (index && slots[index]) {
		slot_zap(pgm, &slots[index], false, gather);
		gone++;
	}
	if (gone)
		count_slots(pgm, b, -gone);
}

void reverse_drop_block_slow(struct pgm *pgm, struct block *b, struct gather *gather)
{
	uint64_t *slots = slots_of(b);

	COUNT(pgm, shadow_block_drops);
	if (!slots) {
		zap(&b->shadows, gather);
		return;
	}
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		slot_zap(pgm, &slots[i], false, gather);
	b->shadows &= ~BITS(11, 1);
	count_slots(pgm, b, 0);
}

static void visit_slot(uint64_t slot, bool only_large, void (*visit)(void *, uint64_t *, bool), void *context)
{
	if (slot && !(slot & EXTENT) && (!only_large || (slot & LARGE)))
		visit(context, direct_pointer(hpa(slot & ~LARGE)), slot & LARGE);
	for (struct extent *x = extent_of(slot); x; x = x->next)
		for (unsigned i = 0; i < EXTENT_ENTRIES; i++)
			if (x->entry[i] && (!only_large || (x->entry[i] & LARGE)))
				visit(context, direct_pointer(hpa(x->entry[i] & ~LARGE)), x->entry[i] & LARGE);
}

void reverse_for_page(const struct block *b, gpa_t where, void (*visit)(void *context, uint64_t *entry, bool large),
		      void *context)
{
	uint64_t *slots = slots_of(b);
	unsigned index = index_of(where, false);

	visit_slot(slots ? slots[0] : b->shadows, index, visit, context);
	if (slots && index)
		visit_slot(slots[index], false, visit, context);
}
