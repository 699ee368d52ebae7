/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mapper: writes second-level tables of any format. The tables are a cache of the page
 * records; any part may be dropped at any time and is rebuilt from faults.
 *
 * Locking: what lies below a level-1 entry (its 2 MiB) is changed only under that block's lock.
 * Upper tables are installed by compare-and-exchange and stay until the machine ends. A removed
 * or replaced translation is flushed, and a removed table freed, by the caller's gather.
 */
#pragma once

#include "arch/x86_64/pt_format.h"
#include "mm/gather.h"
#include "mm/map.h"

struct slat {
	const struct pt_format *format;
	struct account *account;
	hpa_t root;
	uint64_t leaf_extra;  /* atomic: accessed and dirty, set beforehand where nobody tracks them */
	uint8_t large_access; /* ACCESS_*: no leaf above level 0 grants more, whatever it is made with */
	/*
	 * Set while someone reads the dirty bits of the leaves: told of each frame whose leaf, with that bit set, is
	 * replaced or removed. Atomic; changed like the dirty log's mode.
	 */
	void (*leaving)(void *context, hpa_t frame);
	void *leaving_context;
	uint64_t tables
		__attribute__((aligned(64))); /* atomic: in use, the root included; apart from what every fault reads */
};

enum status slat_create(struct slat *slat, const struct pt_format *format, struct account *account) must_check;
/* At most so many tables go in one step; it reads their entries, no more. */
#define SLAT_STEP_TABLES 128u
/* All tables back, in bounded steps: call until it is OK (BUSY: more to do). No vcpu may use them any more. */
enum status slat_destroy_step(struct slat *slat) must_check;
/*
 * Everything below the root goes, in bounded steps, the root stays: OK at the end, BUSY before. No vcpu may run, nobody else may
 * be in the tables, until then.
 */
enum status slat_clear_step(struct slat *slat, struct gather *gather) must_check;
/* Gives back a table that was taken out, and all below it. */
void slat_free_tables(struct slat *slat, hpa_t table, unsigned level, struct gather *gather);

/* The value of a leaf. rights: ACCESS_*, of which a large one gets no more than large_access; type: MEMORY_TYPE_*. */
static inline uint64_t slat_leaf(const struct slat *slat, unsigned level, hpa_t frame, unsigned rights, unsigned type)
{
	const struct pt_format *f = slat->format;

	if (level)
		rights &= slat->large_access;
	if (!rights)
		return 0;
	return frame.v | f->rights_bits[rights] | f->type_bits[type] |
	       __atomic_load_n(&slat->leaf_extra, __ATOMIC_RELAXED) | (level ? f->large : 0);
}

/*
 * The entry that covers `where` at `level` (0, 1 or 2), making the tables above it. CONFLICT: a large leaf stands above.
 * NO_MEMORY, OVER_QUOTA. The level-1 entry's table is made too when level is 0.
 */
enum status slat_entry(struct slat *slat, gpa_t where, unsigned level, uint64_t **entry) must_check;
/* The lowest entry that exists for `where`, and its level. Never NULL. */
uint64_t *slat_find(const struct slat *slat, gpa_t where, unsigned *level);

/* The leaf of `where` in the table of level 0 that this entry of level 1 points to. */
static inline uint64_t *slat_in_table(const struct slat *slat, uint64_t entry, gpa_t where)
{
	return (uint64_t *)direct_pointer(hpa(entry & slat->format->address)) +
	       (where.v >> PAGE_SHIFT & (PAGES_PER_BLOCK - 1));
}

/*
 * What follows with a `slot` is done from the block's own level-1 entry on, without a walk of the levels above, if the caller
 * knows it: struct block keeps it. NULL: it is looked for, and a 1 GiB leaf above it too. The block is locked.
 */
static inline uint64_t *slat_find_in(const struct slat *slat, uint64_t *slot, gpa_t where, unsigned *level)
{
	const struct pt_format *f = slat->format;
	uint64_t value;

	if (unlikely(!slot))
		return slat_find(slat, where, level);
	value = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
	*level = !(value & f->present) || (value & f->large);
	return *level ? slot : slat_in_table(slat, value, where);
}
/* Under a slot that is empty: an empty table, and what the slot holds then. The block is locked. */
enum status slat_make_table(struct slat *slat, uint64_t *slot, uint64_t *entry) must_check;

/* The 1 GiB leaf around `where`, if there is one, and its slot. */
bool slat_huge_leaf(const struct slat *slat, gpa_t where, uint64_t **slot, uint64_t *leaf);
/* split.c: a 1 GiB leaf where nothing is mapped yet. CONFLICT: something is. NO_MEMORY, OVER_QUOTA. */
enum status slat_map_huge(struct slat *slat, gpa_t where, uint64_t leaf) must_check;
/* The 1 GiB leaf around `where`, if there is one → 512 leaves of 2 MiB that translate exactly as it did. NO_MEMORY leaves it. */
enum status slat_split_huge(struct slat *slat, gpa_t where, struct gather *gather) must_check;
/* Gives back a table that was allocated but never linked. */
void slat_free_unused(struct slat *slat, hpa_t table);

/* Puts a leaf in; asks for a flush when a present translation goes or loses a right. It never changes its frame: see gather.h. */
void slat_set(const struct slat *slat, uint64_t *entry, uint64_t value, struct gather *gather);
/* Removes what is mapped at one 4 KiB page (a 2 MiB leaf around it goes whole). */
void slat_drop_page(struct slat *slat, uint64_t *slot, gpa_t where, struct gather *gather);
/* Removes all that is mapped in the 2 MiB block, its level-0 table included; a 1 GiB leaf around it goes whole. */
void slat_drop_block(struct slat *slat, uint64_t *slot, gpa_t where, struct gather *gather);
/* 2 MiB leaf → table of 512 leaves that translate exactly as it did, and have the bits `extra`. NO_MEMORY leaves it. No leaf there: OK. */
enum status slat_split_block(struct slat *slat, gpa_t where, uint64_t extra, struct gather *gather) must_check;
/*
 * The same in two halves, for a caller that has more to allocate: prepare splits a 1 GiB leaf above and allocates (a table,
 * or HPA_NONE when there's no 2 MiB leaf to split); commit can't fail. The block stays locked in between.
 * A table that isn't committed goes to slat_free_unused().
 */
enum status slat_split_prepare(struct slat *slat, gpa_t where, struct gather *gather, hpa_t *table) must_check;
void slat_split_commit(struct slat *slat, gpa_t where, hpa_t table, uint64_t extra, struct gather *gather);

/* The entry of level 1 if its table is there, or NULL. */
uint64_t *slat_block_entry(const struct slat *slat, gpa_t where);
/* The 512 leaves of a 2 MiB block; NULL: there's no table of them. */
uint64_t *slat_table(const struct slat *slat, uint64_t *slot, gpa_t where);

/* What a present leaf grants, as ACCESS_*, and where it points. */
unsigned slat_entry_rights(const struct pt_format *format, uint64_t entry);
static inline unsigned slat_rights(const struct slat *slat, uint64_t entry)
{
	return slat_entry_rights(slat->format, entry);
}
static inline bool slat_present(const struct slat *slat, uint64_t entry)
{
	return (entry & slat->format->present) != 0;
}
hpa_t slat_frame(const struct slat *slat, unsigned level, uint64_t entry);
