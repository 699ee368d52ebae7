/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operator's console, as the rooms above see it. Both functions run on the boot CPU only, with the
 * host's interrupts off, and never wait: a poll does a bounded piece of work and comes back.
 */
#pragma once

#include <stdbool.h>

struct quire_config;

/* Once, after machines_create(): takes over console and log, starts the machines that are to start by themselves. */
void monitor_start(const struct quire_config *config);

/*
 * The scheduler's housekeeping: carries log and guests' output, reaps ended machines, takes input, runs at most
 * one command. true: it did something, so look again soon. It does not return when it powers off.
 */
bool monitor_poll(void);
