/* SPDX-License-Identifier: Apache-2.0 */
/* From a line to a command's function: see the header. */
#include "monitor/command/command.h"

#include <string.h>

#include "lib/format.h"
#include "vm/machine.h"

static const struct command_table *const tables[] = { &commands_vm,    &commands_memory,  &commands_cpu,
						      &commands_walk,  &commands_tables,  &commands_pages,
						      &commands_dirty, &commands_inject,  &commands_host,
						      &commands_bench, &commands_balloon, &commands_fuse };

/* The command at work: its answer, its line, and what is to be called again while it takes long. */
static struct output answer;
static char answer_line[PARSE_LENGTH];
static bool (*going_on)(struct output *out, bool cancelled);

const struct command *command_get(unsigned index)
{
	for (unsigned t = 0; t < ARRAY_SIZE(tables); index -= tables[t++]->count)
		if (index < tables[t]->count)
			return &tables[t]->commands[index];
	return NULL;
}

static size_t word_length(const char *text)
{
	const char *blank = strchr(text, ' ');

	return blank ? (size_t)(blank - text) : strlen(text);
}

/* Words of the command's name that the line starts with, if it starts with all of them; else 0. */
static unsigned name_matches(const struct command *command, const struct words *words)
{
	const char *name = command->name;
	unsigned matched = 0;

	while (*name && matched < words->count) {
		size_t length = word_length(name);

		if (strlen(words->word[matched]) != length || strncmp(name, words->word[matched], length))
			return 0;
		matched++;
		name += length;
		name += *name == ' ';
	}
	return *name ? 0 : matched;
}

static const struct command *find(const struct words *words, unsigned *matched)
{
	const struct command *command;

	for (unsigned i = 0; (command = command_get(i)) != NULL; i++) {
		*matched = name_matches(command, words);
		if (*matched)
			return command;
	}
	return NULL;
}

/* "vm" alone, or with a second word that isn't known: says which there are. */
static bool suggest_second_word(struct output *out, const struct words *words)
{
	size_t length = strlen(words->word[0]), used = 0;
	const struct command *command;
	char list[200] = "";

	for (unsigned i = 0; (command = command_get(i)) != NULL; i++)
		if (!strncmp(command->name, words->word[0], length) && command->name[length] == ' ' &&
		    used < sizeof(list))
			used += format_string(list + used, sizeof(list) - used, "%s%s", used ? "|" : "",
					      command->name + length + 1);
	if (used)
		output_error(out, "usage: %s %s", words->word[0], list);
	return used > 0;
}

static void run_words(struct output *out, struct words *words)
{
	char *argument[PARSE_WORDS + 1] = { NULL };
	const struct command *command;
	unsigned matched, count;

	command = find(words, &matched);
	if (!command) {
		if (!suggest_second_word(out, words))
			output_error(out, "unknown command \"%s\"; help lists all", words->word[0]);
		return;
	}
	count = words->count - matched;
	if (count < command->least || count > command->most) {
		output_error(out, "usage: %s%s%s", command->name, *command->arguments ? " " : "", command->arguments);
		return;
	}
	for (unsigned i = 0; i < count; i++)
		argument[i] = words->word[matched + i];
	command->run(out, argument);
}

void command_run(const char *line, enum output_mode mode, output_sink sink, void *context)
{
	struct words words;
	const char *wrong = parse_words(line, &words);

	going_on = NULL;
	format_string(answer_line, sizeof(answer_line), "%s", line);
	output_begin(&answer, mode, sink, context, answer_line);
	if (wrong)
		output_error(&answer, "%s", wrong);
	else if (words.count)
		run_words(&answer, &words);
	if (!going_on)
		(void)output_end(&answer);
}

bool command_busy(void)
{
	return going_on != NULL;
}

void command_continue(bool cancel)
{
	if (going_on(&answer, cancel) && !cancel)
		return;
	going_on = NULL;
	(void)output_end(&answer);
}

/* ---- for the commands ---- */
void command_go_on(bool (*step)(struct output *out, bool cancelled))
{
	going_on = step;
}

struct machine *command_machine(struct output *out, const char *name)
{
	struct machine *m = machine_find(name);

	if (!m)
		output_error(out, "no machine \"%s\"; vm list shows all", name);
	return m;
}

struct machine *command_live_machine(struct output *out, const char *name)
{
	struct machine *m = command_machine(out, name);

	if (m && !m->pgm) {
		output_error(out, "vm %s is off", m->name);
		return NULL;
	}
	return m;
}

unsigned command_machines(struct output *out, const char *name, struct machine **list)
{
	unsigned count = 0;

	if (name) {
		list[0] = command_live_machine(out, name);
		return list[0] ? 1 : 0;
	}
	for (unsigned i = 0; i < machine_count(); i++)
		if (machine_get(i)->pgm)
			list[count++] = machine_get(i);
	return count;
}

/* NAME or NAME/VCPU; *number is the vcpu's or -1. NULL: an error has been put out. */
static struct machine *parse_vcpu(struct output *out, const char *text, int *number)
{
	const char *slash = strchr(text, '/');
	char name[CONFIG_MAX_NAME + 1];
	struct machine *m;
	uint64_t value;

	*number = -1;
	if (!slash)
		return command_live_machine(out, text);
	format_string(name, sizeof(name), "%.*s", (int)min_u64((uint64_t)(slash - text), CONFIG_MAX_NAME), text);
	m = command_live_machine(out, name);
	if (!m)
		return NULL;
	if (!parse_number(slash + 1, &value) || value >= m->vcpu_count) {
		output_error(out, "\"%s\": vm %s has vcpus 0 to %u", text, m->name, m->vcpu_count - 1);
		return NULL;
	}
	*number = (int)value;
	return m;
}

struct vcpu *command_vcpu(struct output *out, const char *text)
{
	int number;
	struct machine *m = parse_vcpu(out, text, &number);

	return m ? m->vcpu[number < 0 ? 0 : number] : NULL;
}

static unsigned add_all(const struct machine *m, struct vcpu **list)
{
	for (unsigned i = 0; i < m->vcpu_count; i++)
		list[i] = m->vcpu[i];
	return m->vcpu_count;
}

unsigned command_vcpus(struct output *out, const char *text, struct vcpu **list)
{
	unsigned count = 0;
	int number;
	struct machine *m = text ? parse_vcpu(out, text, &number) : NULL;

	if (m && number >= 0) {
		list[0] = m->vcpu[number];
		return 1;
	}
	if (text)
		return m ? add_all(m, list) : 0;
	for (unsigned i = 0; i < machine_count(); i++)
		if (machine_get(i)->pgm)
			count += add_all(machine_get(i), list + count);
	return count;
}

bool command_number(struct output *out, const char *text, const char *what, uint64_t *value)
{
	if (parse_number(text, value))
		return true;
	output_error(out, "\"%s\" is no %s: decimal, or hexadecimal after 0x; K, M, G, T may follow", text, what);
	return false;
}

bool command_switch(struct output *out, const char *text, bool *on)
{
	*on = !strcmp(text, "on");
	if (*on || !strcmp(text, "off"))
		return true;
	output_error(out, "\"%s\" is neither on nor off", text);
	return false;
}
