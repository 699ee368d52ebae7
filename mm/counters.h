/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events that mm counts, for the statistics tree /GMM/. Counted on slow paths only; what can
 * be derived from the state (pages by kind, chunks by kind) stands in struct frame_totals.
 */
#pragma once

#include <stdint.h>

struct mm_counters {
	uint64_t chunks_split;     /* free chunks cut into frames */
	uint64_t chunks_returned;  /* chunks that came whole again */
	uint64_t chunks_emptied;   /* of these, by compaction */
	uint64_t blocks_given;     /* whole chunks handed out for large pages */
	uint64_t blocks_split;     /* of these, cut into pages later */
	uint64_t blocks_refused;   /* no whole chunk was free */
	uint64_t frames_refused;   /* no frame was free */
	uint64_t frames_mixed;     /* guest frames taken out of another machine's chunk */
	uint64_t frames_cleared;   /* cleared when they were handed out */
	uint64_t frames_prezeroed; /* cleared by idle CPUs */
	uint64_t gather_flushes, gather_frees;
	uint64_t gather_late; /* flushes that had to be asked for again */
	uint64_t admissions, refusals;
	uint64_t direct_entered,
		direct_left; /* mapping = secret-free: chunks that became the kernel's, or ceased to be */
};

extern struct mm_counters mm_counters;

static inline void mm_count(uint64_t *counter, uint64_t by)
{
	__atomic_fetch_add(counter, by, __ATOMIC_RELAXED);
}
