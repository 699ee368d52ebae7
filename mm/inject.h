/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Failures on demand. Every place where memory is allocated, and every flush, is a *site* and asks here first; a
 * test (or the monitor's pgmerror) arms a site, and it then fails as if memory were short. Off, a question costs one
 * load and one branch that is never taken.
 *
 * A flush can't be refused: it is *late*. A hit means that the processors were asked to leave the guest and
 * didn't answer in time; gather_finish() asks again, and frees nothing before one attempt has got through. After
 * INJECT_FLUSH_ATTEMPTS in a row the next one does, so that no plan makes a processor wait for ever.
 */
#pragma once

#include "lib/bits.h"
#include "mm/account.h"

enum mm_site {
	MM_SITE_CHUNK, /* a fresh chunk to be cut into frames */
	MM_SITE_FRAME, /* guest frames */
	MM_SITE_TABLE, /* table and record frames */
	MM_SITE_HEAP,  /* kernel heap */
	MM_SITE_LARGE, /* whole chunks for large pages */
	MM_SITE_HANDY, /* refills of a machine's reserve */
	MM_SITE_FLUSH, /* flushes of a machine's translations */
	MM_SITES
};

#define INJECT_FLUSH_ATTEMPTS 16u

/*
 * The first `after` passages go through; of those that follow one in `every` fails (0 and 1: each one), the
 * first of each `every` without a seed, at random with one (the same ones for the same seed); until `count` have failed, or
 * for ever when count is 0. owner: only passages for this machine's account are looked at; OWNER_HOST: all of them.
 */
struct inject_plan {
	uint64_t after, every, count, seed;
	owner_t owner;
};

struct inject_state {
	struct inject_plan plan;
	bool armed;      /* false also when `count` have failed */
	uint64_t passes; /* since it was armed, while it was */
	uint64_t hits;   /* since it was armed */
	uint64_t total;  /* hits ever */
};

/* Any CPU, any time. Arming an armed site begins anew. */
void inject_set(enum mm_site site, const struct inject_plan *plan);
void inject_disarm(enum mm_site site);
void inject_describe(enum mm_site site, struct inject_state *state);
/* A machine is gone: what was armed for it alone is off, for its number may be another's soon. */
void inject_owner_gone(owner_t owner);
/* "chunk" ...; NULL past the last. */
const char *inject_site_name(enum mm_site site);

/* For tests: as above, but every = 0 lets just one fail. */
void inject_arm(enum mm_site site, uint64_t after, uint64_t every, uint64_t seed);
/* How often this site failed on demand since it was armed. */
uint64_t inject_count(enum mm_site site);

/* One bit per armed site; atomic. */
extern uint32_t inject_armed;
bool inject_ask(enum mm_site site, owner_t owner);

/* owner: whose allocation it is. */
static inline bool mm_fault_injected(enum mm_site site, owner_t owner)
{
	return unlikely(__atomic_load_n(&inject_armed, __ATOMIC_RELAXED) & (1u << site)) && inject_ask(site, owner);
}
