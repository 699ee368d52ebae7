/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys of quire.conf, one row each: the only place where a key's name, range, default and meaning
 * stand. Adding a key is a row here, its number in config/keys.h and its field in config.h.
 */
#include "vm/config/keys.h"

#include "lib/bits.h"
#include "lib/format.h"

#define IN_MACHINE(field) .offset = offsetof(struct config_machine, field)
#define IN_HOST(field) .offset = offsetof(struct config_host, field)

#define SWITCH(label, place, value, text)                                                                              \
	{                                                                                                              \
		.name = label, .kind = KIND_SWITCH, place, .standard = value, .help = text                             \
	}
#define NUMBER(label, place, low, high, value, text)                                                                   \
	{                                                                                                              \
		.name = label, .kind = KIND_NUMBER, place, .minimum = low, .maximum = high, .unit = 1,                 \
		.standard = value, .help = text                                                                        \
	}
#define AUTO_NUMBER(label, place, low, high, text)                                                                     \
	{                                                                                                              \
		.name = label, .kind = KIND_NUMBER, place, .minimum = low, .maximum = high, .unit = 1,                 \
		.standard = "auto", .auto_allowed = true, .help = text                                                 \
	}
#define SIZE(label, place, low, high, step, value, text)                                                               \
	{                                                                                                              \
		.name = label, .kind = KIND_SIZE, place, .minimum = low, .maximum = high, .unit = step,                \
		.standard = value, .help = text                                                                        \
	}
#define CHOICE(label, place, words, value, text)                                                                       \
	{                                                                                                              \
		.name = label, .kind = KIND_CHOICE, place, .choices = words, .standard = value, .help = text           \
	}
#define TEXT(label, which, place, length, value, text)                                                                 \
	{                                                                                                              \
		.name = label, .kind = which, place, .maximum = length, .standard = value, .help = text                \
	}
/* This build has only the default yet. */
#define LATER_SWITCH(label, place, value, text)                                                                        \
	{                                                                                                              \
		.name = label, .kind = KIND_SWITCH, place, .standard = value, .only_standard = true, .help = text      \
	}
#define LATER_TEXT(label, place, length, value, text)                                                                  \
	{                                                                                                              \
		.name = label, .kind = KIND_TEXT, place, .maximum = length, .standard = value, .only_standard = true,  \
		.help = text                                                                                           \
	}

const struct config_key config_machine_keys[MACHINE_KEY_COUNT] = {
	[KEY_KERNEL] =
		TEXT("kernel", KIND_FILE, IN_MACHINE(kernel), CONFIG_MAX_FILE, "", "what the machine starts; needed"),
	[KEY_PROTOCOL] = CHOICE("protocol", IN_MACHINE(protocol), "auto linux multiboot flat", "auto",
				"how the kernel is loaded; auto: by what the file is"),
	[KEY_INITRD] =
		TEXT("initrd", KIND_FILE, IN_MACHINE(initrd), CONFIG_MAX_FILE, "", "Linux's initial file system"),
	[KEY_MODULES] = TEXT("modules", KIND_MODULES, IN_MACHINE(modules), 0, "",
			     "multiboot modules: NAME or NAME(ARGUMENTS), parted by commas or blanks"),
	[KEY_CMDLINE] =
		TEXT("cmdline", KIND_TEXT, IN_MACHINE(cmdline), CONFIG_MAX_CMDLINE, "", "the kernel's command line"),
	[KEY_LOAD_ADDRESS] =
		AUTO_NUMBER("load_address", IN_MACHINE(load_address), 0, 4 * GIB - 1,
			    "protocol flat: where the file goes; auto: 0x7c00 in real mode, else 0x100000"),
	[KEY_ENTRY] = AUTO_NUMBER("entry", IN_MACHINE(entry), 0, 4 * GIB - 1,
				  "protocol flat: the first instruction; auto: load_address"),
	[KEY_FLAT_MODE] = CHOICE("flat_mode", IN_MACHINE(flat_mode), "real long", "real",
				 "protocol flat: processor mode at the first instruction"),
	[KEY_MEMORY] = SIZE("memory", IN_MACHINE(memory), MIB, 16 * KIB * GIB, 4 * KIB, "256M", "the machine's RAM"),
	[KEY_CPUS] = NUMBER("cpus", IN_MACHINE(cpus), 1, 64, "1", "virtual processors"),
	[KEY_CPU] = AUTO_NUMBER("cpu", IN_MACHINE(cpu), 0, 255, "the host processor that runs the machine; auto: any"),
	[KEY_WEIGHT] = NUMBER("weight", IN_MACHINE(weight), 1, 1000, "100", "share of a host processor's time"),
	[KEY_AUTOSTART] = SWITCH("autostart", IN_MACHINE(autostart), "on", "started at boot"),
	[KEY_TEST_PORTS] = SWITCH("test_ports", IN_MACHINE(test_ports), "off", "ports 0xe9 (output) and 0xf4 (exit)"),
	[KEY_RAM_HOLE] = SIZE("ram_hole", IN_MACHINE(ram_hole), 64 * MIB, 3 * GIB, 2 * MIB, "512M",
			      "space without RAM below 4 GiB"),
	[KEY_RAM_PREALLOCATE] = SWITCH("ram_preallocate", IN_MACHINE(ram_preallocate), "off", "all memory at creation"),
	[KEY_LARGE_PAGES] = SWITCH("large_pages", IN_MACHINE(large_pages), "on", "2 MiB at a time where possible"),
	[KEY_PAGE_FUSION] = LATER_SWITCH("page_fusion", IN_MACHINE(page_fusion), "off", "equal pages share one frame"),
	[KEY_SHARE_GROUP] = TEXT("share_group", KIND_NAME, IN_MACHINE(share_group), CONFIG_MAX_NAME, "",
				 "pages are shared within a group only; none: with no other machine"),
	[KEY_ZERO_RAM_ON_RESET] =
		SWITCH("zero_ram_on_reset", IN_MACHINE(zero_ram_on_reset), "on", "a reset clears memory"),
	[KEY_ON_RESET] =
		CHOICE("on_reset", IN_MACHINE(on_reset), "stop restart", "stop",
		       "what a reset by the guest does: the machine ends, or loads its kernel again and goes on"),
	[KEY_MAX_ACCESS_HANDLERS] = NUMBER("max_access_handlers", IN_MACHINE(max_access_handlers), 32, 65536, "6144",
					   "room for access handlers"),
	[KEY_PCI_PASSTHROUGH] = LATER_TEXT("pci_passthrough", IN_MACHINE(pci_passthrough), 255, "none",
					   "devices given to the machine; needs ram_preallocate"),
	[KEY_BALLOON] = LATER_SWITCH("balloon", IN_MACHINE(balloon), "off", "a memory balloon device"),
	[KEY_NESTED] = SWITCH("nested", IN_MACHINE(nested), "off", "the machine may run machines"),
	[KEY_PRIORITY] =
		CHOICE("priority", IN_MACHINE(priority), "low normal high", "normal", "who keeps memory longest"),
	[KEY_POOL_MAX_TABLES] = AUTO_NUMBER("pool_max_tables", IN_MACHINE(pool_max_tables), 16, 1048576,
					    "bound of the cache of shadow tables; auto: by memory"),
};

const struct config_key config_host_keys[HOST_KEY_COUNT] = {
	[KEY_WHEN_IDLE] = CHOICE("when_idle", IN_HOST(when_idle), "monitor poweroff", "monitor",
				 "once every machine has stopped"),
	[KEY_OVERCOMMIT] = CHOICE("overcommit", IN_HOST(overcommit), "none ratio", "none",
				  "whether machines may be promised more memory than there is"),
	[KEY_OVERCOMMIT_RATIO] = NUMBER("overcommit_ratio", IN_HOST(overcommit_ratio), 100, 1000000, "150",
					"overcommit = ratio: promised memory, in percent of the host's"),
	[KEY_MAPPING] = { .name = "mapping",
			  .kind = KIND_CHOICE,
			  IN_HOST(mapping),
			  .choices = "direct secret-free",
			  .standard = "direct",
			  .isolates = true,
			  .help = "whether guest memory is mapped in the hypervisor" },
	[KEY_MAX_MAPPED_CHUNKS] = NUMBER("max_mapped_chunks", IN_HOST(max_mapped_chunks), 16, 65536, "256",
					 "mapping = secret-free: bound of what is mapped, in 2 MiB"),
	[KEY_FUSION_RATE] =
		NUMBER("fusion_rate", IN_HOST(fusion_rate), 0, 1000000, "1000", "pages a second to compare"),
	[KEY_LOG_LEVEL] = CHOICE("log_level", IN_HOST(log_level), "error warning info debug", "info", "what is logged"),
	[KEY_CONSOLE] =
		CHOICE("console", IN_HOST(console), "serial framebuffer both", "both", "where the monitor speaks"),
	[KEY_EXECUTABLE_LARGE_PAGES] = { .name = "executable_large_pages",
					 .kind = KIND_CHOICE,
					 IN_HOST(executable_large_pages),
					 .choices = "auto on off",
					 .standard = "auto",
					 .isolates = true,
					 .help = "whether guests' code may lie in large pages; auto: not on processors with iTLB multihit" },
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
	case KIND_TEXT: return format_string(buffer, size, "text of at most %lu bytes", key->maximum);
	case KIND_NAME: return format_string(buffer, size, "1 to %lu letters, digits, _ or -", key->maximum);
	case KIND_FILE:
		return format_string(buffer, size, "a file name of 1 to %lu letters, digits, / . _ - + ~ or blanks",
				     key->maximum);
	case KIND_MODULES:
		return format_string(buffer, size, "up to %u file names, each with (arguments) or without",
				     CONFIG_MAX_MODULES);
	}
	return 0;
}

static void describe(const struct config_key *keys, unsigned count, void (*line)(void *, const char *), void *context)
{
	char allowed[128], text[400];

	for (unsigned i = 0; i < count; i++) {
		(void)config_allowed(&keys[i], allowed, sizeof(allowed));
		(void)format_string(text, sizeof(text), "%s | %s | %s | %s%s", keys[i].name, allowed, keys[i].standard,
				    keys[i].help, keys[i].only_standard ? " (not in this build yet)" : "");
		line(context, text);
	}
}

void config_describe(void (*line)(void *context, const char *text), void *context)
{
	line(context, "[host]");
	describe(config_host_keys, HOST_KEY_COUNT, line, context);
	line(context, "[vm NAME]");
	describe(config_machine_keys, MACHINE_KEY_COUNT, line, context);
}
