/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of a panic, for the trap handler that has more than one line to say:
 * panic_begin(), any number of panic_line(), panic_end().
 */
#pragma once

#include <stdbool.h>

/* Stops the other CPUs by NMI and prints what the log still holds. Returns on one CPU only, once. */
void panic_begin(void);
/* Straight to the consoles. */
void panic_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void panic_end(void);

/*
 * Before power off or restart, on the CPU that does it: the others stop where they are and leave virtualisation, as does this one:
 * INIT would not reach a CPU in VMX operation (Intel SDM vol. 3 section 24.8).
 */
void panic_stop_others(void);

/* True from panic_begin() or panic_stop_others() on; an NMI handler then calls panic_stop_here(). */
bool panic_stops_all(void);
_Noreturn void panic_stop_here(void);
