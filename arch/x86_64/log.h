/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's log and its end. Safe in any context, an exit or an NMI included:
 * a line is formatted on the stack and put into a ring without a lock; the boot
 * processor's idle loop carries the ring to the consoles (serial, framebuffer).
 * Unit tests supply their own versions of these functions.
 */
#pragma once

/* How much a line matters: put before the format; without any of them it is for information. */
#define LOG_ERROR "\001"
#define LOG_WARNING "\002"
#define LOG_INFO "\003"
#define LOG_DEBUG "\004"

/* One line (a newline is added). At most 240 bytes; the rest is cut. All lines are kept, whatever the level that is shown. */
void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Broken hardware or a broken invariant: prints, stops every CPU, never returns.
 * No guest can cause one; tests count each as a failure.
 */
_Noreturn void panic(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define panic_unless(condition)                                                                                        \
	do {                                                                                                           \
		if (__builtin_expect(!(condition), 0))                                                                 \
			panic("%s:%d: %s does not hold", __FILE__, __LINE__, #condition);                              \
	} while (0)
