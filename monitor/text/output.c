/* SPDX-License-Identifier: Apache-2.0 */
/* The answer of a command in text or in JSON: see the header. Nothing is kept but the last few bytes, so any length will do. */
#include "monitor/text/output.h"

#include <stdarg.h>
#include <string.h>

#include "lib/format.h"
#include "monitor/text/output_json.h"

#define VALUE_SIZE 512u
#define LINE_END "\r\n"

static void flush(struct output *out)
{
	if (out->used)
		out->sink(out->context, out->buffer, out->used);
	out->used = 0;
}

static void put(void *context, const char *bytes, size_t length)
{
	struct output *out = context;

	for (size_t i = 0; i < length; i++) {
		if (out->used == sizeof(out->buffer))
			flush(out);
		out->buffer[out->used++] = bytes[i];
	}
}

static void put_text(struct output *out, const char *text)
{
	put(out, text, strlen(text));
}

/* For a person: no control characters, whoever wrote the text. */
static void put_clean(struct output *out, const char *text)
{
	for (; *text; text++)
		put(out, (unsigned char)*text < ' ' || *text == 0x7f ? (*text == '\t' ? "\t" : ".") : text, 1);
}

static void put_label(struct output *out, const char *key)
{
	for (; *key; key++)
		put(out, *key == '_' ? " " : key, 1);
}

static void put_blanks(struct output *out, size_t count)
{
	while (count-- > 0)
		put(out, " ", 1);
}

static void put_format_v(struct output *out, const char *format, va_list args)
{
	char text[VALUE_SIZE];

	format_string_v(text, sizeof(text), format, args);
	put_clean(out, text);
}

/* ---- JSON ---- */
/* The head waits until it is known whether the command succeeded. */
static void json_open(struct output *out, bool ok)
{
	if (out->opened)
		return;
	put_text(out, "{\"command\":");
	json_string(put, out, out->command);
	put_text(out, ok ? ",\"ok\":true" : ",\"ok\":false");
	out->opened = out->comma = true;
}

static void json_separate(struct output *out)
{
	json_open(out, true);
	if (out->comma)
		put(out, ",", 1);
	out->comma = true;
}

static void json_key(struct output *out, const char *key)
{
	json_separate(out);
	json_string(put, out, key);
	put(out, ":", 1);
}

/* ---- the whole ---- */
void output_begin(struct output *out, enum output_mode mode, output_sink sink, void *context, const char *command)
{
	*out = (struct output){ .mode = mode, .sink = sink, .context = context, .command = command };
}

bool output_end(struct output *out)
{
	if (out->mode == OUTPUT_JSON) {
		json_open(out, true);
		put_text(out, "}" LINE_END);
	}
	flush(out);
	return !out->failed;
}

void output_error(struct output *out, const char *format, ...)
{
	char text[VALUE_SIZE];
	va_list args;

	if (out->failed)
		return;
	va_start(args, format);
	format_string_v(text, sizeof(text), format, args);
	va_end(args);
	out->failed = true;
	if (out->mode == OUTPUT_TEXT) {
		put_clean(out, text);
		put_text(out, LINE_END);
		return;
	}
	json_open(out, false);
	json_key(out, "error");
	json_string(put, out, text);
}

/* ---- values ---- */
/* One value as it is shown and as JSON has it; quoted: a JSON string. */
static void field(struct output *out, const char *key, const char *value, bool quoted)
{
	if (out->mode == OUTPUT_TEXT) {
		put_label(out, key);
		put_text(out, ": ");
		put_clean(out, value);
		put_text(out, LINE_END);
		return;
	}
	json_key(out, key);
	if (quoted)
		json_string(put, out, value);
	else
		put_text(out, value);
}

void output_number(struct output *out, const char *key, uint64_t value)
{
	char text[24];

	format_string(text, sizeof(text), "%lu", value);
	field(out, key, text, false);
}

void output_hex(struct output *out, const char *key, uint64_t value)
{
	char text[24];

	format_string(text, sizeof(text), "0x%lx", value);
	field(out, key, text, true);
}

void output_bool(struct output *out, const char *key, bool value)
{
	if (out->mode == OUTPUT_TEXT)
		field(out, key, value ? "yes" : "no", false);
	else
		field(out, key, value ? "true" : "false", false);
}

void output_text(struct output *out, const char *key, const char *format, ...)
{
	char text[VALUE_SIZE];
	va_list args;

	va_start(args, format);
	format_string_v(text, sizeof(text), format, args);
	va_end(args);
	field(out, key, text, true);
}

void output_phrase(struct output *out, const char *key, const char *before, uint64_t value, const char *after)
{
	if (out->mode == OUTPUT_JSON)
		output_number(out, key, value);
	else
		output_note(out, "%s%lu%s", before, value, after);
}

void output_note(struct output *out, const char *format, ...)
{
	va_list args;

	if (out->mode != OUTPUT_TEXT)
		return;
	va_start(args, format);
	put_format_v(out, format, args);
	va_end(args);
	put_text(out, LINE_END);
}

/* ---- lists ---- */
void output_list_begin(struct output *out, const char *key)
{
	if (out->mode == OUTPUT_TEXT)
		return;
	json_key(out, key);
	put(out, "[", 1);
	out->comma = false;
}

void output_list_item(struct output *out, const char *text)
{
	if (out->mode == OUTPUT_TEXT) {
		put_clean(out, text);
		put_text(out, LINE_END);
		return;
	}
	json_separate(out);
	json_string(put, out, text);
}

void output_list_end(struct output *out)
{
	if (out->mode == OUTPUT_TEXT)
		return;
	put(out, "]", 1);
	out->comma = true;
}

/* ---- tables ---- */
static void table_begin(struct output *out, const char *key, const struct output_column *columns, unsigned count,
			bool vertical)
{
	out->columns = columns;
	out->column_count = count;
	out->column = 0;
	out->vertical = vertical;
	out->heading_due = !vertical;
	output_list_begin(out, key);
}

void output_table_begin(struct output *out, const char *key, const struct output_column *columns, unsigned count)
{
	table_begin(out, key, columns, count, false);
}

void output_records_begin(struct output *out, const char *key, const struct output_column *columns, unsigned count)
{
	table_begin(out, key, columns, count, true);
}

/* One cell of a table's row or heading, padded to its column, with the gap to its left. */
static void put_cell(struct output *out, unsigned column, const char *text, bool label)
{
	const struct output_column *c = &out->columns[column];
	size_t length = strlen(text);
	size_t padding = length < c->width ? c->width - length : 0;

	if (column)
		put_blanks(out, 2);
	if (c->right)
		put_blanks(out, padding);
	if (label)
		put_label(out, text);
	else
		put_clean(out, text);
	if (!c->right && column + 1 < out->column_count)
		put_blanks(out, padding);
}

static void put_heading(struct output *out)
{
	for (unsigned i = 0; i < out->column_count; i++)
		put_cell(out, i, out->columns[i].key, true);
	put_text(out, LINE_END);
	out->heading_due = false;
}

static void text_cell(struct output *out, const char *text)
{
	if (out->vertical) {
		put_text(out, out->column ? "  " : "");
		put_label(out, out->columns[out->column].key);
		put_text(out, out->column ? ": " : " ");
		put_clean(out, text);
	} else {
		if (out->heading_due)
			put_heading(out);
		put_cell(out, out->column, text, false);
	}
	if (out->vertical || out->column + 1 == out->column_count)
		put_text(out, LINE_END);
}

static void cell(struct output *out, const char *text, const char *json, bool quoted)
{
	if (out->mode == OUTPUT_TEXT) {
		text_cell(out, text);
	} else {
		json_separate(out);
		if (out->column == 0)
			put(out, "{", 1);
		json_string(put, out, out->columns[out->column].key);
		put(out, ":", 1);
		if (quoted)
			json_string(put, out, json);
		else
			put_text(out, json);
		if (out->column + 1 == out->column_count)
			put(out, "}", 1);
	}
	out->column = (out->column + 1) % out->column_count;
}

void output_cell_number(struct output *out, uint64_t value)
{
	char text[24];

	format_string(text, sizeof(text), "%lu", value);
	cell(out, text, text, false);
}

void output_cell_hex(struct output *out, uint64_t value)
{
	char text[24];

	format_string(text, sizeof(text), "0x%lx", value);
	cell(out, text, text, true);
}

void output_cell_text(struct output *out, const char *format, ...)
{
	char text[VALUE_SIZE];
	va_list args;

	va_start(args, format);
	format_string_v(text, sizeof(text), format, args);
	va_end(args);
	cell(out, text, text, true);
}

void output_cell_none(struct output *out)
{
	cell(out, "-", "null", false);
}

void output_table_end(struct output *out)
{
	output_list_end(out);
	out->columns = NULL;
}
