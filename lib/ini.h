/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the text of quire.conf, one item after another: sections, keys with their values, and
 * lines that are neither. The kernel and the UEFI program both use it, so it calls nothing, allocates
 * nothing and keeps no state but the caller's reader. Results are slices of the caller's text.
 *
 * The form of the text:
 *   [host]                 a section; a second word is its argument
 *   [vm NAME]
 *   key = value            value: to the end of the line, blanks trimmed
 *   key = "a value # so"   quoted by " or ': taken as it stands, no escapes; only a comment may follow
 *   # text, ; text         a comment: at the start of a line, or after a blank
 * Lines end with LF or CRLF; a UTF-8 byte order mark at the start is skipped. Bytes from 0x80 up
 * are taken as they are; control characters other than tab are errors. An error concerns its
 * line only: reading goes on with the next one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Bytes in a line, its end not counted; a longer one is an error. */
#define INI_MAX_LINE 4096u

/* Not NUL-terminated. bytes is never NULL in what this file returns. */
struct ini_text {
	const char *bytes;
	size_t length;
};

enum ini_kind {
	INI_SECTION,     /* name, argument (may be empty) */
	INI_KEY,         /* name, value (may be empty) */
	INI_BAD_LINE,    /* error; the section goes on */
	INI_BAD_SECTION, /* error; what follows belongs to no section */
};

struct ini_item {
	enum ini_kind kind;
	unsigned line; /* from 1 */
	struct ini_text name, argument, value;
	const char *error; /* a constant text for a person; NULL unless the item is bad */
};

struct ini_reader {
	const char *cursor, *end;
	unsigned line;
};

/* The text must stay where it is while the reader and its items are used. text may be NULL when length is 0. */
void ini_begin(struct ini_reader *reader, const char *text, size_t length);

/* The next item; false at the end of the text. Every item takes at least one byte of the text, so a loop ends. */
bool ini_next(struct ini_reader *reader, struct ini_item *item);

/*
 * Takes the first element off a list of file names, each with arguments in parentheses or without:
 *   first.bin, second.bin(its own (nested) arguments) third.bin
 * Elements are parted by commas, blanks or both. false at the end of the list; an element that is
 * malformed (a parenthesis that stays open or stands alone, no name, text right after a closing one)
 * has name.length 0 and ends the list.
 */
bool ini_list_next(struct ini_text *rest, struct ini_text *name, struct ini_text *arguments);

/* Same bytes as a NUL-terminated word. */
bool ini_equal(struct ini_text text, const char *word);
/* Same bytes as another slice. */
bool ini_same(struct ini_text a, struct ini_text b);
