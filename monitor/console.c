/* SPDX-License-Identifier: Apache-2.0 */
/* Routing between the monitor, the guests and the physical console: see the header. */
#include "monitor/console.h"

#include <string.h>

#include "arch/x86_64/host.h"
#include "lib/format.h"
#include "monitor/text/guest_lines.h"
#include "monitor/text/held.h"
#include "vm/machine.h"

#define OUTPUT_STEP 1024u
#define TYPED_SIZE 256u
/* Steps that drain a whole console ring, should a machine have ended. */
#define OUTPUT_STEPS_AT_END 64u

static struct line *prompt_line;
static struct machine *attached, *attached_last;
static unsigned switch_first; /* index of the machine at which this round of Ctrl-] began */
static struct guest_lines guests[CONFIG_MAX_MACHINES];
static struct held_lines held;
static uint8_t typed[TYPED_SIZE];
static unsigned typed_count;

static void write_line(void *context, const char *text)
{
	console_write(text, strlen(text));
	console_write("\r\n", 2);
}

/* Above the prompt, or in a line of its own between what an attached guest writes. */
static void show(const char *text)
{
	if (attached)
		console_write("\r\n", 2);
	else
		line_hide(prompt_line);
	write_line(NULL, text);
}

void console_line(const char *format, ...)
{
	char text[HELD_LENGTH + 1];

	format_arguments(text, sizeof(text), format);
	show(text);
}

void console_line_later(const char *format, ...)
{
	char text[HELD_LENGTH + 1];

	format_arguments(text, sizeof(text), format);
	if (attached)
		held_add(&held, text);
	else
		show(text);
}

void console_start(struct line *line)
{
	prompt_line = line;
}

/* ---- attaching ---- */
struct machine *console_attached(void)
{
	return attached;
}

static void discard(void *context, const char *text)
{
}

void console_attach(struct machine *m)
{
	struct guest_lines *g = &guests[m->index];

	console_line("[console %s, Ctrl-] for the next]", m->name);
	if (!attached)
		switch_first = m->index;
	attached = attached_last = m;
	typed_count = 0;
	/* The unfinished line, a prompt most likely, so that the operator sees where he is. */
	console_write(g->text, g->length);
	g->given = g->length;
}

void console_detach(void)
{
	if (!attached)
		return;
	console_write("\r\n[monitor]\r\n", 13);
	attached = NULL;
	typed_count = 0;
	held_show(&held, write_line, NULL);
}

static bool has_console(const struct machine *m)
{
	uint32_t state = __atomic_load_n(&m->state, __ATOMIC_ACQUIRE);

	return state == MACHINE_RUNNING || state == MACHINE_PAUSED;
}

/* The first machine from index `from` on that runs, going round; NULL: none. */
static struct machine *next_running(unsigned from)
{
	unsigned count = machine_count();

	for (unsigned i = 0; i < count; i++) {
		struct machine *m = machine_get((from + i) % count);

		if (has_console(m))
			return m;
	}
	return NULL;
}

/* Machines from `from` to `to`, going round. */
static unsigned distance(unsigned from, unsigned to)
{
	return (to + machine_count() - from) % machine_count();
}

/* Would going from one machine to another reach, or pass, the one at which the round began? */
static bool round_over(unsigned from, unsigned to)
{
	unsigned left = distance(from, switch_first);

	return to == from || (left > 0 && distance(from, to) >= left);
}

void console_switch(void)
{
	struct machine *next;

	if (!attached) {
		next = attached_last && has_console(attached_last) ? attached_last : next_running(0);
		if (next)
			console_attach(next);
		else
			console_line("[no machine is running]");
		return;
	}
	next = next_running(attached->index + 1);
	if (!next || round_over(attached->index, next->index))
		console_detach();
	else
		console_attach(next);
}

/* ---- input ---- */
void console_type(uint8_t byte)
{
	if (typed_count < TYPED_SIZE)
		typed[typed_count++] = byte;
	else
		console_write("\a", 1);
}

static bool carry_typed(void)
{
	unsigned taken;

	if (!attached || !typed_count)
		return false;
	taken = (unsigned)machine_console_input(attached, typed, typed_count);
	typed_count -= taken;
	memmove(typed, typed + taken, typed_count);
	return taken > 0;
}

/* ---- output ---- */
static void guest_line(void *context, const char *text)
{
	const struct machine *m = context;

	console_line_later("%s| %s", m->name, text);
}

static bool carry_output(struct machine *m)
{
	struct guest_lines *g = &guests[m->index];
	uint8_t bytes[OUTPUT_STEP];
	size_t length = machine_console_output(m, bytes, sizeof(bytes));

	if (attached == m) {
		console_write((const char *)bytes, length);
		guest_lines_feed(g, bytes, length, host_now_ns(), discard, NULL);
		g->given = g->length;
		return length > 0;
	}
	guest_lines_feed(g, bytes, length, host_now_ns(), guest_line, m);
	return guest_lines_idle(g, host_now_ns(), guest_line, m) || length > 0;
}

bool console_poll(void)
{
	bool any = carry_typed();

	for (unsigned i = 0; i < machine_count(); i++)
		any |= carry_output(machine_get(i));
	return any;
}

void console_machine_ended(struct machine *m, const char *text, bool stay)
{
	for (unsigned i = 0; i < OUTPUT_STEPS_AT_END && carry_output(m); i++)
		;
	guest_lines_flush(&guests[m->index], attached == m ? discard : guest_line, m);
	console_line("%s", text);
	if (attached == m && !stay)
		console_detach();
}
