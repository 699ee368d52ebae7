/* SPDX-License-Identifier: Apache-2.0 */
/* Where each host CPU counts (see the header), and a machine's sums over its vcpus. */
#include "pgm/internal.h"

#define WORDS (sizeof(struct pgm_counters) / sizeof(uint64_t))

struct pgm_vcpu_counters pgm_uncounted[MAX_CPUS];
struct pgm_vcpu_counters *pgm_counting[MAX_CPUS];

void pgm_counters_sum(const struct pgm *pgm, struct pgm_counters *sum)
{
	*sum = (struct pgm_counters){ 0 };
	for (const struct pgm_local *l = &pgm->common; l; l = local_next(l))
		for (unsigned i = 0; i < WORDS; i++)
			((uint64_t *)sum)[i] += __atomic_load_n((const uint64_t *)&l->counters + i, __ATOMIC_ACQUIRE);
}

void pgm_counters_adjust(struct pgm *pgm, const struct pgm_counters *was, const struct pgm_counters *now)
{
	for (unsigned i = 0; i < WORDS; i++)
		__atomic_fetch_add((uint64_t *)&pgm->common.counters + i,
				   ((const uint64_t *)now)[i] - ((const uint64_t *)was)[i], __ATOMIC_RELAXED);
}
