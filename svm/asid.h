/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address space identifiers of one CPU. ASID 0 is the host's; guests get 1..count-1 in order. When they run out, a new
 * generation begins: all that were given out before are void, and the one who starts it flushes the whole TLB on entry.
 * A vcpu that gets a fresh ASID needs no other flush. AMD APM vol. 2 section 15.16.
 *
 * Pure; used by the CPU that owns the space, so nothing is locked.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct asid_space {
	uint64_t generation; /* CPU number in the low bits, so that no two CPUs ever have the same */
	uint32_t next, count;
};

struct asid {
	uint64_t generation; /* of the space it was taken from; 0: none */
	uint32_t number;
};

#define ASID_CPU_BITS 16

/* The next one taken begins a new generation. */
static inline void asid_run_out(struct asid_space *space)
{
	space->next = space->count;
}

/*
 * count: ASIDs of the processor, the host's included; at least 2. The first one taken flushes all. space is zero, or
 * was open before: then no ASID of that time is valid any more. Generation 0 never exists, so that "none" is not valid.
 */
static inline void asid_open(struct asid_space *space, unsigned cpu, uint32_t count)
{
	space->generation = (space->generation ? space->generation : cpu) + (UINT64_C(1) << ASID_CPU_BITS);
	space->count = count;
	asid_run_out(space);
}

static inline bool asid_valid(const struct asid_space *space, const struct asid *asid)
{
	return asid->generation == space->generation;
}

/* Gives a fresh one; true: the whole TLB must be flushed with the next entry. */
static inline bool asid_take(struct asid_space *space, struct asid *asid)
{
	bool flush = space->next >= space->count;

	if (flush) {
		space->generation += UINT64_C(1) << ASID_CPU_BITS;
		space->next = 1;
	}
	asid->generation = space->generation;
	asid->number = space->next++;
	return flush;
}
