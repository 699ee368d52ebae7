/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lock ranks: each CPU keeps the ranks that it holds, in the order of taking. Only a debug build
 * looks; there a lock out of order is a panic, because it's a deadlock that has not happened yet.
 */
#include "arch/x86_64/spinlock.h"

#include "arch/x86_64/cpu_local.h"
#include "arch/x86_64/log.h"

bool lock_rank_debug = QUIRE_DEBUG;

void lock_rank_enter(unsigned rank, const char *name)
{
	struct cpu *cpu = this_cpu();

	if (cpu->rank_depth >= RANK_DEPTH)
		panic("lock %s: %u locks held already", name, cpu->rank_depth);
	if (cpu->rank_depth && cpu->rank_held[cpu->rank_depth - 1] >= rank)
		panic("lock %s of rank %u taken while %s of rank %u is held", name, rank,
		      cpu->rank_name[cpu->rank_depth - 1], cpu->rank_held[cpu->rank_depth - 1]);
	cpu->rank_held[cpu->rank_depth] = (uint8_t)rank;
	cpu->rank_name[cpu->rank_depth++] = name;
}

/* Locks may be released in any order: the topmost entry of this rank goes. */
void lock_rank_leave(unsigned rank)
{
	struct cpu *cpu = this_cpu();
	unsigned i = cpu->rank_depth;

	while (i && cpu->rank_held[i - 1] != rank)
		i--;
	if (!i)
		panic("lock of rank %u released, but not held by this CPU", rank);
	for (; i < cpu->rank_depth; i++) {
		cpu->rank_held[i - 1] = cpu->rank_held[i];
		cpu->rank_name[i - 1] = cpu->rank_name[i];
	}
	cpu->rank_depth--;
}
