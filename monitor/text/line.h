/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The line editor: a prompt, one line of text, a history. It is fed byte by byte and draws with nothing but
 * printable characters, CR, LF and backspace, so that the plainest terminal (the framebuffer) shows the
 * same as a serial one. The text holds printable ASCII only.
 *
 * Keys: left, right, home, end (^B ^F ^A ^E), up, down (^P ^N), backspace, delete (^D), ^K to the end, ^U to the start,
 * ^W the word before, ^L draws anew, ^C drops the line, Tab asks for completion, Enter ends it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINE_SIZE 256u
#define LINE_HISTORY 32u

enum line_event {
	LINE_NOTHING,
	LINE_READY,  /* Enter: text[] holds the line; line_reset() before the next one */
	LINE_CANCEL, /* ^C: the line is dropped already */
	LINE_TAB,    /* the owner may line_insert() */
};

struct line {
	void (*write)(void *context, const char *bytes, size_t length);
	void *context;
	const char *prompt;
	bool shown; /* prompt and text stand in the screen's last line */
	unsigned length, cursor;
	char text[LINE_SIZE]; /* always NUL-terminated */

	uint8_t escape; /* inside an escape sequence; the parser's state */
	uint8_t parameter;
	bool after_cr; /* an LF now belongs to the CR before */

	unsigned history_count, history_next, history_back; /* back: 0 is the line being typed */
	char typed[LINE_SIZE];                              /* that line, while an older one is shown */
	char history[LINE_HISTORY][LINE_SIZE];
};

void line_init(struct line *line, const char *prompt, void (*write)(void *context, const char *bytes, size_t length),
	       void *context);
enum line_event line_key(struct line *line, uint8_t byte);
/* Makes it empty, without drawing; for after LINE_READY. */
void line_reset(struct line *line);
/* Draws prompt and text, unless they are there. */
void line_show(struct line *line);
/* Wipes them and leaves the cursor in the first column, unless they aren't there. */
void line_hide(struct line *line);
/* As if typed at the cursor; control characters are left out. */
void line_insert(struct line *line, const char *text);
