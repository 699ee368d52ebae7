/* SPDX-License-Identifier: Apache-2.0 */
/* Mistakes in quire.conf: each becomes one line for a person, and marks what it concerns. */
#include "lib/format.h"
#include "vm/config/parser.h"

void config_mistake(struct config_parser *parser, struct config_machine *machine, unsigned line, const char *format,
		    ...)
{
	struct config_host *host = &parser->config->host;
	struct config_error *kept = machine ? &machine->error : &host->error;
	bool *bad = machine ? &machine->bad : &host->bad;
	char text[CONFIG_ERROR_SIZE];

	format_arguments(text, sizeof(text), format);
	if (!*bad) {
		kept->line = line;
		(void)format_string(kept->text, sizeof(kept->text), "%s", text);
	}
	*bad = true;
	if (parser->error && parser->config->error_count < CONFIG_MAX_TOLD)
		parser->error(parser->context, line, text);
	parser->config->error_count++;
}

struct shown config_show(struct ini_text piece)
{
	struct shown shown = { "" };
	size_t at = 0;

	for (; at < piece.length && at < sizeof(shown.text) - 1; at++) {
		bool plain = piece.bytes[at] >= 0x20 && piece.bytes[at] < 0x7f;

		shown.text[at] = plain ? piece.bytes[at] : '?';
	}
	for (size_t dot = 0; piece.length > at && dot < 3; dot++)
		shown.text[at - 1 - dot] = '.';
	return shown;
}

struct section_label config_label(const struct config_machine *machine)
{
	struct section_label label;

	(void)format_string(label.text, sizeof(label.text), machine ? "vm %s" : "host", machine ? machine->name : "");
	return label;
}
