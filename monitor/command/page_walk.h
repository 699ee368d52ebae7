/* SPDX-License-Identifier: Apache-2.0 */
/* All pages of a machine's RAM and ROM in the order of their addresses, for commands that go through them in steps. Boot CPU only. */
#pragma once

#include "pgm/pgm.h"

struct page_walk {
	struct pgm *pgm;
	bool rom;       /* ROM as well */
	uint64_t where; /* where it goes on */
};

/* One page, or several without a frame and of one state; those of a block that nothing touched come together. */
struct page_piece {
	uint64_t first, pages;
	enum page_state state;
	bool has_frame;
};

/* The next piece; false: that was all. What lies between pieces is no memory. Ranges and states may change meanwhile. */
bool page_walk_next(struct page_walk *walk, struct page_piece *piece);
