/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about machines as wholes: their list, life and consoles. */
#include <string.h>

#include "arch/x86_64/host.h"
#include "monitor/command/usage.h"
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
	output_table_begin(out, "machines");
	for (unsigned i = 0; i < machine_count(); i++) {
		const struct machine *m = machine_get(i);

		output_row(out, TEXT("name", m->name, 16), TEXT("state", state_text(m), 8),
			   NUMBER("vcpus", m->config->cpus, 5), NUMBER("memory_mib", m->config->memory / MIB, 10),
			   NUMBER_OF(*m, starts, 6), NUMBER("guest_ms", guest_ns(m) / 1000000, 10),
			   MEMORY_USE(usage_now(m)));
	}
	output_table_end(out);
	if (!machine_count())
		output_note(out, "no machine is configured");
}

static void info_vcpus(struct output *out, const struct machine *m)
{
	uint64_t run = 0, waited = 0, moves = 0;

	for (unsigned i = 0; i < m->vcpu_count; i++) {
		run += m->vcpu[i]->run_ticks;
		waited += m->vcpu[i]->waited_ticks;
		moves += m->vcpu[i]->moves;
	}
	output_fields(out, NUMBER("vcpus_active", __atomic_load_n(&m->vcpus_active, __ATOMIC_RELAXED)),
		      NUMBER("run_ms", host_tsc_to_ns(run) / 1000000),
		      NUMBER("waited_ms", host_tsc_to_ns(waited) / 1000000), NUMBER("moves", moves));
}

static void vm_info(struct output *out, char *const *argument)
{
	struct machine *m = command_machine(out, argument[0]);
	const struct config_machine *c;
	struct balloon_info balloon;

	if (!m)
		return;
	c = m->config;
	output_fields(out, TEXT("name", m->name), TEXT("state", state_text(m)));
	if (c->bad)
		output_text(out, "configuration_error", "line %u: %s", c->error.line, c->error.text);
	output_fields(out, TEXT("kernel", c->kernel ? c->kernel : ""), TEXT("initrd", c->initrd ? c->initrd : ""),
		      TEXT("cmdline", c->cmdline ? c->cmdline : ""), NUMBER("memory_bytes", c->memory),
		      NUMBER("vcpus", c->cpus), NUMBER_OF(*c, weight), BOOL("autostart", c->autostart),
		      BOOL("test_ports", c->test_ports), NUMBER_OF(*m, starts), NUMBER_OF(*m, resets));
	if (!m->pgm)
		return;
	output_fields(out, NUMBER("clock_ms", machine_now(m) / 1000000), NUMBER("guest_ms", guest_ns(m) / 1000000));
	info_vcpus(out, m);
	if (machine_balloon_describe(m, &balloon) == OK)
		statistics_show(out, &balloon);
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
	enum status status;

	if (!m)
		return;
	status = machine_start(m, why, sizeof(why));
	if (status == OK || status == BUSY)
		done(out, m, status == OK ? "started" : "waits for memory to start");
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

/* One that names a machine, changes its state and says how it fared. */
#define STATE_COMMAND(name, what)                                                                                      \
	static void vm_##name(struct output *out, char *const *argument)                                               \
	{                                                                                                              \
		struct machine *m = command_machine(out, argument[0]);                                                 \
		if (m)                                                                                                 \
			report(out, m, machine_##name(m), what);                                                       \
	}
STATE_COMMAND(stop, "stopping")
STATE_COMMAND(reset, "resetting")
STATE_COMMAND(button, "button pressed")
STATE_COMMAND(resume, "resumed")

static struct machine *pausing; /* vm_pause's */

/* What is told as paused stands still: it can go on at once, and its memory be compared. */
static bool pause_step(struct output *out, bool cancelled)
{
	enum status status = machine_state_of(pausing) == MACHINE_PAUSED ? OK : BAD_STATE;

	if (!cancelled && status == OK && !machine_stands_still(pausing))
		return true;
	report(out, pausing, status, "paused");
	return false;
}

static void vm_pause(struct output *out, char *const *argument)
{
	enum status status;

	pausing = command_machine(out, argument[0]);
	status = pausing ? machine_pause(pausing) : OK;
	if (status != OK)
		refuse(out, pausing, status);
	else if (pausing)
		command_go_on(pause_step);
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

static void vm_memory(struct output *out, char *const *argument)
{
	struct machine *m = command_live_machine(out, argument[0]);
	uint64_t mib = 0;
	struct vmem_info info;
	enum status status;

	if (!m || (argument[1] && !command_number(out, argument[1], "MIB", &mib)))
		return;
	status = mib > UINT64_MAX / MIB ? BAD_VALUE : machine_memory(m, mib * MIB, &info);
	if (status != OK)
		output_error(out, "vm %s: memory: %s", m->name,
			     status == NOT_SUPPORTED ? "it has no memory_max" : status_text(status));
	else
		output_fields(out, BOOL("driver", info.ready), NUMBER("memory_mib", m->config->memory / MIB),
			      NUMBER("wanted_mib", (m->config->memory + info.requested) / MIB),
			      NUMBER("now_mib", (m->config->memory + info.plugged) / MIB),
			      NUMBER("most_mib", (m->config->memory + info.region) / MIB));
}

static const struct command commands[] = {
	{ "vm list", "", 0, 0, "all machines and their state", vm_list },
	{ "vm start", "NAME", 1, 1, "start a machine that is off", vm_start },
	{ "vm stop", "NAME", 1, 1, "end a machine at once, as by its power switch", vm_stop },
	{ "vm pause", "NAME", 1, 1, "hold a machine; its clock stands still", vm_pause },
	{ "vm resume", "NAME", 1, 1, "let a paused machine go on", vm_resume },
	{ "vm button", "NAME", 1, 1, "press a machine's power button: its guest shuts down, or wakes", vm_button },
	{ "vm reset", "NAME", 1, 1, "reset a machine at once, as by its reset button", vm_reset },
	{ "vm memory", "NAME [MIB]", 1, 2, "the memory of a machine that can grow: show it, or have it grow or shrink",
	  vm_memory },
	{ "vm info", "NAME", 1, 1, "a machine's configuration and state", vm_info },
	{ "type", "NAME WORD", 2, 2, "send a word's bytes to a machine's console", type },
	{ "console", "NAME", 1, 1, "attach a machine's console; Ctrl-] leads on and back", console },
};

const struct command_table commands_vm = { commands, ARRAY_SIZE(commands) };
