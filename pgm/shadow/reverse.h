/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reverse map: which composed entries (shadow/shadow.h) show a page. Who takes a translation of the first tables away, or narrows
 * it, says so here, under the block's lock and with the same gather; nothing is done, and nothing looked at but the block's
 * descriptor, where no guest hypervisor's guest has been.
 */
#pragma once

#include "mm/gather.h"
#include "pgm/page/page.h"

struct pgm;

/*
 * The page at `where`, the whole block: no composed entry shows it any more, after the gather's flush. They come back from faults.
 * The block is locked.
 */
void reverse_drop_page_slow(struct pgm *pgm, struct block *b, gpa_t where, struct gather *gather);
void reverse_drop_block_slow(struct pgm *pgm, struct block *b, struct gather *gather);

static inline void reverse_drop_page(struct pgm *pgm, struct block *b, gpa_t where, struct gather *gather)
{
	if (__builtin_expect(b->shadows != 0, 0))
		reverse_drop_page_slow(pgm, b, where, gather);
}

static inline void reverse_drop_block(struct pgm *pgm, struct block *b, struct gather *gather)
{
	if (__builtin_expect(b->shadows != 0, 0))
		reverse_drop_block_slow(pgm, b, gather);
}

/* ---- shadow/'s own; the block is locked ---- */
/* `entry` will show the page at `where`; large: the whole block. LIMIT, NO_MEMORY, OVER_QUOTA: it may not. */
enum status reverse_add(struct pgm *pgm, struct block *b, gpa_t where, const uint64_t *entry, bool large,
			struct gather *gather) must_check;
/* It doesn't any more. False: it wasn't known to. */
bool reverse_remove(struct pgm *pgm, struct block *b, gpa_t where, const uint64_t *entry, bool large);
/* Calls visit for each entry that shows the page at `where`, and tells whether it shows the whole block. */
void reverse_for_page(const struct block *b, gpa_t where, void (*visit)(void *context, uint64_t *entry, bool large),
		      void *context);
