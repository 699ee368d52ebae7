/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about memory: guest-physical ranges and use, handlers, host chunks, one page, integrity. */
#include <string.h>

#include "monitor/command/memory_map.h"
#include "monitor/command/usage.h"
#include "pgm/handlers.h"
#include "vm/machine.h"

#define RANGE_ROWS PGM_MAX_RANGES
#define HANDLER_ROWS 4096u

static struct machine *chosen[CONFIG_MAX_MACHINES];
static unsigned chosen_count;

/* `info WHAT [NAME] [word]`: the machines asked for, and whether the word is there. */
static unsigned choose(struct output *out, char *const *argument, const char *what, const char *word, bool *there)
{
	/* One word alone may be either: a machine called "verbose" is reached by "info phys verbose verbose". */
	bool alone = argument[0] && !argument[1] && !strcmp(argument[0], word);

	*there = alone || argument[1];
	if (argument[1] && strcmp(argument[1], word))
		output_error(out, "usage: info %s [NAME] [%s]", what, word);
	return out->failed ? 0 : command_machines(out, alone ? NULL : argument[0], chosen);
}

/* ---- info phys ---- */
static void show_ranges(struct output *out, unsigned count)
{
	output_table_begin(out, "ranges");
	for (unsigned m = 0; m < count; m++) {
		struct pgm_range range;

		for (unsigned i = 0; i < RANGE_ROWS && pgm_range_get(chosen[m]->pgm, i, &range); i++)
			output_row(out, TEXT("machine", chosen[m]->name, 12), HEX("first", range.base, 16),
				   HEX("last", range.base + range.size - 1, 16), NUMBER("kib", range.size / KIB, 12),
				   TEXT("type", page_type_name(range.type), 8), TEXT("name", range.name));
	}
	output_table_end(out);
}

static void show_usage(struct output *out)
{
	output_records_begin(out, "usage");
	for (unsigned m = 0; m < chosen_count; m++) {
		struct pgm_usage u = *usage_of(chosen[m]);

		output_row(out, TEXT("machine", chosen[m]->name), NUMBER_OF(u, ram_pages), NUMBER_OF(u, private_pages),
			   NUMBER_OF(u, zero_pages), NUMBER_OF(u, shared_pages), NUMBER_OF(u, ballooned_pages),
			   NUMBER_OF(u, large_blocks), NUMBER_OF(u, detailed_blocks), NUMBER_OF(u, rom_pages),
			   NUMBER_OF(u, handy_pages), NUMBER_OF(u, table_pages), NUMBER_OF(u, record_bytes));
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
	chosen_count = choose(out, argument, "phys", "verbose", &verbose);
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
		output_row(out, TEXT("machine", m->name, 12), HEX_OF(info, first, 16), HEX_OF(info, last, 16),
			   TEXT("kind", kinds[info.kind], 5), hits ? NUMBER_OF(info, hits, 12) : LEFT_OUT,
			   TEXT("description", info.description));
		rows++;
		from = gpa(info.last + 1);
	}
	return rows;
}

static void info_handlers(struct output *out, char *const *argument)
{
	bool nost;
	unsigned count = choose(out, argument, "handlers", "nost", &nost), rows = 0;

	if (out->failed)
		return;
	output_table_begin(out, "handlers");
	for (unsigned m = 0; m < count; m++)
		rows += show_handlers(out, chosen[m], !nost, HANDLER_ROWS - rows);
	output_table_end(out);
	if (!rows)
		output_note(out, "no handlers");
}

/* ---- info chunks ---- */
static void show_accounts(struct output *out)
{
	unsigned count = command_machines(out, NULL, chosen);

	output_table_begin(out, "accounts");
	for (unsigned m = 0; m < count; m++) {
		const struct account *a = pgm_account(chosen[m]->pgm);

		output_row(out, TEXT("machine", chosen[m]->name, 12),
			   NUMBER("base_reserved", a->reserved[ACCOUNT_BASE], 13),
			   NUMBER("base_allocated", a->allocated[ACCOUNT_BASE], 14),
			   NUMBER("table_reserved", a->reserved[ACCOUNT_TABLE], 14),
			   NUMBER("table_allocated", a->allocated[ACCOUNT_TABLE], 15),
			   NUMBER("fixed_allocated", a->allocated[ACCOUNT_FIXED], 15), NUMBER_OF(*a, ballooned, 9));
	}
	output_table_end(out);
}

static void info_chunks(struct output *out, char *const *argument)
{
	struct frame_totals t;

	frame_totals(&t);
	output_fields(out, NUMBER_OF(t, pages), NUMBER_OF(t, free_pages), NUMBER_OF(t, private_pages),
		      NUMBER_OF(t, shared_pages), NUMBER_OF(t, table_pages), NUMBER_OF(t, kernel_pages),
		      NUMBER_OF(t, reserved_pages), NUMBER_OF(t, chunks), NUMBER_OF(t, free_chunks),
		      NUMBER_OF(t, zero_chunks), NUMBER_OF(t, large_chunks), NUMBER_OF(t, split_chunks),
		      NUMBER_OF(t, kernel_chunks), NUMBER_OF(t, partial_chunks), NUMBER_OF(t, record_bytes));
	show_accounts(out);
}

/* ---- info memory ---- */
static void info_memory(struct output *out, char *const *argument)
{
	static const char *const priorities[] = { "low", "normal", "high" };
	unsigned count = command_machines(out, NULL, chosen);
	struct pressure_info pressure;
	struct frame_totals t;

	frame_totals(&t);
	pressure_describe(&pressure);
	output_fields(out, NUMBER("memory_mib", t.pages * PAGE_SIZE / MIB),
		      NUMBER("free_mib", t.free_pages * PAGE_SIZE / MIB),
		      NUMBER("free_for_guests_mib", t.guest_pages * PAGE_SIZE / MIB),
		      NUMBER("saved_by_sharing_mib", t.duplicate_pages * PAGE_SIZE / MIB),
		      NUMBER("ballooned_mib", t.ballooned_pages * PAGE_SIZE / MIB),
		      NUMBER("retired_pages", t.retired_pages),
		      NUMBER("could_be_freed_mib", pressure.spare * PAGE_SIZE / MIB),
		      NUMBER("promised_mib", t.reserved_pages * PAGE_SIZE / MIB),
		      NUMBER("promised_percent", t.reserved_pages * 100 / t.pages),
		      NUMBER("may_be_promised_percent", t.promise_percent), TEXT("pressure", pressure.relief));
	output_table_begin(out, "machines");
	for (unsigned i = 0; i < count; i++)
		output_row(out, TEXT("machine", chosen[i]->name, 12),
			   TEXT("priority", priorities[chosen[i]->config->priority], 8),
			   MEMORY_USE(usage_now(chosen[i])));
	output_table_end(out);
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
	{ "info memory", "", 0, 0, "the host's memory, what machines hold of it, and what could be had back",
	  info_memory },
	{ "page", "NAME GPA", 2, 2, "all that is known of one guest page", page },
	{ "check", "", 0, 0, "look for contradictions in all memory records", check },
};

const struct command_table commands_memory = { commands, ARRAY_SIZE(commands) };
