/* SPDX-License-Identifier: Apache-2.0 */
/* State of the armed sites. One leaf lock: nobody is in a hurry once a site is armed. */
#include "mm/inject.h"
#include "arch/x86_64/spinlock.h"

uint32_t inject_armed;

static struct spinlock inject_lock = SPINLOCK(RANK_LEAF, "fault injection");
static struct injection {
	uint64_t after, every, seed;
	uint64_t asked, failed;
} injections[MM_SITES];

void inject_arm(enum mm_site site, uint64_t after, uint64_t every, uint64_t seed)
{
	lock_acquire(&inject_lock);
	injections[site] = (struct injection){ .after = after, .every = every, .seed = seed };
	__atomic_fetch_or(&inject_armed, 1u << site, __ATOMIC_RELAXED);
	lock_release(&inject_lock);
}

void inject_disarm(enum mm_site site)
{
	__atomic_fetch_and(&inject_armed, ~(1u << site), __ATOMIC_RELAXED);
}

uint64_t inject_count(enum mm_site site)
{
	uint64_t count;

	lock_acquire(&inject_lock);
	count = injections[site].failed;
	lock_release(&inject_lock);
	return count;
}

/* xorshift64: good enough to spread failures, and repeatable. */
static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static bool decide(struct injection *injection)
{
	uint64_t late;

	if (injection->asked++ < injection->after)
		return false;
	if (injection->seed)
		return injection->every <= 1 || next_random(&injection->seed) % injection->every == 0;
	late = injection->asked - injection->after - 1;
	return injection->every ? late % injection->every == 0 : late == 0;
}

bool inject_ask(enum mm_site site)
{
	bool fail;

	lock_acquire(&inject_lock);
	fail = decide(&injections[site]);
	injections[site].failed += fail;
	lock_release(&inject_lock);
	return fail;
}
