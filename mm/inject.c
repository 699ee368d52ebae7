/* SPDX-License-Identifier: Apache-2.0 */
/* State of the armed sites. One leaf lock: nobody is in a hurry once a site is armed. */
#include "mm/inject.h"

uint32_t inject_armed;

static struct spinlock inject_lock = SPINLOCK(RANK_LEAF, "fault injection");
static struct inject_state states[MM_SITES];

static const char *const names[MM_SITES] = { "chunk", "frame", "table", "heap", "large", "handy", "flush" };

const char *inject_site_name(enum mm_site site)
{
	return (unsigned)site < MM_SITES ? names[site] : NULL;
}

/* inject_lock held. */
static void set_armed(enum mm_site site, bool armed)
{
	states[site].armed = armed;
	if (armed)
		__atomic_fetch_or(&inject_armed, 1u << site, __ATOMIC_RELAXED);
	else
		__atomic_fetch_and(&inject_armed, ~(1u << site), __ATOMIC_RELAXED);
}

void inject_set(enum mm_site site, const struct inject_plan *plan)
{
	HOLD(&inject_lock);
	states[site] = (struct inject_state){ .plan = *plan, .total = states[site].total };
	set_armed(site, true);
}

void inject_arm(enum mm_site site, uint64_t after, uint64_t every, uint64_t seed)
{
	struct inject_plan plan = { .after = after, .every = every, .count = !every, .seed = seed };

	inject_set(site, &plan);
}

void inject_disarm(enum mm_site site)
{
	HOLD(&inject_lock);
	set_armed(site, false);
}

void inject_owner_gone(owner_t owner)
{
	HOLD(&inject_lock);
	for (unsigned site = 0; site < MM_SITES; site++)
		if (states[site].armed && states[site].plan.owner == owner && owner != OWNER_HOST)
			set_armed((enum mm_site)site, false);
}

void inject_describe(enum mm_site site, struct inject_state *state)
{
	HOLD(&inject_lock);
	*state = states[site];
}

uint64_t inject_count(enum mm_site site)
{
	struct inject_state state;

	inject_describe(site, &state);
	return state.hits;
}

/* xorshift64: good enough to spread failures, and repeatable. */
static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static bool decide(struct inject_state *s)
{
	struct inject_plan *plan = &s->plan;

	if (s->passes++ < plan->after)
		return false;
	if (plan->every <= 1)
		return true;
	if (plan->seed)
		return next_random(&plan->seed) % plan->every == 0;
	return (s->passes - plan->after - 1) % plan->every == 0;
}

bool inject_ask(enum mm_site site, owner_t owner)
{
	struct inject_state *s = &states[site];
	bool fail = false;

	HOLD(&inject_lock);
	if (s->armed && (s->plan.owner == OWNER_HOST || s->plan.owner == owner))
		fail = decide(s);
	s->hits += fail;
	s->total += fail;
	if (fail && s->hits == s->plan.count)
		set_armed(site, false);
	return fail;
}
