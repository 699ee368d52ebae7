/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration as the kernel uses it, and the one function that makes it from the text of quire.conf
 * (whose form is in lib/ini.h).
 *
 * Every key is one row of a constant table: name, kind, range, place in these structs, default, help. The parser, the
 * error texts and the manual's list all come from that table (vm/config/keys.c), so they can't
 * disagree. What no single row can say (two keys that contradict one another) is checked afterwards.
 *
 * A mistake costs only what it concerns: one inside [vm NAME] makes that machine bad, with its first
 * error kept, and the others stay good; one in [host] or outside every section makes the host part bad.
 * The host's good keys and defaults hold all the same, so boot may show the error and go on, except where `fatal` is
 * set: then the text is no configuration at all, or a key that isolates machines from one another is wrong.
 *
 * Modules are given as
 *   modules = NAME, NAME(ARGUMENTS) NAME
 * parted by commas or blanks. ARGUMENTS is one string, which may hold blanks, commas and balanced parentheses; a
 * multiboot loader appends it to the name, after a blank.
 */
#pragma once

#include "lib/cpu_set.h"
#include "lib/status.h"

#define CONFIG_MAX_TEXT 65536u /* bytes of quire.conf */
#define CONFIG_MAX_MACHINES 64u
#define CONFIG_MAX_MODULES 16u
#define MACHINE_MAX_VCPUS 64u
#define CONFIG_MAX_NAME 31u      /* of a machine, of a share group */
#define CONFIG_MAX_FILE 63u      /* of a file name: struct boot_file holds no longer one */
#define CONFIG_MAX_CMDLINE 2047u /* Linux reads no more on x86 */
#define CONFIG_MAX_KEYS 32u      /* of one section */
#define CONFIG_ERROR_SIZE 200u   /* a line of the log holds it with its prefix */
#define CONFIG_MAX_TOLD 64u      /* mistakes; the rest is only counted */

/* A number key that was given the word "auto", or wasn't given at all where auto is the default. */
#define CONFIG_AUTO UINT64_MAX

enum config_protocol { PROTOCOL_AUTO, PROTOCOL_LINUX, PROTOCOL_MULTIBOOT, PROTOCOL_FLAT };
enum config_flat_mode { FLAT_REAL, FLAT_LONG };
enum config_on_reset { ON_RESET_STOP, ON_RESET_RESTART };
enum config_priority { CONFIG_PRIORITY_LOW, CONFIG_PRIORITY_NORMAL, CONFIG_PRIORITY_HIGH };
enum config_balloon { CONFIG_BALLOON_OFF, CONFIG_BALLOON_ON, CONFIG_BALLOON_AUTO };
enum config_idle { IDLE_MONITOR, IDLE_POWEROFF };
enum config_overcommit { CONFIG_OVERCOMMIT_NONE, CONFIG_OVERCOMMIT_RATIO };
enum config_mapping { MAPPING_DIRECT, MAPPING_SECRET_FREE };
enum config_log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum config_large_execute { LARGE_EXECUTE_AUTO, LARGE_EXECUTE_ON, LARGE_EXECUTE_OFF };
enum config_console { CONSOLE_SERIAL, CONSOLE_FRAMEBUFFER, CONSOLE_BOTH };

/* Texts here and below are NUL-terminated, never NULL, and constant or in the quire_config's own pool. */
struct config_module {
	const char *name, *arguments;
};

struct config_modules {
	struct config_module list[CONFIG_MAX_MODULES];
	uint64_t count;
};

/* The first mistake of a section; line 0 where no line can be named, text empty while there is none. */
struct config_error {
	unsigned line;
	char text[CONFIG_ERROR_SIZE];
};

/*
 * Every value that a key gives, but a list or a set, is 64 bits wide: a number, a size in bytes, 0 or 1, an enum, or a pointer. key_lines[n]
 * is the line in which the n-th key of the section's table (enums in config/keys.h) stands; 0: it isn't given.
 */
struct config_machine {
	char name[CONFIG_MAX_NAME + 1];
	unsigned line; /* of its section */
	bool bad;      /* not to be started: see error */
	struct config_error error;
	unsigned key_lines[CONFIG_MAX_KEYS];

	const char *kernel, *initrd, *cmdline;
	struct config_modules modules;
	uint64_t protocol;            /* enum config_protocol */
	uint64_t load_address, entry; /* guest-physical; CONFIG_AUTO never remains in a good machine of protocol flat */
	uint64_t flat_mode;           /* enum config_flat_mode */
	uint64_t memory;              /* bytes, whole pages */
	uint64_t memory_max;          /* bytes, whole blocks; 0: as memory */
	uint64_t cpus;                /* 1..64 */
	uint64_t topology;            /* TOPOLOGY(), see topology.h; CONFIG_AUTO never remains in a good machine */
	struct cpu_set cpu;           /* host CPUs on which it may run; not empty */
	uint64_t weight;              /* 1..1000 */
	uint64_t autostart, test_ports;

	uint64_t ram_hole; /* bytes below 4 GiB, whole blocks */
	uint64_t ram_preallocate, large_pages, page_fusion, zero_ram_on_reset, nested, pv;
	uint64_t balloon;            /* enum config_balloon; CONFIG_BALLOON_AUTO never remains */
	uint64_t on_reset;           /* enum config_on_reset */
	const char *share_group;     /* empty: the machine's own */
	const char *pci_passthrough; /* "none" */
	uint64_t max_access_handlers;
	uint64_t priority;        /* enum config_priority */
	uint64_t pool_max_tables; /* CONFIG_AUTO: from the machine's memory */
};

struct config_host {
	bool bad, fatal;
	struct config_error error;
	unsigned key_lines[CONFIG_MAX_KEYS];

	uint64_t when_idle;              /* enum config_idle */
	uint64_t overcommit;             /* enum config_overcommit */
	uint64_t overcommit_ratio;       /* percent of the host's memory */
	uint64_t mapping;                /* enum config_mapping */
	uint64_t max_mapped_chunks;      /* of 2 MiB */
	uint64_t fusion_rate;            /* pages a second */
	uint64_t log_level;              /* enum config_log_level */
	uint64_t console;                /* enum config_console */
	uint64_t executable_large_pages; /* enum config_large_execute */
};

/* About 110 KiB. Points into itself: pass it by pointer, never copy it. */
struct quire_config {
	struct config_host host;
	unsigned machine_count; /* good ones and bad ones, in the order of the text */
	unsigned error_count;   /* of all errors, told or not */
	struct config_machine machines[CONFIG_MAX_MACHINES];
	size_t pool_used;
	char pool[CONFIG_MAX_TEXT];
};

/* One mistake as a line for a person, without newline; line 0: it concerns no single line. */
typedef void (*config_error_fn)(void *context, unsigned line, const char *text);

/*
 * Fills in *config from text, all of it, whatever the text holds. error (may be NULL) is called for every
 * mistake up to CONFIG_MAX_TOLD: first those of single lines, then those of whole machines. Takes no lock; time is
 * linear in size. OK: no mistake. BAD_VALUE: mistakes, but what isn't marked bad may be used. BAD_FORMAT: host.fatal.
 */
enum status config_parse(const char *text, size_t size, struct quire_config *config, config_error_fn error,
			 void *context) must_check;

/* The machine of this name, bad ones included; NULL. */
struct config_machine *config_find(struct quire_config *config, const char *name);
