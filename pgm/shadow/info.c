/* SPDX-License-Identifier: Apache-2.0 */
/* What the monitor shows of composed tables: each root's, counted while it stands still. */
#include "pgm/internal.h"

/* All locks held. */
static void count(const struct shadow_table *t, struct shadow_info *info)
{
	info->tables++;
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		if (t->below && t->below[i])
			count(t->below[i], info);
		else if (__atomic_load_n(&t->entry[i], __ATOMIC_RELAXED))
			info->leaves[t->level]++;
}

bool shadow_describe(struct pgm *pgm, unsigned index, struct shadow_info *info)
{
	HOLD(&pgm->lock);
	struct shadow_root *r = *shadow_place(&pgm->shadow, index);
	if (r) {
		*info = (struct shadow_info){ .root = r->key.root, .format = r->key.format, .users = r->users };
		shadow_lock_all(r);
		count(&r->top, info);
		shadow_unlock_all(r);
	}
	return r != NULL;
}
