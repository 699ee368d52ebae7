/* SPDX-License-Identifier: Apache-2.0 */
// sources: monitor/text/guest_lines.c monitor/text/held.c lib/format.c
/* A guest's output in lines: ends, splits, what is taken out; and the store of held lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "monitor/text/guest_lines.h"
#include "monitor/text/held.h"

static char got[65536];

static void take(void *context, const char *text)
{
	assert_true(strlen(got) + strlen(text) + 2 < sizeof(got));
	assert_true(strlen(text) <= HELD_LENGTH);
	for (const char *c = text; *c; c++)
		assert_true((unsigned char)*c >= ' ' || *c == '\t');
	strcat(got, text);
	strcat(got, "|");
}

static void feed(struct guest_lines *g, const char *bytes, uint64_t now)
{
	guest_lines_feed(g, (const uint8_t *)bytes, strlen(bytes), now, take, NULL);
}

/* Whole, and byte by byte: the same. */
static void expect(const char *bytes, const char *lines)
{
	struct guest_lines whole = { 0 }, single = { 0 };

	got[0] = 0;
	feed(&whole, bytes, 0);
	assert_string_equal(got, lines);
	got[0] = 0;
	for (const char *b = bytes; *b; b++)
		guest_lines_feed(&single, (const uint8_t *)b, 1, 0, take, NULL);
	assert_string_equal(got, lines);
	assert_memory_equal(&whole, &single, offsetof(struct guest_lines, text));
}

static void test_ends(void **state)
{
	expect("a\nb\r\nc\r\r\n", "a|b|c|");
	expect("\n\r\n", "||");
	expect("unfinished", "");
	expect("10%\r20%\r30%\n", "10%|20%|30%|");
	expect("\rx\n", "x|");
	expect("a\tb\n", "a\tb|");
	expect("ab\bc\n", "ac|");
	expect("\b\b\n", "|");
}

static void test_cleaning(void **state)
{
	expect("\x1b[1;31mred\x1b[0m\n", "red|");
	expect("\x1b[2J\x1b[1;1Hone\x1b[2;1Htwo\x1b[3;1H", "one|two|");
	expect("\x1b]0;title\x07text\n", "text|");
	expect("\x1b]0;title\x1b\\text\n", "text|");
	expect("\x1bPnever ends\nnext\n", "|next|");
	expect("\x1b(B\x1b=\x1b"
	       "7x\n",
	       "x|");
	expect("a\x01\x07\x7f"
	       "b\n",
	       "ab|");
	expect("\xc3\xa4 \xc2\xa9 \xc2\x9b"
	       "2J\n",
	       "\xc3\xa4 \xc2\xa9 2J|");
	expect("\xc2\xc2\x9bx\n", "\xc2x|");
	expect("\x1b[\x1b[31mx\n", "x|");
	expect("\x1b[3\nx\n", "|x|");
}

static void test_long(void **state)
{
	struct guest_lines g = { 0 };

	got[0] = 0;
	for (unsigned i = 0; i < GUEST_LINE_MAX; i++)
		feed(&g, "x", 0);
	assert_string_equal(got, "");
	feed(&g, "y\n", 0);
	assert_int_equal(strlen(got), GUEST_LINE_MAX + 3);
	assert_string_equal(got + GUEST_LINE_MAX, "|y|");
}

static void test_waiting(void **state)
{
	struct guest_lines g = { 0 };

	got[0] = 0;
	feed(&g, "login: ", 1000);
	assert_false(guest_lines_idle(&g, 1000 + GUEST_LINE_WAIT - 1, take, NULL));
	assert_true(guest_lines_idle(&g, 1000 + GUEST_LINE_WAIT, take, NULL));
	assert_false(guest_lines_idle(&g, 5 * GUEST_LINE_WAIT, take, NULL));
	assert_string_equal(got, "login: |");
	feed(&g, "root\n", 6 * GUEST_LINE_WAIT);
	assert_string_equal(got, "login: |root|");
	feed(&g, "# ", 7 * GUEST_LINE_WAIT);
	assert_true(guest_lines_idle(&g, 9 * GUEST_LINE_WAIT, take, NULL));
	feed(&g, "\n", 9 * GUEST_LINE_WAIT); /* nothing new in it */
	assert_string_equal(got, "login: |root|# |");
	feed(&g, "end", 9 * GUEST_LINE_WAIT);
	guest_lines_flush(&g, take, NULL);
	guest_lines_flush(&g, take, NULL);
	assert_string_equal(got, "login: |root|# |end|");
}

static void test_noise(void **state)
{
	struct guest_lines g = { 0 };

	srand(3);
	for (unsigned i = 0; i < 200000; i++) {
		uint8_t byte = (uint8_t)(rand() % 4 ? rand() : "\x1b[]\n\r\b\xc2H"[rand() % 8]);

		got[0] = 0;
		guest_lines_feed(&g, &byte, 1, i, take, NULL);
		assert_true(g.given <= g.length && g.length <= GUEST_LINE_MAX);
	}
}

static void test_held(void **state)
{
	static struct held_lines held;
	char text[400], want[16];

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = 0;
	held_add(&held, text);
	got[0] = 0;
	held_show(&held, take, NULL);
	assert_int_equal(strlen(got), HELD_LENGTH + 1);
	for (unsigned i = 0; i < HELD_LINES + 3; i++) {
		snprintf(text, sizeof(text), "%u", i);
		held_add(&held, text);
	}
	got[0] = 0;
	held_show(&held, take, NULL);
	assert_ptr_equal(strstr(got, "(3 lines"), got);
	assert_non_null(strstr(got, ")|3|4|"));
	snprintf(want, sizeof(want), "|%u|", HELD_LINES + 2);
	assert_string_equal(got + strlen(got) - strlen(want), want);
	got[0] = 0;
	held_show(&held, take, NULL);
	assert_string_equal(got, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends),    cmocka_unit_test(test_cleaning), cmocka_unit_test(test_long),
		cmocka_unit_test(test_waiting), cmocka_unit_test(test_noise),    cmocka_unit_test(test_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
