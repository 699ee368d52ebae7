/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When pages are looked for that machines could share (pgm/fusion.h): by CPUs that idle, `fusion_rate` pages a second over all machines with
 * page_fusion = on, one after the other; or at once, for the monitor. In the idle worker's turn, so that one CPU at a time is at it.
 */
#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "pgm/fusion.h"
#include "vm/machine/internal.h"

#define PAUSE_NS UINT64_C(100000000) /* when nothing was to be looked at */
#define SECOND_NS UINT64_C(1000000000)

static uint64_t rate; /* pages a second; 0: only when asked */
static bool off;      /* atomic */
static uint64_t due;  /* host TSC; atomic */
static unsigned turn; /* the machine being looked at; the worker's */

void fuse_open(const struct quire_config *config)
{
	bool any = false;
	struct frame_totals t;

	rate = config->host.fusion_rate;
	for (unsigned i = 0; i < config->machine_count; i++)
		any |= config->machines[i].page_fusion;
	frame_totals(&t);
	if (any && pgm_fusion_start(t.pages) != OK)
		log_line(LOG_WARNING "page_fusion: no memory to remember pages in: only zeros will be found");
}

uint16_t fuse_group(const struct machine *m)
{
	const char *name = m->config->share_group;
	unsigned i = 0;

	if (!m->config->page_fusion)
		return 0;
	while (machine_get(i) != m && !(*name && !strcmp(machine_get(i)->config->share_group, name)))
		i++;
	return (uint16_t)(i + 1);
}

static bool takes_part(const struct machine *m)
{
	uint32_t state = machine_state_of(m);

	return (state == MACHINE_RUNNING || state == MACHINE_PAUSED) && m->pgm;
}

/* At every second call the next whose guest has named a module, so that neither these nor all the others wait for ever. */
static struct machine *who_named(void)
{
	static unsigned last, calls;

	if (++calls % 2)
		return NULL;
	for (unsigned i = 0; i < machine_count(); i++) {
		last = last + 1 < machine_count() ? last + 1 : 0;
		if (takes_part(machine_get(last)) && pgm_fusion_is_named(machine_get(last)->pgm))
			return machine_get(last);
	}
	return NULL;
}

/* A step of one machine. True: that was the end of the last one's memory. */
static bool step(bool now, unsigned *looked)
{
	struct machine *m = who_named();

	*looked = 0;
	if (m) {
		pgm_fusion_named_step(m->pgm, looked);
		return false;
	}
	m = machine_get(turn);
	if (takes_part(m) && pgm_fusion_step(m->pgm, now, looked) == BUSY)
		return false;
	turn = turn + 1 < machine_count() ? turn + 1 : 0;
	return !turn;
}

bool fuse_is_on(void)
{
	return !__atomic_load_n(&off, __ATOMIC_RELAXED);
}

bool fuse_is_due(void)
{
	return rate && fuse_is_on() && rdtsc() >= __atomic_load_n(&due, __ATOMIC_RELAXED);
}

void fuse_idle_step(void)
{
	unsigned looked;
	bool round = step(false, &looked);
	uint64_t wait = looked ? looked * SECOND_NS / rate : round ? PAUSE_NS : 0;

	__atomic_store_n(&due, rdtsc() + host_ns_to_tsc(wait), __ATOMIC_RELAXED);
}

void machines_fuse(bool on)
{
	__atomic_store_n(&off, !on, __ATOMIC_RELAXED);
}

bool machines_fuse_now(unsigned *looked)
{
	bool round;

	machines_worker_enter();
	round = !machine_count() || step(true, looked);
	machines_worker_leave();
	return round;
}
