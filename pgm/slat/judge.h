/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processor makes of second-level entries: fine, a violation, or a misconfiguration (on AMD a fault by
 * reserved bits). By the format's data alone; and a way for tests to see whether the processor agrees, by changing one entry of
 * a machine's own tables for a moment.
 *
 * Manual: Intel SDM vol. 3 sections 29.3.2, 29.3.3; AMD APM vol. 2 sections 15.25.5, 15.25.6, 5.3.
 */
#pragma once

#include "pgm/pgm.h"

enum slat_verdict { SLAT_FINE, SLAT_VIOLATION, SLAT_MISCONFIGURED };

/* What depends on the processor. */
struct slat_limits {
	uint8_t physical_bits; /* MAXPHYADDR */
	bool execute_only, leaf_2m, leaf_1g;
	uint64_t reserved; /* further bits that must be zero in each entry */
};

/* Of a present entry of this level. */
bool slat_misconfigured(const struct pt_format *format, const struct slat_limits *limits, unsigned level,
			uint64_t entry);

/* path[level]: the entries that lead to a page, as far down as the walk goes. access: ACCESS_*. */
enum slat_verdict slat_judge(const struct pt_format *format, const struct slat_limits *limits, const uint64_t *path,
			     unsigned access);

/* The same of what stands in a machine's tables for `where` now. */
enum slat_verdict pgm_slat_judge(const struct pgm *pgm, const struct slat_limits *limits, gpa_t where, unsigned access);

/* An entry that was changed. */
struct slat_patch {
	uint64_t *slot, old, value;
};

/*
 * Replaces the `mask` bits of the entry of this level for `where` by those of `bits`, until pgm_slat_restore(). For tests, while
 * nobody else looks at these tables. It never leads to memory that wasn't mapped there before, nor with a right that wasn't
 * granted before: DENIED for address bits that the processor honours, for more rights in a leaf, and for the size bit unless
 * the entry is surely invalid with it. NOT_FOUND: no such entry, or an absent one. The caller flushes, both times.
 */
enum status pgm_slat_patch(struct pgm *pgm, const struct slat_limits *limits, gpa_t where, unsigned level,
			   uint64_t mask, uint64_t bits, struct slat_patch *patch) must_check;
/* What the processor has marked accessed or dirty meanwhile stays; so does what somebody else has put there. */
void pgm_slat_restore(struct pgm *pgm, const struct slat_patch *patch);
