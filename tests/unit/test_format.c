/* SPDX-License-Identifier: Apache-2.0 */
// sources: lib/format.c
/*
 * Formatted print against the C library's: every combination of flags, width and precision over
 * values at the edges, then the cutting at the buffer's end, then what isn't a conversion.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/format.h"

#pragma GCC diagnostic ignored "-Wformat"
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"

#define SAME(...)                                                                                                      \
	do {                                                                                                           \
		char ours[256], theirs[256];                                                                           \
		size_t a = format_string(ours, sizeof(ours), __VA_ARGS__);                                             \
		size_t b = (size_t)snprintf(theirs, sizeof(theirs), __VA_ARGS__);                                      \
		if (a != b || strcmp(ours, theirs))                                                                    \
			fail_msg("ours \"%s\" (%zu), C's \"%s\" (%zu)", ours, a, theirs, b);                           \
	} while (0)

static const char *const flag_sets[] = { "", "-", "0", "+", " ", "#", "-0", "+-", "0+", "#0", "-#", "+ ", "-+ #0" };
static const char *const widths[] = { "", "1", "5", "20", "40" };
static const char *const precisions[] = { "", ".", ".0", ".1", ".7", ".25" };

static const uint64_t values[] = { 0,
				   1,
				   7,
				   8,
				   9,
				   10,
				   0x7f,
				   0x80,
				   0xff,
				   0x7fff,
				   0x8000,
				   0xffff,
				   0x7fffffff,
				   0x80000000,
				   0xffffffff,
				   UINT64_C(0x7fffffffffffffff),
				   UINT64_C(0x8000000000000000),
				   UINT64_C(0xffffffffffffffff) };

static void each_shape(const char *tail, void (*check)(const char *format, uint64_t value))
{
	char format[32];

	for (size_t f = 0; f < sizeof(flag_sets) / sizeof(*flag_sets); f++)
		for (size_t w = 0; w < sizeof(widths) / sizeof(*widths); w++)
			for (size_t p = 0; p < sizeof(precisions) / sizeof(*precisions); p++)
				for (size_t v = 0; v < sizeof(values) / sizeof(*values); v++) {
					snprintf(format, sizeof(format), "<%%%s%s%s%s>", flag_sets[f], widths[w],
						 precisions[p], tail);
					check(format, values[v]);
				}
}

static void check_int(const char *format, uint64_t value)
{
	SAME(format, (int)value);
}

static void check_long(const char *format, uint64_t value)
{
	SAME(format, value);
}

static void integers(void **state)
{
	static const char *const narrow[] = { "d", "i", "u", "x", "X", "o", "hd", "hu", "hx", "hhd", "hhu", "hhX" };
	static const char *const wide[] = { "ld",  "lu", "lx", "lX", "lo", "lld", "llu",
					    "llx", "zd", "zu", "zx", "jd", "ju" };

	for (size_t i = 0; i < sizeof(narrow) / sizeof(*narrow); i++)
		each_shape(narrow[i], check_int);
	for (size_t i = 0; i < sizeof(wide) / sizeof(*wide); i++)
		each_shape(wide[i], check_long);
}

static void texts(void **state)
{
	char open[3] = { 'a', 'b', 'c' }; /* no NUL: the precision must keep us inside */

	SAME("%s|%10s|%-10s|%.2s|%10.1s|%.0s", "", "right", "left", "cut", "one", "none");
	SAME("%.3s", open);
	SAME("%.*s|%*s|%-*s|%*s", 2, "abcdef", 6, "ab", 6, "cd", -6, "ef");
	SAME("%.*d|%.*d", 4, 7, -4, 7);
	SAME("%c%c%5c%-5c|", 'x', 'y', 'z', 'w');
	SAME("100%%, %d%%", 5);
	SAME("%s", "a longer text than one run of the fill buffer, to be sure");
	SAME("%p", (void *)0x1234);
	SAME("plain");
	SAME("%s", "");
}

static void null_string(void **state)
{
	char buffer[16];
	const char *volatile none = NULL;

	assert_int_equal(format_string(buffer, sizeof(buffer), "%s", none), 6);
	assert_string_equal(buffer, "(null)");
}

static void cut_at_the_end(void **state)
{
	for (size_t size = 0; size < 24; size++) {
		char ours[32], theirs[32];

		memset(ours, '#', sizeof(ours));
		memset(theirs, '#', sizeof(theirs));
		assert_int_equal(format_string(ours, size, "%s-%08x-%5d", "name", 0xabcd, 42),
				 snprintf(theirs, size, "%s-%08x-%5d", "name", 0xabcd, 42));
		assert_memory_equal(ours, theirs, sizeof(ours));
	}
}

static void unknown_stands_as_it_is(void **state)
{
	char buffer[32];

	assert_int_equal(format_string(buffer, sizeof(buffer), "%y %5k %"), 8);
	assert_string_equal(buffer, "%y %5k %");
	assert_int_equal(format_string(buffer, sizeof(buffer), "%-08"), 4);
	assert_string_equal(buffer, "%-08");
}

static void huge_width_is_bounded(void **state)
{
	char buffer[8];
	/* A number too long to be a width is clipped, not wrapped into a negative one. */
	const char *volatile format = "%99999999999d";

	assert_true(format_string(buffer, sizeof(buffer), format, 1) <= 1000000);
	assert_string_equal(buffer, "       ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(integers),
		cmocka_unit_test(texts),
		cmocka_unit_test(null_string),
		cmocka_unit_test(cut_at_the_end),
		cmocka_unit_test(unknown_stands_as_it_is),
		cmocka_unit_test(huge_width_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
