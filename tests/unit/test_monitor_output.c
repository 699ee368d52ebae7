/* SPDX-License-Identifier: Apache-2.0 */
// sources: monitor/text/output.c monitor/text/output_json.c lib/format.c
/* The same data in text and in JSON; escaping of whatever bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "monitor/text/output.h"
#include "monitor/text/output_json.h"

static char written[8192];
static size_t length;

static void collect(void *context, const char *bytes, size_t count)
{
	assert_true(length + count < sizeof(written));
	memcpy(written + length, bytes, count);
	length += count;
	written[length] = 0;
}

static void begin(struct output *out, enum output_mode mode, const char *command)
{
	length = 0;
	written[0] = 0;
	output_begin(out, mode, collect, NULL, command);
}

static void put_all(struct output *out)
{
	output_number(out, "free_pages", 12);
	output_hex(out, "cr3", 0x1000);
	output_bool(out, "on", true);
	output_text(out, "why", "%s", "a \"b\"\x01");
	output_note(out, "for people");
	output_phrase(out, "findings", "check: ", 0, " findings");
	output_list_begin(out, "lines");
	output_list_item(out, "one");
	output_list_item(out, "two");
	output_list_end(out);
	output_list_begin(out, "none");
	output_list_end(out);
	output_table_begin(out, "rows");
	output_row(out, TEXT("name", "a", 6), NUMBER("free_pages", 7, 10), TEXT("of", "y", 4), HEX("at", 16));
	output_row(out, TEXT("name", "longer-than", 6), LEFT_OUT, TEXT("of", NULL, 4), TEXT("at", "x"));
	output_table_end(out);
	output_records_begin(out, "records");
	output_row(out, TEXT("name", "r"), NUMBER("free_pages", 1), LEFT_OUT, HEX("at", 2));
	output_table_end(out);
	output_number(out, "last", UINT64_MAX);
}

static void test_text(void **state)
{
	struct output out;

	begin(&out, OUTPUT_TEXT, "x");
	put_all(&out);
	assert_true(output_end(&out));
	assert_string_equal(written, "free pages: 12\r\ncr3: 0x1000\r\non: yes\r\nwhy: a \"b\".\r\nfor people\r\n"
				     "check: 0 findings\r\none\r\ntwo\r\n"
				     "name    free pages  of    at\r\n"
				     "a                7  y     0x10\r\n"
				     "longer-than  -     x\r\n"
				     "name r\r\n  free pages: 1\r\n  at: 0x2\r\n"
				     "last: 18446744073709551615\r\n");
}

static void test_json(void **state)
{
	struct output out;

	begin(&out, OUTPUT_JSON, "x \"y\"");
	put_all(&out);
	assert_true(output_end(&out));
	assert_string_equal(written,
			    "{\"command\":\"x \\\"y\\\"\",\"ok\":true,\"free_pages\":12,\"cr3\":\"0x1000\",\"on\":true,"
			    "\"why\":\"a \\\"b\\\"\\u0001\",\"findings\":0,\"lines\":[\"one\",\"two\"],\"none\":[],"
			    "\"rows\":[{\"name\":\"a\",\"free_pages\":7,\"of\":\"y\",\"at\":\"0x10\"},"
			    "{\"name\":\"longer-than\",\"of\":null,\"at\":\"x\"}],"
			    "\"records\":[{\"name\":\"r\",\"free_pages\":1,\"at\":\"0x2\"}],"
			    "\"last\":18446744073709551615}\r\n");
}

static void test_errors(void **state)
{
	struct output out;

	begin(&out, OUTPUT_JSON, "c");
	assert_true(output_end(&out));
	assert_string_equal(written, "{\"command\":\"c\",\"ok\":true}\r\n");
	begin(&out, OUTPUT_JSON, "c");
	output_error(&out, "no \"%s\"", "x");
	output_error(&out, "again");
	assert_false(output_end(&out));
	assert_string_equal(written, "{\"command\":\"c\",\"ok\":false,\"error\":\"no \\\"x\\\"\"}\r\n");
	begin(&out, OUTPUT_TEXT, "c");
	output_error(&out, "no \"%s\"", "x\x1b[2J");
	assert_false(output_end(&out));
	assert_string_equal(written, "no \"x.[2J\"\r\n");
	begin(&out, OUTPUT_TEXT, "mode json");
	out.mode = OUTPUT_JSON;
	output_text(&out, "mode", "json");
	assert_true(output_end(&out));
	assert_string_equal(written, "{\"command\":\"mode json\",\"ok\":true,\"mode\":\"json\"}\r\n");
}

static void expect_json(const char *text, const char *json)
{
	char *copy = strdup(text); /* exactly its size: reading on would be seen */

	length = 0;
	json_string(collect, NULL, copy);
	free(copy);
	assert_string_equal(written, json);
}

static void test_strings(void **state)
{
	expect_json("", "\"\"");
	expect_json("\\ \" /", "\"\\\\ \\\" /\"");
	expect_json("\n\t\x7f", "\"\\u000a\\u0009\\u007f\"");
	expect_json("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80", "\"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80\"");
	expect_json("\xc3", "\"\\ufffd\"");
	expect_json("\xe2\x82", "\"\\ufffd\\ufffd\"");
	expect_json("\xc0\x80", "\"\\ufffd\\ufffd\"");
	expect_json("\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"");
	expect_json("\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
	expect_json("\xff"
		    "a\x80",
		    "\"\\ufffda\\ufffd\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_strings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
