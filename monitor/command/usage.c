/* SPDX-License-Identifier: Apache-2.0 */
/* Counting the pages of all machines: see the header. */
#include "monitor/command/usage.h"

#include "vm/machine.h"

static struct {
	struct machine *machine[CONFIG_MAX_MACHINES];
	struct pgm_usage usage[CONFIG_MAX_MACHINES];
	unsigned count, at;
	uint64_t cursor;
	void (*then)(struct output *out);
} work;

static bool step(struct output *out, bool cancelled)
{
	if (cancelled) {
		output_error(out, "cancelled");
		return false;
	}
	if (work.at < work.count) {
		if (pgm_usage_step(work.machine[work.at]->pgm, &work.cursor, &work.usage[work.at]) == OK)
			work.at++;
		return true;
	}
	work.then(out);
	return false;
}

void usage_count(void (*then)(struct output *out))
{
	work.count = command_machines(NULL, NULL, work.machine);
	work.at = 0;
	work.cursor = 0;
	work.then = then;
	command_go_on(step);
}

struct memory_use usage_now(const struct machine *m)
{
	struct memory_use use = { 0 };
	struct pgm_counters counted;
	const struct account *a;

	if (!m->pgm)
		return use;
	a = pgm_account(m->pgm);
	for (unsigned i = 0; i < ACCOUNT_KINDS; i++) {
		use.promised += a->reserved[i];
		use.held += a->allocated[i];
	}
	use.shared = a->shared_pages;
	use.held -= min_u64(use.held, use.shared);
	use.ballooned = a->ballooned;
	pgm_counters_sum(m->pgm, &counted);
	use.zeroed = counted.discarded + counted.fusion_zeroed;
	return use;
}

const struct pgm_usage *usage_of(const struct machine *m)
{
	for (unsigned i = 0; i < work.count; i++)
		if (work.machine[i] == m)
			return &work.usage[i];
	return NULL;
}
