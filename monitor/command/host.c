/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about the monitor and the host as a whole. */
#include <string.h>

#include "arch/x86_64/host.h"
#include "lib/format.h"
#include "monitor/internal.h"
#include "monitor/command/stats.h"
#include "monitor/command/usage.h"
#include "vm/machine.h"

#define LOG_DEFAULT 50u
#define LOG_MOST 1024u

static void help(struct output *out, char *const *argument)
{
	const struct command *command;
	char usage[PARSE_LENGTH];
	unsigned shown = 0;

	for (unsigned i = 0; argument[0] && (command = command_get(i)) != NULL; i++)
		shown += !strncmp(command->name, argument[0], strlen(argument[0]));
	if (argument[0] && !shown) {
		output_error(out, "unknown command \"%s\"; help lists all", argument[0]);
		return;
	}
	output_table_begin(out, "commands");
	for (unsigned i = 0; (command = command_get(i)) != NULL; i++) {
		if (argument[0] && strncmp(command->name, argument[0], strlen(argument[0])))
			continue;
		format_string(usage, sizeof(usage), "%s%s%s", command->name, *command->arguments ? " " : "",
			      command->arguments);
		output_row(out, TEXT("command", usage, 28), TEXT("help", command->help));
	}
	output_table_end(out);
	output_note(out, "Ctrl-] switches between the machines' consoles and the monitor; Tab completes.");
}

static char wanted[PARSE_LENGTH + 1];

static void show_stats(struct output *out)
{
	unsigned count;

	output_table_begin(out, "stats");
	count = stats_take(out, wanted);
	output_table_end(out);
	if (!count)
		output_note(out, "nothing of this name; stats alone shows all");
}

static void stats(struct output *out, char *const *argument)
{
	format_string(wanted, sizeof(wanted), "%s", argument[0] ? argument[0] : "*");
	usage_count(show_stats);
}

static void reset_stats(struct output *out, char *const *argument)
{
	output_phrase(out, "reset", "", stats_take(NULL, argument[0]), " counters set to zero");
}

static void measure(struct output *out, char *const *argument)
{
	bool on;

	if (!command_switch(out, argument[0], &on))
		return;
	machine_watch(NULL, WATCH_CYCLES, on);
	output_bool(out, "cycles", on);
}

static void log_item(void *context, const char *text)
{
	output_list_item(context, text);
}

static void show_log(struct output *out, char *const *argument)
{
	uint64_t count = LOG_DEFAULT;

	if (argument[0] && !command_number(out, argument[0], "number of lines", &count))
		return;
	output_list_begin(out, "lines");
	log_replay((unsigned)min_u64(count, LOG_MOST), log_item, out);
	output_list_end(out);
}

static void mode(struct output *out, char *const *argument)
{
	bool json = !strcmp(argument[0], "json");

	if (!json && strcmp(argument[0], "text")) {
		output_error(out, "usage: mode json|text");
		return;
	}
	out->mode = json ? OUTPUT_JSON : OUTPUT_TEXT; /* this answer too is in the new form */
	monitor_set_mode(out->mode);
	output_text(out, "mode", "%s", argument[0]);
}

static void version(struct output *out, char *const *argument)
{
	output_fields(out, TEXT("name", "Quire"), TEXT("version", QUIRE_VERSION), TEXT("virtualisation", hv->name),
		      NUMBER("cpus", cpu_count()), NUMBER("tsc_hz", host_tsc_hz()),
		      NUMBER("uptime_ms", host_now_ns() / 1000000));
}

static void echo(struct output *out, char *const *argument)
{
	char text[PARSE_LENGTH] = "";
	size_t used = 0;

	for (unsigned i = 0; argument[i] && used < sizeof(text); i++)
		used += format_string(text + used, sizeof(text) - used, "%s%s", i ? " " : "", argument[i]);
	if (out->mode == OUTPUT_TEXT)
		output_note(out, "%s", text);
	else
		output_text(out, "text", "%s", text);
}

static void poweroff(struct output *out, char *const *argument)
{
	output_note(out, "stopping all machines");
	monitor_end(ENDING_POWEROFF);
}

static void reboot(struct output *out, char *const *argument)
{
	output_note(out, "stopping all machines");
	monitor_end(ENDING_REBOOT);
}

static const struct command commands[] = {
	{ "stats reset", "GLOB", 1, 1, "set the matching counters of events to zero", reset_stats },
	{ "stats cycles", "on|off", 1, 1, "measure the time that exits take, by reason", measure },
	{ "stats", "[GLOB]", 0, 1, "counters whose name matches (a part of it, or with * and ?)", stats },
	{ "log", "[COUNT]", 0, 1, "the newest lines of the host's log", show_log },
	{ "dmesg", "[COUNT]", 0, 1, "the same", show_log },
	{ "mode", "json|text", 1, 1, "how answers are written", mode },
	{ "version", "", 0, 0, "this build and this host", version },
	{ "echo", "[TEXT...]", 0, PARSE_WORDS - 1, "write the words", echo },
	{ "poweroff", "", 0, 0, "stop all machines, then the host", poweroff },
	{ "reboot", "", 0, 0, "stop all machines, then start the host again", reboot },
	{ "help", "[COMMAND]", 0, 1, "this list, or one command's lines", help },
};

const struct command_table commands_host = { commands, ARRAY_SIZE(commands) };
