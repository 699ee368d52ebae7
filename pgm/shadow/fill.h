/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One fill of composed tables (fill.c), and the leaves that it puts in (leaf.c): what both share. Nobody else includes this.
 */
#pragma once

#include "pgm/internal.h"

#define GROUP FAULT_AROUND

struct fill {
	struct pgm *pgm;
	struct shadow_root *root;
	const struct pt_format *format; /* of ours, and L1's but for what it wasn't offered */
	gpa_t where;
	const struct shadow_path *path;
	unsigned access;
	struct block *block;
	struct gather gather;
	uint64_t near[GROUP]; /* L1's entries around the leaf of level 0 */
	bool around;          /* nothing stands near it yet; near[] is read, if L1 has a table there */
};

/* L1's entry of this level; NULL: its leaf is above, or there are no tables of its. */
static inline const struct walk_step *step_of(const struct shadow_path *p, unsigned level)
{
	return p->steps && level >= p->level ? &p->step[p->step[0].level - level] : NULL;
}

/* What one page of L2 is on L1's side. */
struct side {
	gpa_t target;
	uint64_t entry; /* L1's leaf */
	unsigned level;
};

/*
 * The entry, with all that must be so for it. 0: nothing, or less than `access`. *level: of the leaf. The block is locked.
 */
uint64_t fill_derive(struct fill *f, const struct side *l1, unsigned access, unsigned *level) must_check;
/* Nothing, or the same with fewer or more rights, stands there. As reverse_add(). The block is locked. */
enum status fill_install(struct fill *f, struct shadow_table *t, unsigned index, gpa_t target,
			 uint64_t leaf) must_check;
/* The leaves around `index` that are there for the asking. The block is locked. */
void fill_around(struct fill *f, struct shadow_table *t, unsigned index);
