/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pgmerror, pgmerroroff: makes allocations and flushes fail on demand (mm/inject.h), to see that a machine then waits, or
 * is told, and goes on as if nothing had been.
 */
#include <string.h>

#include "mm/inject.h"
#include "monitor/command/command.h"
#include "vm/machine.h"

#define SITES "chunk|frame|table|heap|large|handy|flush"

/* MM_SITES after an error has been put out. */
static enum mm_site site_of(struct output *out, const char *word)
{
	enum mm_site site = 0;

	while (site < MM_SITES && strcmp(inject_site_name(site), word))
		site++;
	if (site == MM_SITES)
		output_error(out, "\"%s\" is no site: " SITES, word);
	return site;
}

/* ---- the list ---- */
static const char *machine_of(owner_t owner)
{
	for (unsigned i = 0; i < machine_count(); i++)
		if (machine_get(i)->pgm && pgm_account(machine_get(i)->pgm)->owner == owner)
			return machine_get(i)->name;
	return NULL;
}

static void row(struct output *out, enum mm_site site)
{
	struct inject_state s;

	inject_describe(site, &s);
	output_row(out, TEXT("site", inject_site_name(site), 5), TEXT("state", s.armed ? "armed" : "off", 5),
		   TEXT("machine", s.armed ? machine_of(s.plan.owner) : NULL, 12), NUMBER_OF(s.plan, after, 8),
		   NUMBER("every", s.plan.every ? s.plan.every : 1, 6), NUMBER_OF(s.plan, count, 6),
		   NUMBER_OF(s.plan, seed, 20), NUMBER_OF(s, passes, 10), NUMBER_OF(s, hits, 8),
		   NUMBER_OF(s, total, 8));
}

static void list(struct output *out)
{
	output_table_begin(out, "sites");
	for (enum mm_site site = 0; site < MM_SITES; site++)
		row(out, site);
	output_table_end(out);
}

/* ---- arming ---- */
static bool take_number(struct output *out, const char *option, const char *name, uint64_t *value)
{
	size_t length = strlen(name);

	return !strncmp(option, name, length) && option[length] == '=' &&
	       command_number(out, option + length + 1, name, value);
}

static bool take_machine(struct output *out, const char *option, enum mm_site site, owner_t *owner)
{
	struct machine *m;

	if (strncmp(option, "vm=", 3))
		return false;
	if (site == MM_SITE_HEAP) {
		output_error(out, "the heap belongs to no machine");
		return false;
	}
	m = command_live_machine(out, option + 3);
	if (m)
		*owner = pgm_account(m->pgm)->owner;
	return m != NULL;
}

static bool take_option(struct output *out, const char *option, enum mm_site site, struct inject_plan *plan)
{
	if (take_number(out, option, "after", &plan->after) || take_number(out, option, "count", &plan->count) ||
	    take_number(out, option, "every", &plan->every) || take_number(out, option, "seed", &plan->seed) ||
	    take_machine(out, option, site, &plan->owner))
		return true;
	if (!out->failed)
		output_error(out, "\"%s\" is none of after=N, every=N, count=N, seed=N, vm=NAME", option);
	return false;
}

static void pgmerror(struct output *out, char *const *argument)
{
	struct inject_plan plan = { 0 };
	enum mm_site site;

	if (!argument[0]) {
		list(out);
		return;
	}
	site = site_of(out, argument[0]);
	for (unsigned i = 1; !out->failed && argument[i]; i++)
		(void)take_option(out, argument[i], site, &plan);
	if (out->failed)
		return;
	inject_set(site, &plan);
	output_text(out, "armed", "%s", inject_site_name(site));
}

static void pgmerroroff(struct output *out, char *const *argument)
{
	enum mm_site first = argument[0] ? site_of(out, argument[0]) : 0;
	enum mm_site end = argument[0] ? first + 1 : MM_SITES;
	uint64_t hits = 0;

	if (out->failed)
		return;
	for (enum mm_site site = first; site < end; site++) {
		inject_disarm(site);
		hits += inject_count(site);
	}
	output_phrase(out, "hits", "off; ", hits, " failures since it was armed");
}

static const struct command commands[] = {
	{ "pgmerror", "[" SITES "] [OPTION...]", 0, 6,
	  "make allocations or flushes fail; alone: which do. after=N every=N count=N seed=N vm=NAME", pgmerror },
	{ "pgmerroroff", "[" SITES "]", 0, 1, "let them succeed again, all or one kind", pgmerroroff },
};

const struct command_table commands_inject = { commands, ARRAY_SIZE(commands) };
