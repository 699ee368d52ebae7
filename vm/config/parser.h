/* SPDX-License-Identifier: Apache-2.0 */
/* What config_parse() keeps while it walks the text, and how mistakes are told; private to the files of vm/config. */
#pragma once

#include "vm/config/keys.h"

/* Where the keys of the present line belong. SECTION_LOST: to a section that was refused; they are passed over. */
enum section_state { SECTION_NONE, SECTION_LOST, SECTION_HOST, SECTION_MACHINE };

struct config_parser {
	struct quire_config *config;
	config_error_fn error;
	void *context;
	enum section_state state;
	struct config_machine *machine; /* of SECTION_MACHINE */
	bool host_seen;
};

/* One mistake: told while there aren't too many, kept where it is the section's first. machine NULL: the host's. */
void config_mistake(struct config_parser *parser, struct config_machine *machine, unsigned line, const char *format,
		    ...) __attribute__((format(printf, 4, 5)));

/* How a piece of the text is shown: cut, and without bytes that a terminal would take amiss. */
struct shown {
	char text[33];
};
struct shown config_show(struct ini_text piece);

/* "host", "vm NAME" */
struct section_label {
	char text[CONFIG_MAX_NAME + 4];
};
struct section_label config_label(const struct config_machine *machine);
