/* SPDX-License-Identifier: Apache-2.0 */
/* A set of host CPUs, by number. Plain data; whoever shares one sees to its order. */
#pragma once

#include "lib/bits.h"

#define CPU_SET_SIZE 256u

struct cpu_set {
	uint64_t word[CPU_SET_SIZE / 64];
};

static inline bool cpu_set_has(const struct cpu_set *set, unsigned cpu)
{
	return cpu < CPU_SET_SIZE && (set->word[cpu / 64] >> cpu % 64 & 1);
}

/* first..last, both below CPU_SET_SIZE. */
static inline void cpu_set_add(struct cpu_set *set, unsigned first, unsigned last)
{
	for (unsigned cpu = first; cpu <= last; cpu++)
		set->word[cpu / 64] |= BIT(cpu % 64);
}

static inline bool cpu_set_is_full(const struct cpu_set *set)
{
	_Static_assert(CPU_SET_SIZE == 256, "four words");
	return !~(set->word[0] & set->word[1] & set->word[2] & set->word[3]);
}
