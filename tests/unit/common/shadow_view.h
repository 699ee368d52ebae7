/* SPDX-License-Identifier: Apache-2.0 */
/* Composed tables, to look things up in as in the first ones. */
#pragma once

#include "pgm/internal.h"

__attribute__((unused)) static struct slat *shadow_view(struct pgm *pgm, const struct shadow_root *root)
{
	static struct slat view;

	view = pgm->slat;
	view.root = shadow_root_address(root);
	return &view;
}

__attribute__((unused)) static uint64_t a20_entry(struct pgm *pgm, gpa_t where)
{
	unsigned level;
	uint64_t entry = pgm->shadow.a20 ? *slat_find(shadow_view(pgm, pgm->shadow.a20), where, &level) : 0;

	return entry && !level ? entry : 0;
}
