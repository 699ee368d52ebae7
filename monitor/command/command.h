/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands: tables of name, arguments, help and function. The usage line, `help`, completion and the check of the
 * number of arguments all come from a command's row. Boot CPU only.
 */
#pragma once

#include "monitor/text/output.h"
#include "monitor/text/parse.h"

struct machine;
struct vcpu;

struct command {
	const char *name; /* one or two words */
	/* As the usage line shows it: NAME is a machine's name, /VCPU its vcpu's number, [..] may be left out, a|b is one of these. */
	const char *arguments;
	uint8_t least, most; /* arguments */
	const char *help;
	/* argument: least to most words, then NULLs up to `most`. */
	void (*run)(struct output *out, char *const *argument);
};

struct command_table {
	const struct command *commands;
	unsigned count;
};

extern const struct command_table commands_vm, commands_memory, commands_cpu, commands_host, commands_dirty,
	commands_walk, commands_tables, commands_pages, commands_inject, commands_bench, commands_balloon,
	commands_fuse;

/* Runs one line, which is not empty; sink takes the answer. It may go on after this: see command_go_on(). */
void command_run(const char *line, enum output_mode mode, output_sink sink, void *context);
/* Is a command not done yet? Then no machine is reaped, and no other line is run. */
bool command_busy(void);
/* One more step of it; cancel: the last one. */
void command_continue(bool cancel);
/* The commands in the order of help; NULL past the end. */
const struct command *command_get(unsigned index);

/* Tab: what completes the line's last word, to be typed behind it; with several candidates `list` is called for each and
 * what they have in common is completed. size: of `completion`, which may come out empty. */
void command_complete(const char *line, char *completion, size_t size, void (*list)(void *context, const char *word),
		      void *context);

/* ---- for the commands ---- */
/*
 * What takes long goes in steps, between which guests run: the command's function leaves the rest to `step`, which is
 * called until it returns false, the last time, perhaps, with `cancelled`. A step is short (a millisecond
 * or so of the host's time). Data that belong together (a table) are put out within one step.
 */
void command_go_on(bool (*step)(struct output *out, bool cancelled));
/* The machine of this name; NULL after an error has been put out. */
struct machine *command_machine(struct output *out, const char *name);
/* The same, and it isn't off. */
struct machine *command_live_machine(struct output *out, const char *name);
/* The one named, or all that aren't off when name is NULL. Fills list (CONFIG_MAX_MACHINES); 0 with an error put out, or none. */
unsigned command_machines(struct output *out, const char *name, struct machine **list);
/* The vcpu that NAME/VCPU names, or a machine's first one for NAME alone; NULL after an error has been put out. */
struct vcpu *command_vcpu(struct output *out, const char *text);
/* That one; for NAME alone all of the machine's, for NULL all there are. Fills list (COMMAND_MOST_VCPUS). As command_machines(). */
#define COMMAND_MOST_VCPUS (CONFIG_MAX_MACHINES * MACHINE_MAX_VCPUS)
unsigned command_vcpus(struct output *out, const char *text, struct vcpu **list);
/* false after an error has been put out. what: for the error, "address" say. */
bool command_number(struct output *out, const char *text, const char *what, uint64_t *value);

/* on or off. The same. */
bool command_switch(struct output *out, const char *text, bool *on);
