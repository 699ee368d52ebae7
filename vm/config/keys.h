/* SPDX-License-Identifier: Apache-2.0 */
/* The table of keys; private to vm/config and its tests. */
#pragma once

#include "lib/ini.h"
#include "vm/config/config.h"

enum config_kind {
	KIND_SWITCH,   /* on | off */
	KIND_NUMBER,   /* decimal or 0x hexadecimal, minimum..maximum; "auto" where auto_allowed */
	KIND_SIZE,     /* the same with a suffix K, M, G, T; a multiple of unit */
	KIND_CHOICE,   /* one of the words in choices; its index is the value */
	KIND_TOPOLOGY, /* SOCKETSxCORESxTHREADS, or "auto" */
	KIND_TEXT,     /* up to maximum bytes */
	KIND_NAME,     /* letters, digits, _ and -, up to maximum bytes */
	KIND_FILE,     /* a file's name on the start volume */
	KIND_MODULES,  /* a list of files with arguments */
	KIND_CPUS,     /* numbers and ranges with commas between, up to maximum; "auto": all */
};

struct config_key {
	const char *name;
	enum config_kind kind;
	size_t offset; /* of the value in the section's struct */
	uint64_t minimum, maximum, unit;
	const char *choices;  /* KIND_CHOICE: words with one blank between */
	const char *standard; /* the default, as it would be written; a text kind points to it */
	bool auto_allowed;
	bool isolates;      /* host: a mistake in it is fatal */
	bool only_standard; /* this build has nothing but the default yet */
};

/* Index in config_machine_keys and in config_machine.key_lines. */
enum machine_key {
	KEY_KERNEL,
	KEY_PROTOCOL,
	KEY_INITRD,
	KEY_MODULES,
	KEY_CMDLINE,
	KEY_LOAD_ADDRESS,
	KEY_ENTRY,
	KEY_FLAT_MODE,
	KEY_MEMORY,
	KEY_CPUS,
	KEY_TOPOLOGY,
	KEY_CPU,
	KEY_WEIGHT,
	KEY_AUTOSTART,
	KEY_TEST_PORTS,
	KEY_RAM_HOLE,
	KEY_RAM_PREALLOCATE,
	KEY_LARGE_PAGES,
	KEY_PAGE_FUSION,
	KEY_SHARE_GROUP,
	KEY_ZERO_RAM_ON_RESET,
	KEY_ON_RESET,
	KEY_MAX_ACCESS_HANDLERS,
	KEY_PCI_PASSTHROUGH,
	KEY_BALLOON,
	KEY_NESTED,
	KEY_PV,
	KEY_PRIORITY,
	KEY_POOL_MAX_TABLES,
	KEY_MEMORY_MAX,
	MACHINE_KEY_COUNT
};

enum host_key {
	KEY_WHEN_IDLE,
	KEY_OVERCOMMIT,
	KEY_OVERCOMMIT_RATIO,
	KEY_MAPPING,
	KEY_MAX_MAPPED_CHUNKS,
	KEY_FUSION_RATE,
	KEY_LOG_LEVEL,
	KEY_CONSOLE,
	KEY_EXECUTABLE_LARGE_PAGES,
	HOST_KEY_COUNT
};

extern const struct config_key config_machine_keys[MACHINE_KEY_COUNT];
extern const struct config_key config_host_keys[HOST_KEY_COUNT];

_Static_assert(MACHINE_KEY_COUNT <= CONFIG_MAX_KEYS, "key_lines has a place for each key of a machine");
_Static_assert(HOST_KEY_COUNT <= CONFIG_MAX_KEYS, "key_lines has a place for each key of the host");

/* What a key allows, for an error or the manual: "a size of 1M to 16T, multiple of 4K". Returns as format_string does.
 */
size_t config_allowed(const struct config_key *key, char *buffer, size_t size);

/*
 * Stores value as the key's kind says, at its place in section. Texts go into config's pool. NULL when good, else
 * what's wrong with it in a few words; then the place keeps what it held.
 */
must_check const char *config_set(struct quire_config *config, const struct config_key *key, void *section,
				  struct ini_text value);

/* Gives the section the default of this key. */
void config_set_standard(struct quire_config *config, const struct config_key *key, void *section);

/*
 * What single keys can't say. The text of the first contradiction, and *key the number of the key to blame; NULL: there
 * is none. A machine's automatic load address and entry are settled here, too.
 */
const char *config_check_machine(struct config_machine *machine, unsigned *key);
const char *config_check_host(const struct config_host *host, unsigned *key);
