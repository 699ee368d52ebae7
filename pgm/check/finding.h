/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of pgm_check_step() find, told in one form. Of one check, by the CPU that makes it. */
#pragma once

#include "arch/x86_64/address.h"
#include "lib/format.h"

#define REPORT_AT_MOST 64u

struct check {
	struct pgm *pgm;
	void (*report)(void *context, const char *line);
	void *context;
	unsigned findings;
};

static inline void finding(struct check *c, gpa_t where, const char *what, uint64_t value)
{
	char line[160];

	if (++c->findings > REPORT_AT_MOST)
		return;
	format_string(line, sizeof(line), "gpa %#lx: %s (%#lx)", where.v, what, value);
	c->report(c->context, line);
}
