/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that look at what stands in the pages: pgmcheckduppages here, pgmphystofile in dump.c. Both go in steps. */
#include <string.h>

#include "monitor/command/command.h"
#include "monitor/command/dump.h"
#include "monitor/command/duplicates.h"
#include "monitor/command/page_walk.h"
#include "vm/machine.h"

#define STEP_READ 48u      /* pages read in one step */
#define STEP_PIECES 1024u  /* pieces looked at in one step */
#define TELL_PAGES 131072u /* a line of progress per so many pages */

static struct {
	struct machine *machine[CONFIG_MAX_MACHINES];
	unsigned count, at;
	struct page_walk walk;
	struct duplicates found;
	uint64_t pages, zero, shared, ballooned, watched, told;
} scan;
static uint8_t bytes[PAGE_SIZE] __attribute__((aligned(8)));

/* Returns whether the page had to be read. */
static bool take_piece(const struct page_piece *piece)
{
	scan.pages += piece->pages;
	if (piece->state == PAGE_BALLOONED)
		scan.ballooned += piece->pages;
	else if (!piece->has_frame)
		scan.zero += piece->pages;
	else if (piece->state == PAGE_SHARED)
		scan.shared++;
	else if (pgm_read_simple(scan.walk.pgm, gpa(piece->first), bytes, PAGE_SIZE) != OK)
		scan.watched++;
	else
		duplicates_add(&scan.found, bytes);
	return piece->has_frame;
}

/* false: all machines are done. */
static bool next_piece(struct page_piece *piece)
{
	while (!page_walk_next(&scan.walk, piece)) {
		if (++scan.at >= scan.count)
			return false;
		scan.walk = (struct page_walk){ .pgm = scan.machine[scan.at]->pgm };
	}
	return true;
}

static void show_result(struct output *out, bool complete)
{
	output_fields(out, BOOL("complete", complete && !scan.found.untold), NUMBER_OF(scan, pages),
		      NUMBER_OF(scan, zero), NUMBER("zero_with_frame", scan.found.zero), NUMBER_OF(scan, shared),
		      NUMBER_OF(scan.found, unique), NUMBER_OF(scan.found, duplicate), NUMBER_OF(scan, ballooned),
		      NUMBER_OF(scan, watched), NUMBER_OF(scan.found, untold));
}

static bool duplicates_step(struct output *out, bool cancelled)
{
	struct page_piece piece;
	bool more = true;

	for (unsigned i = 0, read = 0; more && !cancelled && i < STEP_PIECES && read < STEP_READ; i++) {
		more = next_piece(&piece);
		if (more)
			read += take_piece(&piece);
	}
	if (more && !cancelled) {
		if (scan.pages - scan.told >= TELL_PAGES) {
			scan.told = scan.pages;
			output_note(out, "%lu pages so far; Ctrl-C ends it", scan.pages);
		}
		return true;
	}
	show_result(out, !more);
	duplicates_end(&scan.found);
	return false;
}

static void pgmcheckduppages(struct output *out, char *const *argument)
{
	unsigned count = command_machines(out, argument[0], scan.machine);
	uint64_t pages = 0;

	if (out->failed)
		return;
	for (unsigned i = 0; i < count; i++)
		pages += pgm_account(scan.machine[i]->pgm)->allocated[ACCOUNT_BASE];
	if (!duplicates_begin(&scan.found, pages + pages / 8)) {
		output_error(out, "no memory for the hashes of %lu pages", pages);
		return;
	}
	scan.count = count;
	scan.pages = scan.zero = scan.shared = scan.ballooned = scan.watched = scan.told = 0;
	scan.at = 0;
	if (!count) {
		show_result(out, true);
		duplicates_end(&scan.found);
		return;
	}
	scan.walk = (struct page_walk){ .pgm = scan.machine[0]->pgm };
	command_go_on(duplicates_step);
}

static void pgmphystofile(struct output *out, char *const *argument)
{
	struct machine *m = command_live_machine(out, argument[0]);

	if (!m)
		return;
	if (strcmp(argument[1], "serial"))
		output_error(out, "\"%s\" can't be written to: firmware's files are gone; serial is what there is",
			     argument[1]);
	else if (argument[2] && strcmp(argument[2], "nozero"))
		output_error(out, "usage: pgmphystofile NAME serial [nozero]");
	else
		dump_begin(out, m->pgm, argument[2] != NULL);
}

static const struct command commands[] = {
	{ "pgmcheckduppages", "[NAME]", 0, 1, "count zero, unique and equal pages; Ctrl-C ends it", pgmcheckduppages },
	{ "pgmphystofile", "NAME serial [nozero]", 2, 3, "write a machine's memory as lines of base64; Ctrl-C ends it",
	  pgmphystofile },
};

const struct command_table commands_pages = { commands, ARRAY_SIZE(commands) };
