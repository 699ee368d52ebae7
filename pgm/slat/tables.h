/* SPDX-License-Identifier: Apache-2.0 */
/* The second-level tables as the monitor looks at them, counts them, and throws them away. Any CPU, vcpus may run. */
#pragma once

#include "pgm/pgm.h"

struct pgm_table_step {
	hpa_t where; /* of the entry */
	uint64_t entry;
	uint8_t level;
	unsigned rights; /* ACCESS_*, of a leaf; 0: none there, or a table */
};

/* The way of one address through the tables, from the root to the leaf or to where nothing is. Returns how many steps. */
unsigned pgm_tables_walk(struct pgm *pgm, gpa_t where, struct pgm_table_step step[PT_MAX_LEVELS]);

struct pgm_tables_info {
	uint64_t tables[PT_MAX_LEVELS]; /* by level; the root's has one */
	uint64_t leaves[PT_MAX_LEVELS];
	uint64_t marks;         /* of leaves[0]: entries that stand for MMIO */
	uint64_t shadow_frames; /* composed tables and what is kept for them: nested guests, a closed A20 gate */
	uint64_t record_frames; /* page records and block descriptors */
};
/* In bounded steps, with a cursor that is 0 at first: BUSY: go on; OK: info is complete, of a running machine by and large. */
enum status pgm_tables_describe_step(struct pgm *pgm, uint64_t *cursor, struct pgm_tables_info *info) must_check;

/*
 * Drops all translations of touched memory, with their lowest tables: they come back from faults. In steps likewise; no CPU uses
 * afterwards what a step has dropped. No lock held.
 */
enum status pgm_tables_drop_step(struct pgm *pgm, uint64_t *cursor) must_check;

/* The part of pgm_check() that concerns the page at `where`. */
unsigned pgm_check_page(struct pgm *pgm, gpa_t where, void (*report)(void *context, const char *line), void *context);
