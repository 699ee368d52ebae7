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
static void key_left(struct line *line)
{
	if (line->cursor > 0)
		move(line, line->cursor - 1);
}

static void key_right(struct line *line)
{
	if (line->cursor < line->length)
		move(line, line->cursor + 1);
}

static void key_home(struct line *line)
{
	move(line, 0);
}

static void key_end(struct line *line)
{
	move(line, line->length);
}

static void key_up(struct line *line)
{
	history_go(line, line->history_back + 1);
}

static void key_down(struct line *line)
{
	if (line->history_back > 0)
		history_go(line, line->history_back - 1);
}

static void key_backspace(struct line *line)
{
	if (line->cursor > 0)
		erase(line, line->cursor - 1, line->cursor);
}

static void key_delete(struct line *line)
{
	if (line->cursor < line->length)
		erase(line, line->cursor, line->cursor + 1);
}

static void key_kill_end(struct line *line)
{
	erase(line, line->cursor, line->length);
}

static void key_kill_start(struct line *line)
{
	erase(line, 0, line->cursor);
}

static void key_kill_word(struct line *line)
{
	erase(line, word_start(line), line->cursor);
}

static void key_redraw(struct line *line)
{
	line_hide(line);
	line_show(line);
}

typedef void (*key_function)(struct line *line);

static const key_function control_keys[32] = {
	[CTRL('A')] = key_home,  [CTRL('B')] = key_left,      [CTRL('D')] = key_delete,     [CTRL('E')] = key_end,
	[CTRL('F')] = key_right, [CTRL('H')] = key_backspace, [CTRL('K')] = key_kill_end,   [CTRL('L')] = key_redraw,
	[CTRL('N')] = key_down,  [CTRL('P')] = key_up,        [CTRL('U')] = key_kill_start, [CTRL('W')] = key_kill_word,
};

/* Final byte of ESC [ x and ESC O x; and the number before ~ in ESC [ n ~ (ECMA-48; DEC VT220 keys). */
static const struct {
	char final;
	uint8_t parameter;
	key_function run;
} escape_keys[] = {
	{ 'A', 0, key_up },   { 'B', 0, key_down }, { 'C', 0, key_right },  { 'D', 0, key_left },
	{ 'H', 0, key_home }, { 'F', 0, key_end },  { '~', 1, key_home },   { '~', 7, key_home },
	{ '~', 4, key_end },  { '~', 8, key_end },  { '~', 3, key_delete },
};

static void escape_final(struct line *line, char final)
{
	line->escape = ESCAPE_NONE;
	for (unsigned i = 0; i < sizeof(escape_keys) / sizeof(escape_keys[0]); i++)
		if (escape_keys[i].final == final && (final != '~' || escape_keys[i].parameter == line->parameter)) {
			escape_keys[i].run(line);
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
	if (control_keys[byte])
		control_keys[byte](line);
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
		key_backspace(line);
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
