/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command's answer, written once and shown in two forms: for a person as `key: value` lines and aligned
 * tables, for a program as one line of JSON. A command only names its data; the mode decides the form.
 *
 *   {"command":"vm list","ok":true,"machines":[{"name":"a","state":"running"}]}
 *   {"command":"vm lisst","ok":false,"error":"unknown command ..."}
 *
 * Counts are JSON numbers; addresses, registers and table entries are strings of the form "0x1f000". Keys are words
 * joined by '_', which text mode shows as blanks. Errors come before any data: once data
 * are out, "ok":true is out too, and an error only adds its "error".
 *
 * Whatever the data hold, text mode shows no control character and JSON mode is valid JSON in valid UTF-8.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum output_mode { OUTPUT_TEXT, OUTPUT_JSON };

enum output_kind { OUTPUT_TEXTUAL, OUTPUT_NUMBER, OUTPUT_HEX, OUTPUT_BOOL, OUTPUT_LEFT_OUT };

/* A value and its key. width: of its column in a table's text mode; 0: no padding (the last column). Numbers stand right, text left. */
struct output_value {
	const char *key;
	enum output_kind kind;
	uint8_t width;
	uint64_t number;
	const char *text; /* NULL: null; "-" in text mode */
};
#define OUTPUT_VALUE(which, key_, ...) ((struct output_value){ .key = (key_), .kind = (which), __VA_ARGS__ })
/* One value each; the last argument, if given, is the width. */
#define NUMBER(key, value, ...) OUTPUT_VALUE(OUTPUT_NUMBER, key, .number = (value), .width = __VA_ARGS__ + 0)
#define HEX(key, value, ...) OUTPUT_VALUE(OUTPUT_HEX, key, .number = (value), .width = __VA_ARGS__ + 0)
#define BOOL(key, value, ...) OUTPUT_VALUE(OUTPUT_BOOL, key, .number = (value), .width = __VA_ARGS__ + 0)
#define TEXT(key, value, ...) OUTPUT_VALUE(OUTPUT_TEXTUAL, key, .text = (value), .width = __VA_ARGS__ + 0)
/* A member of a record, under its own name. */
#define NUMBER_OF(record, member, ...) NUMBER(#member, (record).member, __VA_ARGS__)
#define HEX_OF(record, member, ...) HEX(#member, (record).member, __VA_ARGS__)
#define LEFT_OUT OUTPUT_VALUE(OUTPUT_LEFT_OUT, "")

typedef void (*output_sink)(void *context, const char *bytes, size_t length);

struct output {
	enum output_mode mode;
	output_sink sink;
	void *context;
	const char *command;
	bool opened; /* JSON: "ok" is out */
	bool failed;
	bool comma;                 /* JSON: the next element follows another */
	bool vertical, heading_due; /* of a table */
	unsigned used;
	char buffer[256];
};

/* command: what JSON names the answer by; it must live until output_end. mode may be changed until data are put out. */
void output_begin(struct output *out, enum output_mode mode, output_sink sink, void *context, const char *command);
/* Ends the line; true when there was no error. */
bool output_end(struct output *out);
void output_error(struct output *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Values under their keys, one a line: output_fields(out, NUMBER(..), TEXT(..), ..). */
#define output_fields(out, ...) output_values(out, (const struct output_value[]){ __VA_ARGS__, { 0 } })
void output_values(struct output *out, const struct output_value *values);
#define output_number(out, key, value) output_fields(out, NUMBER(key, value))
#define output_hex(out, key, value) output_fields(out, HEX(key, value))
#define output_bool(out, key, value) output_fields(out, BOOL(key, value))
void output_text(struct output *out, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A number that a person reads in a sentence: `before` value `after`; a program under its key. */
void output_phrase(struct output *out, const char *key, const char *before, uint64_t value, const char *after);
/* For a person only: what a program sees from the data. A whole line. */
void output_note(struct output *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Lines of text; an array of strings. */
void output_list_begin(struct output *out, const char *key);
void output_list_item(struct output *out, const char *text);
void output_list_end(struct output *out);

/* Rows of cells: output_row(out, NUMBER(..), ..). All of a table's have the same keys and widths; the first one makes the heading. */
void output_table_begin(struct output *out, const char *key);
/* The same data, but text mode shows each row as a heading (the first cell) with indented `key: value` lines below. */
void output_records_begin(struct output *out, const char *key);
#define output_row(out, ...) output_cells(out, (const struct output_value[]){ __VA_ARGS__, { 0 } })
void output_cells(struct output *out, const struct output_value *row);
void output_table_end(struct output *out);
