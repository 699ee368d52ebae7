/* SPDX-License-Identifier: Apache-2.0 */
/* The log's levels: what is shown and replayed, what isn't, and that each line stays. The real log, beside the tests' own. */
// sources: lib/format.c
#define log_line kernel_log_line
#include "arch/x86_64/log.c"
#undef log_line

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static char seen[4096];

uint64_t host_now_ns(void)
{
	return 0;
}

void console_write(const char *bytes, size_t length)
{
	strncat(seen, bytes, length);
}

static void take(void *context, const char *text)
{
	strcat(seen, strchr(text, ']') + 2);
	strcat(seen, "|");
}

static void sink(const char *text)
{
	take(NULL, text);
}

static void log_all(void)
{
	kernel_log_line(LOG_ERROR "error %u", 1);
	kernel_log_line(LOG_WARNING "warning");
	kernel_log_line("plain");
	kernel_log_line(LOG_INFO "info");
	kernel_log_line(LOG_DEBUG "debug");
	kernel_log_line("%s", "\001no level");
	kernel_log_line("\xc3\xa4");
	kernel_log_line("%s", "");
}

static void expect(char level, const char *text)
{
	log_set_level(level);
	seen[0] = 0;
	log_all();
	log_drain();
	assert_string_equal(seen, text);
	seen[0] = 0;
	log_replay(8, take, NULL);
	assert_string_equal(seen, text);
}

static void test_levels(void **state)
{
	log_set_sink(sink);
	expect(*LOG_INFO, "error 1|warning|plain|info|.no level|\xc3\xa4||");
	expect(*LOG_ERROR, "error 1|");
	expect(*LOG_WARNING, "error 1|warning|");
	expect(*LOG_DEBUG, "error 1|warning|plain|info|debug|.no level|\xc3\xa4||");
}

/* What wasn't shown is there when the level rises. */
static void test_kept(void **state)
{
	log_set_level(*LOG_ERROR);
	seen[0] = 0;
	log_all();
	log_drain();
	log_set_level(*LOG_WARNING);
	seen[0] = 0;
	log_drain();
	assert_string_equal(seen, "");
	log_replay(8, take, NULL);
	assert_string_equal(seen, "error 1|warning|");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_levels), cmocka_unit_test(test_kept) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
