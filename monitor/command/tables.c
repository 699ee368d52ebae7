/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands about the second-level tables as a whole: how many there are, and dropping them. One set serves all vcpus of
 * a machine, so what the predecessor did for a vcpu is done for the machine.
 */
#include <string.h>

#include "monitor/command/command.h"
#include "pgm/shadow/shadow.h"
#include "pgm/slat/tables.h"
#include "vm/machine.h"

/* One command at a time, in steps. */
static struct {
	struct machine *machine[CONFIG_MAX_MACHINES];
	struct pgm_tables_info info[CONFIG_MAX_MACHINES];
	unsigned count, at;
	uint64_t cursor;
	bool single, dropped;
	uint64_t leaves_before;
} job;

/* Tables composed of two: of L1's for its guests, of the closed A20 gate. */
static void show_roots(struct output *out, struct pgm *pgm)
{
	struct shadow_info info;

	output_table_begin(out, "shadow_roots");
	for (unsigned i = 0; i < SHADOW_PLACES; i++)
		if (shadow_describe(pgm, i, &info))
			output_row(out, TEXT("format", info.format ? info.format->name : "A20", 8),
				   HEX("root", info.root.v, 16), NUMBER("vcpus", info.users, 5),
				   NUMBER_OF(info, tables, 8), NUMBER("leaves_4k", info.leaves[0], 10),
				   NUMBER("leaves_2m", info.leaves[1], 10));
	output_table_end(out);
}

static void show_tables(struct output *out)
{
	const struct pgm_tables_info *info = job.info;

	output_table_begin(out, "tables");
	for (unsigned m = 0; m < job.count; m++, info++) {
		for (unsigned level = 0; level < PT_MAX_LEVELS; level++)
			if (info->tables[level])
				output_row(out, TEXT("machine", job.machine[m]->name, 12), NUMBER("level", level, 5),
					   NUMBER("entry_kib", UINT64_C(4) << (9 * level), 10),
					   NUMBER("tables", info->tables[level], 8),
					   NUMBER("leaves", info->leaves[level], 12));
	}
	output_table_end(out);
	if (!job.single || !job.count)
		return;
	output_fields(out, NUMBER("mmio_marks", job.info->marks), NUMBER_OF(*job.info, shadow_frames),
		      NUMBER_OF(*job.info, record_frames));
	show_roots(out, job.machine[0]->pgm);
}

/* The next part of counting the tables of all that are chosen; false: done. */
static bool count_some(void)
{
	if (job.at < job.count &&
	    pgm_tables_describe_step(job.machine[job.at]->pgm, &job.cursor, &job.info[job.at]) == OK)
		job.at++;
	return job.at < job.count;
}

static bool pool_step(struct output *out, bool cancelled)
{
	if (!cancelled && count_some())
		return true;
	if (cancelled)
		output_error(out, "cancelled");
	else
		show_tables(out);
	return false;
}

static void info_pool(struct output *out, char *const *argument)
{
	memset(&job, 0, sizeof(job));
	job.count = command_machines(out, argument[0], job.machine);
	job.single = argument[0] != NULL;
	if (!out->failed)
		command_go_on(pool_step);
}

static uint64_t leaves(void)
{
	return job.info->leaves[0] + job.info->leaves[1] + job.info->leaves[2];
}

/* Counts, drops, counts. */
static bool sync_step(struct output *out, bool cancelled)
{
	if (cancelled) {
		output_error(out, "cancelled");
		return false;
	}
	if (count_some())
		return true;
	if (!job.dropped) {
		job.leaves_before = leaves();
		job.dropped = pgm_tables_drop_step(job.machine[0]->pgm, &job.cursor) == OK;
		job.at = !job.dropped;
		return true;
	}
	output_fields(out, NUMBER_OF(job, leaves_before), NUMBER("leaves_after", leaves()));
	output_note(out, "the tables come back as the guest touches its memory");
	return false;
}

static void pgmsync(struct output *out, char *const *argument)
{
	memset(&job, 0, sizeof(job));
	job.machine[0] = command_live_machine(out, argument[0]);
	job.count = 1;
	if (job.machine[0])
		command_go_on(sync_step);
}

static void pgmsyncalways(struct output *out, char *const *argument)
{
	struct machine *m = command_live_machine(out, argument[0]);
	bool on;

	if (!m)
		return;
	on = !(m->vcpu[0]->watch & WATCH_SYNC);
	machine_watch(m, WATCH_SYNC, on);
	output_fields(out, TEXT("name", m->name), BOOL("sync_always", on));
}

static const struct command commands[] = {
	{ "info pool", "[NAME]", 0, 1, "second-level tables by level", info_pool },
	{ "pgmsync", "NAME", 1, 1, "drop a machine's second-level tables; they come back from faults", pgmsync },
	{ "pgmsyncalways", "NAME", 1, 1, "on or off: drop them after each exit that is no fault (slow)",
	  pgmsyncalways },
};

const struct command_table commands_tables = { commands, ARRAY_SIZE(commands) };
