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

/* width: of the column in text mode; 0: no padding (the last column). Numbers stand right, text left. */
struct output_column {
	const char *key;
	uint8_t width;
	bool right;
};

typedef void (*output_sink)(void *context, const char *bytes, size_t length);

struct output {
	enum output_mode mode;
	output_sink sink;
	void *context;
	const char *command;
	bool opened; /* JSON: "ok" is out */
	bool failed;
	bool comma; /* JSON: the next element follows another */
	const struct output_column *columns;
	unsigned column_count, column;
	bool vertical, heading_due;
	unsigned used;
	char buffer[256];
};

/* command: what JSON names the answer by; it must live until output_end. mode may be changed until data are put out. */
void output_begin(struct output *out, enum output_mode mode, output_sink sink, void *context, const char *command);
/* Ends the line; true when there was no error. */
bool output_end(struct output *out);
void output_error(struct output *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

void output_number(struct output *out, const char *key, uint64_t value);
void output_hex(struct output *out, const char *key, uint64_t value);
void output_bool(struct output *out, const char *key, bool value);
void output_text(struct output *out, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A number that a person reads in a sentence: `before` value `after`; a program under its key. */
void output_phrase(struct output *out, const char *key, const char *before, uint64_t value, const char *after);
/* For a person only: what a program sees from the data. A whole line. */
void output_note(struct output *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Lines of text; an array of strings. */
void output_list_begin(struct output *out, const char *key);
void output_list_item(struct output *out, const char *text);
void output_list_end(struct output *out);

/* Rows of cells, given one after another; a row ends by itself. columns must live until the table's end. */
void output_table_begin(struct output *out, const char *key, const struct output_column *columns, unsigned count);
/* The same data, but text mode shows each row as a heading (the first cell) with indented `key: value` lines below. */
void output_records_begin(struct output *out, const char *key, const struct output_column *columns, unsigned count);
void output_cell_number(struct output *out, uint64_t value);
void output_cell_hex(struct output *out, uint64_t value);
void output_cell_text(struct output *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* null; "-" in text. */
void output_cell_none(struct output *out);
void output_table_end(struct output *out);
