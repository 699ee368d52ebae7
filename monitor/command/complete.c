/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion, out of the command tables alone. A command is a row of words, those of its name and then those of
 * its arguments' text; a place in the line may be filled by what stands at that place in each row
 * whose words before it agree: a name's own word, a|b's alternatives, or for NAME the machines.
 */
#include <string.h>

#include "lib/format.h"
#include "monitor/command/command.h"
#include "vm/machine.h"

struct candidates {
	const char *word; /* what is typed so far of it */
	size_t typed;
	char *common; /* what all candidates so far have in common beyond that */
	size_t size;
	unsigned count;
	char last[PARSE_LENGTH];
	void (*list)(void *context, const char *word);
	void *context;
};

/* Rows with the same second word ("info mode", "info phys") offer "info" once: equal ones follow one another. */
static void offer(struct candidates *c, const char *word, size_t length)
{
	const char *rest = word + c->typed;
	size_t same = 0;

	if (length < c->typed || length >= sizeof(c->last) || strncmp(word, c->word, c->typed))
		return;
	if (c->count && strlen(c->last) == length && !strncmp(c->last, word, length))
		return;
	memcpy(c->last, word, length);
	c->last[length] = 0;
	if (c->list)
		c->list(c->context, c->last);
	if (c->count++ == 0) {
		same = min_u64(length - c->typed, c->size - 1);
		memcpy(c->common, rest, same);
	} else {
		while (same < length - c->typed && c->common[same] && c->common[same] == rest[same])
			same++;
	}
	c->common[same] = 0;
}

/* NAME, or NAME/VCPU too. */
static void offer_machines(struct candidates *c, bool vcpus)
{
	for (unsigned i = 0; i < machine_count(); i++) {
		const struct machine *m = machine_get(i);

		offer(c, m->name, strlen(m->name));
		for (unsigned v = 0; vcpus && m->pgm && m->vcpu_count > 1 && v < m->vcpu_count; v++) {
			char word[CONFIG_MAX_NAME + 8];

			format_string(word, sizeof(word), "%s/%u", m->name, v);
			offer(c, word, strlen(word));
		}
	}
}

/* One word of a usage text: alternatives, or a placeholder in capitals. */
static void offer_pattern(struct candidates *c, const char *pattern, size_t length)
{
	while (length && (*pattern == '[' || pattern[length - 1] == ']')) {
		pattern += *pattern == '[';
		length -= 1;
	}
	if (length >= 4 && !strncmp(pattern, "NAME", 4)) {
		offer_machines(c, length > 4);
		return;
	}
	while (length) {
		const char *bar = memchr(pattern, '|', length);
		size_t part = bar ? (size_t)(bar - pattern) : length;

		if (part && *pattern >= 'a' && *pattern <= 'z')
			offer(c, pattern, part);
		pattern += part + (bar != NULL);
		length -= part + (bar != NULL);
	}
}

/* Word `index` of a row; length 0: there is none. */
static size_t row_word(const struct command *command, unsigned index, const char **word, bool *of_name)
{
	const char *parts[2] = { command->name, command->arguments };

	for (unsigned p = 0; p < 2; p++) {
		for (const char *at = parts[p]; *at; index--) {
			const char *blank = strchr(at, ' ');
			size_t length = blank ? (size_t)(blank - at) : strlen(at);

			if (index == 0) {
				*word = at;
				*of_name = p == 0;
				return length;
			}
			at += length + (blank != NULL);
		}
	}
	return 0;
}

/* Do the words before `place` allow this row? */
static bool row_agrees(const struct command *command, const struct words *words, unsigned place)
{
	const char *word;
	bool of_name;

	for (unsigned i = 0; i < place; i++) {
		size_t length = row_word(command, i, &word, &of_name);

		if (!length || (of_name && (strlen(words->word[i]) != length || strncmp(word, words->word[i], length))))
			return false;
	}
	return true;
}

static void each_candidate(struct candidates *c, const struct words *words, unsigned place)
{
	const struct command *command;
	const char *word;
	bool of_name;

	for (unsigned i = 0; (command = command_get(i)) != NULL; i++) {
		size_t length;

		if (!row_agrees(command, words, place))
			continue;
		length = row_word(command, place, &word, &of_name);
		if (length && of_name)
			offer(c, word, length);
		else if (length)
			offer_pattern(c, word, length);
	}
}

void command_complete(const char *line, char *completion, size_t size, void (*list)(void *context, const char *word),
		      void *context)
{
	struct candidates c = { .word = "", .common = completion, .size = size - 1 };
	size_t length = strlen(line);
	struct words words;
	unsigned place;

	completion[0] = 0;
	if (size < 2 || parse_words(line, &words))
		return;
	place = words.count;
	if (words.count && line[length - 1] != ' ')
		c.word = words.word[--place];
	c.typed = strlen(c.word);
	each_candidate(&c, &words, place);
	if (c.count == 1) {
		memcpy(completion + strlen(completion), " ", 2);
	} else if (c.count > 1 && !completion[0]) {
		/* Nothing to add: show what there is. */
		c.list = list;
		c.context = context;
		c.count = 0;
		each_candidate(&c, &words, place);
		completion[0] = 0;
	}
}
