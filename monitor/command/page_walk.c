/* SPDX-License-Identifier: Apache-2.0 */
/* From range to range, and in each from page to page: see the header. */
#include "monitor/command/page_walk.h"

/* The range that holds `where`, or the next one above; false: none. */
static bool range_from(const struct page_walk *walk, struct pgm_range *found)
{
	struct pgm_range range;

	for (unsigned i = 0; pgm_range_get(walk->pgm, i, &range); i++) {
		if (range.base + range.size <= walk->where ||
		    (range.type != PAGE_RAM && !(walk->rom && range.type == PAGE_ROM)))
			continue;
		*found = range;
		return true;
	}
	return false;
}

bool page_walk_next(struct page_walk *walk, struct page_piece *piece)
{
	struct pgm_page_info info;
	struct pgm_range range;
	uint64_t end;

	if (!range_from(walk, &range))
		return false;
	piece->first = max_u64(walk->where, range.base);
	pgm_page_describe(walk->pgm, gpa(piece->first), &info);
	piece->state = page_get_state(info.record);
	piece->has_frame = page_has_frame(info.record);
	end = piece->first + PAGE_SIZE;
	if (info.block < BLOCK_LARGE)
		end = min_u64(range.base + range.size, align_down(piece->first, BLOCK_SIZE) + BLOCK_SIZE);
	piece->pages = (end - piece->first) >> PAGE_SHIFT;
	walk->where = end;
	return true;
}
