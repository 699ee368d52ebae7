/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocation failures on demand. Every allocation site of mm asks here first; a test (or
 * the monitor's `fault` command) arms a site and the site then fails as if memory were short.
 * Off, a question costs one load and one branch that is never taken.
 */
#ifndef MM_INJECT_H
#define MM_INJECT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/bits.h"

enum mm_site {
	MM_SITE_CHUNK, /* a fresh chunk to be cut into frames */
	MM_SITE_FRAME, /* guest frames */
	MM_SITE_TABLE, /* table and record frames */
	MM_SITE_HEAP,  /* kernel heap */
	MM_SITE_LARGE, /* whole chunks for large pages */
	MM_SITE_HANDY, /* refills of a machine's reserve */
	MM_SITES
};

/* One bit per armed site; atomic. */
extern uint32_t inject_armed;

/*
 * The first `after` questions at this site pass. Then every `every`-th fails (1: all of them; 0: just one).
 * With a seed other than 0 the failing ones are chosen at random, one in `every` on average, the same ones
 * for the same seed. Any CPU, any time.
 */
void inject_arm(enum mm_site site, uint64_t after, uint64_t every, uint64_t seed);
void inject_disarm(enum mm_site site);
/* How often this site failed on demand since it was armed. */
uint64_t inject_count(enum mm_site site);

bool inject_ask(enum mm_site site);

static inline bool mm_fault_injected(enum mm_site site)
{
	return unlikely(__atomic_load_n(&inject_armed, __ATOMIC_RELAXED) & (1u << site)) && inject_ask(site);
}

#endif
