/* SPDX-License-Identifier: Apache-2.0 */
/* The commands about pages that machines share, and about chunks that come whole again. */
#include <string.h>

#include "monitor/command/command.h"
#include "vm/machine.h"

#define STEPS 8u  /* of pages, in one of the command's */
#define ROUNDS 4u /* what is found in one may make more to be found in the next */

static struct {
	unsigned rounds;
	uint64_t looked, free_before;
} fusing;

static void show(struct output *out, bool complete)
{
	struct frame_totals t;

	frame_totals(&t);
	output_fields(out, BOOL("complete", complete), NUMBER("looks", fusing.looked), NUMBER_OF(t, shared_pages),
		      NUMBER("sharing_pages", t.shared_pages + t.duplicate_pages),
		      NUMBER("freed_pages", t.free_pages > fusing.free_before ? t.free_pages - fusing.free_before : 0));
}

static bool fuse_step(struct output *out, bool cancelled)
{
	for (unsigned i = 0; i < STEPS && !cancelled && fusing.rounds; i++) {
		unsigned looked = 0;

		fusing.rounds -= machines_fuse_now(&looked);
		fusing.looked += looked;
	}
	if (!cancelled && fusing.rounds)
		return true;
	show(out, !cancelled);
	return false;
}

static void fuse(struct output *out, char *const *argument)
{
	struct frame_totals t;

	if (!strcmp(argument[0], "now")) {
		frame_totals(&t);
		fusing.rounds = ROUNDS;
		fusing.looked = 0;
		fusing.free_before = t.free_pages;
		command_go_on(fuse_step);
	} else if (!strcmp(argument[0], "on") || !strcmp(argument[0], "off")) {
		machines_fuse(argument[0][1] == 'n');
		output_note(out, "pages of machines with page_fusion = on are %slooked at when CPUs idle",
			    argument[0][1] == 'n' ? "" : "not ");
	} else {
		output_error(out, "usage: fuse on|off|now");
	}
}

/* First those that take least. */
static const unsigned sparse[] = { PAGES_PER_BLOCK / 8, PAGES_PER_BLOCK / 2, PAGES_PER_BLOCK - 1 };
static struct {
	unsigned round, moved, freed;
} compacting;

static bool compact_step(struct output *out, bool cancelled)
{
	struct frame_totals t;

	for (unsigned i = 0; i < STEPS && !cancelled && compacting.round < ARRAY_SIZE(sparse); i++)
		compacting.round +=
			machines_compact_now(sparse[compacting.round], &compacting.moved, &compacting.freed);
	if (!cancelled && compacting.round < ARRAY_SIZE(sparse))
		return true;
	frame_totals(&t);
	output_fields(out, BOOL("complete", !cancelled), NUMBER("chunks_given_back", compacting.freed),
		      NUMBER("pages_moved", compacting.moved), NUMBER_OF(t, free_chunks), NUMBER_OF(t, split_chunks),
		      NUMBER("shared_pages_left_alone", t.shared_pages));
	return false;
}

static void compact(struct output *out, char *const *argument)
{
	compacting.round = compacting.moved = compacting.freed = 0;
	command_go_on(compact_step);
}

static const struct command commands[] = {
	{ "compact", "", 0, 0, "empty chunks of which little is used, so that they are whole again; Ctrl-C ends it",
	  compact },
	{ "fuse", "on|off|now", 1, 1, "look for zero and equal pages when idle, or not; or at once; Ctrl-C ends it",
	  fuse },
};

const struct command_table commands_fuse = { commands, ARRAY_SIZE(commands) };
