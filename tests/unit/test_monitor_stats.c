/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c monitor/command/stats.c monitor/command/stats_table.c monitor/text/parse.c monitor/text/output.c monitor/text/output_json.c
/* The registry: every counter of the structs has a row, every row a name of its own; shown by glob, reset by glob. */
#include "common/pgm_world.h"

#include "lib/format.h"
#include "monitor/text/parse.h"
#include "monitor/command/stats.h"
#include "vm/machine.h"

static struct machine machine;
static struct vcpu vcpu;
struct pressure_counters pressure_counters;
static char shown[65536];
static size_t length;

unsigned machine_count(void)
{
	return 1;
}

struct machine *machine_get(unsigned index)
{
	return index ? NULL : &machine;
}

static void collect(void *context, const char *bytes, size_t count)
{
	assert_true(length + count < sizeof(shown));
	memcpy(shown + length, bytes, count);
	length += count;
	shown[length] = 0;
}

const struct pgm_usage *usage_of(const struct machine *m)
{
	static struct pgm_usage usage;

	pgm_usage(m->pgm, &usage);
	return &usage;
}

/* One line of JSON: [{"name":..,"value":..},...] */
static unsigned show(const char *pattern)
{
	struct output out;
	unsigned count;

	length = 0;
	output_begin(&out, OUTPUT_JSON, collect, NULL, "stats");
	output_table_begin(&out, "stats");
	count = stats_take(&out, pattern);
	output_table_end(&out);
	(void)output_end(&out);
	return count;
}

static long long value(const char *name)
{
	char pattern[200];
	const char *at;

	/* A pattern that is no part of other names: the last letter by '?'. */
	format_string(pattern, sizeof(pattern), "%s", name);
	pattern[strlen(name) - 1] = '?';
	assert_int_equal(show(pattern), 1);
	format_string(pattern, sizeof(pattern), "\"name\":\"%s\",\"value\":", name);
	at = strstr(shown, pattern);
	assert_non_null(at);
	return atoll(at + strlen(pattern));
}

static bool has_row(enum stats_source source, size_t offset)
{
	for (unsigned i = 0; i < stats_row_count; i++)
		if (stats_rows[i].source == source && stats_rows[i].offset == offset)
			return true;
	return false;
}

static void test_rows(void **state)
{
	unsigned missing = 0;

	for (size_t at = 0; at < sizeof(struct mm_counters); at += 8)
		missing += !has_row(STATS_MM, at);
	for (size_t at = 0; at < sizeof(struct pressure_counters); at += 8)
		missing += !has_row(STATS_PRESSURE, at);
	for (size_t at = 0; at < sizeof(struct frame_totals); at += 8)
		missing += !has_row(STATS_TOTALS, at);
	for (size_t at = 0; at < sizeof(struct pgm_usage); at += 8)
		missing += !has_row(STATS_USAGE, at);
	for (size_t at = 0; at < sizeof(struct pgm_counters); at += 8)
		if (!has_row(STATS_PGM, at)) {
			print_message("pgm_counters word %zu has no row\n", at / 8);
			missing++;
		}
	for (size_t at = 0; at < offsetof(struct pgm_vcpu_counters, last_cause); at += 8)
		if (!has_row(STATS_VCPU, offsetof(struct vcpu, counters) + at)) {
			print_message("pgm_vcpu_counters word %zu has no row\n", at / 8);
			missing++;
		}
	for (unsigned kind = 0; kind < EXIT_KIND_COUNT; kind++)
		missing += !has_row(STATS_EXIT, kind * sizeof(uint64_t));
	assert_int_equal(missing, 0);
}

static void test_names(void **state)
{
	static const char *const units[] = { "pages", "count", "bytes", "chunks", "blocks", "ticks" };

	for (unsigned i = 0; i < stats_row_count; i++) {
		const struct stats_row *row = &stats_rows[i];
		bool unit = false;

		assert_true(strlen(row->description) >= 3);
		for (unsigned u = 0; u < ARRAY_SIZE(units); u++)
			unit |= !strcmp(units[u], row->unit);
		if (!unit)
			fail_msg("%s: unit %s", row->path, row->unit);
		for (unsigned j = 0; j < i; j++)
			if (stats_rows[j].source == row->source && !strcmp(stats_rows[j].path, row->path))
				fail_msg("%s twice", row->path);
	}
}

static void test_show(void **state)
{
	unsigned all = show("*");

	assert_true(all > 150);
	vcpu.exits[EXIT_CPUID] = 12;
	vcpu.exit_ticks[EXIT_CPUID] = 3400;
	vcpu.counters.cause[FAULT_SYNC] = 5;
	vcpu.counters.error[FAULT_EXECUTE] = 6;
	assert_int_equal(value("m/EXIT/CPU0/cpuid"), 12);
	assert_int_equal(value("m/EXIT/CPU0/cpuid/Cycles"), 3400);
	assert_int_equal(value("m/PGM/CPU0/Fault/Time/SyncPT"), 5);
	assert_int_equal(value("m/PGM/CPU0/Fault/Err/User/NXE"), 6);
	assert_int_equal(value("m/PGM/Page/cAllPages"), 4096);
	assert_int_equal(show("nothing of this name"), 0);
	assert_int_equal(show("*cpuid?Cycles"), 1);
}

static void test_reset(void **state)
{
	uint64_t word = 1;

	assert_int_equal(pgm_write(machine.pgm, gpa(4 * MIB), &word, 8, ORIGIN_DEVICE, NULL), OK);
	vcpu.exits[EXIT_HLT] = 3;
	vcpu.exit_ticks[EXIT_HLT] = 4;
	vcpu.counters.faults = 7;
	machine.starts = 2;
	assert_true(value("m/PGM/Phys/Write") > 0);
	assert_int_equal(stats_take(NULL, "*EXIT/CPU0/hlt*"), 2);
	assert_int_equal(vcpu.exits[EXIT_HLT] + vcpu.exit_ticks[EXIT_HLT], 0);
	assert_int_equal(vcpu.counters.faults, 7);
	/* What is a number of something now can't be set. */
	assert_int_equal(stats_take(NULL, "*cPrivatePages"), 0);
	assert_int_equal(stats_take(NULL, "*VM/Starts"), 0);
	assert_true(stats_take(NULL, "*") > 100);
	assert_int_equal(vcpu.counters.faults, 0);
	assert_int_equal(value("m/PGM/Phys/Write"), 0);
	assert_int_equal(value("m/PGM/Page/cPrivatePages"), 512);
	assert_int_equal(value("m/VM/Starts"), 2);
	assert_int_equal(value("/GMM/cLargeChunks") >= 1, 1);
	check_silent(machine.pgm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_show),
		cmocka_unit_test(test_reset),
	};

	pgm_world_start(96 * MIB);
	machine.pgm = make_pgm(16 * MIB);
	strcpy(machine.name, "m");
	machine.vcpu_count = 1;
	machine.vcpu[0] = &vcpu;
	vcpu.machine = &machine;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
