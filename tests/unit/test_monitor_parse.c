/* SPDX-License-Identifier: Apache-2.0 */
// sources: monitor/text/parse.c
/* Words, numbers and patterns of the command line; globs against a slow but plain matcher. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "monitor/text/parse.h"

static void expect_words(const char *line, const char *joined)
{
	char out[2 * PARSE_LENGTH] = "";
	struct words words;

	assert_null(parse_words(line, &words));
	for (unsigned i = 0; i < words.count; i++) {
		strcat(out, words.word[i]);
		strcat(out, "|");
	}
	assert_string_equal(out, joined);
}

static void test_words(void **state)
{
	struct words words;
	char line[PARSE_LENGTH + 10];

	expect_words("", "");
	expect_words("  \t ", "");
	expect_words("vm list", "vm|list|");
	expect_words("  vm\t list  ", "vm|list|");
	expect_words("echo \"a  b\" c", "echo|a  b|c|");
	expect_words("echo 'a \" b'x", "echo|a \" bx|");
	expect_words("echo \"\"", "echo||");
	assert_non_null(parse_words("echo \"a b", &words));
	assert_non_null(parse_words("'", &words));
	assert_null(parse_words("1 2 3 4 5 6 7 8 9 a b c d e f g", &words));
	assert_int_equal(words.count, PARSE_WORDS);
	assert_non_null(parse_words("1 2 3 4 5 6 7 8 9 a b c d e f g h", &words));
	memset(line, 'x', sizeof(line));
	line[PARSE_LENGTH - 1] = 0;
	assert_null(parse_words(line, &words));
	assert_int_equal(strlen(words.word[0]), PARSE_LENGTH - 1);
	line[PARSE_LENGTH - 1] = 'x';
	line[PARSE_LENGTH] = 0;
	assert_non_null(parse_words(line, &words));
}

static void test_numbers(void **state)
{
	static const struct {
		const char *text;
		bool good;
		uint64_t value;
	} cases[] = {
		{ "0", true, 0 },
		{ "10", true, 10 },
		{ "0x10", true, 16 },
		{ "0XfF", true, 255 },
		{ "4K", true, 4096 },
		{ "4k", true, 4096 },
		{ "2M", true, 2 << 20 },
		{ "0x1G", true, 1 << 30 },
		{ "1T", true, UINT64_C(1) << 40 },
		{ "18446744073709551615", true, UINT64_MAX },
		{ "18446744073709551616", false, 0 },
		{ "0xffffffffffffffff", true, UINT64_MAX },
		{ "0x10000000000000000", false, 0 },
		{ "16777216T", false, 0 },
		{ "16777215T", true, UINT64_C(16777215) << 40 },
		{ "", false, 0 },
		{ "0x", false, 0 },
		{ "x", false, 0 },
		{ "-1", false, 0 },
		{ "1KK", false, 0 },
		{ "1 ", false, 0 },
		{ "K", false, 0 },
		{ "1f", false, 0 },
		{ "0xg", false, 0 },
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t value = 77;

		if (parse_number(cases[i].text, &value) != cases[i].good || (cases[i].good && value != cases[i].value))
			fail_msg("%s: %lu", cases[i].text, (unsigned long)value);
	}
}

static bool plain_glob(const char *p, const char *t)
{
	if (!*p)
		return !*t;
	if (*p == '*')
		return plain_glob(p + 1, t) || (*t && plain_glob(p, t + 1));
	return *t && (*p == '?' || *p == *t) && plain_glob(p + 1, t + 1);
}

static void test_globs(void **state)
{
	assert_true(parse_glob("*", ""));
	assert_true(parse_glob("/PGM/*/Bytes", "/PGM/Phys/Read/Bytes"));
	assert_false(parse_glob("/PGM/*/Bytes", "/PGM/Phys/Read/Bytes2"));
	assert_true(parse_glob("a?c", "abc"));
	assert_false(parse_glob("a?c", "ac"));
	for (unsigned seed = 0; seed < 200000; seed++) {
		char pattern[9], text[9];
		unsigned value = seed * 2654435761u;

		srand(seed);
		for (unsigned i = 0; i < 8; i++) {
			pattern[i] = "ab*?"[rand() % 4];
			text[i] = "ab"[rand() % 2];
		}
		pattern[value % 9] = text[value / 9 % 9] = 0;
		if (parse_glob(pattern, text) != plain_glob(pattern, text))
			fail_msg("seed %u: %s on %s", seed, pattern, text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_globs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
