/* SPDX-License-Identifier: Apache-2.0 */
// sources: lib/format.c monitor/command/command.c monitor/text/parse.c monitor/text/output.c monitor/text/output_json.c
/* From a line to a command, with tables of the test's own: names of two words, arguments, and commands that go on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/bits.h"
#include "monitor/command/command.h"
#include "vm/machine.h"

static char shown[4096];
static unsigned steps, cancelled_steps;

unsigned machine_count(void)
{
	return 0;
}

struct machine *machine_get(unsigned index)
{
	return NULL;
}

struct machine *machine_find(const char *name)
{
	return NULL;
}

static void collect(void *context, const char *bytes, size_t length)
{
	strncat(shown, bytes, length);
}

static void one(struct output *out, char *const *argument)
{
	output_text(out, "one", "%s", argument[0] ? argument[0] : "-");
}

static void one_two(struct output *out, char *const *argument)
{
	bool on;

	if (command_switch(out, argument[0], &on))
		output_bool(out, "on", on);
}

static bool step(struct output *out, bool cancelled)
{
	steps++;
	cancelled_steps += cancelled;
	output_note(out, "at %u", steps);
	if (steps < 3 && !cancelled)
		return true;
	output_number(out, "steps", steps);
	return false;
}

static void slow(struct output *out, char *const *argument)
{
	steps = 0;
	command_go_on(step);
}

static const struct command rows[] = {
	{ "one two", "on|off", 1, 1, "", one_two },
	{ "one", "[WORD]", 0, 1, "", one },
	{ "slow", "", 0, 0, "", slow },
};
static const struct command none[] = { { "", "", 0, 0, "", NULL } };

const struct command_table commands_vm = { rows, ARRAY_SIZE(rows) };
const struct command_table commands_memory = { none, 0 }, commands_cpu = { none, 0 }, commands_host = { none, 0 },
			   commands_dirty = { none, 0 }, commands_walk = { none, 0 }, commands_tables = { none, 0 },
			   commands_pages = { none, 0 }, commands_inject = { none, 0 }, commands_bench = { none, 0 },
			   commands_balloon = { none, 0 }, commands_fuse = { none, 0 };

static const char *run(const char *line, enum output_mode mode)
{
	shown[0] = 0;
	command_run(line, mode, collect, NULL);
	return shown;
}

static void test_names(void **state)
{
	assert_string_equal(run("one", OUTPUT_TEXT), "one: -\r\n");
	assert_string_equal(run("one x", OUTPUT_TEXT), "one: x\r\n");
	assert_string_equal(run("one two on", OUTPUT_TEXT), "on: yes\r\n");
	assert_string_equal(run("one two off", OUTPUT_JSON),
			    "{\"command\":\"one two off\",\"ok\":true,\"on\":false}\r\n");
	assert_string_equal(run("one two maybe", OUTPUT_TEXT), "\"maybe\" is neither on nor off\r\n");
	assert_non_null(strstr(run("one two", OUTPUT_TEXT), "usage: one two on|off"));
	assert_non_null(strstr(run("one x y", OUTPUT_TEXT), "usage: one [WORD]"));
	assert_non_null(strstr(run("three", OUTPUT_JSON), "\"ok\":false"));
	assert_false(command_busy());
}

static void test_going_on(void **state)
{
	char line[] = "slow";

	assert_string_equal(run(line, OUTPUT_JSON), "");
	memset(line, 'x', 4); /* the answer names the command long after the line has gone */
	assert_true(command_busy());
	command_continue(false);
	command_continue(false);
	assert_true(command_busy());
	assert_string_equal(shown, "");
	command_continue(false);
	assert_false(command_busy());
	assert_string_equal(shown, "{\"command\":\"slow\",\"ok\":true,\"steps\":3}\r\n");
	assert_int_equal(cancelled_steps, 0);
}

static void test_cancel(void **state)
{
	run("slow", OUTPUT_TEXT);
	command_continue(false);
	command_continue(true);
	assert_false(command_busy());
	assert_string_equal(shown, "at 1\r\nat 2\r\nsteps: 2\r\n");
	assert_int_equal(cancelled_steps, 1);
	assert_string_equal(run("one", OUTPUT_TEXT), "one: -\r\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_names), cmocka_unit_test(test_going_on),
					    cmocka_unit_test(test_cancel) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
