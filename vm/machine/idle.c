/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What idle CPUs do for machines: fill their reserves, collapse their blocks, look for pages to share (fuse.c), and empty sparse chunks
 * (compact.c). One CPU at a time, one bounded step per call, of what is due in turn, so that nothing that always is keeps the others
 * waiting; and machines in turn. When a round over all machines found nothing, the next one waits PAUSE_NS.
 *
 * The worker's turn (machines_worker_enter) is also what keeps a machine's memory from being taken down under a step: who
 * creates or destroys one holds it.
 */
#include "arch/x86_64/host.h"
#include "vm/machine/internal.h"
#include "vm/machine/schedule.h"

#define PAUSE_NS UINT64_C(100000000)

static uint32_t worker;     /* atomic: somebody is inside */
static unsigned turn;       /* the machine to look at next; the worker's */
static unsigned fruitless;  /* machines in a row that had nothing to do */
static uint64_t not_before; /* host TSC; atomic */

static bool try_enter(void)
{
	return !__atomic_exchange_n(&worker, 1, __ATOMIC_ACQUIRE);
}

void machines_worker_enter(void)
{
	while (!try_enter())
		spin_pause();
}

void machines_worker_leave(void)
{
	__atomic_store_n(&worker, 0, __ATOMIC_RELEASE);
}

static bool step_machine(struct machine *m)
{
	uint32_t state = __atomic_load_n(&m->state, __ATOMIC_ACQUIRE);

	return (state == MACHINE_RUNNING || state == MACHINE_PAUSED) && m->pgm && pgm_idle_step(m->pgm);
}

static bool machines_are_due(void)
{
	return rdtsc() >= __atomic_load_n(&not_before, __ATOMIC_RELAXED);
}

static void step_next(void)
{
	turn = turn + 1 < machine_count() ? turn + 1 : 0;
	fruitless = step_machine(machine_get(turn)) ? 0 : fruitless + 1;
	if (fruitless < machine_count())
		return;
	fruitless = 0;
	__atomic_store_n(&not_before, rdtsc() + host_ns_to_tsc(PAUSE_NS), __ATOMIC_RELAXED);
}

bool machines_idle_step(void)
{
	static void (*const step[])(void) = { step_next, fuse_idle_step, compact_idle_step };
	static unsigned last; /* the worker's */
	unsigned due = machines_are_due() | fuse_is_due() << 1 | compact_is_due() << 2;

	if (!due || !machine_count() || !try_enter())
		return false;
	do
		last = last + 1 < ARRAY_SIZE(step) ? last + 1 : 0;
	while (!(due >> last & 1));
	step[last]();
	machines_worker_leave();
	return true;
}
