/* SPDX-License-Identifier: Apache-2.0 */
/* Compaction as the page manager and the idle worker see it: see compact.c. No lock may be held. */
#pragma once

#include "mm/frame.h"

/* A machine's frame and the page that it is behind; PAGE_UNASSIGNED: none yet, it stands in the reserve. */
struct frame_place {
	hpa_t frame;
	gpa_t page;
};

/*
 * The next split chunk from *cursor on, 0 at first, with at most so many frames in use; a bounded number is looked at. BUSY: none among
 * these; NOT_FOUND: that was the last, and the cursor is 0 again.
 */
enum status compact_find(uint64_t *cursor, unsigned most, hpa_t *block) must_check;
/* Up to `most` frames of this machine in the chunk, from *index on, which moves; of pages in one 2 MiB block. 0: that was all. */
unsigned compact_frames(const struct account *account, hpa_t block, unsigned *index, struct frame_place *places,
			unsigned most);
/* Are there so many free frames in other partly used chunks of this machine? Looks at a bounded number. */
bool compact_room(const struct account *account, hpa_t block, unsigned pages);
/* At most so many of its frames are in use still? Then no others come. */
bool compact_close(hpa_t block, unsigned used);
/* It has come empty, or is as any other again. True: the first. */
bool compact_end(hpa_t block);
/* guest.c: a frame for this page with anything in it, out of a chunk in use; charged. NO_MEMORY: only a fresh chunk has one; OVER_QUOTA. */
enum status frame_alloc_near(struct account *account, gpa_t page, hpa_t *frame) must_check;
