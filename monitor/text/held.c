/* SPDX-License-Identifier: Apache-2.0 */
/* Kept lines: see the header. */
#include "monitor/text/held.h"

#include "lib/format.h"

void held_add(struct held_lines *held, const char *text)
{
	format_string(held->text[held->next], sizeof(held->text[0]), "%s", text);
	held->next = (held->next + 1) % HELD_LINES;
	if (held->count < HELD_LINES)
		held->count++;
	else
		held->lost++;
}

void held_show(struct held_lines *held, void (*line)(void *context, const char *text), void *context)
{
	if (held->lost) {
		char text[80];

		format_string(text, sizeof(text), "(%u lines before these were not kept)", held->lost);
		line(context, text);
	}
	for (unsigned i = held->count; i > 0; i--)
		line(context, held->text[(held->next + HELD_LINES - i) % HELD_LINES]);
	held->next = held->count = held->lost = 0;
}
