/* SPDX-License-Identifier: Apache-2.0 */
/* The pages of all machines, counted in steps before a command shows them: counting looks at each page's record. */
#pragma once

#include "monitor/command/command.h"
#include "pgm/pgm.h"

/* Counts them, and then lets the command do what is left of it, unless it is cancelled. */
void usage_count(void (*then)(struct output *out));
/* What is known at once, in pages. zeroed: taken back as zeros so far, said to be free by the guest or found. */
struct memory_use {
	uint64_t promised, held, shared, ballooned, zeroed;
};
struct memory_use usage_now(const struct machine *m);
/* As five columns of a table. */
#define MEMORY_USE(use)                                                                                                \
	NUMBER("promised_mib", (use).promised *PAGE_SIZE / MIB, 12),                                                   \
		NUMBER("held_mib", (use).held *PAGE_SIZE / MIB, 8),                                                    \
		NUMBER("shared_mib", (use).shared *PAGE_SIZE / MIB, 10),                                               \
		NUMBER("ballooned_mib", (use).ballooned *PAGE_SIZE / MIB, 13),                                         \
		NUMBER("zeroed_mib", (use).zeroed *PAGE_SIZE / MIB, 10)
/* What the guest says of its memory: balloon.c. */
struct balloon_info;
void statistics_show(struct output *out, const struct balloon_info *info);
/* Of the last counting; NULL: the machine wasn't there. */
const struct pgm_usage *usage_of(const struct machine *m);
