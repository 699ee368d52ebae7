/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tokenizer of quire.conf; the form of the text stands in lib/ini.h.
 *
 * A line is cut out first, then looked at on its own, so nothing read ever crosses its end, and
 * the end of the text is looked at in one place only (cut_line).
 */
#include "lib/ini.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_comment(char c)
{
	return c == '#' || c == ';';
}

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

static struct ini_text skip(struct ini_text text, size_t count)
{
	text.bytes += count;
	text.length -= count;
	return text;
}

static struct ini_text trim(struct ini_text text)
{
	while (text.length && is_blank(text.bytes[0]))
		text = skip(text, 1);
	while (text.length && is_blank(text.bytes[text.length - 1]))
		text.length--;
	return text;
}

bool ini_same(struct ini_text a, struct ini_text b)
{
	if (a.length != b.length)
		return false;
	for (size_t i = 0; i < a.length; i++)
		if (a.bytes[i] != b.bytes[i])
			return false;
	return true;
}

bool ini_equal(struct ini_text text, const char *word)
{
	size_t i = 0;

	while (i < text.length && word[i] && word[i] == text.bytes[i])
		i++;
	return i == text.length && !word[i];
}

void ini_begin(struct ini_reader *reader, const char *text, size_t length)
{
	static const char mark[] = "\xef\xbb\xbf";
	struct ini_text start = { text ? text : "", text ? length : 0 };

	if (start.length >= 3 && ini_equal((struct ini_text){ start.bytes, 3 }, mark))
		start = skip(start, 3);
	reader->cursor = start.bytes;
	reader->end = start.bytes + start.length;
	reader->line = 0;
}

/* The next line without its end; moves the reader past it. The text must not be at its end. */
static struct ini_text cut_line(struct ini_reader *reader)
{
	struct ini_text line = { reader->cursor, 0 };

	while (reader->cursor < reader->end && *reader->cursor != '\n')
		reader->cursor++;
	line.length = (size_t)(reader->cursor - line.bytes);
	if (reader->cursor < reader->end)
		reader->cursor++;
	if (line.length && line.bytes[line.length - 1] == '\r')
		line.length--;
	reader->line++;
	return line;
}

static const char *check_bytes(struct ini_text line)
{
	if (line.length > INI_MAX_LINE)
		return "the line is longer than 4096 bytes";
	for (size_t i = 0; i < line.length; i++) {
		unsigned char c = (unsigned char)line.bytes[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return "the line holds a control character";
	}
	return NULL;
}

/* Takes letters, digits, _ and - off the front; length 0 when there is none. */
static struct ini_text take_word(struct ini_text *rest)
{
	struct ini_text word = { rest->bytes, 0 };

	while (word.length < rest->length && is_word(rest->bytes[word.length]))
		word.length++;
	*rest = skip(*rest, word.length);
	return word;
}

static bool only_comment(struct ini_text rest)
{
	rest = trim(rest);
	return !rest.length || is_comment(rest.bytes[0]);
}

/* line starts with '['. */
static const char *read_section(struct ini_text line, struct ini_item *item)
{
	struct ini_text inside = skip(line, 1);
	size_t end = 0;

	while (end < inside.length && inside.bytes[end] != ']')
		end++;
	if (end == inside.length)
		return "the section lacks its closing ]";
	if (!only_comment(skip(inside, end + 1)))
		return "text after the section's ]";
	inside.length = end;
	inside = trim(inside);
	item->kind = INI_SECTION;
	item->name = take_word(&inside);
	if (!item->name.length)
		return "the section has no name";
	if (inside.length && !is_blank(inside.bytes[0]))
		return "the section's name may hold letters, digits, _ and - only";
	item->argument = trim(inside);
	return NULL;
}

static const char *read_value(struct ini_text rest, struct ini_item *item)
{
	size_t end = 0;
	char quote;

	rest = trim(rest);
	if (rest.length && (rest.bytes[0] == '"' || rest.bytes[0] == '\'')) {
		quote = rest.bytes[0];
		rest = skip(rest, 1);
		while (end < rest.length && rest.bytes[end] != quote)
			end++;
		if (end == rest.length)
			return "the value lacks its closing quote";
		if (!only_comment(skip(rest, end + 1)))
			return "text after the value's closing quote";
		item->value = (struct ini_text){ rest.bytes, end };
		return NULL;
	}
	while (end < rest.length && !(is_comment(rest.bytes[end]) && (!end || is_blank(rest.bytes[end - 1]))))
		end++;
	item->value = trim((struct ini_text){ rest.bytes, end });
	return NULL;
}

static const char *read_key(struct ini_text line, struct ini_item *item)
{
	item->kind = INI_KEY;
	item->name = take_word(&line);
	line = trim(line);
	if (!item->name.length || !line.length || line.bytes[0] != '=')
		return "neither a [section] nor a line of the form key = value";
	return read_value(skip(line, 1), item);
}

bool ini_next(struct ini_reader *reader, struct ini_item *item)
{
	while (reader->cursor < reader->end) {
		struct ini_text line = cut_line(reader);
		const struct ini_text empty = { line.bytes, 0 };
		const char *error = check_bytes(line);

		*item = (struct ini_item){ .line = reader->line, .name = empty, .argument = empty, .value = empty };
		line = trim(line);
		if (!error && only_comment(line))
			continue;
		if (!error)
			error = line.bytes[0] == '[' ? read_section(line, item) : read_key(line, item);
		item->error = error;
		if (error)
			item->kind = line.length && line.bytes[0] == '[' ? INI_BAD_SECTION : INI_BAD_LINE;
		return true;
	}
	return false;
}

static bool is_separator(char c)
{
	return is_blank(c) || c == ',';
}

/* rest starts after an opening parenthesis; length of what stands before its partner, or rest.length when there is
 * none. */
static size_t find_partner(struct ini_text rest)
{
	unsigned depth = 1;
	size_t i = 0;

	for (; i < rest.length; i++) {
		if (rest.bytes[i] == '(')
			depth++;
		if (rest.bytes[i] == ')' && !--depth)
			break;
	}
	return i;
}

static bool malformed(struct ini_text *rest, struct ini_text *name)
{
	rest->length = 0;
	name->length = 0;
	return true;
}

bool ini_list_next(struct ini_text *rest, struct ini_text *name, struct ini_text *arguments)
{
	size_t end = 0;

	while (rest->length && is_separator(rest->bytes[0]))
		*rest = skip(*rest, 1);
	*name = *arguments = (struct ini_text){ rest->bytes, 0 };
	if (!rest->length)
		return false;
	while (end < rest->length && !is_separator(rest->bytes[end]) && rest->bytes[end] != '(' &&
	       rest->bytes[end] != ')')
		end++;
	name->length = end;
	*rest = skip(*rest, end);
	if (!end || (rest->length && rest->bytes[0] == ')'))
		return malformed(rest, name);
	if (!rest->length || rest->bytes[0] != '(')
		return true;
	*rest = skip(*rest, 1);
	end = find_partner(*rest);
	if (end == rest->length)
		return malformed(rest, name);
	*arguments = trim((struct ini_text){ rest->bytes, end });
	*rest = skip(*rest, end + 1);
	if (rest->length && !is_separator(rest->bytes[0]))
		return malformed(rest, name);
	return true;
}
