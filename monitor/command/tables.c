/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands about the second-level tables as a whole: how many there are, and dropping them. One set serves all vcpus of
 * a machine, so what the predecessor did for a vcpu is done for the machine.
 */
#include "monitor/command/command.h"
#include "pgm/slat/tables.h"
#include "vm/machine.h"

static struct machine *chosen[CONFIG_MAX_MACHINES];

static void info_pool(struct output *out, char *const *argument)
{
	static const struct output_column columns[] = {
		{ "machine", 12, false }, { "level", 5, true },   { "entry_kib", 10, true },
		{ "tables", 8, true },    { "leaves", 12, true },
	};
	struct pgm_tables_info info;
	unsigned count = command_machines(out, argument[0], chosen);

	if (out->failed)
		return;
	output_note(out, "no pool of shadow tables: all paging is nested, and guests' tables are not shadowed");
	output_table_begin(out, "tables", columns, ARRAY_SIZE(columns));
	for (unsigned m = 0; m < count; m++) {
		pgm_tables_describe(chosen[m]->pgm, &info);
		for (unsigned level = 0; level < PT_MAX_LEVELS; level++) {
			if (!info.tables[level])
				continue;
			output_cell_text(out, "%s", chosen[m]->name);
			output_cell_number(out, level);
			output_cell_number(out, UINT64_C(4) << (9 * level));
			output_cell_number(out, info.tables[level]);
			output_cell_number(out, info.leaves[level]);
		}
	}
	output_table_end(out);
	if (!argument[0])
		return;
	output_number(out, "mmio_marks", info.marks);
	output_number(out, "shadow_frames", info.shadow_frames);
	output_number(out, "record_frames", info.record_frames);
	output_number(out, "shadow_tables", 0);
}

static void pgmsync(struct output *out, char *const *argument)
{
	struct machine *m = command_live_machine(out, argument[0]);
	struct pgm_tables_info before, after;

	if (!m)
		return;
	pgm_tables_describe(m->pgm, &before);
	pgm_tables_drop(m->pgm);
	pgm_tables_describe(m->pgm, &after);
	output_number(out, "leaves_before", before.leaves[0] + before.leaves[1] + before.leaves[2]);
	output_number(out, "leaves_after", after.leaves[0] + after.leaves[1] + after.leaves[2]);
	output_note(out, "the tables come back as the guest touches its memory");
}

static void pgmsyncalways(struct output *out, char *const *argument)
{
	struct machine *m = command_live_machine(out, argument[0]);
	bool on;

	if (!m)
		return;
	on = !(m->vcpu[0]->watch & WATCH_SYNC);
	machine_watch(m, WATCH_SYNC, on);
	output_text(out, "name", "%s", m->name);
	output_bool(out, "sync_always", on);
}

static const struct command commands[] = {
	{ "info pool", "[NAME]", 0, 1, "second-level tables by level", info_pool },
	{ "pgmsync", "NAME", 1, 1, "drop a machine's second-level tables; they come back from faults", pgmsync },
	{ "pgmsyncalways", "NAME", 1, 1, "on or off: drop them after each exit that is no fault (slow)",
	  pgmsyncalways },
};

const struct command_table commands_tables = { commands, ARRAY_SIZE(commands) };
