/* SPDX-License-Identifier: Apache-2.0 */
/* Lines out of a guest's output: see the header. Control sequences: ECMA-48 section 5.4. */
#include "monitor/text/guest_lines.h"

enum state {
	PLAIN,
	ESCAPE,       /* ESC seen */
	INTERMEDIATE, /* ESC and an intermediate byte: one more comes */
	SEQUENCE,     /* CSI: up to a final byte */
	STRING, /* OSC, DCS, APC, PM, SOS: up to BEL or ST; an LF ends it too, so that nothing is swallowed for ever */
	STRING_ESCAPE, /* ESC inside a string */
};

static void give(struct guest_lines *g, guest_line_fn line, void *context)
{
	g->text[g->length] = 0;
	line(context, g->text + g->given);
	g->given = g->length;
}

static void end_line(struct guest_lines *g, guest_line_fn line, void *context)
{
	if (g->length > g->given || g->length == 0)
		give(g, line, context);
	g->length = g->given = 0;
	g->returned = false;
}

static void add(struct guest_lines *g, uint8_t byte, guest_line_fn line, void *context)
{
	if ((g->returned && g->length) || g->length == GUEST_LINE_MAX)
		end_line(g, line, context);
	g->returned = false;
	g->text[g->length++] = (char)byte;
}

/* U+0080..U+009F (C2 80..9F in UTF-8) are control characters that some terminals obey. */
static void add_text(struct guest_lines *g, uint8_t byte, guest_line_fn line, void *context)
{
	uint8_t held = g->held;

	g->held = 0;
	if (held && byte >= 0x80 && byte < 0xa0)
		return;
	if (held)
		add(g, held, line, context);
	if (byte == 0xc2)
		g->held = byte;
	else
		add(g, byte, line, context);
}

static void plain(struct guest_lines *g, uint8_t byte, guest_line_fn line, void *context)
{
	if (byte == '\n')
		end_line(g, line, context);
	else if (byte == '\r')
		g->returned = true;
	else if (byte == '\b' && g->length > g->given)
		g->length--;
	else if (byte == 0x1b)
		g->state = ESCAPE;
	else if (byte == '\t' || (byte >= ' ' && byte != 0x7f))
		add_text(g, byte, line, context);
}

static void escape(struct guest_lines *g, uint8_t byte)
{
	switch (byte) {
	case '[': g->state = SEQUENCE; break;
	case ']':
	case 'P':
	case 'X':
	case '^':
	case '_': g->state = STRING; break;
	default: g->state = byte >= 0x20 && byte < 0x30 ? INTERMEDIATE : byte == 0x1b ? ESCAPE : PLAIN;
	}
}

/* CUP, HVP, VPA, CUU, CUD, CNL: what follows stands in another line. */
static bool moves_line(uint8_t final)
{
	return final == 'H' || final == 'f' || final == 'd' || final == 'A' || final == 'B' || final == 'E';
}

static void sequence(struct guest_lines *g, uint8_t byte, guest_line_fn line, void *context)
{
	if (byte == 0x1b) {
		g->state = ESCAPE;
	} else if (byte < 0x20) {
		g->state = PLAIN;
		plain(g, byte, line, context);
	} else if (byte >= 0x40) {
		g->state = PLAIN;
		if (moves_line(byte) && g->length)
			end_line(g, line, context);
	}
}

static void string(struct guest_lines *g, uint8_t byte, guest_line_fn line, void *context)
{
	if (byte == '\n') {
		g->state = PLAIN;
		end_line(g, line, context);
	} else if (byte == 0x07 || (g->state == STRING_ESCAPE && byte == '\\')) {
		g->state = PLAIN;
	} else {
		g->state = byte == 0x1b ? STRING_ESCAPE : STRING;
	}
}

static void one(struct guest_lines *g, uint8_t byte, guest_line_fn line, void *context)
{
	switch ((enum state)g->state) {
	case PLAIN: plain(g, byte, line, context); break;
	case ESCAPE: escape(g, byte); break;
	case INTERMEDIATE:
		if (byte < 0x20 || byte >= 0x30)
			g->state = PLAIN;
		break;
	case SEQUENCE: sequence(g, byte, line, context); break;
	case STRING:
	case STRING_ESCAPE: string(g, byte, line, context); break;
	}
}

void guest_lines_feed(struct guest_lines *g, const uint8_t *bytes, size_t length, uint64_t now, guest_line_fn line,
		      void *context)
{
	if (length)
		g->changed = now;
	for (size_t i = 0; i < length; i++)
		one(g, bytes[i], line, context);
}

bool guest_lines_idle(struct guest_lines *g, uint64_t now, guest_line_fn line, void *context)
{
	if (g->length <= g->given || now - g->changed < GUEST_LINE_WAIT)
		return false;
	give(g, line, context);
	return true;
}

void guest_lines_flush(struct guest_lines *g, guest_line_fn line, void *context)
{
	if (g->length > g->given)
		give(g, line, context);
	*g = (struct guest_lines){ 0 };
}
