/* SPDX-License-Identifier: Apache-2.0 */
/* Lines kept while they can't be shown: the last HELD_LINES; older ones are only counted. Boot CPU only. */
#pragma once

#define HELD_LINES 200u
#define HELD_LENGTH 303u

struct held_lines {
	unsigned next, count, lost;
	char text[HELD_LINES][HELD_LENGTH + 1];
};

/* What is longer than HELD_LENGTH is cut. */
void held_add(struct held_lines *held, const char *text);
/* Calls line for each, oldest first, one that says how many were lost before them; then forgets them. */
void held_show(struct held_lines *held, void (*line)(void *context, const char *text), void *context);
