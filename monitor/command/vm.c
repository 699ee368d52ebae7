/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about machines as wholes: their list, life and consoles. */
#include <string.h>

#include "arch/x86_64/host.h"
#include "monitor/command/command.h"
#include "monitor/internal.h"
#include "vm/machine.h"

static uint64_t guest_ns(const struct machine *m)
{
	uint64_t ticks = 0;

	for (unsigned i = 0; i < m->vcpu_count; i++)
		if (m->vcpu[i])
			ticks += m->vcpu[i]->run_ticks;
	return host_tsc_to_ns(ticks);
}

static const char *state_text(const struct machine *m)
{
	return m->config->bad && !m->pgm ? "bad" : machine_state_name(m);
}

static void vm_list(struct output *out, char *const *argument)
{
	static const struct output_column columns[] = {
		{ "name", 16, false },      { "state", 8, false }, { "vcpus", 5, true },
		{ "memory_mib", 10, true }, { "starts", 6, true }, { "guest_ms", 10, true },
	};

	(void)argument;
	output_table_begin(out, "machines", columns, ARRAY_SIZE(columns));
	for (unsigned i = 0; i < machine_count(); i++) {
		const struct machine *m = machine_get(i);

		output_cell_text(out, "%s", m->name);
		output_cell_text(out, "%s", state_text(m));
		output_cell_number(out, m->config->cpus);
		output_cell_number(out, m->config->memory / MIB);
		output_cell_number(out, m->starts);
		output_cell_number(out, guest_ns(m) / 1000000);
	}
	output_table_end(out);
	if (!machine_count())
		output_note(out, "no machine is configured");
}

static void vm_info(struct output *out, char *const *argument)
{
	const struct machine *m = command_machine(out, argument[0]);
	const struct config_machine *c;

	if (!m)
		return;
	c = m->config;
	output_text(out, "name", "%s", m->name);
	output_text(out, "state", "%s", state_text(m));
	if (c->bad)
		output_text(out, "configuration_error", "line %u: %s", c->error.line, c->error.text);
	output_text(out, "kernel", "%s", c->kernel ? c->kernel : "");
	output_text(out, "initrd", "%s", c->initrd ? c->initrd : "");
	output_text(out, "cmdline", "%s", c->cmdline ? c->cmdline : "");
	output_number(out, "memory_bytes", c->memory);
	output_number(out, "vcpus", c->cpus);
	output_number(out, "weight", c->weight);
	output_bool(out, "autostart", c->autostart);
	output_bool(out, "test_ports", c->test_ports);
	output_number(out, "starts", m->starts);
	output_number(out, "resets", m->resets);
	if (m->pgm) {
		output_number(out, "clock_ms", machine_now(m) / 1000000);
		output_number(out, "guest_ms", guest_ns(m) / 1000000);
	}
}

/* What is in the way of a pause, a stop ... */
static void refuse(struct output *out, const struct machine *m, enum status status)
{
	output_error(out, "vm %s is %s: %s", m->name, machine_state_name(m), status_text(status));
}

static void done(struct output *out, const struct machine *m, const char *what)
{
	if (out->mode == OUTPUT_TEXT) {
		output_note(out, "vm %s: %s", m->name, what);
		return;
	}
	output_text(out, "name", "%s", m->name);
	output_text(out, "done", "%s", what);
}

static void vm_start(struct output *out, char *const *argument)
{
	struct machine *m = command_machine(out, argument[0]);
	char why[MACHINE_END_TEXT + CONFIG_ERROR_SIZE] = "";

	if (!m)
		return;
	if (machine_start(m, why, sizeof(why)) == OK)
		done(out, m, "started");
	else
		output_error(out, "vm %s: not started: %s", m->name, why);
}

static void report(struct output *out, const struct machine *m, enum status status, const char *what)
{
	if (status == OK)
		done(out, m, what);
	else
		refuse(out, m, status);
}

static void vm_stop(struct output *out, char *const *argument)
{
	struct machine *m = command_machine(out, argument[0]);

	if (m)
		report(out, m, machine_stop(m), "stopping");
}

static void vm_reset(struct output *out, char *const *argument)
{
	struct machine *m = command_machine(out, argument[0]);

	if (m)
		report(out, m, machine_reset(m), "resetting");
}

static void vm_pause(struct output *out, char *const *argument)
{
	struct machine *m = command_machine(out, argument[0]);

	if (m)
		report(out, m, machine_pause(m), "paused");
}

static void vm_button(struct output *out, char *const *argument)
{
	struct machine *m = command_machine(out, argument[0]);

	if (m)
		report(out, m, machine_button(m), "button pressed");
}

static void vm_resume(struct output *out, char *const *argument)
{
	struct machine *m = command_machine(out, argument[0]);

	if (m)
		report(out, m, machine_resume(m), "resumed");
}

static void console(struct output *out, char *const *argument)
{
	struct machine *m = command_live_machine(out, argument[0]);

	if (!m)
		return;
	if (out->mode == OUTPUT_JSON)
		output_text(out, "console", "%s", m->name);
	monitor_attach(m);
}

/* As if it had been typed at the machine's console, without a line's end. */
static void type(struct output *out, char *const *argument)
{
	struct machine *m = command_live_machine(out, argument[0]);
	size_t length = strlen(argument[1]);

	if (m)
		output_number(out, "taken", machine_console_input(m, (const uint8_t *)argument[1], length));
}

static const struct command commands[] = {
	{ "vm list", "", 0, 0, "all machines and their state", vm_list },
	{ "vm start", "NAME", 1, 1, "start a machine that is off", vm_start },
	{ "vm stop", "NAME", 1, 1, "end a machine at once, as by its power switch", vm_stop },
	{ "vm pause", "NAME", 1, 1, "hold a machine; its clock stands still", vm_pause },
	{ "vm resume", "NAME", 1, 1, "let a paused machine go on", vm_resume },
	{ "vm button", "NAME", 1, 1, "press a machine's power button: its guest shuts down, or wakes", vm_button },
	{ "vm reset", "NAME", 1, 1, "reset a machine at once, as by its reset button", vm_reset },
	{ "vm info", "NAME", 1, 1, "a machine's configuration and state", vm_info },
	{ "type", "NAME WORD", 2, 2, "send a word's bytes to a machine's console", type },
	{ "console", "NAME", 1, 1, "attach a machine's console; Ctrl-] leads on and back", console },
};

const struct command_table commands_vm = { commands, ARRAY_SIZE(commands) };
