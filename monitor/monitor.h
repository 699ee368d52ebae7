/* SPDX-License-Identifier: Apache-2.0 */
/* The operator's console. Boot CPU only. */
#ifndef MONITOR_MONITOR_H
#define MONITOR_MONITOR_H

#include <stdbool.h>

struct quire_config;

/* Starts the machines that are to start by themselves, prints the prompt. */
void monitor_start(const struct quire_config *config);
/* One bounded piece of work; true when there was something to do. */
bool monitor_poll(void);

#endif
