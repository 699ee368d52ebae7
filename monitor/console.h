/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who has the physical console: the monitor's line, or one machine's raw console. Boot CPU only.
 *
 * While no console is attached, what guests write appears as `NAME| text` above the prompt. While one is,
 * that machine's bytes go out raw, and the lines of the others and of the log are kept, the last
 * HELD_LINES of them, and shown on return to the monitor. A machine's end is shown at once either way.
 */
#pragma once

#include "monitor/text/line.h"

#define CONSOLE_SWITCH 0x1d /* Ctrl-] */

struct machine;

/* line: the monitor's editor, hidden around what is written here; monitor_poll shows it again. */
void console_start(struct line *line);
/* A line for the operator, shown at once. */
void console_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A line that may wait while a machine's console is attached. */
void console_line_later(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* NULL: the monitor has the console. */
struct machine *console_attached(void);
void console_attach(struct machine *machine);
void console_detach(void);
/* Ctrl-]: from the monitor to the machine attached last, then to the next that runs, and after the last to the monitor. */
void console_switch(void);
/* A typed byte for the attached machine. */
void console_type(uint8_t byte);

/* Carries what guests wrote, at most 1 KiB per machine, and typed bytes that were not taken yet. true: there was something. */
bool console_poll(void);
/* The machine is off: shows the rest of its output, then `text`. stay: it starts again, keep it attached. */
void console_machine_ended(struct machine *machine, const char *text, bool stay);
