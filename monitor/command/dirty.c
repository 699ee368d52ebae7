/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dirtylog: a machine's dirty log by hand, and its proof. `verify` keeps a copy of the machine's memory (dirty_copy.c), brings just
 * those pages up to date that the log names, and, while the machine is paused, compares all of it with the real one: a
 * write that the log missed shows as a difference.
 *
 * Each word is a row of stages; a stage is done in steps, between which guests run, and the first that fails is the last.
 */
#include <string.h>

#include "arch/x86_64/cpu.h"
#include "monitor/command/command.h"
#include "monitor/command/dirty_copy.h"
#include "pgm/dirty/dirty.h"
#include "vm/machine.h"

#define TOGGLES_MAX 100000u
#define STAGES_MAX 4u
/* Pages asked for at once; fewer where each page named is copied. */
#define READ_PAGES UINT64_C(32768)
#define READ_COPIED UINT64_C(512)

struct action {
	const char *word;
	const char *what;                /* for an error */
	bool (*stage[STAGES_MAX])(void); /* true: more to do */
	void (*show)(struct output *out);
	/* Takes the word that may follow; NULL: none may. false: an error has been put out. */
	bool (*take)(struct output *out, const char *more);
};

static struct {
	struct machine *m;
	const struct action *action;
	unsigned stage;
	enum status status;
	enum dirty_mode mode;
	uint64_t times, done; /* rounds of all stages wanted, and done */
	unsigned range;       /* reading: the range, and the page in it */
	uint64_t page;
	uint64_t logged, ticks; /* pages so far; of the time stamp counter, in the log itself */
	bool compared;
	struct dirty_difference difference;
} job;
static uint64_t bitmap[READ_PAGES / 64];

/* ---- stages ---- */
/* BUSY: more to do. */
static bool more_after(enum status status)
{
	if (status != BUSY && status != OK)
		job.status = status;
	return status == BUSY;
}

static bool stage_start(void)
{
	uint64_t before = rdtsc();
	enum status status = pgm_dirty_start(job.m->pgm, job.mode);

	if (status == NOT_SUPPORTED && job.times > 1)
		status = pgm_dirty_start(job.m->pgm, DIRTY_AUTO);
	job.ticks += rdtsc() - before;
	return more_after(status);
}

static bool stage_stop(void)
{
	job.mode = job.mode + 1 < DIRTY_MODES ? job.mode + 1 : DIRTY_AUTO; /* a toggle's next */
	return more_after(pgm_dirty_stop(job.m->pgm));
}

static void take_word(uint64_t first, uint64_t word)
{
	for (; word && job.status == OK; word &= word - 1) {
		job.logged++;
		job.status = dirty_copy_update(job.m, first + (unsigned)__builtin_ctzll(word));
	}
}

/* One piece of one range of RAM. */
static bool stage_read(void)
{
	uint64_t at, end, count, before = rdtsc();
	struct pgm_range range;

	while (pgm_range_get(job.m->pgm, job.range, &range)) {
		end = (range.base + range.size) >> PAGE_SHIFT;
		at = max_u64(job.page, align_down(range.base >> PAGE_SHIFT, 64));
		if (range.type == PAGE_RAM && at < end) {
			count = min_u64(dirty_copy_is_of(job.m) ? READ_COPIED : READ_PAGES, end - at);
			job.status = pgm_dirty_read_and_clear(job.m->pgm, at, count, bitmap);
			job.ticks += rdtsc() - before;
			for (uint64_t i = 0; job.status == OK && i < (count + 63) / 64; i++)
				take_word(at + i * 64, bitmap[i]);
			job.page = at + count;
			return true;
		}
		job.range++;
	}
	job.range = 0;
	job.page = 0;
	return false;
}

static bool stage_forget(void)
{
	return dirty_copy_machine() == job.m && dirty_copy_drop_step();
}

/* Of another machine, or of another life, or not complete. */
static bool stage_clear(void)
{
	return dirty_copy_machine() && !dirty_copy_is_of(job.m) && dirty_copy_drop_step();
}

/* The whole of memory is copied after the log has been emptied: what is written meanwhile is in the next round. */
static bool stage_copy(void)
{
	return more_after(dirty_copy_make_step(job.m));
}

static bool stage_compare(void)
{
	job.compared = machine_stands_still(job.m);
	return job.compared && dirty_copy_compare_step(job.m, &job.difference) == BUSY;
}

/* ---- the command's words ---- */
static void show_mode(struct output *out, struct pgm_dirty_info *info)
{
	pgm_dirty_describe(job.m->pgm, info);
	output_text(out, "mode", "%s", dirty_mode_name(info->mode));
}

static void show_change(struct output *out)
{
	struct pgm_dirty_info info;

	show_mode(out, &info);
	if (info.mode != DIRTY_OFF)
		output_number(out, "ticks", job.ticks);
}

static void show_reading(struct output *out)
{
	struct pgm_dirty_info info;

	show_mode(out, &info);
	output_fields(out, NUMBER("pages", job.logged), NUMBER_OF(job, ticks), NUMBER_OF(info, bitmap_bytes),
		      NUMBER_OF(info, reads), NUMBER_OF(info, faults), NUMBER_OF(info, splits));
}

static void show_verified(struct output *out)
{
	struct pgm_dirty_info info;

	show_mode(out, &info);
	output_fields(out, NUMBER("pages", job.logged), BOOL("compared", job.compared));
	if (!job.compared)
		return;
	output_fields(out, NUMBER("compared_pages", job.difference.pages), NUMBER_OF(job.difference, different));
	if (job.difference.different)
		output_hex(out, "first_different", job.difference.first);
}

static void show_toggled(struct output *out)
{
	struct pgm_dirty_info info;

	show_mode(out, &info);
	output_fields(out, NUMBER("times", job.done), NUMBER("pages", job.logged));
}

static bool take_mode(struct output *out, const char *name)
{
	while (job.mode < DIRTY_MODES && strcmp(name, dirty_mode_name(job.mode)))
		job.mode++;
	if (job.mode == DIRTY_MODES)
		output_error(out, "\"%s\" is no way to log: auto, pml, ad or wp", name);
	return job.mode != DIRTY_MODES;
}

static bool take_count(struct output *out, const char *count)
{
	if (!command_number(out, count, "count", &job.times))
		return false;
	if (job.times > TOGGLES_MAX)
		output_error(out, "at most %u times", TOGGLES_MAX);
	return job.times <= TOGGLES_MAX;
}

/* toggle: off and on again, by each way in turn, with a reading in between. */
static const struct action actions[] = {
	{ .word = "on", "dirty log", { stage_start }, show_change, take_mode },
	{ .word = "off", "dirty log", { stage_forget, stage_stop }, show_change, NULL },
	{ .word = "read", "dirty log", { stage_read }, show_reading, NULL },
	{ .word = "verify", "verify", { stage_read, stage_clear, stage_copy, stage_compare }, show_verified, NULL },
	{ .word = "toggle", "toggle", { stage_start, stage_read, stage_stop }, show_toggled, take_count },
};

static bool step(struct output *out, bool cancelled)
{
	const struct action *a = job.action;

	if (!cancelled && job.status == OK && job.done < job.times) {
		if (a->stage[job.stage]())
			return true;
		if (++job.stage == STAGES_MAX || !a->stage[job.stage]) {
			job.stage = 0;
			job.done++;
		}
		return true;
	}
	/* A copy that may have missed something is worth nothing. */
	if (!cancelled && job.status != OK && stage_forget())
		return true;
	if (cancelled)
		output_error(out, "cancelled");
	else if (job.status != OK)
		output_error(out, "%s: %s", a->what, status_text(job.status));
	else
		a->show(out);
	return false;
}

static const struct action *find_action(struct output *out, const char *word, const char *more)
{
	for (unsigned i = 0; i < ARRAY_SIZE(actions); i++) {
		if (strcmp(word, actions[i].word))
			continue;
		if (!more || actions[i].take)
			return &actions[i];
		output_error(out, "\"%s\" takes no more words", word);
		return NULL;
	}
	output_error(out, "usage: dirtylog NAME on|off|read|verify|toggle [auto|pml|ad|wp|COUNT]");
	return NULL;
}

static void dirtylog(struct output *out, char *const *argument)
{
	struct machine *m = command_live_machine(out, argument[0]);
	const struct action *action = m ? find_action(out, argument[1], argument[2]) : NULL;

	if (!action)
		return;
	memset(&job, 0, sizeof(job));
	job.m = m;
	job.action = action;
	job.mode = DIRTY_AUTO;
	job.times = action->take == take_count ? 1000 : 1;
	if (!argument[2] || action->take(out, argument[2]))
		command_go_on(step);
}

static const struct command commands[] = {
	{ "dirtylog", "NAME on|off|read|verify|toggle [auto|pml|ad|wp|COUNT]", 2, 3,
	  "log which pages a machine writes; verify it against a copy", dirtylog },
};

const struct command_table commands_dirty = { commands, ARRAY_SIZE(commands) };
