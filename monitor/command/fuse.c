/* SPDX-License-Identifier: Apache-2.0 */
/* The commands about pages that machines share, and about chunks that come whole again. */
#include <string.h>

#include "arch/x86_64/cpu.h"
#include "monitor/command/command.h"
#include "pgm/modules.h"
#include "vm/machine.h"

#define STEPS 8u  /* of pages, in one of the command's */
#define ROUNDS 4u /* what is found in one may make more to be found in the next */

static struct {
	unsigned rounds;
	uint64_t looked, free_before, free_now; /* when the last round ended */
	uint64_t ticks, idle_ticks;             /* of the rounds; of those since the last that freed a page */
} fusing;

static void show(struct output *out, bool complete)
{
	struct frame_totals t;

	frame_totals(&t);
	output_fields(out, BOOL("complete", complete), NUMBER("looks", fusing.looked), NUMBER_OF(t, shared_pages),
		      NUMBER("sharing_pages", t.shared_pages + t.duplicate_pages),
		      NUMBER("freed_pages", t.free_pages > fusing.free_before ? t.free_pages - fusing.free_before : 0),
		      NUMBER_OF(fusing, ticks), NUMBER_OF(fusing, idle_ticks));
}

static void round_ended(void)
{
	struct frame_totals t;

	frame_totals(&t);
	if (t.free_pages > fusing.free_now)
		fusing.idle_ticks = 0;
	fusing.free_now = t.free_pages;
	fusing.rounds--;
}

static bool fuse_step(struct output *out, bool cancelled)
{
	for (unsigned i = 0; i < STEPS && !cancelled && fusing.rounds; i++) {
		unsigned looked = 0;
		uint64_t ticks = rdtsc();
		bool round = machines_fuse_now(&looked);

		ticks = rdtsc() - ticks;
		fusing.ticks += ticks;
		fusing.idle_ticks += ticks;
		fusing.looked += looked;
		if (round)
			round_ended();
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
		fusing.looked = fusing.ticks = fusing.idle_ticks = 0;
		fusing.free_before = fusing.free_now = t.free_pages;
		command_go_on(fuse_step);
	} else if (!strcmp(argument[0], "on") || !strcmp(argument[0], "off")) {
		machines_fuse(argument[0][1] == 'n');
		output_note(out, "pages of machines with page_fusion = on are %slooked at when CPUs idle",
			    argument[0][1] == 'n' ? "" : "not ");
	} else {
		output_error(out, "usage: fuse on|off|now");
	}
}

/* ---- pgmsharedmodules ---- */
#define PAGES_IN_A_STEP 2048u

static struct {
	struct machine *machine[CONFIG_MAX_MACHINES];
	unsigned count, at;
	struct module_region region;
	uint64_t page, shared; /* looked at of this region */
	bool any;
} modules;

static bool modules_step(struct output *out, bool cancelled)
{
	struct module_region *r = &modules.region;
	struct machine *m = modules.machine[modules.at];

	if (cancelled || modules.at == modules.count) {
		output_table_end(out);
		if (!cancelled && !modules.any)
			output_note(out, "no guest has named memory");
		return false;
	}
	if (!modules.page && !pgm_module_get(m->pgm, r)) {
		modules.at++;
		*r = (struct module_region){ 0 };
		return true;
	}
	for (unsigned i = 0; i < PAGES_IN_A_STEP && modules.page < r->pages; i++, modules.page++) {
		struct pgm_page_info info;

		pgm_page_describe(m->pgm, gpa(r->base + modules.page * PAGE_SIZE), &info);
		modules.shared += info.block == BLOCK_DETAILED && page_get_state(info.record) == PAGE_SHARED;
	}
	if (modules.page < r->pages)
		return true;
	output_row(out, TEXT("machine", m->name, 12), HEX("name", r->name, 18), HEX("first", r->base, 16),
		   NUMBER("pages", r->pages, 8), NUMBER("shared", modules.shared, 8));
	modules.page = modules.shared = 0;
	modules.any = true;
	r->index++;
	return true;
}

static void sharedmodules(struct output *out, char *const *argument)
{
	memset(&modules, 0, sizeof(modules));
	modules.count = command_machines(out, argument[0], modules.machine);
	if (out->failed)
		return;
	output_table_begin(out, "modules");
	command_go_on(modules_step);
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
	{ "pgmsharedmodules", "[NAME]", 0, 1, "memory that guests have named, and how many of its pages are shared now",
	  sharedmodules },
	{ "fuse", "on|off|now", 1, 1, "look for zero and equal pages when idle, or not; or at once; Ctrl-C ends it",
	  fuse },
};

const struct command_table commands_fuse = { commands, ARRAY_SIZE(commands) };
