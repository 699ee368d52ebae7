/* SPDX-License-Identifier: Apache-2.0 */
// sources: lib/ini.c lib/format.c lib/status.c
// sources: vm/config/parse.c vm/config/mistake.c vm/config/keys.c vm/config/value.c vm/config/check.c vm/config/topology.c
/* vm/config: defaults, the table itself, and every kind of value at its bounds. */
#include "config_helper.h"
#include "vm/config/topology.h"

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
	assert_int_equal(m->topology, TOPOLOGY(1, 1, 1));
	assert_true(m->pv);
	assert_true(cpu_set_has(&m->cpu, 0) && cpu_set_has(&m->cpu, 255));
	assert_int_equal(m->weight, 100);
	assert_true(m->autostart && m->large_pages && m->zero_ram_on_reset);
	assert_false(m->test_ports || m->ram_preallocate || m->page_fusion || m->balloon || m->nested);
	assert_int_equal(m->ram_hole, 512 * MIB);
	assert_int_equal(m->max_access_handlers, 6144);
	assert_int_equal(m->priority, CONFIG_PRIORITY_NORMAL);
	assert_true(m->pool_max_tables == CONFIG_AUTO);
	assert_int_equal(m->load_address, 0x7c00);
	assert_int_equal(m->entry, 0x7c00);
	assert_int_equal(config.host.when_idle, IDLE_MONITOR);
	assert_int_equal(config.host.overcommit, CONFIG_OVERCOMMIT_NONE);
	assert_int_equal(config.host.mapping, MAPPING_DIRECT);
	assert_int_equal(config.host.log_level, LOG_LEVEL_INFO);
	assert_int_equal(config.host.console, CONSOLE_BOTH);
	assert_int_equal(told_count, 0);
}

/* Who may come to lack memory gets a balloon, wherever the host's section stands. */
static void test_balloon(void **state)
{
	static const struct {
		const char *lines;
		uint64_t balloon;
	} cases[] = { { "", 1 },
		      { "balloon = auto\n", 1 },
		      { "balloon = off\n", 0 },
		      { "balloon = on\n", 1 },
		      { "ram_preallocate = on\n", 0 },
		      { "ram_preallocate = on\nballoon = auto\n", 0 } };
	char text[200];

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(text, sizeof(text), "[vm m]\nkernel = k\n%s[host]\novercommit = ratio\n", cases[i].lines);
		assert_int_equal(parse(text), OK);
		assert_int_equal(machine("m")->balloon, cases[i].balloon);
	}
	assert_int_equal(good("balloon = auto")->balloon, 0);
	assert_int_equal(good("balloon = on")->balloon, 1);
}

/* Every default of both tables is a value that the key itself would take. */
static void check_defaults(const struct config_key *keys, unsigned count, void *section)
{
	for (unsigned i = 0; i < count; i++) {
		bool may_be_empty = keys[i].kind >= KIND_TEXT && !keys[i].standard[0];
		struct ini_text value = { keys[i].standard, strlen(keys[i].standard) };

		assert_non_null(keys[i].name);
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
	assert_memory_equal(&good("cpu = 0")->cpu, &((struct cpu_set){ { 1 } }), sizeof(struct cpu_set));
	assert_memory_equal(&good("cpu = 0-3,6")->cpu, &((struct cpu_set){ { 0x4f } }), sizeof(struct cpu_set));
	assert_memory_equal(&good("cpu = 62-0x41,255")->cpu, &((struct cpu_set){ { BITS(63, 62), 3, 0, BIT(63) } }),
			    sizeof(struct cpu_set));
	assert_int_equal(good("cpu = auto")->cpu.word[3], UINT64_MAX);
	assert_int_equal(good("protocol = linux")->protocol, PROTOCOL_LINUX);
	assert_int_equal(good("protocol = multiboot")->protocol, PROTOCOL_MULTIBOOT);
	assert_int_equal(good("test_ports = on")->test_ports, 1);
	assert_int_equal(good("autostart = off")->autostart, 0);
	assert_int_equal(good("max_access_handlers = 32")->max_access_handlers, 32);
	assert_int_equal(good("priority = low")->priority, CONFIG_PRIORITY_LOW);
	assert_int_equal(good("ram_preallocate = on")->ram_preallocate, 1);
	assert_string_equal(good("share_group = g-1")->share_group, "g-1");
	assert_int_equal(good("page_fusion = on")->page_fusion, 1);
	assert_string_equal(good("cmdline = \"a # b\" # c")->cmdline, "a # b");
	assert_string_equal(good("cmdline = ")->cmdline, "");
	assert_string_equal(good("page_fusion = off\nballoon = off\nnested = off\npci_passthrough = none")->kernel,
			    "k");
}

static void test_topology(void **state)
{
	struct topology t;

	assert_int_equal(good("cpus = 6")->topology, TOPOLOGY(1, 6, 1));
	assert_int_equal(good("cpus = 6\ntopology = auto")->topology, TOPOLOGY(1, 6, 1));
	assert_int_equal(good("topology = 1x1x1")->topology, TOPOLOGY(1, 1, 1));
	assert_int_equal(good("topology = 64X1x1\ncpus=64")->topology, TOPOLOGY(64, 1, 1));
	/* Fields of two bits for three cores, one for two threads. */
	t = topology_of(good("cpus = 12\ntopology = 2x3x2"));
	assert_int_equal(t.core_shift, 1);
	assert_int_equal(t.socket_shift, 3);
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(topology_apic_id(&t, i), i / 6 << 3 | i / 2 % 3 << 1 | i % 2);
	assert_int_equal(topology_ids(&t), 16);
	/* All that there can be: each id is another's, fits, and leads back. */
	for (unsigned s = 1; s <= 64; s++)
		for (unsigned c = 1; s * c <= 64; c++)
			for (unsigned n = 1; s * c * n <= 64; n++) {
				const struct config_machine m = { .topology = TOPOLOGY(s, c, n) };

				t = topology_of(&m);
				assert_in_range(topology_ids(&t), s * c * n, 128);
				for (unsigned i = 0, last = 0; i < s * c * n; last = topology_apic_id(&t, i++)) {
					assert_true(!i || topology_apic_id(&t, i) > last);
					assert_true(topology_apic_id(&t, i) < topology_ids(&t));
				}
			}
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

static void test_long_texts(void **state)
{
	char lines[4096] = "cmdline = ";

	memset(lines + 10, 'c', CONFIG_MAX_CMDLINE);
	assert_int_equal(strlen(good(lines)->cmdline), CONFIG_MAX_CMDLINE);
	lines[10 + CONFIG_MAX_CMDLINE] = 'c';
	BAD(lines, 3, "cmdline", "too long", "2047", "ccc...");
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

static void test_allowed(void **state)
{
	char allowed[4];

	for (unsigned i = 0; i < MACHINE_KEY_COUNT; i++) { /* a small buffer is kept to */
		char full[128];

		assert_true(config_allowed(&config_machine_keys[i], full, sizeof(full)) < 96);
		(void)config_allowed(&config_machine_keys[i], allowed, sizeof(allowed));
		assert_memory_equal(allowed, full, 3);
		assert_int_equal(allowed[3], 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),     cmocka_unit_test(test_balloon), cmocka_unit_test(test_table),
		cmocka_unit_test(test_default_conf), cmocka_unit_test(test_values),  cmocka_unit_test(test_topology),
		cmocka_unit_test(test_modules),      cmocka_unit_test(test_flat),    cmocka_unit_test(test_long_texts),
		cmocka_unit_test(test_full_pool),    cmocka_unit_test(test_allowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
