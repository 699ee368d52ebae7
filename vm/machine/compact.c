/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compaction (mm/compact.h), by CPUs that idle: some time after a pass has ended, or when a machine has; or at once, for the monitor. A chunk is
 * looked at first, by each machine: only if all that it holds can leave, and each machine has room elsewhere, is anything moved. And
 * what the hardware says of failing memory is followed up here.
 *
 * All in the idle worker's turn.
 */
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "mm/compact.h"
#include "vm/machine/internal.h"

#define SPARSE (PAGES_PER_BLOCK / 4) /* what idle CPUs think worth it; */
#define FEW_PART 32u                 /* with fewer whole chunks than such a part of all, any: tables want whole ones */
#define PASS_NS UINT64_C(5000000000)
#define PAGE_NS UINT64_C(50000) /* a second's pages are 80 MB */

static struct {
	enum { FIND, LOOK, MOVE } phase;
	uint64_t cursor;
	hpa_t block;
	unsigned machine; /* whose turn it is */
	unsigned index, pages, seen;
} at;
static uint64_t due; /* host TSC; atomic */

static struct pgm *pgm_of(unsigned machine)
{
	const struct machine *m = machine_get(machine);
	uint32_t state = machine_state_of(m);

	return state == MACHINE_RUNNING || state == MACHINE_PAUSED ? m->pgm : NULL;
}

/* One machine's part of the chunk, or a piece of it. */
static enum status part(unsigned *moved)
{
	struct pgm *pgm = pgm_of(at.machine);
	unsigned before = at.pages;
	enum status status = pgm ? pgm_move_step(pgm, at.block, &at.index, at.phase == LOOK, &at.pages) : OK;

	if (at.phase == MOVE)
		*moved += at.pages - before;
	else if (status == OK && pgm && !compact_room(pgm_account(pgm), at.block, at.pages))
		return CONFLICT;
	if (status == OK) {
		at.seen += at.pages;
		at.machine++;
		at.index = at.pages = 0;
	}
	return status;
}

/* One bounded step. True: the pass over all chunks has ended. */
static bool step(unsigned most, unsigned *moved, unsigned *freed)
{
	enum status status;

	if (at.phase != FIND && at.machine < machine_count()) {
		status = part(moved);
		if (status == OK || status == BUSY)
			return false;
	} else if (at.phase == FIND) {
		status = compact_find(&at.cursor, most, &at.block);
		at.seen = 0;
	} else {
		status = at.phase == LOOK && compact_close(at.block, at.seen) ? OK : CONFLICT;
	}
	at.machine = at.index = at.pages = 0;
	if (status != OK && at.phase == MOVE)
		*freed += compact_end(at.block);
	at.phase = status == OK ? at.phase + 1 : FIND;
	return status == NOT_FOUND;
}

static void leave_failing(hpa_t frame, bool readable)
{
	enum status retired = frame_retire(frame), left = NOT_FOUND;
	struct frame_info info;

	frame_describe(frame, &info);
	for (unsigned i = 0; i < machine_count() && readable && info.state == FRAME_PRIVATE; i++)
		if (pgm_of(i) && pgm_account(pgm_of(i))->owner == info.owner)
			left = pgm_leave_frame(pgm_of(i), info.page, frame);
	log_line(LOG_WARNING "mm: failing memory at %#lx: to be out of use: %s; its page moved away: %s", frame.v,
		 status_text(retired), status_text(left));
}

bool compact_is_due(void)
{
	return rdtsc() >= __atomic_load_n(&due, __ATOMIC_RELAXED);
}

void compact_soon(void)
{
	__atomic_store_n(&due, 0, __ATOMIC_RELAXED);
}

void compact_idle_step(void)
{
	unsigned moved = 0, freed = 0;
	struct frame_totals t;
	bool readable, ended;
	hpa_t frame;

	while (host_failing_memory(&frame, &readable))
		leave_failing(frame, readable);
	frame_totals(&t);
	ended = step(t.free_chunks < t.chunks / FEW_PART ? PAGES_PER_BLOCK - 1 : SPARSE, &moved, &freed);
	__atomic_store_n(&due, rdtsc() + host_ns_to_tsc(ended ? PASS_NS : moved * PAGE_NS), __ATOMIC_RELAXED);
}

bool machines_compact_now(unsigned most, unsigned *moved, unsigned *freed)
{
	bool ended;

	machines_worker_enter();
	ended = step(most, moved, freed);
	machines_worker_leave();
	return ended;
}
