/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry of counters. Each is a row of a constant table: path, unit, what it counts, where it stands. The
 * paths are memory.md's: /GMM/.. for the host; /PGM/.. for a machine, with the machine in front (`linux1/PGM/Page/..`),
 * /PGM/CPU<n>/.. and /EXIT/CPU<n>/<reason> for one of its vcpus. All are 64 bits wide and read without a lock:
 * numbers of one answer may be of slightly different moments.
 */
#pragma once

#include "monitor/text/output.h"

enum stats_source {
	/* The host's. */
	STATS_TOTALS,   /* struct frame_totals */
	STATS_MM,       /* struct mm_counters */
	STATS_PRESSURE, /* struct pressure_counters */
	STATS_MAP,      /* struct chunk_map_totals */
	/* A machine's. */
	STATS_USAGE,   /* struct pgm_usage */
	STATS_PGM,     /* struct pgm_counters */
	STATS_ACCOUNT, /* struct account */
	STATS_MACHINE, /* struct machine */
	/* A vcpu's. */
	STATS_VCPU, /* struct vcpu */
	STATS_EXIT, /* the same, of vcpu->exits[] and vcpu->exit_ticks[] */
	STATS_SOURCES
};

struct stats_row {
	enum stats_source source;
	size_t offset;
	const char *path, *unit, *description;
};

extern const struct stats_row stats_rows[];
extern const unsigned stats_row_count;

/*
 * After usage_count(). A row (name, value, unit, description) for each counter whose name matches: by parse_glob, or, without * and ?, by
 * holding the pattern as a part. Returns how many. out NULL: sets those of them to zero that count events; what is a number of
 * something now stays, and counts for none.
 */
unsigned stats_take(struct output *out, const char *pattern);
