/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys of quire.conf, one row each: the only place where a key's name, range and default stand; what it does is in
 * docs/manual.md. Adding a key is a row here, its number in config/keys.h and its field in config.h.
 */
#include "vm/config/keys.h"

#include "lib/format.h"

#define IN_MACHINE(field) .offset = offsetof(struct config_machine, field)
#define IN_HOST(field) .offset = offsetof(struct config_host, field)

#define KEY(label, which, place, value, ...)                                                                           \
	{                                                                                                              \
		.name = label, .kind = which, place, .standard = value, __VA_ARGS__                                    \
	}
#define SWITCH(label, place, value, ...) KEY(label, KIND_SWITCH, place, value, __VA_ARGS__)
#define NUMBER(label, place, low, high, value, ...)                                                                    \
	KEY(label, KIND_NUMBER, place, value, .minimum = low, .maximum = high, .unit = 1, __VA_ARGS__)
#define AUTO_NUMBER(label, place, low, high) NUMBER(label, place, low, high, "auto", .auto_allowed = true)
#define SIZE(label, place, low, high, step, value)                                                                     \
	KEY(label, KIND_SIZE, place, value, .minimum = low, .maximum = high, .unit = step)
#define CHOICE(label, place, words, value, ...) KEY(label, KIND_CHOICE, place, value, .choices = words, __VA_ARGS__)
#define TEXT(label, which, place, length, value, ...) KEY(label, which, place, value, .maximum = length, __VA_ARGS__)
/* This build has only the default yet. */
#define LATER .only_standard = true

const struct config_key config_machine_keys[MACHINE_KEY_COUNT] = {
	[KEY_KERNEL] = TEXT("kernel", KIND_FILE, IN_MACHINE(kernel), CONFIG_MAX_FILE, ""),
	[KEY_PROTOCOL] = CHOICE("protocol", IN_MACHINE(protocol), "auto linux multiboot flat", "auto"),
	[KEY_INITRD] = TEXT("initrd", KIND_FILE, IN_MACHINE(initrd), CONFIG_MAX_FILE, ""),
	[KEY_MODULES] = TEXT("modules", KIND_MODULES, IN_MACHINE(modules), 0, ""),
	[KEY_CMDLINE] = TEXT("cmdline", KIND_TEXT, IN_MACHINE(cmdline), CONFIG_MAX_CMDLINE, ""),
	[KEY_LOAD_ADDRESS] = AUTO_NUMBER("load_address", IN_MACHINE(load_address), 0, 4 * GIB - 1),
	[KEY_ENTRY] = AUTO_NUMBER("entry", IN_MACHINE(entry), 0, 4 * GIB - 1),
	[KEY_FLAT_MODE] = CHOICE("flat_mode", IN_MACHINE(flat_mode), "real long", "real"),
	[KEY_MEMORY] = SIZE("memory", IN_MACHINE(memory), MIB, 16 * KIB * GIB, 4 * KIB, "256M"),
	[KEY_CPUS] = NUMBER("cpus", IN_MACHINE(cpus), 1, 64, "1"),
	[KEY_TOPOLOGY] = KEY("topology", KIND_TOPOLOGY, IN_MACHINE(topology), "auto"),
	[KEY_CPU] = KEY("cpu", KIND_CPUS, IN_MACHINE(cpu), "auto", .maximum = CPU_SET_SIZE - 1),
	[KEY_WEIGHT] = NUMBER("weight", IN_MACHINE(weight), 1, 1000, "100"),
	[KEY_AUTOSTART] = SWITCH("autostart", IN_MACHINE(autostart), "on"),
	[KEY_TEST_PORTS] = SWITCH("test_ports", IN_MACHINE(test_ports), "off"),
	[KEY_RAM_HOLE] = SIZE("ram_hole", IN_MACHINE(ram_hole), 64 * MIB, 3 * GIB, 2 * MIB, "512M"),
	[KEY_RAM_PREALLOCATE] = SWITCH("ram_preallocate", IN_MACHINE(ram_preallocate), "off"),
	[KEY_LARGE_PAGES] = SWITCH("large_pages", IN_MACHINE(large_pages), "on"),
	[KEY_PAGE_FUSION] = SWITCH("page_fusion", IN_MACHINE(page_fusion), "off"),
	[KEY_SHARE_GROUP] = TEXT("share_group", KIND_NAME, IN_MACHINE(share_group), CONFIG_MAX_NAME, ""),
	[KEY_ZERO_RAM_ON_RESET] = SWITCH("zero_ram_on_reset", IN_MACHINE(zero_ram_on_reset), "on"),
	[KEY_ON_RESET] = CHOICE("on_reset", IN_MACHINE(on_reset), "stop restart", "stop"),
	[KEY_MAX_ACCESS_HANDLERS] = NUMBER("max_access_handlers", IN_MACHINE(max_access_handlers), 32, 65536, "6144"),
	[KEY_PCI_PASSTHROUGH] = TEXT("pci_passthrough", KIND_TEXT, IN_MACHINE(pci_passthrough), 255, "none", LATER),
	[KEY_BALLOON] = CHOICE("balloon", IN_MACHINE(balloon), "off on auto", "auto"),
	[KEY_NESTED] = SWITCH("nested", IN_MACHINE(nested), "off"),
	[KEY_PV] = SWITCH("pv", IN_MACHINE(pv), "on"),
	[KEY_PRIORITY] = CHOICE("priority", IN_MACHINE(priority), "low normal high", "normal"),
	[KEY_POOL_MAX_TABLES] = AUTO_NUMBER("pool_max_tables", IN_MACHINE(pool_max_tables), 16, 1048576),
	[KEY_MEMORY_MAX] = SIZE("memory_max", IN_MACHINE(memory_max), 0, 16 * KIB * GIB, 2 * MIB, "0"),
};

const struct config_key config_host_keys[HOST_KEY_COUNT] = {
	[KEY_WHEN_IDLE] = CHOICE("when_idle", IN_HOST(when_idle), "monitor poweroff", "monitor"),
	[KEY_OVERCOMMIT] = CHOICE("overcommit", IN_HOST(overcommit), "none ratio", "none"),
	[KEY_OVERCOMMIT_RATIO] = NUMBER("overcommit_ratio", IN_HOST(overcommit_ratio), 100, 1000000, "150"),
	[KEY_MAPPING] = CHOICE("mapping", IN_HOST(mapping), "direct secret-free", "direct", .isolates = true),
	[KEY_MAX_MAPPED_CHUNKS] = NUMBER("max_mapped_chunks", IN_HOST(max_mapped_chunks), 16, 65536, "256"),
	[KEY_FUSION_RATE] = NUMBER("fusion_rate", IN_HOST(fusion_rate), 0, 1000000, "1000"),
	[KEY_LOG_LEVEL] = CHOICE("log_level", IN_HOST(log_level), "error warning info debug", "info"),
	[KEY_CONSOLE] = CHOICE("console", IN_HOST(console), "serial framebuffer both", "both"),
	[KEY_EXECUTABLE_LARGE_PAGES] = CHOICE("executable_large_pages", IN_HOST(executable_large_pages), "auto on off",
					      "auto", .isolates = true),
};

static size_t size_text(uint64_t bytes, char *buffer, size_t size)
{
	static const char suffixes[] = "\0KMGT";
	unsigned power = 0;

	while (bytes && bytes % 1024 == 0 && power < 4) {
		bytes /= 1024;
		power++;
	}
	return format_string(buffer, size, power ? "%lu%c" : "%lu", bytes, suffixes[power]);
}

static size_t allowed_size(const struct config_key *key, char *buffer, size_t size)
{
	char low[24], high[24], step[24];

	(void)size_text(key->minimum, low, sizeof(low));
	(void)size_text(key->maximum, high, sizeof(high));
	(void)size_text(key->unit, step, sizeof(step));
	return format_string(buffer, size, "a size from %s to %s in steps of %s", low, high, step);
}

static size_t allowed_number(const struct config_key *key, char *buffer, size_t size)
{
	const char *or_auto = key->auto_allowed ? "auto or " : "";

	return format_string(buffer, size,
			     key->maximum > 1048576 ? "%sa number from %lu to %#lx" : "%sa number from %lu to %lu",
			     or_auto, key->minimum, key->maximum);
}

static size_t allowed_choice(const struct config_key *key, char *buffer, size_t size)
{
	size_t at = 0;

	for (const char *word = key->choices; *word; word++) {
		const char *mark = *word == ' ' ? " | " : NULL;
		size_t room = at < size ? size - at : 0;

		at += format_string(room ? buffer + at : NULL, room, mark ? "%s" : "%.1s", mark ? mark : word);
	}
	return at;
}

size_t config_allowed(const struct config_key *key, char *buffer, size_t size)
{
	switch (key->kind) {
	case KIND_SWITCH: return format_string(buffer, size, "on | off");
	case KIND_NUMBER: return allowed_number(key, buffer, size);
	case KIND_SIZE: return allowed_size(key, buffer, size);
	case KIND_CHOICE: return allowed_choice(key, buffer, size);
	case KIND_TOPOLOGY: return format_string(buffer, size, "auto or SOCKETSxCORESxTHREADS, as in 1x2x2");
	case KIND_TEXT: return format_string(buffer, size, "text of at most %lu bytes", key->maximum);
	case KIND_NAME: return format_string(buffer, size, "1 to %lu letters, digits, _ or -", key->maximum);
	case KIND_FILE:
		return format_string(buffer, size, "a file name of 1 to %lu letters, digits, / . _ - + ~ or blanks",
				     key->maximum);
	case KIND_CPUS:
		return format_string(buffer, size, "auto, or numbers and ranges (0-3,6) up to %lu", key->maximum);
	case KIND_MODULES:
		return format_string(buffer, size, "up to %u file names, each with (arguments) or without",
				     CONFIG_MAX_MODULES);
	}
	return 0;
}
