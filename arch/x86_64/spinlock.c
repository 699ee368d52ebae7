/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lock ranks: each CPU keeps the set of ranks that it holds; one lock of each at most, so a bit apiece says all. Only
 * a debug build looks; there a lock out of order is a panic, because it's a deadlock that has not happened yet. This
 * stands on every exit's path, so it is a test and a bit, and all words are found by the panic.
 */

#include "arch/x86_64/cpu_local.h"
#include "arch/x86_64/log.h"

bool lock_rank_switch = QUIRE_DEBUG;

static _Noreturn void out_of_order(const struct cpu *cpu, unsigned rank, const char *name)
{
	unsigned held = 31u - (unsigned)__builtin_clz(cpu->ranks_held);

	panic("lock %s of rank %u taken while %s of rank %u is held", name, rank, cpu->rank_name[held], held);
}

void lock_rank_enter(unsigned rank, const char *name)
{
	struct cpu *cpu = this_cpu();

	if (unlikely(cpu->ranks_held >> rank))
		out_of_order(cpu, rank, name);
	cpu->ranks_held |= 1u << rank;
	cpu->rank_name[rank] = name;
}

/* Locks may be released in any order. */
void lock_rank_leave(unsigned rank)
{
	struct cpu *cpu = this_cpu();

	if (unlikely(!(cpu->ranks_held >> rank & 1)))
		panic("lock of rank %u released, but not held by this CPU", rank);
	cpu->ranks_held &= ~(1u << rank);
}
