/* SPDX-License-Identifier: Apache-2.0 */
/* The pages of all machines, counted in steps before a command shows them: counting looks at each page's record. */
#pragma once

#include "monitor/command/command.h"
#include "pgm/pgm.h"

/* Counts them, and then lets the command do what is left of it, unless it is cancelled. */
void usage_count(void (*then)(struct output *out));
/* Of the last counting; NULL: the machine wasn't there. */
const struct pgm_usage *usage_of(const struct machine *m);
