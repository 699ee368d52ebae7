/* SPDX-License-Identifier: Apache-2.0 */
/* The answer of a command in text or in JSON: see the header. Nothing is kept but the last few bytes, so any length will do. */
#include "monitor/text/output.h"

#include <string.h>

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

	if (out->failed)
		return;
	format_arguments(text, sizeof(text), format);
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
/* Where `number` is shown, room for it. */
static const char *shown(const struct output *out, const struct output_value *v, char number[24])
{
	bool json = out->mode == OUTPUT_JSON;

	if (v->kind == OUTPUT_TEXTUAL)
		return v->text ? v->text : json ? "null" : "-";
	if (v->kind == OUTPUT_BOOL)
		return v->number ? (json ? "true" : "yes") : (json ? "false" : "no");
	format_string(number, 24, v->kind == OUTPUT_HEX ? "0x%lx" : "%lu", v->number);
	return number;
}

static void json_value(struct output *out, const struct output_value *v)
{
	char number[24];
	const char *text = shown(out, v, number);

	json_key(out, v->key);
	if (v->kind == OUTPUT_HEX || (v->kind == OUTPUT_TEXTUAL && v->text))
		json_string(put, out, text);
	else
		put_text(out, text);
}

static void put_pair(struct output *out, const char *before, const struct output_value *v, const char *between)
{
	char number[24];

	put_text(out, before);
	put_label(out, v->key);
	put_text(out, between);
	put_clean(out, shown(out, v, number));
	put_text(out, LINE_END);
}

void output_values(struct output *out, const struct output_value *v)
{
	for (; v->key; v++)
		if (out->mode == OUTPUT_JSON)
			json_value(out, v);
		else
			put_pair(out, "", v, ": ");
}

void output_text(struct output *out, const char *key, const char *format, ...)
{
	char text[VALUE_SIZE];

	format_arguments(text, sizeof(text), format);
	output_fields(out, TEXT(key, text));
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
void output_table_begin(struct output *out, const char *key)
{
	out->vertical = false;
	out->heading_due = true;
	output_list_begin(out, key);
}

void output_records_begin(struct output *out, const char *key)
{
	out->vertical = true;
	output_list_begin(out, key);
}

/* A row, or the heading that goes with it: each cell padded to its column, with the gap to its left. */
static void put_row(struct output *out, const struct output_value *row, bool heading)
{
	for (const struct output_value *v = row; v->key; v++) {
		char number[24];
		const char *text = heading ? v->key : shown(out, v, number);
		size_t length = strlen(text), padding = length < v->width ? v->width - length : 0;
		bool right = v->kind != OUTPUT_TEXTUAL;

		if (v->kind == OUTPUT_LEFT_OUT)
			continue;
		put_blanks(out, (v != row ? 2 : 0) + (right ? padding : 0));
		if (heading)
			put_label(out, text);
		else
			put_clean(out, text);
		put_blanks(out, right || !v[1].key ? 0 : padding);
	}
	put_text(out, LINE_END);
}

static void json_row(struct output *out, const struct output_value *v)
{
	json_separate(out);
	put_text(out, "{");
	out->comma = false;
	for (; v->key; v++)
		if (v->kind != OUTPUT_LEFT_OUT)
			json_value(out, v);
	put_text(out, "}");
	out->comma = true;
}

void output_cells(struct output *out, const struct output_value *row)
{
	if (out->mode == OUTPUT_JSON) {
		json_row(out, row);
	} else if (out->vertical) {
		put_pair(out, "", row, " ");
		for (const struct output_value *v = row + 1; v->key; v++)
			if (v->kind != OUTPUT_LEFT_OUT)
				put_pair(out, "  ", v, ": ");
	} else {
		if (out->heading_due)
			put_row(out, row, true);
		out->heading_due = false;
		put_row(out, row, false);
	}
}

void output_table_end(struct output *out)
{
	output_list_end(out);
}
