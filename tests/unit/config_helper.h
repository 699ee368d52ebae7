/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of vm/config share: parsing with everything told kept, and what a good or bad section must give. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/bits.h"
#include "vm/config/config.h"
#include "vm/config/keys.h"

static struct quire_config config;
static char told[16384];
static unsigned told_count;

static void tell(void *context, unsigned line, const char *text)
{
	size_t at = strlen(told);

	assert_ptr_equal(context, &config);
	assert_true(strlen(text) > 0 && strlen(text) < CONFIG_ERROR_SIZE);
	snprintf(told + at, sizeof(told) - at, "%u %s\n", line, text);
	told_count++;
}

static enum status parse_bytes(const char *text, size_t size)
{
	char *copy = malloc(size ? size : 1);
	enum status status;

	memset(&config, 0xa5, sizeof(config)); /* nothing of an earlier parse may matter */
	memcpy(copy, text, size);
	told[0] = 0;
	told_count = 0;
	status = config_parse(copy, size, &config, tell, &config);
	memset(copy, 'Z', size); /* the text may go: nothing points into it */
	free(copy);
	return status;
}

static enum status parse(const char *text)
{
	return parse_bytes(text, strlen(text));
}

static struct config_machine *machine(const char *name)
{
	struct config_machine *found = config_find(&config, name);

	if (!found)
		fail_msg("no machine %s", name);
	return found;
}

/* A machine section made of `lines` (from line 3 on) is bad for one reason, told in full; its neighbours stay good. */
static void expect_bad(const char *lines, unsigned line, const char *const *parts)
{
	char text[8192];

	snprintf(text, sizeof(text), "[vm m]\nkernel = k\n%s\n[vm other]\nkernel = k\n", lines);
	if (parse(text) != BAD_VALUE || !machine("m")->bad)
		fail_msg("taken as good: %s", lines);
	if (machine("other")->bad || config.host.bad)
		fail_msg("spread to others: %s\n%s", lines, told);
	if (machine("m")->error.line != line)
		fail_msg("line %u instead of %u: %s\n%s", machine("m")->error.line, line, lines, told);
	for (; *parts; parts++)
		if (!strstr(machine("m")->error.text, *parts))
			fail_msg("lacks \"%s\": %s\n%s", *parts, lines, told);
}

#define BAD(lines, line, ...) expect_bad(lines, line, (const char *const[]){ __VA_ARGS__, NULL })

static struct config_machine *good(const char *lines)
{
	char text[8192];

	snprintf(text, sizeof(text), "[vm m]\nkernel = k\n%s\n", lines);
	if (parse(text) != OK)
		fail_msg("refused: %s\n%s", lines, told);
	return machine("m");
}
