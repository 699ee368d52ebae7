/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables composed of two: what a guest hypervisor (L1) has made for its guest (L2), over what PGM has made for L1. A processor that
 * runs L2 uses these. L1's tables are walked as a processor would, with their rights, reserved bits, accessed and
 * dirty bits; what they have against an access is L1's to hear. What they allow is derived from the first tables, never more.
 *
 * Manual: Intel SDM vol. 3 sections 29.3.2 to 29.3.5; AMD APM vol. 2 section 15.25.
 */
#pragma once

#include "pgm/walk.h"

struct shadow_root;

/*
 * The root for these tables of L1's, the same for every vcpu that asks with the same. It is kept until it is put as often, and
 * cached after that. A processor that has never used them has nothing cached of them, whatever another has (Intel SDM vol. 3 section
 * 29.4): the first time that vcpu number `who`, below 64, asks, what others have derived is looked at again.
 * LIMIT: more are in use than there may be; NO_MEMORY, OVER_QUOTA. No lock of PGM's held.
 */
enum status shadow_root_get(struct pgm *pgm, const struct hv_nested_slat *slat, unsigned who,
			    struct shadow_root **out) must_check;
void shadow_root_put(struct pgm *pgm, struct shadow_root *root);
hpa_t shadow_root_address(const struct shadow_root *root);

enum shadow_verdict {
	SHADOW_RESUME,    /* the tables are right now, or as good: enter again */
	SHADOW_EMULATE,   /* L1's tables allow it, and a device, ROM or a handler answers at L1's address */
	SHADOW_NO_MEMORY, /* no frame or table to be had: park the vcpu */
	SHADOW_REFLECT,   /* L1 gets an exit: *fault, but for its linear address */
};
/* A fault of L2 at `where` with ACCESS_* bits; guest_table: of the processor's walk of L2's own tables. No lock held. */
enum shadow_verdict shadow_fault(struct pgm *pgm, struct shadow_root *root, gpa_t where, unsigned access,
				 bool guest_table, struct hv_nested_fault *fault);
/*
 * L2's address → L1's, by L1's tables alone. access: ACCESS_* and WALK_*. OUTER_FAULT: they refuse, *fault is filled but for the
 * linear address. BUSY: an entry changed again and again. NO_MEMORY, OVER_QUOTA: an accessed bit found no frame to be set in.
 * A table where L1 has no plain memory reads as all ones, as on a bus where nobody answers. OUTER_FAULT of slat->trapped, too. Without tables: *to = where.
 */
enum status shadow_walk(struct pgm *pgm, const struct hv_nested_slat *slat, gpa_t where, unsigned access, gpa_t *to,
			struct hv_nested_fault *fault) must_check;
/*
 * L1 has flushed: what was derived from its tables at slat->root (NULL: from any) and isn't as they are now goes. On return no other
 * vcpu uses it; the caller sees to what its own processor has cached. No lock held.
 */
void shadow_invalidate(struct pgm *pgm, const struct hv_nested_slat *slat);

/* ---- what the monitor asks; any CPU, no lock held ---- */
struct shadow_info {
	gpa_t root;                     /* L1's; of the gate's tables 0 */
	const struct pt_format *format; /* L1's; NULL: the tables of a closed A20 gate */
	uint32_t users;
	uint64_t tables, leaves[2]; /* of 4 KiB, of 2 MiB */
};
/* The root at `index`; false: none there. SHADOW_PLACES in all. */
#define SHADOW_PLACES 73u
bool shadow_describe(struct pgm *pgm, unsigned index, struct shadow_info *info);

/* ---- PGM's own ---- */

/* What a walk of L1's tables found. */
struct shadow_path {
	gpa_t target;
	uint8_t level, rights; /* of the leaf, or where the walk ended; ACCESS_* of all levels together */
	uint8_t needed;        /* ACCESS_* that the access amounts to: one to L2's own tables may count as a write */
	bool user;             /* all levels have U set, or there's no such bit */
	bool below;            /* it began at a table of level 0: the levels above have no step */
	uint8_t steps;
	struct walk_step step[PT_MAX_LEVELS]; /* top first; entries as they stand with accessed and dirty set */
};
/* Where a walk begins, and what the levels above grant. */
struct shadow_start {
	gpa_t table;
	uint8_t level, rights;
	bool user;
};
/* start: NULL: at the root. As shadow_walk(). */
enum status shadow_path(struct pgm *pgm, const struct hv_nested_slat *slat, const struct shadow_start *start,
			gpa_t where, unsigned access, struct shadow_path *path,
			struct hv_nested_fault *fault) must_check;

/*
 * One composed table. What L1's entries were when ours were made from them is kept beside: whether they still are so is what an
 * invalidation looks for. Without `source` all are parts of one leaf of L1's, which stands in an upper table's source.
 */
struct shadow_table {
	uint64_t *entry;             /* the processor's */
	uint64_t *source;            /* L1's entries; counts where there's something in entry[] */
	struct shadow_table **below; /* level > 0: the tables that entry[] leads to; NULL: a leaf, or nothing */
	gpa_t target;                /* without source: where that is in L1 ... */
	uint64_t hole;               /* ... less these bits */
	uint8_t level;
	/* Level 0 with source: what L1's levels above grant; and whether a walk may begin here, as a processor's may (fault.c). */
	uint8_t rights;
	bool user, begin;
	union {
		struct shadow_table *next; /* buried: one more */
		uint64_t settled; /* else: the last comparison that holds until L1's table is written to (drop.c) */
	};
	uint64_t live; /* bit n: there may be something in entries 8n to 8n + 7; atomic */
};
#define SHADOW_CELL 64u
#define SHADOW_CHUNK 8u
_Static_assert(sizeof(struct shadow_table) == SHADOW_CELL, "a table's descriptor is one cell");

/* In a leaf of 4 KiB of the first tables: as long as it isn't dirty, nobody has written to this page, a table of L1's. No format uses it. */
#define SHADOW_WATCHED BIT(52)
#define SHADOW_WATCHES 64u
#define SHADOW_ROOTS (SHADOW_PLACES - 1) /* of nested guests: one for each vcpu, and some */
#define SHADOW_KEPT 8u                   /* so many before one that nobody uses makes room for another */
#define A20_FRAMES 192u                  /* promised for the tables of a closed A20 gate */
#define SHADOW_LOCKS 16u

/*
 * Locks: a fill holds that of its 2 MiB of L2 (RANK_SHADOW), so that fills which don't meet share none. Who takes tables out that
 * reach further holds all of them. Under it comes a block's lock; an entry is made and zapped under that of the block it shows.
 */
struct shadow_root {
	struct hv_nested_slat key; /* !on: the tables of a closed A20 gate */
	struct shadow_table top;
	uint64_t invalidations; /* atomic: so often its tables were compared with L1's */
	uint64_t above; /* L1's entry that leads to the table that ours on top stands for, if it has five levels */
	bool loose;     /* its tables are of another geometry than ours */
	uint32_t users; /* vcpus that have got it */
	uint64_t used;  /* the pool's clock when it was last got */
	uint64_t known; /* vcpus that have had it since it has this key */
	struct spinlock link; /* RANK_BLOCK, never with a block: tables above level 0 are linked under it */
	struct {
		uint32_t held;
		uint32_t spare[15]; /* a cache line each */
	} lock[SHADOW_LOCKS];
};

struct shadow_pool {
	struct spinlock lock; /* RANK_RESERVE: the cells */
	void *free_cell;
	void *cell_frames;
	struct shadow_table *buried; /* bury.c; under lock */
	uint64_t frames, limit;      /* atomic: in use; there may be, changed under pgm->lock */
	uint64_t clock;
	uint64_t
		passes; /* comparisons with L1's tables; of these the last one that watched such a page, by page: under pgm->lock */
	uint64_t watched[SHADOW_WATCHES];
	struct shadow_root *a20, *root[SHADOW_ROOTS]; /* under pgm->lock; NULL: not made yet, and none behind it */
};

/* Of all roots the one at `index`, below SHADOW_PLACES. */
static inline struct shadow_root **shadow_place(struct shadow_pool *pool, unsigned index)
{
	return index < SHADOW_ROOTS ? &pool->root[index] : &pool->a20;
}

/* pool.c */
void shadow_init(struct pgm *pgm);
/* For both kinds: so many frames more may be used. NO_MEMORY. pgm->lock held. */
enum status shadow_promise(struct pgm *pgm, uint64_t frames) must_check;
void shadow_unpromise(struct pgm *pgm, uint64_t frames);
/* A cleared frame, or 64 bytes. LIMIT: of the pool; NO_MEMORY, OVER_QUOTA. */
enum status shadow_frame(struct pgm *pgm, void **out) must_check;
void shadow_frame_free(struct pgm *pgm, hpa_t frame); /* no processor ever saw it */
enum status shadow_cell(struct pgm *pgm, void **out) must_check;
void shadow_cell_free(struct pgm *pgm, void *cell);
enum status shadow_table_make(struct pgm *pgm, struct shadow_table *t, unsigned level, bool source) must_check;

/* roots.c */
enum status shadow_root_make(struct pgm *pgm, const struct hv_nested_slat *key, struct shadow_root **out) must_check;
/* Everything derived goes, in bounded steps: OK at the end, BUSY before; no vcpu runs. */
enum status shadow_clear_step(struct pgm *pgm) must_check;
/* The same, and all the rest. */
enum status shadow_destroy_step(struct pgm *pgm) must_check;
/* Makes room: the longest unused root's tables go, else those of `own` (NULL: of any). False: there was nothing to drop. No lock held. */
bool shadow_shrink(struct pgm *pgm, struct shadow_root *own);

/* drop.c */
void shadow_lock(struct shadow_root *root, gpa_t where);
void shadow_unlock(struct shadow_root *root, gpa_t where);
void shadow_lock_all(struct shadow_root *root);
void shadow_unlock_all(struct shadow_root *root);
/* bury.c */
/* A leaf goes, if there is one; locked, or buried. */
void shadow_drop_leaf(struct pgm *pgm, struct shadow_table *t, unsigned index, struct gather *gather);
/* Nothing leads to it any more, and a pending flush has been asked for since. */
void shadow_bury(struct pgm *pgm, struct shadow_table *t);
/* So many buried tables are taken apart, each of 512 entries at most. False: there was none. No lock of a root or block held. */
#define SHADOW_DIG 16u /* enough for the tables of one fault */
bool shadow_dig(struct pgm *pgm, unsigned tables);

/* L1's address that entry `index` of a leaf's table shows. */
gpa_t shadow_target(const struct shadow_table *t, unsigned index);
/* Entry `index` with all below it; locked as far as that reaches. */
void shadow_drop_entry(struct pgm *pgm, struct shadow_table *t, unsigned index, struct gather *gather);
/* All entries. All locks held. Returns whether there was any. */
bool shadow_drop_root(struct pgm *pgm, struct shadow_root *root, struct gather *gather);
/* Is what was derived from `was` still right when L1's entry is `now`? It may have gained accessed and dirty. */
bool shadow_still(const struct pt_format *format, uint64_t was, uint64_t now);
/* We have written this page: its leaf tells of that. The block is locked. */
void shadow_written(struct pgm *pgm, gpa_t where);
/* Drops what isn't as L1's tables are now. pgm->lock held. */
void shadow_resync(struct pgm *pgm, struct shadow_root *root);

/* The index in our tables of this level. */
static inline unsigned shadow_index(unsigned level, gpa_t where)
{
	return where.v >> (PAGE_SHIFT + 9 * level) & (PAGES_PER_BLOCK - 1);
}
/* The table on the way to `where` at this level, if it is there. Locked. */
struct shadow_table *shadow_table_at(struct shadow_root *root, gpa_t where, unsigned level);

/* fill.c */
/* Derives the entry for `where` from L1's path and the first tables. LIMIT: make room; CONFLICT: resynchronise; HANDLER: emulate; NOT_FOUND: the first tables lack it. */
enum status shadow_fill(struct pgm *pgm, struct shadow_root *root, gpa_t where, const struct shadow_path *path,
			unsigned access, uint64_t invalidations) must_check;
