/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's loop: one poll carries what has come since the last one (log, ended machines, guests' output,
 * typed bytes) and runs at most one command. It is called between the boot CPU's slices, so nothing
 * here waits: what takes longer (machines that are to stop before the host does) is looked at again at the next poll.
 */
#include "monitor/monitor.h"

#include <string.h>

#include "arch/x86_64/host.h"
#include "monitor/command/command.h"
#include "monitor/console.h"
#include "monitor/internal.h"
#include "vm/machine.h"

#define PROMPT "quire> "
#define INPUT_STEP 64u
#define CTRL_C 3
#define ENDING_PATIENCE UINT64_C(5000000000) /* ns */
#define WHY_SIZE (MACHINE_END_TEXT + CONFIG_ERROR_SIZE)

static struct line editor;
static enum output_mode mode;
static enum config_idle when_idle;
static struct machine *attach_next;
static enum monitor_ending ending;
static uint64_t ending_since;
static bool logged;
static uint8_t ahead[256]; /* typed while a command went on */
static unsigned ahead_count, ahead_taken;

static void write_bytes(void *context, const char *bytes, size_t length)
{
	console_write(bytes, length);
}

static void log_sink(const char *line)
{
	logged = true;
	console_line_later("log| %s", line);
}

static void on_started(struct machine *m, const char *refused)
{
	console_line("vm %s: %sstarted%s%s", m->name, refused ? "not " : "", refused ? ": " : "",
		     refused ? refused : "");
}

static void start_machine(struct machine *m)
{
	char why[WHY_SIZE] = "";
	enum status status = machine_start(m, why, sizeof(why));

	if (status == BUSY)
		console_line("vm %s: waits for memory to start", m->name);
	else
		on_started(m, status == OK ? NULL : why);
}

void monitor_start(const struct quire_config *config)
{
	line_init(&editor, PROMPT, write_bytes, NULL);
	console_start(&editor);
	log_drain();
	log_set_sink(log_sink);
	when_idle = (enum config_idle)config->host.when_idle;
	for (unsigned i = 0; i < machine_count(); i++) {
		struct machine *m = machine_get(i);

		/* A bad one can't start, but its operator should read why. */
		if (m->config->autostart || m->config->bad)
			start_machine(m);
	}
}

/* ---- what commands ask for ---- */
void monitor_attach(struct machine *machine)
{
	attach_next = machine;
}

void monitor_set_mode(enum output_mode new_mode)
{
	mode = new_mode;
}

void monitor_end(enum monitor_ending how)
{
	ending = how;
	ending_since = host_now_ns();
	for (unsigned i = 0; i < machine_count(); i++) {
		struct machine *m = machine_get(i);

		if (machine_stop(m) != OK)
			continue; /* off, or ending already */
	}
}

/* ---- machines that end ---- */
static void on_ended(struct machine *m, const char *text)
{
	console_machine_ended(m, text, m->restart);
}

static bool any_started(void)
{
	for (unsigned i = 0; i < machine_count(); i++)
		if (machine_get(i)->starts)
			return true;
	return false;
}

static void end_host(void)
{
	bool reboot = ending == ENDING_REBOOT;

	log_drain();
	if (ending == ENDING_NONE)
		console_line("all machines have stopped: powering off");
	else
		console_line(reboot ? "rebooting" : "powering off");
	log_set_sink(NULL);
	if (reboot)
		host_reboot();
	host_poweroff();
}

static void end_if_due(void)
{
	if (ending == ENDING_NONE) {
		if (when_idle == IDLE_POWEROFF && machines_idle() && any_started())
			end_host();
	} else if (machines_idle() || host_now_ns() - ending_since > ENDING_PATIENCE) {
		end_host();
	}
}

/* ---- input ---- */
static bool is_blank_line(const char *text)
{
	while (*text == ' ')
		text++;
	return !*text;
}

static void end_line(void)
{
	line_reset(&editor);
	if (attach_next)
		console_attach(attach_next);
	attach_next = NULL;
}

static void run_line(void)
{
	if (!is_blank_line(editor.text))
		command_run(editor.text, mode, write_bytes, NULL);
	if (!command_busy())
		end_line();
}

/* A command that takes long: Ctrl-C ends it; what else is typed waits for the prompt, as far as there is room. */
static void go_on(void)
{
	bool cancel = false;

	for (unsigned taken = 0; taken < INPUT_STEP && !cancel; taken++) {
		int byte = console_read();

		if (byte < 0)
			break;
		cancel = byte == CTRL_C;
		if (cancel)
			ahead_count = ahead_taken = 0;
		else if (ahead_count < sizeof(ahead))
			ahead[ahead_count++] = (uint8_t)byte;
	}
	command_continue(cancel);
	if (!command_busy())
		end_line();
}

static void list_candidate(void *context, const char *word)
{
	console_line("  %s", word);
}

static void complete(void)
{
	char completion[LINE_SIZE], before[LINE_SIZE];

	memcpy(before, editor.text, editor.cursor);
	before[editor.cursor] = 0;
	command_complete(before, completion, sizeof(completion), list_candidate, NULL);
	line_insert(&editor, completion);
}

/* true: a command was run, which is enough for this poll. */
static bool take_byte(uint8_t byte)
{
	if (byte == CONSOLE_SWITCH) {
		console_switch();
		return true;
	}
	if (console_attached()) {
		console_type(byte);
		return false;
	}
	line_show(&editor);
	switch (line_key(&editor, byte)) {
	case LINE_READY: run_line(); return true;
	case LINE_TAB: complete(); return false;
	default: return false;
	}
}

static int next_byte(void)
{
	if (ahead_taken < ahead_count)
		return ahead[ahead_taken++];
	ahead_count = ahead_taken = 0;
	return console_read();
}

static bool take_input(void)
{
	unsigned taken = 0;

	while (taken < INPUT_STEP && ending == ENDING_NONE) {
		int byte = next_byte();

		if (byte < 0)
			break;
		taken++;
		if (take_byte((uint8_t)byte))
			break;
	}
	return taken > 0;
}

bool monitor_poll(void)
{
	bool any = machines_relieve();

	/* Until it is done its machines stay, and nothing comes between its lines. */
	if (command_busy()) {
		go_on();
		return true;
	}
	logged = false;
	log_drain();
	any |= logged;
	any |= machines_reap(on_ended);
	if (ending == ENDING_NONE)
		any |= machines_start_again(on_started);
	any |= console_poll();
	any |= take_input();
	end_if_due();
	if (!console_attached() && !command_busy() && ending == ENDING_NONE)
		line_show(&editor);
	return any;
}
