/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the manuals say of one second-level entry, put down plainly (Intel SDM vol. 3 sections 29.3.2 and 29.3.3.1; AMD APM vol. 2
 * sections 5.3.3 and 15.25.5). Shares nothing with the kernel but the names.
 */
#ifndef TESTS_SLAT_REFERENCE_H
#define TESTS_SLAT_REFERENCE_H

#include "pgm/slat/judge.h"

static bool any(uint64_t entry, unsigned high, unsigned low)
{
	for (unsigned i = low; i <= high; i++)
		if (entry >> i & 1)
			return true;
	return false;
}

/* The walk ends here, or goes on, or an exit comes of it. */
enum step { STEP_LEAF, STEP_TABLE, STEP_VIOLATION, STEP_MISCONFIGURED };

static enum step ept_step(const struct slat_limits *l, unsigned level, uint64_t e)
{
	unsigned rwx = e & 7, type = e >> 3 & 7;
	bool leaf =
		level == 0 || (level == 1 && l->leaf_2m && any(e, 7, 7)) || (level == 2 && l->leaf_1g && any(e, 7, 7));

	if (rwx == 0)
		return STEP_VIOLATION;
	if (rwx == 2 || rwx == 6 || (rwx == 4 && !l->execute_only))
		return STEP_MISCONFIGURED;
	if (any(e, 51, l->physical_bits))
		return STEP_MISCONFIGURED;
	if (!leaf)
		return any(e, 7, 3) ? STEP_MISCONFIGURED : STEP_TABLE;
	if (type == 2 || type == 3 || type == 7)
		return STEP_MISCONFIGURED;
	if ((level == 1 && any(e, 20, 12)) || (level == 2 && any(e, 29, 12)))
		return STEP_MISCONFIGURED;
	return STEP_LEAF;
}

static enum step npt_step(const struct slat_limits *l, unsigned level, uint64_t e)
{
	bool leaf =
		level == 0 || (level == 1 && l->leaf_2m && any(e, 7, 7)) || (level == 2 && l->leaf_1g && any(e, 7, 7));

	if (!any(e, 0, 0))
		return STEP_VIOLATION;
	if (any(e, 51, l->physical_bits))
		return STEP_MISCONFIGURED;
	if (!leaf)
		return any(e, 7, 7) || (level >= 2 && any(e, 8, 8)) ? STEP_MISCONFIGURED : STEP_TABLE;
	if ((level == 1 && any(e, 20, 13)) || (level == 2 && any(e, 29, 13)))
		return STEP_MISCONFIGURED;
	return STEP_LEAF;
}

#endif
