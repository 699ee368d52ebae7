/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's console output cut into lines for the monitor. Bytes come as the guest wrote them; out go lines without
 * control characters and escape sequences (tabs stay), so that no guest can draw on the operator's screen
 * outside its own lines.
 *
 * A line ends at LF; at a CR that more text follows; where the cursor is moved about the screen; and at
 * GUEST_LINE_MAX bytes. A line without an end, a shell's prompt say, is given out once it has
 * stood for GUEST_LINE_WAIT ns; what follows it on the same line is given out later without it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_LINE_MAX 255u
#define GUEST_LINE_WAIT UINT64_C(300000000)

typedef void (*guest_line_fn)(void *context, const char *text);

struct guest_lines {
	uint8_t state;          /* the escape parser's */
	uint8_t held;           /* first byte of a character that may turn out to be a control character; 0: none */
	bool returned;          /* CR seen, nothing since */
	unsigned length, given; /* given: bytes of text already given out */
	uint64_t changed;       /* ns */
	char text[GUEST_LINE_MAX + 1];
};

/* now: ns. line is called for each line that ends in these bytes. */
void guest_lines_feed(struct guest_lines *lines, const uint8_t *bytes, size_t length, uint64_t now, guest_line_fn line,
		      void *context);
/* Gives out an unfinished line that has stood long enough; true if it did. */
bool guest_lines_idle(struct guest_lines *lines, uint64_t now, guest_line_fn line, void *context);
/* Gives out what there is (the machine has ended) and starts afresh. */
void guest_lines_flush(struct guest_lines *lines, guest_line_fn line, void *context);
