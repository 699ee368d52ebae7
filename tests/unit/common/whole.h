/* SPDX-License-Identifier: Apache-2.0 */
/* What the monitor does in steps, from beginning to end: a test has nobody else to let run. */
#pragma once

#include "pgm/pgm.h"
#include "pgm/slat/tables.h"

static inline unsigned pgm_check(struct pgm *pgm, void (*report)(void *context, const char *line), void *context)
{
	struct pgm_check check = { .report = report, .context = context };

	while (pgm_check_step(pgm, &check) == BUSY)
		;
	return check.findings;
}

static inline void pgm_usage(struct pgm *pgm, struct pgm_usage *usage)
{
	uint64_t cursor = 0;

	while (pgm_usage_step(pgm, &cursor, usage) == BUSY)
		;
}

static inline void pgm_tables_describe(struct pgm *pgm, struct pgm_tables_info *info)
{
	uint64_t cursor = 0;

	while (pgm_tables_describe_step(pgm, &cursor, info) == BUSY)
		;
}

static inline void pgm_tables_drop(struct pgm *pgm)
{
	uint64_t cursor = 0;

	while (pgm_tables_drop_step(pgm, &cursor) == BUSY)
		;
}
