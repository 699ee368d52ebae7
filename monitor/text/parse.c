/* SPDX-License-Identifier: Apache-2.0 */
/* Words, numbers and patterns of the command line: see the header. */
#include "monitor/text/parse.h"

#include <string.h>

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Copies one word to *to and returns where the line goes on; NULL: a quote stays open. */
static const char *take_word(const char *line, char **to)
{
	char quote = 0;

	for (; *line && (quote || !is_blank(*line)); line++) {
		if (quote ? *line == quote : *line == '"' || *line == '\'')
			quote = quote ? 0 : *line;
		else
			*(*to)++ = *line;
	}
	*(*to)++ = 0;
	return quote ? NULL : line;
}

const char *parse_words(const char *line, struct words *words)
{
	char *to = words->text;

	words->count = 0;
	if (strlen(line) >= sizeof(words->text))
		return "the line is too long";
	for (;;) {
		while (is_blank(*line))
			line++;
		if (!*line)
			return NULL;
		if (words->count == PARSE_WORDS)
			return "too many words";
		/* Each word but the last is followed by a blank, so what is copied with its NUL never outgrows the line. */
		words->word[words->count++] = to;
		line = take_word(line, &to);
		if (!line)
			return "a quotation mark is not closed";
	}
}

static unsigned digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10) : 16;
}

static unsigned suffix_shift(char c)
{
	switch (c | 0x20) {
	case 'k': return 10;
	case 'm': return 20;
	case 'g': return 30;
	case 't': return 40;
	default: return 0;
	}
}

bool parse_number(const char *text, uint64_t *value)
{
	unsigned base = 10, shift = 0;
	uint64_t number = 0;
	const char *first;

	if (text[0] == '0' && (text[1] | 0x20) == 'x') {
		base = 16;
		text += 2;
	}
	for (first = text; digit_value(*text) < base; text++)
		if (__builtin_mul_overflow(number, base, &number) ||
		    __builtin_add_overflow(number, digit_value(*text), &number))
			return false;
	if (text == first)
		return false;
	if (*text) {
		shift = suffix_shift(*text++);
		if (!shift || *text || number > ~UINT64_C(0) >> shift)
			return false;
	}
	*value = number << shift;
	return true;
}

bool parse_glob(const char *pattern, const char *text)
{
	const char *star = NULL, *resume = NULL;

	while (*text) {
		if (*pattern == '*') {
			star = ++pattern;
			resume = text;
		} else if (*pattern == '?' || *pattern == *text) {
			pattern++;
			text++;
		} else if (star) {
			/* The last star takes one character more; earlier ones need not be tried again. */
			pattern = star;
			text = ++resume;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return !*pattern;
}
