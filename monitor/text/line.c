/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The line editor: see the header. Every change of the text goes through replace(), which redraws from the first
 * changed character on; every move of the cursor through move(). So text and screen can't come apart.
 */
#include "monitor/text/line.h"

#include <string.h>

#define CTRL(letter) ((letter)&0x1f)
#define KEY_ESCAPE 0x1b
#define KEY_DELETE 0x7f

enum escape_state { ESCAPE_NONE, ESCAPE_SEEN, ESCAPE_BRACKET, ESCAPE_O };

static void draw(struct line *line, const char *bytes, size_t length)
{
	if (line->shown && length)
		line->write(line->context, bytes, length);
}

static void draw_times(struct line *line, char c, unsigned count)
{
	while (count-- > 0)
		draw(line, &c, 1);
}

static void move(struct line *line, unsigned to)
{
	if (to < line->cursor)
		draw_times(line, '\b', line->cursor - to);
	else
		draw(line, line->text + line->cursor, to - line->cursor);
	line->cursor = to;
}

/* removed characters at start become count others; the cursor stands behind them. Too long: a bell, and nothing changes. */
static void replace(struct line *line, unsigned start, unsigned removed, const char *with, unsigned count)
{
	unsigned before = line->length, after = before - removed + count;

	if (after >= LINE_SIZE) {
		draw(line, "\a", 1);
		return;
	}
	move(line, start);
	memmove(line->text + start + count, line->text + start + removed, before - start - removed);
	memcpy(line->text + start, with, count);
	line->text[after] = 0;
	line->length = after;
	draw(line, line->text + start, after - start);
	if (after < before) {
		draw_times(line, ' ', before - after);
		draw_times(line, '\b', before - after);
	}
	draw_times(line, '\b', after - start - count);
	line->cursor = start + count;
}

static void erase(struct line *line, unsigned start, unsigned end)
{
	if (start < end)
		replace(line, start, end - start, "", 0);
}

static unsigned word_start(const struct line *line)
{
	unsigned at = line->cursor;

	while (at > 0 && line->text[at - 1] == ' ')
		at--;
	while (at > 0 && line->text[at - 1] != ' ')
		at--;
	return at;
}

/* ---- history ---- */
static const char *history_entry(const struct line *line, unsigned back)
{
	return back == 0 ? line->typed : line->history[(line->history_next + LINE_HISTORY - back) % LINE_HISTORY];
}

static void history_go(struct line *line, unsigned back)
{
	const char *entry;

	if (back > line->history_count)
		return;
	if (line->history_back == 0)
		memcpy(line->typed, line->text, line->length + 1);
	line->history_back = back;
	entry = history_entry(line, back);
	replace(line, 0, line->length, entry, (unsigned)strlen(entry));
}

static void history_add(struct line *line)
{
	if (!line->length || (line->history_count && !strcmp(history_entry(line, 1), line->text)))
		return;
	memcpy(line->history[line->history_next], line->text, line->length + 1);
	line->history_next = (line->history_next + 1) % LINE_HISTORY;
	if (line->history_count < LINE_HISTORY)
		line->history_count++;
}

/* ---- keys ---- */
/* Most keys move the cursor to a place, or erase what lies between it and the place. */
enum key {
	PLACE_LEFT = 1,
	PLACE_RIGHT,
	PLACE_START,
	PLACE_END,
	PLACE_WORD,
	MOVE = 0x10,
	ERASE = 0x20,
	UP = 0x40,
	DOWN,
	REDRAW,
};

static unsigned place_of(const struct line *line, unsigned key)
{
	switch (key & 0x0f) {
	case PLACE_LEFT: return line->cursor - (line->cursor > 0);
	case PLACE_RIGHT: return line->cursor + (line->cursor < line->length);
	case PLACE_END: return line->length;
	case PLACE_WORD: return word_start(line);
	default: return 0;
	}
}

static void run_key(struct line *line, unsigned key)
{
	unsigned place = place_of(line, key), from = line->cursor;

	if (key & MOVE)
		move(line, place);
	else if (key & ERASE)
		erase(line, place < from ? place : from, place < from ? from : place);
	else if (key == UP)
		history_go(line, line->history_back + 1);
	else if (key == DOWN && line->history_back > 0)
		history_go(line, line->history_back - 1);
	if (key == REDRAW) {
		line_hide(line);
		line_show(line);
	}
}

static const uint8_t control_keys[32] = {
	[CTRL('A')] = MOVE | PLACE_START,
	[CTRL('B')] = MOVE | PLACE_LEFT,
	[CTRL('D')] = ERASE | PLACE_RIGHT,
	[CTRL('E')] = MOVE | PLACE_END,
	[CTRL('F')] = MOVE | PLACE_RIGHT,
	[CTRL('H')] = ERASE | PLACE_LEFT,
	[CTRL('K')] = ERASE | PLACE_END,
	[CTRL('L')] = REDRAW,
	[CTRL('N')] = DOWN,
	[CTRL('P')] = UP,
	[CTRL('U')] = ERASE | PLACE_START,
	[CTRL('W')] = ERASE | PLACE_WORD,
};

/* Final byte of ESC [ x and ESC O x; and the number before ~ in ESC [ n ~ (ECMA-48; DEC VT220 keys). */
static const struct {
	char final;
	uint8_t parameter, key;
} escape_keys[] = {
	{ 'A', 0, UP },
	{ 'B', 0, DOWN },
	{ 'C', 0, MOVE | PLACE_RIGHT },
	{ 'D', 0, MOVE | PLACE_LEFT },
	{ 'H', 0, MOVE | PLACE_START },
	{ 'F', 0, MOVE | PLACE_END },
	{ '~', 1, MOVE | PLACE_START },
	{ '~', 7, MOVE | PLACE_START },
	{ '~', 4, MOVE | PLACE_END },
	{ '~', 8, MOVE | PLACE_END },
	{ '~', 3, ERASE | PLACE_RIGHT },
};

static void escape_final(struct line *line, char final)
{
	line->escape = ESCAPE_NONE;
	for (unsigned i = 0; i < sizeof(escape_keys) / sizeof(escape_keys[0]); i++)
		if (escape_keys[i].final == final && (final != '~' || escape_keys[i].parameter == line->parameter)) {
			run_key(line, escape_keys[i].key);
			return;
		}
}

static void escape_byte(struct line *line, uint8_t byte)
{
	if (line->escape == ESCAPE_SEEN) {
		line->parameter = 0;
		line->escape = byte == '[' ? ESCAPE_BRACKET : byte == 'O' ? ESCAPE_O : ESCAPE_NONE;
	} else if (byte >= '0' && byte <= '9') {
		line->parameter =
			(uint8_t)(line->parameter * 10 + byte - '0'); /* wraps: such a key has no meaning anyway */
	} else if (byte >= 0x40 && byte <= 0x7e) {
		escape_final(line, (char)byte);
	} else if (byte < 0x20) {
		line->escape = ESCAPE_NONE;
	}
}

static void leave(struct line *line, const char *mark)
{
	move(line, line->length);
	draw(line, mark, strlen(mark));
	draw(line, "\r\n", 2);
	line->shown = false;
}

static enum line_event control(struct line *line, uint8_t byte)
{
	switch (byte) {
	case '\r':
	case '\n':
		leave(line, "");
		history_add(line);
		return LINE_READY;
	case CTRL('C'):
		leave(line, "^C");
		line_reset(line);
		return LINE_CANCEL;
	case '\t': return LINE_TAB;
	case KEY_ESCAPE: line->escape = ESCAPE_SEEN; return LINE_NOTHING;
	}
	run_key(line, control_keys[byte]);
	return LINE_NOTHING;
}

enum line_event line_key(struct line *line, uint8_t byte)
{
	bool after_cr = line->after_cr;

	line->after_cr = byte == '\r';
	if (line->escape != ESCAPE_NONE) {
		escape_byte(line, byte);
		return LINE_NOTHING;
	}
	if (byte == '\n' && after_cr)
		return LINE_NOTHING;
	if (byte == KEY_DELETE)
		run_key(line, ERASE | PLACE_LEFT);
	else if (byte < 0x20)
		return control(line, byte);
	else if (byte < KEY_DELETE)
		replace(line, line->cursor, 0, (const char *)&byte, 1);
	return LINE_NOTHING;
}

/* ---- the whole ---- */
void line_init(struct line *line, const char *prompt, void (*write)(void *context, const char *bytes, size_t length),
	       void *context)
{
	memset(line, 0, sizeof(*line));
	line->prompt = prompt;
	line->write = write;
	line->context = context;
}

void line_reset(struct line *line)
{
	line->length = line->cursor = line->history_back = 0;
	line->text[0] = 0;
}

void line_show(struct line *line)
{
	if (line->shown)
		return;
	line->shown = true;
	draw(line, line->prompt, strlen(line->prompt));
	draw(line, line->text, line->length);
	draw_times(line, '\b', line->length - line->cursor);
}

void line_hide(struct line *line)
{
	if (!line->shown)
		return;
	draw(line, "\r", 1);
	draw_times(line, ' ', (unsigned)strlen(line->prompt) + line->length);
	draw(line, "\r", 1);
	line->shown = false;
}

void line_insert(struct line *line, const char *text)
{
	for (; *text; text++)
		if (*text >= ' ' && *text < KEY_DELETE)
			replace(line, line->cursor, 0, text, 1);
}
