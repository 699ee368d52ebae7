/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dirtylog: a machine's dirty log by hand, and its proof. `verify` keeps a copy of the machine's memory, brings just those
 * pages up to date that the log names, and, while the machine is paused, compares all of it with the real one: a
 * write that the log missed shows as a difference. The copy costs as much host memory as the machine has pages
 * that aren't zero; it goes when the log does.
 */
#include <string.h>

#include "arch/x86_64/cpu.h"
#include "lib/hash.h"
#include "lib/memory.h"
#include "monitor/command/command.h"
#include "pgm/dirty/dirty.h"
#include "vm/machine.h"

#define TOGGLES_MAX 100000u
/* Pages asked for at once. */
#define STEP_PAGES UINT64_C(32768)

static uint64_t bitmap[STEP_PAGES / 64];

/* ---- the copy: of one machine at a time ---- */
static struct {
	struct machine *machine; /* NULL: none */
	uint64_t start;          /* of the machine's life that it belongs to */
	uint64_t blocks;
	uint8_t ***block; /* 512 pointers to pages each; NULL: zero */
} copy;
static uint8_t live[PAGE_SIZE] __attribute__((aligned(8)));

static void copy_drop(void)
{
	for (uint64_t b = 0; b < copy.blocks && copy.block; b++) {
		for (unsigned i = 0; copy.block[b] && i < PAGES_PER_BLOCK; i++)
			heap_free(copy.block[b][i], PAGE_SIZE);
		heap_free(copy.block[b], PAGES_PER_BLOCK * sizeof(copy.block[b][0]));
	}
	heap_free(copy.block, copy.blocks * sizeof(copy.block[0]));
	memset(&copy, 0, sizeof(copy));
}

static bool copy_is_of(const struct machine *m)
{
	return copy.machine == m && copy.start == m->starts;
}

/* Where the page's pointer is; NULL when there's none, and none is to be made or can be. */
static uint8_t **copy_slot(uint64_t page, bool make)
{
	uint8_t ***block = &copy.block[page / PAGES_PER_BLOCK];

	if (!*block && make)
		*block = heap_alloc(PAGES_PER_BLOCK * sizeof((*block)[0]));
	return *block ? &(*block)[page % PAGES_PER_BLOCK] : NULL;
}

static enum status copy_update(struct machine *m, uint64_t page)
{
	enum status status = pgm_read(m->pgm, gpa(page << PAGE_SHIFT), live, PAGE_SIZE, ORIGIN_SAVE, NULL);
	uint8_t **slot;

	if (status != OK)
		return status;
	slot = copy_slot(page, !hash_is_zero(live, PAGE_SIZE));
	if (!slot)
		return hash_is_zero(live, PAGE_SIZE) ? OK : NO_MEMORY;
	if (!*slot && !hash_is_zero(live, PAGE_SIZE))
		*slot = heap_alloc(PAGE_SIZE);
	if (*slot)
		memcpy(*slot, live, PAGE_SIZE);
	return *slot || hash_is_zero(live, PAGE_SIZE) ? OK : NO_MEMORY;
}

static bool copy_equal(struct machine *m, uint64_t page)
{
	uint8_t **slot = copy_slot(page, false);

	if (pgm_read(m->pgm, gpa(page << PAGE_SHIFT), live, PAGE_SIZE, ORIGIN_SAVE, NULL) != OK)
		return false;
	return slot && *slot ? !memcmp(live, *slot, PAGE_SIZE) : hash_is_zero(live, PAGE_SIZE);
}

/* Calls visit for each page of memory, until it says no. */
static void for_pages(struct machine *m, bool (*visit)(struct machine *m, uint64_t page, void *context), void *context)
{
	struct pgm_range range;

	for (unsigned i = 0; pgm_range_get(m->pgm, i, &range); i++)
		for (uint64_t a = 0; range.type == PAGE_RAM && a < range.size; a += PAGE_SIZE)
			if (!visit(m, (range.base + a) >> PAGE_SHIFT, context))
				return;
}

/* ---- a round of reading ---- */
struct round {
	uint64_t logged;
	uint64_t ticks; /* of the time stamp counter, in the log itself */
	enum status status;
};

static bool is_ram(struct machine *m, uint64_t page)
{
	struct pgm_range range;

	return pgm_range_find(m->pgm, gpa(page << PAGE_SHIFT), &range) && range.type == PAGE_RAM;
}

static void take_word(struct machine *m, uint64_t first, uint64_t word, struct round *round)
{
	for (; word && round->status == OK; word &= word - 1) {
		uint64_t page = first + (unsigned)__builtin_ctzll(word);

		round->logged++;
		if (copy_is_of(m) && is_ram(m, page))
			round->status = copy_update(m, page);
	}
}

static void read_range(struct machine *m, uint64_t first, uint64_t end, struct round *round)
{
	for (uint64_t at = align_down(first, 64); at < end && round->status == OK; at += STEP_PAGES) {
		uint64_t count = min_u64(STEP_PAGES, end - at), before = rdtsc();

		round->status = pgm_dirty_read_and_clear(m->pgm, at, count, bitmap);
		round->ticks += rdtsc() - before;
		for (uint64_t i = 0; round->status == OK && i < (count + 63) / 64; i++)
			take_word(m, at + i * 64, bitmap[i], round);
	}
}

static void read_round(struct machine *m, struct round *round)
{
	struct pgm_range range;

	*round = (struct round){ .status = OK };
	for (unsigned i = 0; pgm_range_get(m->pgm, i, &range); i++)
		if (range.type == PAGE_RAM)
			read_range(m, range.base >> PAGE_SHIFT, (range.base + range.size) >> PAGE_SHIFT, round);
}

static bool first_copy(struct machine *m, uint64_t page, void *context)
{
	enum status *status = context;

	*status = copy_update(m, page);
	return *status == OK;
}

/* The whole of memory is copied after the log has been emptied: what is written meanwhile is in the next round. */
static enum status copy_create(struct machine *m)
{
	enum status status = OK;

	copy_drop();
	copy.blocks = pgm_dirty_extent(m->pgm) / PAGES_PER_BLOCK;
	copy.block = heap_alloc(copy.blocks * sizeof(copy.block[0]));
	if (!copy.block)
		return NO_MEMORY;
	copy.machine = m;
	copy.start = m->starts;
	for_pages(m, first_copy, &status);
	return status;
}

/* ---- the command's words ---- */
static void answer(struct output *out, struct machine *m, const char *what, enum status status)
{
	struct pgm_dirty_info info;

	if (status != OK) {
		output_error(out, "%s: %s", what, status_text(status));
		return;
	}
	pgm_dirty_describe(m->pgm, &info);
	output_text(out, "mode", "%s", dirty_mode_name(info.mode));
}

static void log_on(struct output *out, struct machine *m, const char *name)
{
	enum dirty_mode mode = DIRTY_AUTO;
	uint64_t before;

	while (name && mode < DIRTY_MODES && strcmp(name, dirty_mode_name(mode)))
		mode++;
	if (mode == DIRTY_MODES) {
		output_error(out, "\"%s\" is no way to log: auto, pml, ad or wp", name);
		return;
	}
	before = rdtsc();
	answer(out, m, "dirty log", pgm_dirty_start(m->pgm, mode));
	output_number(out, "ticks", rdtsc() - before);
}

static void log_off(struct output *out, struct machine *m, const char *unused)
{
	if (copy.machine == m)
		copy_drop();
	answer(out, m, "dirty log", pgm_dirty_stop(m->pgm));
}

static void log_read(struct output *out, struct machine *m, const char *unused)
{
	struct pgm_dirty_info info;
	struct round round;

	read_round(m, &round);
	answer(out, m, "dirty log", round.status);
	if (round.status != OK)
		return;
	pgm_dirty_describe(m->pgm, &info);
	output_number(out, "pages", round.logged);
	output_number(out, "ticks", round.ticks);
	output_number(out, "bitmap_bytes", info.bitmap_bytes);
	output_number(out, "reads", info.reads);
	output_number(out, "faults", info.faults);
	output_number(out, "splits", info.splits);
}

struct comparison {
	uint64_t pages, different, first;
};

static bool compare(struct machine *m, uint64_t page, void *context)
{
	struct comparison *c = context;

	c->pages++;
	if (!copy_equal(m, page) && !c->different++)
		c->first = page << PAGE_SHIFT;
	return true;
}

static void log_verify(struct output *out, struct machine *m, const char *unused)
{
	bool held = m->state == MACHINE_PAUSED && !__atomic_load_n(&m->vcpus_inside, __ATOMIC_ACQUIRE);
	struct comparison c = { 0 };
	struct round round;
	enum status status;

	read_round(m, &round);
	status = round.status;
	if (status == OK && !copy_is_of(m))
		status = copy_create(m);
	if (status != OK && copy_is_of(m))
		copy_drop();
	answer(out, m, "verify", status);
	if (status != OK)
		return;
	output_number(out, "pages", round.logged);
	output_bool(out, "compared", held);
	if (!held)
		return;
	for_pages(m, compare, &c);
	output_number(out, "compared_pages", c.pages);
	output_number(out, "different", c.different);
	if (c.different)
		output_hex(out, "first_different", c.first);
}

/* Off and on again, by each way in turn, with a reading in between; as often as asked. */
static void log_toggle(struct output *out, struct machine *m, const char *count)
{
	uint64_t times = 1000, logged = 0, done = 0;
	enum status status = OK;

	if (count && !command_number(out, count, "count", &times))
		return;
	if (times > TOGGLES_MAX) {
		output_error(out, "at most %u times", TOGGLES_MAX);
		return;
	}
	for (; done < times && status == OK; done++) {
		enum dirty_mode mode = DIRTY_AUTO + done % (DIRTY_MODES - DIRTY_AUTO);
		struct round round = { 0 };

		status = pgm_dirty_start(m->pgm, mode);
		if (status == NOT_SUPPORTED)
			status = pgm_dirty_start(m->pgm, DIRTY_AUTO);
		if (status == OK) {
			read_round(m, &round);
			status = round.status;
		}
		if (status == OK)
			status = pgm_dirty_stop(m->pgm);
		logged += round.logged;
	}
	answer(out, m, "toggle", status);
	if (status != OK)
		return;
	output_number(out, "times", done);
	output_number(out, "pages", logged);
}

static const struct {
	const char *word;
	void (*run)(struct output *out, struct machine *m, const char *more);
	bool more;
} actions[] = {
	{ "on", log_on, true },          { "off", log_off, false },      { "read", log_read, false },
	{ "verify", log_verify, false }, { "toggle", log_toggle, true },
};

static void dirtylog(struct output *out, char *const *argument)
{
	struct machine *m = command_live_machine(out, argument[0]);

	if (!m)
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(actions); i++) {
		if (strcmp(argument[1], actions[i].word))
			continue;
		if (argument[2] && !actions[i].more)
			output_error(out, "\"%s\" takes no more words", argument[1]);
		else
			actions[i].run(out, m, argument[2]);
		return;
	}
	output_error(out, "usage: dirtylog NAME on|off|read|verify|toggle [auto|pml|ad|wp|COUNT]");
}

static const struct command commands[] = {
	{ "dirtylog", "NAME on|off|read|verify|toggle [auto|pml|ad|wp|COUNT]", 2, 3,
	  "log which pages a machine writes; verify it against a copy", dirtylog },
};

const struct command_table commands_dirty = { commands, ARRAY_SIZE(commands) };
