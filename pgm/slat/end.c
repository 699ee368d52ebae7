/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Second-level tables that go: a part that was taken out, all below the root at a reset, all of them at the end. The last two
 * may be as large as the machine, so they go in bounded steps; each begins at the root again and finds what is left, for
 * what is freed is unlinked first.
 */
#include "pgm/slat/slat.h"

void slat_free_tables(struct slat *slat, hpa_t frame, unsigned level, struct gather *gather)
{
	const struct pt_format *f = slat->format;
	uint64_t *table = direct_pointer(frame);

	for (unsigned i = 0; level && i < PAGES_PER_BLOCK; i++)
		if ((table[i] & f->present) && !pt_is_leaf(f, level, table[i]))
			slat_free_tables(slat, hpa(table[i] & f->address), level - 1, gather);
	gather_frame(gather, frame, ACCOUNT_TABLE);
	__atomic_fetch_sub(&slat->tables, 1, __ATOMIC_RELAXED);
}

/* Frees what is below `table`, as long as *left lasts. True: nothing is left there. */
static bool clear_below(struct slat *slat, uint64_t *table, unsigned level, unsigned *left, struct gather *gather)
{
	const struct pt_format *f = slat->format;

	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		if ((table[i] & f->present) && !pt_is_leaf(f, level, table[i])) {
			if (level > 1 &&
			    !clear_below(slat, direct_pointer(hpa(table[i] & f->address)), level - 1, left, gather))
				return false;
			if (!*left)
				return false;
			--*left;
			gather_frame(gather, hpa(table[i] & f->address), ACCOUNT_TABLE);
			__atomic_fetch_sub(&slat->tables, 1, __ATOMIC_RELAXED);
		}
		if (table[i])
			__atomic_store_n(&table[i], 0, __ATOMIC_RELAXED);
	}
	return true;
}

enum status slat_clear_step(struct slat *slat, struct gather *gather)
{
	unsigned left = SLAT_STEP_TABLES;

	return clear_below(slat, direct_pointer(slat->root), slat->format->levels - 1u, &left, gather) ? OK : BUSY;
}

enum status slat_destroy_step(struct slat *slat)
{
	enum status status;

	if (!slat->tables)
		return OK;
	GATHER(gather, NULL, slat->account);
	status = slat_clear_step(slat, &gather);
	if (status == OK) {
		gather_frame(&gather, slat->root, ACCOUNT_TABLE);
		slat->root = HPA_NONE;
		slat->tables = 0;
	}
	return status;
}
