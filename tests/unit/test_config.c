/* SPDX-License-Identifier: Apache-2.0 */
// sources: lib/ini.c lib/format.c lib/status.c vm/config_parse.c vm/config_keys.c vm/config_value.c vm/config_check.c
/*
 * vm/config: defaults, every kind of value at its bounds, and above all mistakes: each must be told with its line
 * and key, and cost its own section only.
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
#include "vm/config.h"
#include "vm/config_keys.h"

static struct quire_config config;
static char told[16384];
static unsigned told_count;

static void tell(void *context, unsigned line, const char *text)
{
	size_t at = strlen(told);

	assert_ptr_equal(context, &config);
	assert_true(strlen(text) > 0 && strlen(text) < CONFIG_ERROR_SIZE);
	snprintf(told + at, sizeof(told) - at, "%u %s\n", line, text);
	told_count++;
}

static enum status parse_bytes(const char *text, size_t size)
{
	char *copy = malloc(size ? size : 1);
	enum status status;

	memset(&config, 0xa5, sizeof(config)); /* nothing of an earlier parse may matter */
	memcpy(copy, text, size);
	told[0] = 0;
	told_count = 0;
	status = config_parse(copy, size, &config, tell, &config);
	memset(copy, 'Z', size); /* the text may go: nothing points into it */
	free(copy);
	return status;
}

static enum status parse(const char *text)
{
	return parse_bytes(text, strlen(text));
}

static struct config_machine *machine(const char *name)
{
	struct config_machine *found = config_find(&config, name);

	if (!found)
		fail_msg("no machine %s", name);
	return found;
}

/* A machine section made of `lines` (from line 3 on) is bad for one reason, told in full; its neighbours stay good. */
static void expect_bad(const char *lines, unsigned line, const char *const *parts)
{
	char text[8192];

	snprintf(text, sizeof(text), "[vm m]\nkernel = k\n%s\n[vm other]\nkernel = k\n", lines);
	if (parse(text) != BAD_VALUE || !machine("m")->bad)
		fail_msg("taken as good: %s", lines);
	if (machine("other")->bad || config.host.bad)
		fail_msg("spread to others: %s\n%s", lines, told);
	if (machine("m")->error.line != line)
		fail_msg("line %u instead of %u: %s\n%s", machine("m")->error.line, line, lines, told);
	for (; *parts; parts++)
		if (!strstr(machine("m")->error.text, *parts))
			fail_msg("lacks \"%s\": %s\n%s", *parts, lines, told);
}

#define BAD(lines, line, ...) expect_bad(lines, line, (const char *const[]){ __VA_ARGS__, NULL })

static struct config_machine *good(const char *lines)
{
	char text[8192];

	snprintf(text, sizeof(text), "[vm m]\nkernel = k\n%s\n", lines);
	if (parse(text) != OK)
		fail_msg("refused: %s\n%s", lines, told);
	return machine("m");
}

static void test_defaults(void **state)
{
	const struct config_machine *m = good("");

	assert_string_equal(m->kernel, "k");
	assert_string_equal(m->initrd, "");
	assert_string_equal(m->cmdline, "");
	assert_string_equal(m->share_group, "");
	assert_string_equal(m->pci_passthrough, "none");
	assert_int_equal(m->modules.count, 0);
	assert_int_equal(m->protocol, PROTOCOL_AUTO);
	assert_int_equal(m->memory, 256 * MIB);
	assert_int_equal(m->cpus, 1);
	assert_true(m->cpu == CONFIG_AUTO);
	assert_int_equal(m->weight, 100);
	assert_true(m->autostart && m->large_pages && m->zero_ram_on_reset);
	assert_false(m->test_ports || m->ram_preallocate || m->page_fusion || m->balloon || m->nested);
	assert_int_equal(m->ram_hole, 512 * MIB);
	assert_int_equal(m->max_access_handlers, 6144);
	assert_int_equal(m->priority, PRIORITY_NORMAL);
	assert_true(m->pool_max_tables == CONFIG_AUTO);
	assert_int_equal(m->load_address, 0x7c00);
	assert_int_equal(m->entry, 0x7c00);
	assert_int_equal(config.host.when_idle, IDLE_MONITOR);
	assert_int_equal(config.host.overcommit, OVERCOMMIT_NONE);
	assert_int_equal(config.host.mapping, MAPPING_DIRECT);
	assert_int_equal(config.host.log_level, LOG_LEVEL_INFO);
	assert_int_equal(config.host.console, CONSOLE_BOTH);
	assert_int_equal(told_count, 0);
}

/* Every default of both tables is a value that the key itself would take. */
static void check_defaults(const struct config_key *keys, unsigned count, void *section)
{
	for (unsigned i = 0; i < count; i++) {
		bool may_be_empty = keys[i].kind >= KIND_TEXT && !keys[i].standard[0];
		struct ini_text value = { keys[i].standard, strlen(keys[i].standard) };

		assert_non_null(keys[i].name);
		assert_non_null(keys[i].help);
		if (!may_be_empty && config_set(&config, &keys[i], section, value))
			fail_msg("default of %s", keys[i].name);
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(keys[i].name, keys[j].name);
	}
}

static void test_table(void **state)
{
	static struct config_machine machine_section;
	static struct config_host host_section;

	config.pool_used = 0;
	check_defaults(config_machine_keys, MACHINE_KEY_COUNT, &machine_section);
	check_defaults(config_host_keys, HOST_KEY_COUNT, &host_section);
}

static void test_default_conf(void **state)
{
	static char text[4096];
	FILE *file = fopen("boot/default.conf", "r");
	size_t size;

	assert_non_null(file);
	size = fread(text, 1, sizeof(text), file);
	fclose(file);
	assert_int_equal(parse_bytes(text, size), OK);
	assert_int_equal(config.machine_count, 2);
	assert_string_equal(machine("linux1")->kernel, "vmlinuz");
	assert_string_equal(machine("linux2")->initrd, "initrd.img");
	assert_string_equal(machine("linux2")->cmdline, "console=ttyS0,115200 quiet cryptomgr.notests");
}

static void test_values(void **state)
{
	assert_int_equal(good("memory = 1M")->memory, MIB);
	assert_int_equal(good("memory = 1048576")->memory, MIB);
	assert_int_equal(good("memory = 0x100000")->memory, MIB);
	assert_int_equal(good("memory = 1028k")->memory, 1028 * KIB);
	assert_int_equal(good("memory = 3g")->memory, 3 * GIB);
	assert_int_equal(good("memory = 16T")->memory, 16 * 1024 * GIB);
	assert_int_equal(good("cpus = 64")->cpus, 64);
	assert_int_equal(good("cpu = 0")->cpu, 0);
	assert_true(good("cpu = auto")->cpu == CONFIG_AUTO);
	assert_int_equal(good("protocol = linux")->protocol, PROTOCOL_LINUX);
	assert_int_equal(good("protocol = multiboot")->protocol, PROTOCOL_MULTIBOOT);
	assert_int_equal(good("test_ports = on")->test_ports, 1);
	assert_int_equal(good("autostart = off")->autostart, 0);
	assert_int_equal(good("max_access_handlers = 32")->max_access_handlers, 32);
	assert_int_equal(good("priority = low")->priority, PRIORITY_LOW);
	assert_int_equal(good("ram_preallocate = on")->ram_preallocate, 1);
	assert_string_equal(good("share_group = g-1")->share_group, "g-1");
	assert_string_equal(good("cmdline = \"a # b\" # c")->cmdline, "a # b");
	assert_string_equal(good("cmdline = ")->cmdline, "");
	assert_string_equal(good("page_fusion = off\nballoon = off\nnested = off\npci_passthrough = none")->kernel, "k");
}

static void test_modules(void **state)
{
	const struct config_machine *m = good("modules = a.bin, b/c.bin(x (y) z) d");

	assert_int_equal(m->modules.count, 3);
	assert_string_equal(m->modules.list[0].name, "a.bin");
	assert_string_equal(m->modules.list[0].arguments, "");
	assert_string_equal(m->modules.list[1].name, "b/c.bin");
	assert_string_equal(m->modules.list[1].arguments, "x (y) z");
	assert_string_equal(m->modules.list[2].name, "d");
	assert_int_equal(good("modules = 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16")->modules.count, 16);
	BAD("modules = 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", 3, "modules", "too many", "16");
	BAD("modules =", 3, "modules", "empty");
	BAD("modules = a(", 3, "modules", "parentheses");
	BAD("modules = a?b", 3, "modules", "character");
}

static void test_flat(void **state)
{
	const struct config_machine *m = good("protocol = flat\nflat_mode = long");

	assert_int_equal(m->load_address, MIB);
	assert_int_equal(m->entry, MIB);
	m = good("protocol = flat\nload_address = 0x8000\nentry = 0x8010");
	assert_int_equal(m->load_address, 0x8000);
	assert_int_equal(m->entry, 0x8010);
	BAD("protocol = flat\nload_address = 0x100000", 4, "load_address", "1M");
	BAD("protocol = flat\nentry = 0x7bff", 4, "entry", "below load_address");
	BAD("protocol = flat\nflat_mode = long\nmemory = 1M", 1, "load_address", "outside");
	BAD("protocol = flat\nflat_mode = long\nmemory = 2M\nentry = 0x200000", 6, "entry");
	BAD("protocol = linux\nload_address = 0x8000", 4, "load_address", "flat only");
	BAD("protocol = multiboot\nentry = 0x8000", 4, "entry", "flat only");
	BAD("flat_mode = long\nprotocol = linux", 3, "flat_mode", "flat only");
	BAD("load_address = 0x100000000", 3, "load_address", "too large", "0xffffffff");
}

static void test_bad_values(void **state)
{
	BAD("memory = 4K", 3, "vm m", "memory", "4K", "too small", "1M", "16T");
	BAD("memory = 1048577", 3, "not a multiple", "steps of 4K");
	BAD("memory = 17T", 3, "too large");
	BAD("memory = 99999999999999999999", 3, "too large");
	BAD("memory = 18014398509481984K", 3, "too large");
	BAD("memory = 256X", 3, "not a size");
	BAD("memory = 256MB", 3, "not a size");
	BAD("memory = M", 3, "not a number");
	BAD("memory = -1M", 3, "not a number");
	BAD("memory =", 3, "not a number");
	BAD("memory = 0x", 3, "not a size");
	BAD("cpus = 0", 3, "cpus", "too small", "from 1 to 64");
	BAD("cpus = 65", 3, "too large");
	BAD("cpus = 1.5", 3, "not a number");
	BAD("cpus = auto", 3, "not a number");
	BAD("cpu = any", 3, "not a number", "auto or a number from 0 to 255");
	BAD("weight = 1001", 3, "weight", "too large", "1000");
	BAD("autostart = yes", 3, "autostart", "yes", "no such choice", "on | off");
	BAD("autostart = ON", 3, "on | off");
	BAD("autostart =", 3, "no such choice");
	BAD("protocol = elf", 3, "protocol", "auto | linux | multiboot | flat");
	BAD("protocol = linux flat", 3, "protocol", "no such choice");
	BAD("max_access_handlers = 31", 3, "max_access_handlers", "from 32 to 65536");
	BAD("max_access_handlers = 65537", 3, "too large");
	BAD("ram_hole = 65M", 3, "ram_hole", "not a multiple", "2M");
	BAD("share_group = a b", 3, "share_group", "character");
	BAD("share_group = abcdefghijklmnopqrstuvwxyz0123456", 3, "too long", "31");
	BAD("initrd =", 3, "initrd", "empty");
	BAD("initrd = a*b", 3, "initrd", "character");
	BAD("initrd = abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcd", 3, "too long", "63");
	BAD("pool_max_tables = 1", 3, "pool_max_tables", "too small");
}

static void test_long_texts(void **state)
{
	char lines[4096] = "cmdline = ";

	memset(lines + 10, 'c', CONFIG_MAX_CMDLINE);
	assert_int_equal(strlen(good(lines)->cmdline), CONFIG_MAX_CMDLINE);
	lines[10 + CONFIG_MAX_CMDLINE] = 'c';
	BAD(lines, 3, "cmdline", "too long", "2047", "ccc...");
}

static void test_bad_lines(void **state)
{
	BAD("memroy = 1M", 3, "vm m", "memroy", "unknown key", "manual");
	BAD("when_idle = monitor", 3, "when_idle", "[host] only");
	BAD("cpus = 1\ncpus = 2", 4, "cpus", "second time", "line 3");
	BAD("kernel = k2", 3, "kernel", "second time", "line 2");
	BAD("just words", 3, "key = value");
	BAD("cmdline = \"open", 3, "closing quote");
	BAD("cmdline = \x01", 3, "control character");
	BAD("initrd = \x1b[31m", 3, "control character");
	BAD("memory = \xff\xfe", 3, "memory = ??: not a number");
	BAD("cpus = 0\nmemory = 1\nbogus = 2", 3, "cpus"); /* the first is kept */
	assert_int_equal(told_count, 3);
	assert_int_equal(config.error_count, 3);
}

static void test_not_yet(void **state)
{
	BAD("page_fusion = on", 3, "page_fusion", "not in this build yet", "off");
	BAD("balloon = on", 3, "balloon", "not in this build yet");
	BAD("nested = on", 3, "nested", "not in this build yet");
	BAD("pci_passthrough = 00:02.0\nram_preallocate = on", 3, "pci_passthrough", "not in this build yet", "none");
	BAD("nested = maybe", 3, "no such choice", "on | off");
}

static void test_contradictions(void **state)
{
	struct config_machine lazy;
	unsigned key = 99;

	assert_int_equal(parse("[vm a]\nmemory = 1M\n[vm b]\nkernel = k"), BAD_VALUE);
	assert_true(machine("a")->bad && !machine("b")->bad);
	assert_non_null(strstr(machine("a")->error.text, "vm a: kernel: missing"));
	assert_int_equal(machine("a")->error.line, 1);
	BAD("protocol = flat\ninitrd = i", 4, "initrd", "linux only");
	BAD("initrd = i\nprotocol = multiboot", 3, "initrd", "linux only");
	BAD("protocol = linux\nmodules = i", 4, "modules", "multiboot only");
	/* Rules about keys that this build doesn't take yet: asked for directly. */
	lazy = *good("");
	lazy.pci_passthrough = "00:02.0";
	assert_non_null(config_check_machine(&lazy, &key));
	assert_int_equal(key, KEY_PCI_PASSTHROUGH);
	lazy.ram_preallocate = 1;
	assert_null(config_check_machine(&lazy, &key));
	lazy.page_fusion = 1;
	assert_non_null(config_check_machine(&lazy, &key));
	assert_int_equal(key, KEY_PAGE_FUSION);
	lazy.page_fusion = 0;
	lazy.balloon = 1;
	assert_non_null(config_check_machine(&lazy, &key));
	assert_int_equal(key, KEY_BALLOON);
}

static void expect_host(const char *text, enum status status, unsigned line, const char *part)
{
	if (parse(text) != status)
		fail_msg("status: %s\n%s", text, told);
	if (!config.host.bad || config.host.error.line != line || !strstr(config.host.error.text, part))
		fail_msg("%s\n%s", text, told);
	for (unsigned i = 0; i < config.machine_count; i++)
		if (config.machines[i].bad)
			fail_msg("spread to a machine: %s\n%s", text, told);
	assert_int_equal(config.host.fatal, status == BAD_FORMAT);
}

static void test_host(void **state)
{
	assert_int_equal(parse("[host]\nwhen_idle = poweroff\novercommit = ratio\novercommit_ratio = 200\n"
			       "mapping = secret-free\nmax_mapped_chunks = 16\nfusion_rate = 0\nlog_level = debug\nconsole = serial\n"), OK);
	assert_int_equal(config.host.when_idle, IDLE_POWEROFF);
	assert_int_equal(config.host.overcommit, OVERCOMMIT_RATIO);
	assert_int_equal(config.host.overcommit_ratio, 200);
	assert_int_equal(config.host.mapping, MAPPING_SECRET_FREE);
	assert_int_equal(config.host.max_mapped_chunks, 16);
	assert_int_equal(config.host.fusion_rate, 0);
	assert_int_equal(config.host.log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(config.host.console, CONSOLE_SERIAL);
	expect_host("[host]\nwhen_idle = reboot\n[vm a]\nkernel = k", BAD_VALUE, 2, "monitor | poweroff");
	expect_host("[host]\nbogus = 1\n[vm a]\nkernel = k", BAD_VALUE, 2, "unknown key");
	expect_host("[host]\nmemory = 1M\n[vm a]\nkernel = k", BAD_VALUE, 2, "[vm NAME] only");
	expect_host("[host]\nlog_level = info\nlog_level = info", BAD_VALUE, 3, "second time");
	expect_host("[host]\novercommit_ratio = 200", BAD_VALUE, 2, "overcommit = ratio only");
	expect_host("[host]\nmax_mapped_chunks = 200", BAD_VALUE, 2, "secret-free only");
	expect_host("[host]\nmapping = safe", BAD_FORMAT, 2, "direct | secret-free");
	expect_host("[host]\nmapping = direct\nmapping = secret-free", BAD_FORMAT, 3, "second time");
}

static void test_sections(void **state)
{
	expect_host("[host]\n[host]\nlog_level = bogus", BAD_VALUE, 2, "second section");
	expect_host("[vm a]\nkernel = k\n[guest b]\ncpus = 0", BAD_VALUE, 3, "[host], [vm NAME]");
	expect_host("[vm a]\nkernel = k\n[host x]", BAD_VALUE, 3, "no such section");
	expect_host("[vm a]\nkernel = k\n[vm]\ncpus = 0", BAD_VALUE, 3, "machine's name");
	expect_host("[vm a]\nkernel = k\n[vm a.b]\ncpus = 0", BAD_VALUE, 3, "letters, digits");
	expect_host("[vm a]\nkernel = k\n[vm a b]", BAD_VALUE, 3, "machine's name");
	expect_host("[vm a]\nkernel = k\n[vm abcdefghijklmnopqrstuvwxyz012345]", BAD_VALUE, 3, "31");
	expect_host("[vm a]\nkernel = k\n[vm b\ncpus = 0\nnonsense", BAD_VALUE, 3, "closing ]");
	expect_host("cpus = 1\n[vm a]\nkernel = k", BAD_VALUE, 1, "before the first section");
	expect_host("nonsense\n[vm a]\nkernel = k", BAD_VALUE, 1, "key = value");
	assert_int_equal(parse("[vm abcdefghijklmnopqrstuvwxyz01234]\nkernel = k"), OK);
	/* A name given twice: which one is meant? Neither runs; what the second holds is not looked at. */
	assert_int_equal(parse("[vm a]\nkernel = k\n[vm b]\nkernel = k\n[vm a]\ncpus = 0"), BAD_VALUE);
	assert_int_equal(config.machine_count, 2);
	assert_true(machine("a")->bad && !machine("b")->bad && !config.host.bad);
	assert_int_equal(machine("a")->error.line, 5);
	assert_int_equal(told_count, 1);
}

static void test_whole(void **state)
{
	static char text[CONFIG_MAX_TEXT + 1];
	size_t at = 0;

	expect_host("", BAD_FORMAT, 0, "no good section");
	expect_host("# nothing", BAD_FORMAT, 0, "no good section");
	memset(text, '\n', sizeof(text));
	memcpy(text, "[host]", 6);
	assert_int_equal(parse_bytes(text, CONFIG_MAX_TEXT), OK);
	assert_int_equal(parse_bytes(text, CONFIG_MAX_TEXT + 1), BAD_FORMAT);
	assert_true(config.host.fatal && config.machine_count == 0);
	memset(text, 0, sizeof(text)); /* one line of NULs */
	assert_int_equal(parse_bytes(text, CONFIG_MAX_TEXT), BAD_FORMAT);
	memset(text, 'x', sizeof(text));
	for (size_t i = 0; i < sizeof(text); i += 2)
		text[i] = '\n';
	assert_int_equal(parse_bytes(text, CONFIG_MAX_TEXT), BAD_FORMAT);
	assert_int_equal(told_count, CONFIG_MAX_TOLD);
	assert_true(config.error_count > 30000);
	for (unsigned i = 0; i < 65; i++)
		at += snprintf(text + at, sizeof(text) - at, "[vm m%u]\nkernel = k%u\n", i, i);
	expect_host(text, BAD_VALUE, 129, "too many machines");
	assert_int_equal(config.machine_count, CONFIG_MAX_MACHINES);
	assert_string_equal(machine("m63")->kernel, "k63");
	assert_null(config_find(&config, "m64"));
	assert_null(config_find(&config, "m"));
}

/* As much value text as a configuration can hold fits into the pool. */
static void test_full_pool(void **state)
{
	static char text[CONFIG_MAX_TEXT];
	size_t at = 0;

	for (unsigned i = 0; i < CONFIG_MAX_MACHINES; i++) {
		at += snprintf(text + at, sizeof(text) - at, "[vm %u]\nkernel=k\ncmdline=", i);
		while (at < (i + 1) * (CONFIG_MAX_TEXT / CONFIG_MAX_MACHINES) - 1)
			text[at++] = 'c';
		text[at++] = '\n';
	}
	assert_int_equal(parse_bytes(text, at), OK);
	assert_int_equal(at, CONFIG_MAX_TEXT);
	assert_int_equal(config.machine_count, CONFIG_MAX_MACHINES);
}

static unsigned described;
static size_t longest;

static void count_line(void *context, const char *text)
{
	assert_null(context);
	longest = strlen(text) > longest ? strlen(text) : longest;
	described++;
}

static void test_describe(void **state)
{
	char allowed[4];

	described = 0;
	config_describe(count_line, NULL);
	assert_int_equal(described, 2 + HOST_KEY_COUNT + MACHINE_KEY_COUNT);
	assert_true(longest < 240); /* whole, on a line of the log */
	for (unsigned i = 0; i < MACHINE_KEY_COUNT; i++) { /* a small buffer is kept to */
		char full[128];

		assert_true(config_allowed(&config_machine_keys[i], full, sizeof(full)) < 96);
		(void)config_allowed(&config_machine_keys[i], allowed, sizeof(allowed));
		assert_memory_equal(allowed, full, 3);
		assert_int_equal(allowed[3], 0);
	}
}

static void test_without_callback(void **state)
{
	assert_int_equal(config_parse("[vm a]\nx = 1", 12, &config, NULL, NULL), BAD_VALUE);
	assert_true(machine("a")->bad);
	assert_int_equal(config_parse(NULL, 0, &config, NULL, NULL), BAD_FORMAT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_default_conf),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_modules),
		cmocka_unit_test(test_flat),
		cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_long_texts),
		cmocka_unit_test(test_bad_lines),
		cmocka_unit_test(test_not_yet),
		cmocka_unit_test(test_contradictions),
		cmocka_unit_test(test_host),
		cmocka_unit_test(test_sections),
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_full_pool),
		cmocka_unit_test(test_describe),
		cmocka_unit_test(test_without_callback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
