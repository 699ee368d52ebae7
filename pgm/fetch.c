/* SPDX-License-Identifier: Apache-2.0 */
/* See fetch.h. In host mode secret-free nothing is remembered: guest memory is mapped for as long as it is being read. */
#include "pgm/fetch.h"

#include "pgm/internal.h"

/* An absent entry has neither, the mark of a device's page not both. */
#define FETCH (ACCESS_READ | ACCESS_EXECUTE)

void pgm_fetch_init(struct pgm_fetch *fetch, struct pgm *pgm)
{
	*fetch = (struct pgm_fetch){ .domain = &pgm->flush };
}

enum status pgm_fetch(struct pgm *pgm, struct pgm_fetch *fetch, gpa_t from, void *to, size_t length)
{
	struct block *b = block_find(pgm, from);
	unsigned level;
	uint64_t entry, generation;

	fetch->generation = 0;
	if (b && !secret_free) {
		/* Before the tables are looked at. One more than the domain's, so that 0 is nobody's. */
		generation = __atomic_load_n(&pgm->flush.generation, __ATOMIC_SEQ_CST) + 1;
		HOLD_BLOCK(b);
		entry = *slat_find(&pgm->slat, from, &level);
		if (pt_is_leaf(pgm->slat.format, level, entry) && (slat_rights(&pgm->slat, entry) & FETCH) == FETCH) {
			uint64_t offset = from.v & (BIT(pt_shift(pgm->slat.format, level)) - 1) & ~(PAGE_SIZE - 1);

			fetch->page = from.v;
			fetch->bytes = direct_pointer(hpa(slat_frame(&pgm->slat, level, entry).v + offset));
			fetch->generation = generation;
		}
	}
	return pgm_read_simple(pgm, from, to, length);
}
