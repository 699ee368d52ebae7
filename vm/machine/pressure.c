/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pressure: with overcommit = ratio machines may come to want more than there is. When little is left that guests can get, the boot CPU
 * gets some back, by what hurts least first: tables that are only a cache; what guests say they don't use; zero and equal pages;
 * balloons, of machines of low priority first, then of low weight, as far as their guests say they can do without. A vcpu that finds nothing
 * meanwhile is parked, and tries again by itself (vm/vcpu/access.c): so nothing here must succeed.
 *
 * Each call is short. Guests take their time for what they are asked, so the next look waits for them. Guests' figures are their word:
 * a lie costs the liar, or gets him left alone.
 */
#include "arch/x86_64/host.h"
#include "pgm/shadow/shadow.h"
#include "vm/machine/internal.h"

#define LOW_PART 16u /* of the host's memory: with less than this left it begins, with half as much again it ends */
#define KEEP_PART 8u /* of its RAM: what a guest keeps as available */
#define LOOK_NS UINT64_C(100000000)
#define IDLE_NS UINT64_C(1000000000) /* nobody can come to want more than there is */
#define ANSWER_NS UINT64_C(500000000)
#define SHADOW_STEPS 128u /* of one machine: what runs makes new ones */
#define FUSE_AT_ONCE 8u   /* steps of fusion in one of ours */
#define FUSE_STEPS 256u   /* and so many of these before balloons have their turn */
#define ASK_ROUNDS 16u    /* before all begins anew, if it was of no use so far */
#define PATIENCE 8u       /* looks at a balloon that doesn't move */
#define SLOWEST 16u       /* by less than such a part of what it still owes it doesn't */
#define FORGIVEN 64u      /* and before it is asked again */

static enum relief { CALM, SHADOWS, COLLECT, FUSE, ASK } relief;
static unsigned at, steps; /* within one */
static uint64_t missing;   /* pages, when the shadows had been dropped */
static uint64_t due;       /* host_now_ns() */
static bool lent;          /* some balloon may have to come down again */
struct pressure_counters pressure_counters;

/* A machine whose balloon is ours to set. */
static struct lender {
	struct machine *machine; /* NULL: had its turn */
	uint64_t rank, spare, asked;
} lenders[CONFIG_MAX_MACHINES];
static unsigned lender_count;
static uint64_t coming; /* pages that were asked for, and aren't there yet */
static bool unseen;     /* some balloon that was asked for something couldn't be looked at */

void pressure_lent(void)
{
	lent = true;
	due = 0;
}

static bool runs(const struct machine *m)
{
	return machine_state_of(m) == MACHINE_RUNNING && m->pgm;
}

/* Its balloon was asked for something, and nothing came for long. */
static bool stands_still(const struct machine *m)
{
	return m->balloon_looks >= PATIENCE;
}

/* What it was asked for, less what it can't give or needs back. */
static uint64_t settle(struct machine *m, const struct balloon_info *info, uint64_t keep, uint64_t available)
{
	uint64_t asked = info->asked, most = m->balloon_held;

	/* To and fro is no progress: the most that it held counts. */
	if (info->held > most && (info->held - most) * SLOWEST >= asked - min_u64(asked, most))
		m->balloon_looks = 0;
	else if (asked > info->held || stands_still(m))
		m->balloon_looks = (m->balloon_looks + 1) % FORGIVEN;
	if (asked <= info->held || !m->balloon_looks)
		m->balloon_held = info->held;
	if (asked > info->held && stands_still(m))
		asked = info->held;
	if (available < keep / 2)
		asked -= min_u64(asked, (keep - available) / PAGE_SIZE);
	if (asked != info->asked)
		machine_balloon_set(m, asked);
	return asked;
}

/* judge: its balloon may be set by what is seen. */
static void look_at(struct machine *m, bool judge)
{
	uint64_t keep = m->config->memory / KEEP_PART, available;
	struct lender *l = &lenders[lender_count];
	struct balloon_info info;

	unseen |= machine_state_of(m) == MACHINE_PAUSED;
	if (!runs(m) || m->balloon_fixed || machine_balloon_describe(m, &info) != OK)
		return;
	if (!info.ready || !(info.known & BIT(VIRTIO_BALLOON_S_AVAIL))) {
		unseen |= info.asked != 0;
		return;
	}
	available = info.statistics[VIRTIO_BALLOON_S_AVAIL];
	*l = (struct lender){ .machine = m,
			      .rank = m->config->priority << 32 | m->config->weight,
			      .asked = judge ? settle(m, &info, keep, available) : info.asked };
	if (available > keep && !stands_still(m))
		l->spare = min_u64(available - keep, m->config->memory - l->asked * PAGE_SIZE) / PAGE_SIZE;
	coming += l->asked > info.held ? l->asked - info.held : 0;
	lender_count++;
}

static void look(bool judge)
{
	lender_count = 0;
	coming = 0;
	unseen = false;
	for (unsigned i = 0; i < machine_count(); i++)
		look_at(machine_get(i), judge);
}

/* Who gives next, or gets back: the lowest first, and of equals the one with most to spare; or the other way round. */
static struct lender *next_lender(bool back)
{
	struct lender *best = NULL;

	for (struct lender *l = lenders; l < lenders + lender_count; l++) {
		bool lower = best && (l->rank != best->rank ? l->rank < best->rank : l->spare > best->spare);

		if (l->machine && (back ? l->asked : l->spare) && (!best || lower != back))
			best = l;
	}
	return best;
}

/* Of what each can spare one half at a time: by the next round its guest tells how it fares. */
static void ask(uint64_t need)
{
	struct lender *l;

	for (need -= min_u64(need, coming); need && (l = next_lender(false)); l->machine = NULL) {
		uint64_t pages = min_u64(need, (l->spare + 1) / 2);

		machine_balloon_set(l->machine, l->asked + pages);
		pressure_counters.asked += pages;
		need -= pages;
		lent = true;
	}
}

static void give_back(uint64_t plenty)
{
	struct lender *l;

	lent = unseen;
	for (; (l = next_lender(true)); l->machine = NULL) {
		uint64_t pages = min_u64(plenty, l->asked);

		if (pages)
			machine_balloon_set(l->machine, l->asked - pages);
		pressure_counters.returned += pages;
		plenty -= pages;
		lent |= l->asked > pages;
	}
}

/* True: once more. */
static bool drop_shadows(void)
{
	struct machine *m = machine_get(at);

	if (!m)
		return false;
	if (runs(m) && steps < SHADOW_STEPS && shadow_shrink(m->pgm, NULL)) {
		steps++;
		pressure_counters.shadows++;
	} else {
		at++;
		steps = 0;
	}
	return true;
}

static bool fuse(void)
{
	unsigned looked;

	for (unsigned i = 0; i < FUSE_AT_ONCE; i++)
		if (!fuse_is_on() || machines_fuse_now(&looked))
			return false;
	pressure_counters.fusions++;
	return ++steps < FUSE_STEPS || !lender_count;
}

static void collect(void)
{
	look(true); /* so that figures are fresh when balloons are asked */
	for (unsigned i = 0; i < machine_count(); i++)
		if (runs(machine_get(i)) && machine_balloon_collect(machine_get(i)) == OK)
			pressure_counters.collects++;
}

/* Nanoseconds until the next look. */
static uint64_t relieve(uint64_t need)
{
	enum relief next = relief + 1;
	uint64_t wait = 0;

	switch (relief) {
	case CALM: pressure_counters.times++; break;
	case SHADOWS:
		missing = need;
		next -= drop_shadows();
		break;
	case COLLECT:
		collect();
		wait = ANSWER_NS;
		break;
	case FUSE: next -= fuse(); break;
	case ASK:
		look(true);
		ask(need);
		next = ++steps < ASK_ROUNDS && need >= missing ? ASK : SHADOWS;
		wait = ANSWER_NS;
	}
	if (next != relief)
		at = steps = 0;
	relief = next;
	return wait;
}

/* Balloons follow their guests, and go down while there is plenty. */
static uint64_t keep_calm(uint64_t left, uint64_t enough)
{
	relief = CALM;
	if (!lent)
		return LOOK_NS;
	look(true);
	give_back(left > 2 * enough ? (left - enough) / 2 : 0);
	return ANSWER_NS;
}

bool machines_relieve(void)
{
	uint64_t now = host_now_ns(), low, enough, wait;
	struct frame_totals t;

	if (now < due)
		return false;
	frame_totals(&t);
	/* Without overcommit every promise is covered. */
	low = t.promise_percent > 100 ? t.pages / LOW_PART : 0;
	enough = low + low / 2;
	if (t.guest_pages >= (relief == CALM ? low : enough))
		wait = keep_calm(t.guest_pages, enough);
	else
		wait = relieve(enough - t.guest_pages);
	due = now + (low || lent ? wait : IDLE_NS);
	return !wait;
}

void pressure_describe(struct pressure_info *info)
{
	static const char *const names[] = { "none", "dropping shadow tables", "collecting free pages", "sharing pages",
					     "asking balloons" };

	look(false);
	*info = (struct pressure_info){ .relief = names[relief] };
	for (unsigned i = 0; i < lender_count; i++)
		info->spare += lenders[i].spare;
}
