/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks the text of quire.conf and sorts what it finds: a key goes to the section it stands in, a
 * mistake to whom it concerns. Two passes: the lines, then the contradictions of each section
 * that is still good, so that the order of keys never matters.
 */
#include "vm/config/parser.h"

/* ---- sections ---- */

struct config_machine *config_find(struct quire_config *config, const char *name)
{
	for (unsigned i = 0; i < config->machine_count; i++) {
		struct ini_text own = { config->machines[i].name, 0 };

		while (own.bytes[own.length])
			own.length++;
		if (ini_equal(own, name))
			return &config->machines[i];
	}
	return NULL;
}

/* false: not a name for a machine. */
static bool copy_name(char name[CONFIG_MAX_NAME + 1], struct ini_text text)
{
	if (!text.length || text.length > CONFIG_MAX_NAME)
		return false;
	for (size_t i = 0; i < text.length; i++) {
		char c = text.bytes[i], letter = c | 0x20;

		if (!(letter >= 'a' && letter <= 'z') && !(c >= '0' && c <= '9') && c != '_' && c != '-')
			return false;
		name[i] = c;
	}
	name[text.length] = 0;
	return true;
}

static void begin_machine(struct config_parser *parser, const struct ini_item *item)
{
	struct quire_config *config = parser->config;
	struct config_machine *machine;
	char name[CONFIG_MAX_NAME + 1];

	parser->state = SECTION_LOST;
	if (!copy_name(name, item->argument)) {
		config_mistake(parser, NULL, item->line,
			       "[vm %s]: no machine's name; allowed: 1 to %u letters, digits, _ or -",
			       config_show(item->argument).text, CONFIG_MAX_NAME);
		return;
	}
	machine = config_find(config, name);
	if (machine) {
		config_mistake(parser, machine, item->line,
			       "[vm %s]: a second section of this name; the first is in line %u", name, machine->line);
		return;
	}
	if (config->machine_count == CONFIG_MAX_MACHINES) {
		config_mistake(parser, NULL, item->line, "[vm %s]: too many machines; allowed: %u", name,
			       CONFIG_MAX_MACHINES);
		return;
	}
	machine = &config->machines[config->machine_count++];
	*machine = (struct config_machine){ .line = item->line };
	(void)copy_name(machine->name, item->argument);
	for (unsigned i = 0; i < MACHINE_KEY_COUNT; i++)
		config_set_standard(config, &config_machine_keys[i], machine);
	parser->state = SECTION_MACHINE;
	parser->machine = machine;
}

static void begin_section(struct config_parser *parser, const struct ini_item *item)
{
	parser->state = SECTION_LOST;
	if (ini_equal(item->name, "vm")) {
		begin_machine(parser, item);
	} else if (!ini_equal(item->name, "host") || item->argument.length) {
		config_mistake(parser, NULL, item->line, "[%s]: no such section; allowed: [host], [vm NAME]",
			       config_show(item->name).text);
	} else if (parser->host_seen) {
		config_mistake(parser, NULL, item->line, "[host]: a second section of this name");
	} else {
		parser->host_seen = true;
		parser->state = SECTION_HOST;
	}
}

/* ---- keys ---- */

static const struct config_key *find_key(const struct config_key *keys, unsigned count, struct ini_text name)
{
	for (unsigned i = 0; i < count; i++)
		if (ini_equal(name, keys[i].name))
			return &keys[i];
	return NULL;
}

static void unknown_key(struct config_parser *parser, struct config_machine *machine, const struct ini_item *item)
{
	const struct config_key *elsewhere = machine ? find_key(config_host_keys, HOST_KEY_COUNT, item->name)
						     : find_key(config_machine_keys, MACHINE_KEY_COUNT, item->name);

	if (elsewhere)
		config_mistake(parser, machine, item->line, "%s: %s: allowed in %s only", config_label(machine).text,
			       elsewhere->name, machine ? "[host]" : "[vm NAME]");
	else
		config_mistake(parser, machine, item->line,
			       "%s: %s: unknown key; allowed: see the list of keys in docs/manual.md",
			       config_label(machine).text, config_show(item->name).text);
}

/* A good value of a key that this build has no more than the default of. */
static bool is_later(const struct config_key *key, struct ini_text value)
{
	return key->only_standard && !ini_equal(value, key->standard);
}

static void take_value(struct config_parser *parser, struct config_machine *machine, const struct config_key *key,
		       const struct ini_item *item)
{
	void *section = machine ? (void *)machine : (void *)&parser->config->host;
	const char *wrong = config_set(parser->config, key, section, item->value);
	char allowed[96];

	(void)config_allowed(key, allowed, sizeof(allowed));
	if ((wrong || is_later(key, item->value)) && key->isolates)
		parser->config->host.fatal = true;
	if (wrong)
		config_mistake(parser, machine, item->line, "%s: %s = %s: %s; allowed: %s", config_label(machine).text,
			       key->name, config_show(item->value).text, wrong, allowed);
	else if (is_later(key, item->value))
		config_mistake(parser, machine, item->line, "%s: %s = %s: not in this build yet; allowed: %s",
			       config_label(machine).text, key->name, config_show(item->value).text, key->standard);
}

static void take_key(struct config_parser *parser, const struct ini_item *item)
{
	struct config_machine *machine = parser->state == SECTION_MACHINE ? parser->machine : NULL;
	const struct config_key *keys = machine ? config_machine_keys : config_host_keys;
	unsigned *lines = machine ? machine->key_lines : parser->config->host.key_lines;
	const struct config_key *key = find_key(keys, machine ? MACHINE_KEY_COUNT : HOST_KEY_COUNT, item->name);

	if (!key) {
		unknown_key(parser, machine, item);
	} else if (lines[key - keys]) {
		config_mistake(parser, machine, item->line, "%s: %s: given a second time; the first is in line %u",
			       config_label(machine).text, key->name, lines[key - keys]);
		parser->config->host.fatal |= key->isolates;
	} else {
		lines[key - keys] = item->line;
		take_value(parser, machine, key, item);
	}
}

static void take_item(struct config_parser *parser, const struct ini_item *item)
{
	struct config_machine *machine = parser->state == SECTION_MACHINE ? parser->machine : NULL;

	switch (item->kind) {
	case INI_SECTION: begin_section(parser, item); break;
	case INI_BAD_SECTION:
		parser->state = SECTION_LOST;
		config_mistake(parser, NULL, item->line, "%s; allowed: [host], [vm NAME]", item->error);
		break;
	case INI_BAD_LINE:
		if (parser->state != SECTION_LOST)
			config_mistake(parser, machine, item->line, "%s", item->error);
		break;
	case INI_KEY:
		if (parser->state == SECTION_NONE)
			config_mistake(parser, NULL, item->line,
				       "%s: a key before the first section; allowed: [host], [vm NAME]",
				       config_show(item->name).text);
		else if (parser->state != SECTION_LOST)
			take_key(parser, item);
		break;
	}
}

/* ---- the whole ---- */

static void check_sections(struct config_parser *parser)
{
	struct quire_config *config = parser->config;
	unsigned key = 0;
	const char *wrong = config->host.bad ? NULL : config_check_host(&config->host, &key);

	if (wrong)
		config_mistake(parser, NULL, config->host.key_lines[key], "host: %s: %s", config_host_keys[key].name,
			       wrong);
	for (unsigned i = 0; i < config->machine_count; i++) {
		struct config_machine *machine = &config->machines[i];
		unsigned line;

		if (machine->balloon == CONFIG_BALLOON_AUTO) /* where more may be promised than there is */
			machine->balloon =
				config->host.overcommit == CONFIG_OVERCOMMIT_RATIO && !machine->ram_preallocate;
		wrong = machine->bad ? NULL : config_check_machine(machine, &key);
		if (!wrong)
			continue;
		line = machine->key_lines[key] ? machine->key_lines[key] : machine->line;
		config_mistake(parser, machine, line, "vm %s: %s: %s", machine->name, config_machine_keys[key].name,
			       wrong);
	}
}

static void clear(struct quire_config *config)
{
	config->host = (struct config_host){ .bad = false };
	config->machine_count = config->error_count = 0;
	config->pool_used = 0;
	for (unsigned i = 0; i < HOST_KEY_COUNT; i++)
		config_set_standard(config, &config_host_keys[i], &config->host);
}

enum status config_parse(const char *text, size_t size, struct quire_config *config, config_error_fn error,
			 void *context)
{
	struct config_parser parser = { .config = config, .error = error, .context = context };
	struct ini_reader reader;
	struct ini_item item;

	clear(config);
	if (size > CONFIG_MAX_TEXT) {
		config_mistake(&parser, NULL, 0, "the configuration has %zu bytes; allowed: %u", size, CONFIG_MAX_TEXT);
		config->host.fatal = true;
		return BAD_FORMAT;
	}
	ini_begin(&reader, text, size);
	while (ini_next(&reader, &item))
		take_item(&parser, &item);
	check_sections(&parser);
	if (!parser.host_seen && !config->machine_count) {
		config_mistake(&parser, NULL, 0, "the configuration has no good section; allowed: [host], [vm NAME]");
		config->host.fatal = true;
	}
	if (config->host.fatal)
		return BAD_FORMAT;
	return config->error_count ? BAD_VALUE : OK;
}
