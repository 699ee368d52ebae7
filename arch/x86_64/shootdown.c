/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One number counts the requests; each CPU tells up to which it has flushed. A CPU's own flush may be interrupted by the
 * NMI of another's request: so it looks again until what it has told is the newest.
 */
#include "arch/x86_64/shootdown.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/cpu_local.h"
#include "arch/x86_64/host.h"

static uint64_t newest; /* atomic */

void flush_all_translations(void)
{
	uint64_t cr4 = read_cr4();

	/* Intel SDM vol. 3 section 4.10.4.1, AMD APM vol. 2 section 5.5.3: a change of PGE flushes all. */
	if (!(cr4 & CR4_PGE)) {
		write_cr3(read_cr3());
		return;
	}
	write_cr4(cr4 & ~CR4_PGE);
	write_cr4(cr4);
}

void shootdown_answer(void)
{
	struct cpu *cpu = this_cpu();
	uint64_t wanted;

	while (__atomic_load_n(&cpu->flushed, __ATOMIC_RELAXED) !=
	       (wanted = __atomic_load_n(&newest, __ATOMIC_ACQUIRE))) {
		flush_all_translations();
		__atomic_store_n(&cpu->flushed, wanted, __ATOMIC_RELEASE);
	}
}

void shootdown(void)
{
	uint64_t wanted = __atomic_add_fetch(&newest, 1, __ATOMIC_SEQ_CST);
	unsigned count = cpu_count();

	shootdown_answer();
	for (unsigned i = 0; i < count; i++)
		if (i != cpu_index() && __atomic_load_n(&cpu_record(i)->flushed, __ATOMIC_ACQUIRE) < wanted)
			host_kick(i, true);
	for (unsigned i = 0; i < count; i++)
		while (__atomic_load_n(&cpu_record(i)->flushed, __ATOMIC_ACQUIRE) < wanted)
			spin_pause();
}
