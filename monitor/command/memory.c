/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about memory: guest-physical ranges and use, handlers, host chunks, one page, integrity. */
#include <string.h>

#include "mm/frame.h"
#include "monitor/command/command.h"
#include "monitor/command/memory_map.h"
#include "monitor/command/usage.h"
#include "pgm/pgm.h"
#include "vm/machine.h"

#define RANGE_ROWS PGM_MAX_RANGES
#define HANDLER_ROWS 4096u

static struct machine *chosen[CONFIG_MAX_MACHINES];
static unsigned chosen_count;

/* ---- info phys ---- */
static void show_ranges(struct output *out, unsigned count)
{
	static const struct output_column columns[] = {
		{ "machine", 12, false }, { "first", 16, true }, { "last", 16, true },
		{ "kib", 12, true },      { "type", 8, false },  { "name", 0, false },
	};

	output_table_begin(out, "ranges", columns, ARRAY_SIZE(columns));
	for (unsigned m = 0; m < count; m++) {
		struct pgm_range range;

		for (unsigned i = 0; i < RANGE_ROWS && pgm_range_get(chosen[m]->pgm, i, &range); i++) {
			output_cell_text(out, "%s", chosen[m]->name);
			output_cell_hex(out, range.base);
			output_cell_hex(out, range.base + range.size - 1);
			output_cell_number(out, range.size / KIB);
			output_cell_text(out, "%s", page_type_name(range.type));
			output_cell_text(out, "%s", range.name);
		}
	}
	output_table_end(out);
}

static void show_usage(struct output *out)
{
	static const struct output_column columns[] = {
		{ "machine", 0, false },      { "ram_pages", 0, false },       { "private_pages", 0, false },
		{ "zero_pages", 0, false },   { "shared_pages", 0, false },    { "ballooned_pages", 0, false },
		{ "large_blocks", 0, false }, { "detailed_blocks", 0, false }, { "rom_pages", 0, false },
		{ "handy_pages", 0, false },  { "table_pages", 0, false },     { "record_bytes", 0, false },
	};

	output_records_begin(out, "usage", columns, ARRAY_SIZE(columns));
	for (unsigned m = 0; m < chosen_count; m++) {
		struct pgm_usage u = *usage_of(chosen[m]);

		output_cell_text(out, "%s", chosen[m]->name);
		output_cell_number(out, u.ram_pages);
		output_cell_number(out, u.private_pages);
		output_cell_number(out, u.zero_pages);
		output_cell_number(out, u.shared_pages);
		output_cell_number(out, u.ballooned_pages);
		output_cell_number(out, u.large_blocks);
		output_cell_number(out, u.detailed_blocks);
		output_cell_number(out, u.rom_pages);
		output_cell_number(out, u.handy_pages);
		output_cell_number(out, u.table_pages);
		output_cell_number(out, u.record_bytes);
	}
	output_table_end(out);
}

static bool verbose;

static void show_phys(struct output *out)
{
	show_ranges(out, chosen_count);
	if (verbose)
		memory_map_show(out, chosen, chosen_count);
	show_usage(out);
	if (!chosen_count)
		output_note(out, "no machine is running");
}

static void info_phys(struct output *out, char *const *argument)
{
	/* One word alone may be either: a machine called "verbose" is reached by "info phys verbose verbose". */
	bool alone = argument[0] && !argument[1] && !strcmp(argument[0], "verbose");
	if (argument[1] && strcmp(argument[1], "verbose")) {
		output_error(out, "usage: info phys [NAME] [verbose]");
		return;
	}
	verbose = alone || argument[1];
	chosen_count = command_machines(out, alone ? NULL : argument[0], chosen);
	if (!out->failed)
		usage_count(show_phys);
}

/* ---- info handlers ---- */
static unsigned show_handlers(struct output *out, const struct machine *m, bool hits, unsigned room)
{
	static const char *const kinds[] = { "MMIO", "all", "write" };
	struct pgm_handler_info info = { 0 };
	gpa_t from = gpa(0);
	unsigned rows = 0;

	while (rows < room && from.v <= PGM_MAX_GPA && pgm_handler_next(m->pgm, from, &info)) {
		output_cell_text(out, "%s", m->name);
		output_cell_hex(out, info.first);
		output_cell_hex(out, info.last);
		output_cell_text(out, "%s", kinds[info.kind]);
		if (hits)
			output_cell_number(out, info.hits);
		output_cell_text(out, "%s", info.description);
		rows++;
		from = gpa(info.last + 1);
	}
	return rows;
}

static void info_handlers(struct output *out, char *const *argument)
{
	static const struct output_column with[] = {
		{ "machine", 12, false }, { "first", 16, true }, { "last", 16, true },
		{ "kind", 5, false },     { "hits", 12, true },  { "description", 0, false },
	};
	static const struct output_column without[] = {
		{ "machine", 12, false }, { "first", 16, true },       { "last", 16, true },
		{ "kind", 5, false },     { "description", 0, false },
	};
	/* A machine called "nost" is reached by "info handlers nost nost". */
	bool alone = argument[0] && !argument[1] && !strcmp(argument[0], "nost");
	bool hits = !alone && !argument[1];
	unsigned count, rows = 0;

	if (argument[1] && strcmp(argument[1], "nost")) {
		output_error(out, "usage: info handlers [NAME] [nost]");
		return;
	}
	count = command_machines(out, alone ? NULL : argument[0], chosen);
	if (out->failed)
		return;
	output_table_begin(out, "handlers", hits ? with : without, hits ? ARRAY_SIZE(with) : ARRAY_SIZE(without));
	for (unsigned m = 0; m < count; m++)
		rows += show_handlers(out, chosen[m], hits, HANDLER_ROWS - rows);
	output_table_end(out);
	if (!rows)
		output_note(out, "no handlers");
}

/* ---- info chunks ---- */
static void show_accounts(struct output *out)
{
	static const struct output_column columns[] = {
		{ "machine", 12, false },       { "base_reserved", 13, true },   { "base_allocated", 14, true },
		{ "table_reserved", 14, true }, { "table_allocated", 15, true }, { "fixed_allocated", 15, true },
		{ "ballooned", 9, true },
	};
	unsigned count = command_machines(out, NULL, chosen);

	output_table_begin(out, "accounts", columns, ARRAY_SIZE(columns));
	for (unsigned m = 0; m < count; m++) {
		const struct account *a = pgm_account(chosen[m]->pgm);

		output_cell_text(out, "%s", chosen[m]->name);
		output_cell_number(out, a->reserved[ACCOUNT_BASE]);
		output_cell_number(out, a->allocated[ACCOUNT_BASE]);
		output_cell_number(out, a->reserved[ACCOUNT_TABLE]);
		output_cell_number(out, a->allocated[ACCOUNT_TABLE]);
		output_cell_number(out, a->allocated[ACCOUNT_FIXED]);
		output_cell_number(out, a->ballooned);
	}
	output_table_end(out);
}

static void info_chunks(struct output *out, char *const *argument)
{
	static const struct {
		const char *key;
		size_t offset;
	} rows[] = {
		{ "pages", offsetof(struct frame_totals, pages) },
		{ "free_pages", offsetof(struct frame_totals, free_pages) },
		{ "private_pages", offsetof(struct frame_totals, private_pages) },
		{ "shared_pages", offsetof(struct frame_totals, shared_pages) },
		{ "table_pages", offsetof(struct frame_totals, table_pages) },
		{ "kernel_pages", offsetof(struct frame_totals, kernel_pages) },
		{ "reserved_pages", offsetof(struct frame_totals, reserved_pages) },
		{ "chunks", offsetof(struct frame_totals, chunks) },
		{ "free_chunks", offsetof(struct frame_totals, free_chunks) },
		{ "zero_chunks", offsetof(struct frame_totals, zero_chunks) },
		{ "large_chunks", offsetof(struct frame_totals, large_chunks) },
		{ "split_chunks", offsetof(struct frame_totals, split_chunks) },
		{ "kernel_chunks", offsetof(struct frame_totals, kernel_chunks) },
		{ "partial_chunks", offsetof(struct frame_totals, partial_chunks) },
		{ "record_bytes", offsetof(struct frame_totals, record_bytes) },
	};
	struct frame_totals totals;

	(void)argument;
	frame_totals(&totals);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		output_number(out, rows[i].key, *(const uint64_t *)((const char *)&totals + rows[i].offset));
	show_accounts(out);
}

/* ---- page ---- */
static void page(struct output *out, char *const *argument)
{
	struct machine *m = command_live_machine(out, argument[0]);
	uint64_t where;

	if (!m || !command_number(out, argument[1], "address", &where))
		return;
	if (where >= PGM_MAX_GPA) {
		output_error(out, "guest-physical addresses end at 0x%lx", PGM_MAX_GPA - 1);
		return;
	}
	output_hex(out, "gpa", where);
	memory_page_show(out, m, gpa(where));
}

/* ---- check ---- */
static void finding(void *context, const char *line)
{
	output_list_item(context, line);
}

/* Machine by machine, in steps; the host's own records first. */
static struct {
	struct pgm_check of;
	unsigned at;
	uint64_t findings;
} checking;

static bool check_step(struct output *out, bool cancelled)
{
	if (checking.at < chosen_count && !cancelled) {
		if (pgm_check_step(chosen[checking.at]->pgm, &checking.of) == BUSY)
			return true;
		if (checking.of.findings)
			output_note(out, "vm %s: %u findings", chosen[checking.at]->name, checking.of.findings);
		checking.findings += checking.of.findings;
		checking.of = (struct pgm_check){ .report = finding, .context = out };
		checking.at++;
		return true;
	}
	output_list_end(out);
	output_phrase(out, "findings", cancelled ? "cancelled: " : "check: ", checking.findings, " findings");
	return false;
}

static void check(struct output *out, char *const *argument)
{
	(void)argument;
	chosen_count = command_machines(out, NULL, chosen);
	output_list_begin(out, "lines");
	checking.findings = frame_check(finding, out);
	checking.of = (struct pgm_check){ .report = finding, .context = out };
	checking.at = 0;
	command_go_on(check_step);
}

static const struct command commands[] = {
	{ "info phys", "[NAME] [verbose]", 0, 2, "guest-physical ranges and what is used of them", info_phys },
	{ "info handlers", "[NAME] [nost]", 0, 2, "access handlers and their hits; nost: without these",
	  info_handlers },
	{ "info chunks", "", 0, 0, "the host's memory by kind of use", info_chunks },
	{ "page", "NAME GPA", 2, 2, "all that is known of one guest page", page },
	{ "check", "", 0, 0, "look for contradictions in all memory records", check },
};

const struct command_table commands_memory = { commands, ARRAY_SIZE(commands) };
