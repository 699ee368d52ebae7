/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about what machines give of their memory: the balloon. */
#include <string.h>

#include "monitor/command/usage.h"
#include "vm/machine.h"

void statistics_show(struct output *out, const struct balloon_info *info)
{
	static const char *const names[VIRTIO_BALLOON_S_NR] = VIRTIO_BALLOON_S_NAMES;

	output_table_begin(out, "statistics");
	for (unsigned i = 0; i < VIRTIO_BALLOON_S_NR; i++)
		if (info->known & BIT(i))
			output_row(out, TEXT("name", names[i], 20), NUMBER("value", info->statistics[i], 16));
	output_table_end(out);
}

static void show(struct output *out, struct machine *m)
{
	struct balloon_info info;
	enum status status = machine_balloon_describe(m, &info);

	if (status != OK) {
		output_error(out, "vm %s has no balloon, or is off", m->name);
		return;
	}
	output_fields(out, BOOL("driver", info.ready), BOOL("auto", !m->balloon_fixed),
		      NUMBER("asked_mib", info.asked / (MIB / PAGE_SIZE)),
		      NUMBER("held_mib", info.held / (MIB / PAGE_SIZE)), NUMBER("told_free_mib", info.discarded / MIB));
	statistics_show(out, &info);
}

static void balloon(struct output *out, char *const *argument)
{
	struct machine *m = command_live_machine(out, argument[0]);
	enum status status;
	uint64_t mib;

	if (!m)
		return;
	if (!argument[1]) {
		show(out, m);
		return;
	}
	if (!strcmp(argument[1], "collect"))
		status = machine_balloon_collect(m);
	else if (!strcmp(argument[1], "auto"))
		status = machine_balloon_ask(m, BALLOON_AUTO);
	else if (command_number(out, argument[1], "MIB", &mib))
		status = mib > UINT64_MAX / MIB ? BAD_VALUE : machine_balloon_ask(m, mib * MIB);
	else
		return;
	if (status == OK)
		output_note(out, "vm %s: the guest has been asked", m->name);
	else
		output_error(out, "vm %s: balloon: %s", m->name, status_text(status));
}

static const struct command commands[] = {
	{ "balloon", "NAME [MIB|auto|collect]", 1, 2,
	  "a machine's balloon: show it, say how much it is to hold, or have the guest tell of all free memory",
	  balloon },
};

const struct command_table commands_balloon = { commands, ARRAY_SIZE(commands) };
