/* SPDX-License-Identifier: Apache-2.0 */
// sources: monitor/text/line.c
/*
 * The line editor over a fake terminal of one long row: after every key the row must show prompt and text, with the
 * cursor where the editor thinks it is. Random keys against a plain model of the text.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "monitor/text/line.h"

#define PROMPT "quire> "

static char row[512];
static unsigned column, lines;

static void terminal(void *context, const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		switch (bytes[i]) {
		case '\b':
			assert_true(column > 0);
			column--;
			break;
		case '\r': column = 0; break;
		case '\n':
			memset(row, ' ', sizeof(row));
			lines++;
			break;
		case '\a': break;
		default:
			assert_true(bytes[i] >= ' ' && bytes[i] < 0x7f && column < sizeof(row));
			row[column++] = bytes[i];
		}
	}
}

static void check_screen(const struct line *line, const char *what)
{
	char want[sizeof(row)];

	memset(want, ' ', sizeof(want));
	if (line->shown) {
		memcpy(want, PROMPT, strlen(PROMPT));
		memcpy(want + strlen(PROMPT), line->text, line->length);
	}
	if (memcmp(row, want, sizeof(row)) || (line->shown && column != strlen(PROMPT) + line->cursor))
		fail_msg("%s: screen \"%.60s\" column %u, text \"%s\" cursor %u", what, row, column, line->text,
			 line->cursor);
	assert_int_equal(strlen(line->text), line->length);
}

static void start(struct line *line)
{
	memset(row, ' ', sizeof(row));
	column = lines = 0;
	line_init(line, PROMPT, terminal, NULL);
	line_show(line);
}

static enum line_event type(struct line *line, const char *keys)
{
	enum line_event event = LINE_NOTHING;

	for (; *keys; keys++) {
		event = line_key(line, (uint8_t)*keys);
		check_screen(line, keys);
	}
	return event;
}

static void expect(const char *keys, const char *text)
{
	struct line line;

	start(&line);
	type(&line, keys);
	assert_string_equal(line.text, text);
}

static void test_editing(void **state)
{
	expect("abc", "abc");
	expect("abc\x7f\b", "a");
	expect("\x7f\x04\x0b\x15\x17", "");
	expect("abc\x1b[D\x1b[DX", "aXbc");
	expect("abc\x1bOD\x1b[3~", "ab");
	expect("abc\x01X\x05Y", "XabcY");
	expect("abc\x1b[HX\x1b[FY", "XabcY");
	expect("abc\x1b[1~X\x1b[4~Y", "XabcY");
	expect("one two  \x17", "one ");
	expect("one two\x1b[D\x1b[D\x17", "one wo");
	expect("abcd\x02\x02\x0b", "ab");
	expect("abcd\x02\x02\x15", "cd");
	expect("a\x1b[99~b\x1b[1;5Cc\x1bxd", "abcd");
	expect("a\xc3\xa4\x01"
	       "b",
	       "ba");
	expect("ab\x0c", "ab");
}

static void test_enter(void **state)
{
	struct line line;

	start(&line);
	assert_int_equal(type(&line, "vm\r"), LINE_READY);
	assert_string_equal(line.text, "vm");
	assert_false(line.shown);
	line_reset(&line);
	line_show(&line);
	assert_int_equal(line_key(&line, '\n'), LINE_NOTHING); /* of the CR before */
	assert_int_equal(line_key(&line, '\n'), LINE_READY);
	line_show(&line);
	assert_int_equal(type(&line, "abc\x01\x03"), LINE_CANCEL);
	assert_string_equal(line.text, "");
	assert_int_equal(type(&line, "\t"), LINE_TAB);
}

static void enter(struct line *line, const char *text)
{
	type(line, text);
	assert_int_equal(type(line, "\r"), LINE_READY);
	line_reset(line);
	line_show(line);
}

static void test_history(void **state)
{
	struct line line;
	char text[8];

	start(&line);
	type(&line, "\x1b[A\x1b[B");
	assert_string_equal(line.text, "");
	enter(&line, "first");
	enter(&line, "second");
	enter(&line, "second");
	enter(&line, "");
	type(&line, "typed\x10");
	assert_string_equal(line.text, "second");
	type(&line, "\x10");
	assert_string_equal(line.text, "first");
	type(&line, "\x10\x10");
	assert_string_equal(line.text, "first");
	type(&line, "\x0e\x0e\x0e");
	assert_string_equal(line.text, "typed");
	type(&line, "\x15");
	for (unsigned i = 0; i < LINE_HISTORY + 5; i++) {
		snprintf(text, sizeof(text), "c%u", i);
		enter(&line, text);
	}
	for (unsigned i = 0; i < LINE_HISTORY + 5; i++)
		type(&line, "\x1b[A");
	assert_string_equal(line.text, "c5");
}

static void test_hide_and_insert(void **state)
{
	struct line line;

	start(&line);
	type(&line, "abc\x02");
	line_hide(&line);
	check_screen(&line, "hidden");
	assert_int_equal(column, 0);
	line_hide(&line);
	line_show(&line);
	check_screen(&line, "shown");
	line_insert(&line, "12\n3");
	check_screen(&line, "inserted");
	assert_string_equal(line.text, "ab123c");
}

static void test_full(void **state)
{
	struct line line;

	start(&line);
	for (unsigned i = 0; i < LINE_SIZE + 10; i++)
		type(&line, "x");
	assert_int_equal(line.length, LINE_SIZE - 1);
	type(&line, "\x01y\x7f\x1b[3~z");
	assert_int_equal(line.length, LINE_SIZE - 1);
	assert_int_equal(line.text[0], 'z');
}

/* Insertions, deletions and moves at random against an array that is edited by copying. */
static void test_random(void **state)
{
	for (unsigned seed = 1; seed <= 300; seed++) {
		char model[LINE_SIZE + 1] = "", at[16];
		unsigned cursor = 0;
		struct line line;

		srand(seed);
		start(&line);
		for (unsigned step = 0; step < 400; step++) {
			unsigned length = (unsigned)strlen(model);
			static const char keys[] = { 1, 2, 4, 5, 6, 8, 11, 21 };
			char key = rand() % 2 ? (char)('a' + rand() % 26) : keys[rand() % sizeof(keys)];

			if (key >= 'a' && length < LINE_SIZE - 1) {
				memmove(model + cursor + 1, model + cursor, length - cursor + 1);
				model[cursor++] = key;
			} else if (key == 1) {
				cursor = 0;
			} else if (key == 2) {
				cursor -= cursor > 0;
			} else if (key == 4 && cursor < length) {
				memmove(model + cursor, model + cursor + 1, length - cursor);
			} else if (key == 5) {
				cursor = length;
			} else if (key == 6) {
				cursor += cursor < length;
			} else if (key == 8 && cursor > 0) {
				memmove(model + cursor - 1, model + cursor, length - cursor + 1);
				cursor--;
			} else if (key == 11 && rand() % 8 == 0) {
				model[cursor] = 0;
			} else if (key == 21 && rand() % 8 == 0) {
				memmove(model, model + cursor, length - cursor + 1);
				cursor = 0;
			} else if (key == 11 || key == 21) {
				continue;
			}
			line_key(&line, (uint8_t)key);
			snprintf(at, sizeof(at), "%u/%u", seed, step);
			check_screen(&line, at);
			if (strcmp(line.text, model) || line.cursor != cursor)
				fail_msg("seed %u step %u key %d: \"%s\" at %u, want \"%s\" at %u", seed, step, key,
					 line.text, line.cursor, model, cursor);
		}
	}
}

/* Any bytes at all: the screen stays right. */
static void test_noise(void **state)
{
	struct line line;

	srand(7);
	start(&line);
	for (unsigned i = 0; i < 100000; i++) {
		if (line_key(&line, (uint8_t)(rand() % 3 ? rand() % 128 : rand())) == LINE_READY)
			line_reset(&line);
		check_screen(&line, "noise");
		line_show(&line);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_editing),         cmocka_unit_test(test_enter), cmocka_unit_test(test_history),
		cmocka_unit_test(test_hide_and_insert), cmocka_unit_test(test_full),  cmocka_unit_test(test_random),
		cmocka_unit_test(test_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
