/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attack 4: each operation with each site failing at its 1st, 2nd, 3rd ... passage, once and from then on, until it
 * goes through without a failure. After each failure all that the world notes must be as it was before, the checks
 * silent, and a second failure of the same kind must leave no more behind than the first; then the operation, repeated in
 * peace, must succeed.
 *
 * A world says how to begin and end, and notes what is to stay: an equal list of (what, where, value) before and
 * after. What it calls scraps (tables and empty records that wait for the repetition) may come once.
 */
#pragma once

#include "test_mm_world.h"

struct sweep_note {
	const char *what;
	uint64_t where, value;
};

struct sweep_notes {
	size_t count;
	struct sweep_note note[32768];
};

/* The operation isn't one step: what it has done before a failure stays done. */
#define SWEEP_PARTIAL 1u
/* Large pages may come apart, nothing else. */
#define SWEEP_MAY_SPLIT 2u
/* The rest of the flags are the world's. */
#define SWEEP_WORLD_FLAGS 4u

struct sweep_operation {
	const char *name;
	void (*prepare)(void);    /* may be NULL */
	enum status (*run)(void); /* OK or NO_MEMORY */
	unsigned flags;
	void (*verify)(void); /* after it has succeeded; may be NULL */
};

struct sweep_world {
	void (*start)(const struct sweep_operation *op);
	/* again: not the first look, the operation has failed since. */
	void (*look)(struct sweep_notes *notes, unsigned flags, bool again);
	uint64_t (*scraps)(void);
	void (*check)(void);
	void (*end)(const struct sweep_operation *op);
};

static uint64_t sweep_failures[MM_SITES];

__attribute__((unused)) static void sweep_put(struct sweep_notes *notes, const char *what, uint64_t where,
					      uint64_t value)
{
	assert_true(notes->count < ARRAY_SIZE(notes->note));
	notes->note[notes->count++] = (struct sweep_note){ what, where, value };
}

static void sweep_compare(const struct sweep_notes *before, const struct sweep_notes *now, const char *label)
{
	for (size_t i = 0; i < before->count || i < now->count; i++) {
		static const struct sweep_note none = { "nothing", 0, 0 };
		const struct sweep_note *a = i < before->count ? &before->note[i] : &none;
		const struct sweep_note *b = i < now->count ? &now->note[i] : &none;

		if (strcmp(a->what, b->what) || a->where != b->where || a->value != b->value)
			fail_msg("%s: was %s %#llx = %#llx, is %s %#llx = %#llx", label, a->what,
				 (unsigned long long)a->where, (unsigned long long)a->value, b->what,
				 (unsigned long long)b->where, (unsigned long long)b->value);
	}
}

/* No kernel frame is left: the next one takes a fresh chunk. */
static hpa_t sweep_hog[8192];
static unsigned sweep_hogged;

static void sweep_starve(void)
{
	while (chunks.kernel_free) {
		assert_true(sweep_hogged < ARRAY_SIZE(sweep_hog));
		assert_int_equal(table_alloc(&host_account, &sweep_hog[sweep_hogged++]), OK);
	}
}

static void sweep_feed(void)
{
	while (sweep_hogged)
		free_one(&host_account, sweep_hog[--sweep_hogged], ACCOUNT_TABLE);
}

/* Arms the site, runs, disarms; true: it failed. */
static bool sweep_run(const struct sweep_operation *op, enum mm_site site, const struct inject_plan *plan,
		      const char *label)
{
	enum status status;

	inject_set(site, plan);
	status = op->run();
	inject_disarm(site);
	if (status == OK)
		return false;
	if (status != NO_MEMORY || !inject_count(site))
		fail_msg("%s: status %u after %llu failures", label, status, (unsigned long long)inject_count(site));
	sweep_failures[site]++;
	return true;
}

/* One passage failing. Returns whether one did. */
static bool sweep_once(const struct sweep_world *world, const struct sweep_operation *op, enum mm_site site,
		       const struct inject_plan *plan)
{
	static struct sweep_notes before, now;
	uint64_t scraps[2];
	char label[120];
	bool hit = false, failed;

	snprintf(label, sizeof(label), "%s, %s after=%llu count=%llu", op->name, inject_site_name(site),
		 (unsigned long long)plan->after, (unsigned long long)plan->count);
	world->start(op);
	if (op->prepare)
		op->prepare();
	before.count = 0;
	world->look(&before, op->flags, false);
	for (unsigned round = 0; round < 2; round++) {
		if (site == MM_SITE_CHUNK)
			sweep_starve();
		failed = sweep_run(op, site, plan, label);
		hit |= inject_count(site) != 0;
		if (!failed)
			break;
		now.count = 0;
		world->look(&now, op->flags, true);
		if (!(op->flags & SWEEP_PARTIAL))
			sweep_compare(&before, &now, label);
		world->check();
		scraps[round] = world->scraps();
		if (round && scraps[1] > scraps[0] && !plan->after && !plan->count)
			fail_msg("%s: %llu scraps, %llu after the second failure", label, (unsigned long long)scraps[0],
				 (unsigned long long)scraps[1]);
	}
	if (failed && op->run() != OK)
		fail_msg("%s: fails when repeated in peace", label);
	if (op->verify)
		op->verify();
	sweep_feed();
	world->end(op);
	return hit;
}

__attribute__((unused)) static void sweep(const struct sweep_world *world, const struct sweep_operation *op)
{
	for (unsigned site = 0; site < MM_SITES; site++) {
		for (unsigned forever = 0; forever < 2; forever++) {
			struct inject_plan plan = { .count = !forever };

			while (sweep_once(world, op, (enum mm_site)site, &plan))
				assert_true(++plan.after < 3000);
		}
	}
}
