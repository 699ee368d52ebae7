/* SPDX-License-Identifier: Apache-2.0 */
// sources: lib/ini.c
/*
 * lib/ini against its description: what each form of line gives, what is refused, and that no byte beyond the text
 * is looked at (the texts stand in heap blocks of exactly their size, under ASan).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/bits.h"
#include "lib/ini.h"

/* All items as one line of text: "1 section vm|a; 2 key k|v; 3 line! error". */
static void dump(const char *text, size_t length, char *out, size_t size)
{
	static const char *const kinds[] = { "section", "key", "line!", "section!" };
	char *copy = malloc(length ? length : 1);
	struct ini_reader reader;
	struct ini_item item;
	size_t at = 0;

	if (length)
		memcpy(copy, text, length);
	out[0] = 0;
	ini_begin(&reader, copy, length);
	while (ini_next(&reader, &item)) {
		struct ini_text second = item.kind == INI_SECTION ? item.argument : item.value;

		assert_true(item.kind < ARRAY_SIZE(kinds));
		assert_true((item.error != NULL) == (item.kind >= INI_BAD_LINE));
		if (item.error)
			at += snprintf(out + at, size - at, "%s%u %s", at ? "; " : "", item.line, kinds[item.kind]);
		else
			at += snprintf(out + at, size - at, "%s%u %s %.*s|%.*s", at ? "; " : "", item.line,
				       kinds[item.kind], (int)item.name.length, item.name.bytes, (int)second.length,
				       second.bytes);
		assert_true(at < size);
	}
	free(copy);
}

static void expect(const char *text, const char *items)
{
	char out[1024];

	dump(text, strlen(text), out, sizeof(out));
	assert_string_equal(out, items);
}

static void test_forms(void **state)
{
	expect("", "");
	expect("\n\n  \t\n", "");
	expect("# only\n ; comments\n", "");
	expect("[host]", "1 section host|");
	expect("[host]\n", "1 section host|");
	expect(" [ vm   my-name ] # a comment", "1 section vm|my-name");
	expect("[vm a b]", "1 section vm|a b");
	expect("key=value", "1 key key|value");
	expect("key = value", "1 key key|value");
	expect("  key\t=\tvalue \t", "1 key key|value");
	expect("key =", "1 key key|");
	expect("key = # nothing", "1 key key|");
	expect("a = 1\nb = 2\n\nc = 3", "1 key a|1; 2 key b|2; 4 key c|3");
}

static void test_comments_in_values(void **state)
{
	expect("k = a # b", "1 key k|a");
	expect("k = a ; b", "1 key k|a");
	expect("k = a\t;b", "1 key k|a");
	expect("k = a#b;c", "1 key k|a#b;c");
	expect("k = console=ttyS0,115200 root=/dev/vda", "1 key k|console=ttyS0,115200 root=/dev/vda");
	expect("k = x=\"y z\"", "1 key k|x=\"y z\"");
}

static void test_quotes(void **state)
{
	expect("k = \"a # b\"", "1 key k|a # b");
	expect("k = ' a \"b\" '", "1 key k| a \"b\" ");
	expect("k = \"\"", "1 key k|");
	expect("k = \"a\" # b", "1 key k|a");
	expect("k = \"a\"#b", "1 key k|a");
	expect("k = \"a\\\"", "1 key k|a\\");
	expect("k = \"a", "1 line!");
	expect("k = \"", "1 line!");
	expect("k = 'a\"", "1 line!");
	expect("k = \"a\" b", "1 line!");
	expect("k = \"a\nb = 1\"", "1 line!; 2 key b|1\"");
}

static void test_line_ends_and_mark(void **state)
{
	expect("a = 1\r\nb = 2\r\n", "1 key a|1; 2 key b|2");
	expect("a = 1\r\n\r\n[x]\r", "1 key a|1; 3 section x|");
	expect("a = 1\rb = 2", "1 line!");
	expect("\xef\xbb\xbf[host]", "1 section host|");
	expect("\xef\xbb\xbf", "");
	expect("\xef\xbb", "1 line!");
	expect("a = 1\n\xef\xbb\xbf[host]", "1 key a|1; 2 line!");
	expect("a = gr\xc3\xbc\xc3\x9f"
	       "e",
	       "1 key a|gr\xc3\xbc\xc3\x9f"
	       "e");
}

static void test_refused(void **state)
{
	expect("word", "1 line!");
	expect("= value", "1 line!");
	expect("two words = 1", "1 line!");
	expect("k.y = 1", "1 line!");
	expect("k : 1", "1 line!");
	expect("a = \x01", "1 line!");
	expect("a = \x7f", "1 line!");
	expect("[host", "1 section!");
	expect("[", "1 section!");
	expect("[]", "1 section!");
	expect("[ ]", "1 section!");
	expect("[ho.st]", "1 section!");
	expect("[host] x", "1 section!");
	expect("[host]]", "1 section!");
	expect("[vm \x02]\nk = 1", "1 section!; 2 key k|1");
	expect("]", "1 line!");
}

static void test_nul_bytes(void **state)
{
	char out[256];

	dump("a = 1\0\nb = 2", 12, out, sizeof(out));
	assert_string_equal(out, "1 line!; 2 key b|2");
	dump(NULL, 0, out, sizeof(out));
	assert_string_equal(out, "");
}

static void test_line_length(void **state)
{
	static char text[2 * INI_MAX_LINE], out[2 * INI_MAX_LINE];

	memset(text, 'x', sizeof(text));
	memcpy(text, "k = ", 4);
	dump(text, INI_MAX_LINE, out, sizeof(out));
	assert_int_equal(strlen(out), strlen("1 key k|") + INI_MAX_LINE - 4);
	dump(text, INI_MAX_LINE + 1, out, sizeof(out));
	assert_string_equal(out, "1 line!");
	memcpy(text + INI_MAX_LINE + 1, "\nk = 2", 6);
	dump(text, INI_MAX_LINE + 7, out, sizeof(out));
	assert_string_equal(out, "1 line!; 2 key k|2");
	memcpy(text + INI_MAX_LINE, "\r\n", 2); /* the line's end doesn't count */
	dump(text, INI_MAX_LINE + 2, out, sizeof(out));
	assert_int_equal(strlen(out), strlen("1 key k|") + INI_MAX_LINE - 4);
}

static void expect_list(const char *list, const char *elements)
{
	char out[256] = "", *copy = strdup(list);
	struct ini_text rest = { copy, strlen(list) }, name, arguments;
	size_t at = 0;

	copy[strlen(list)] = '('; /* over the NUL: nothing may look there */
	while (ini_list_next(&rest, &name, &arguments)) {
		if (!name.length)
			at += snprintf(out + at, sizeof(out) - at, "!");
		else
			at += snprintf(out + at, sizeof(out) - at, "<%.*s|%.*s>", (int)name.length, name.bytes,
				       (int)arguments.length, arguments.bytes);
	}
	assert_string_equal(out, elements);
	free(copy);
}

static void test_lists(void **state)
{
	expect_list("", "");
	expect_list(" ,, \t", "");
	expect_list("a", "<a|>");
	expect_list("a,b c , d", "<a|><b|><c|><d|>");
	expect_list("a(x y), b()", "<a|x y><b|>");
	expect_list("a( x, (y) ) b", "<a|x, (y)><b|>");
	expect_list("a(", "!");
	expect_list("a((x)", "!");
	expect_list("(x)", "!");
	expect_list("a b)", "<a|>!");
	expect_list("a (x)", "<a|>!");
	expect_list("a(x)b", "!");
	expect_list("a(x)(y)", "!");
	expect_list("a(x))", "!");
}

static void test_comparison(void **state)
{
	const struct ini_text abc = { "abcdef", 3 }, other = { "abx", 3 }, shorter = { "ab", 2 };

	assert_true(ini_equal(abc, "abc"));
	assert_false(ini_equal(abc, "ab"));
	assert_false(ini_equal(abc, "abcd"));
	assert_false(ini_equal(abc, ""));
	assert_true(ini_equal((struct ini_text){ "", 0 }, ""));
	assert_true(ini_same(abc, abc));
	assert_false(ini_same(abc, other));
	assert_false(ini_same(abc, shorter));
}

/* Any bytes: it ends, lines only grow, and slices lie inside the text. */
static void test_random_text(void **state)
{
	static const char alphabet[] = "[]=#;\"'\n\n\r \tab_-(),\x01\xef\xbb\xbf\0";

	for (unsigned seed = 1; seed <= 3000; seed++) {
		size_t length = seed % 61;
		char *text = malloc(length ? length : 1);
		struct ini_reader reader;
		struct ini_item item;
		unsigned line = 0, value = seed;

		for (size_t i = 0; i < length; i++) {
			value = value * 1664525u + 1013904223u;
			text[i] = alphabet[(value >> 16) % (sizeof(alphabet) - 1)];
		}
		ini_begin(&reader, text, length);
		while (ini_next(&reader, &item)) {
			bool inside = item.name.bytes >= text && item.name.bytes + item.name.length <= text + length &&
				      item.value.bytes >= text &&
				      item.value.bytes + item.value.length <= text + length &&
				      item.argument.bytes >= text &&
				      item.argument.bytes + item.argument.length <= text + length;

			if (!inside || item.line <= line)
				fail_msg("seed %u, line %u", seed, item.line);
			line = item.line;
		}
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),       cmocka_unit_test(test_comments_in_values),
		cmocka_unit_test(test_quotes),      cmocka_unit_test(test_line_ends_and_mark),
		cmocka_unit_test(test_refused),     cmocka_unit_test(test_nul_bytes),
		cmocka_unit_test(test_line_length), cmocka_unit_test(test_lists),
		cmocka_unit_test(test_comparison),  cmocka_unit_test(test_random_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
