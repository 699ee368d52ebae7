/* SPDX-License-Identifier: Apache-2.0 */
/* Escaping for JSON: RFC 8259 section 7; UTF-8's forms: RFC 3629 section 4. */
#include "monitor/text/output_json.h"

#include <stdbool.h>
#include <stdint.h>

static bool continues(uint8_t byte, uint8_t low, uint8_t high)
{
	return byte >= low && byte <= high;
}

/* Bytes of the valid UTF-8 character at `at`, 0 when there is none. A NUL never continues, so the text's end is safe. */
static unsigned utf8_length(const uint8_t *at)
{
	uint8_t low = 0x80, high = 0xbf;
	unsigned length;

	if (at[0] < 0x80)
		return 1;
	if (at[0] < 0xc2 || at[0] > 0xf4)
		return 0;
	length = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
	/* Overlong forms, surrogates, and what is above U+10FFFF show in the second byte. */
	if (at[0] == 0xe0)
		low = 0xa0;
	else if (at[0] == 0xf0)
		low = 0x90;
	else if (at[0] == 0xed)
		high = 0x9f;
	else if (at[0] == 0xf4)
		high = 0x8f;
	if (!continues(at[1], low, high))
		return 0;
	for (unsigned i = 2; i < length; i++)
		if (!continues(at[i], 0x80, 0xbf))
			return 0;
	return length;
}

static void put_escape(format_sink put, void *context, unsigned value)
{
	static const char digits[] = "0123456789abcdef";
	char text[6] = { '\\',
			 'u',
			 digits[value >> 12 & 15],
			 digits[value >> 8 & 15],
			 digits[value >> 4 & 15],
			 digits[value & 15] };

	put(context, text, sizeof(text));
}

void json_string(format_sink put, void *context, const char *text)
{
	const uint8_t *at = (const uint8_t *)text;

	put(context, "\"", 1);
	while (*at) {
		unsigned length = utf8_length(at);

		if (*at == '"' || *at == '\\')
			put(context, "\\", 1);
		if (!length)
			put_escape(put, context, 0xfffd);
		else if (*at < 0x20 || *at == 0x7f)
			put_escape(put, context, *at);
		else
			put(context, (const char *)at, length);
		at += length ? length : 1;
	}
	put(context, "\"", 1);
}
