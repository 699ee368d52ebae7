/* SPDX-License-Identifier: Apache-2.0 */
/* Text: COM1 output, a small print, the command line's words, and the four functions that gcc itself calls for. */
#include <stdarg.h>

#include "guest.h"

#define COM1 0x3f8
#define LINE_STATUS (COM1 + 5)
#define TRANSMIT_EMPTY 0x20

void put_char(char c)
{
	while (!(in8(LINE_STATUS) & TRANSMIT_EMPTY))
		;
	out8(COM1, (uint8_t)c);
}

static void put_text(const char *text)
{
	while (*text)
		put_char(*text++);
}

static void put_number(uint32_t value, unsigned base)
{
	char digits[12];
	unsigned n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (n)
		put_char(digits[--n]);
}

static void put_hex64(uint64_t value)
{
	for (int shift = 60; shift >= 0; shift -= 4)
		if (value >> shift || !shift)
			put_char("0123456789abcdef"[value >> shift & 15]);
}

void print(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	for (; *format; format++) {
		if (*format != '%') {
			put_char(*format);
			continue;
		}
		switch (*++format) {
		case 's': put_text(va_arg(args, const char *)); break;
		case 'c': put_char((char)va_arg(args, int)); break;
		case 'x': put_number(va_arg(args, uint32_t), 16); break;
		case 'l': /* %llx */
			format += 2;
			put_hex64(va_arg(args, uint64_t));
			break;
		case 'u': put_number(va_arg(args, uint32_t), 10); break;
		case 'd': {
			int32_t value = va_arg(args, int32_t);

			if (value < 0)
				put_char('-');
			put_number(value < 0 ? 0u - (uint32_t)value : (uint32_t)value, 10);
			break;
		}
		default: put_char(*format); break;
		}
	}
	va_end(args);
}

static const char *find_word(const char *word, size_t length, bool whole)
{
	for (const char *at = command_line; *at; at++) {
		bool begins = at == command_line || at[-1] == ' ';
		size_t i = 0;

		while (i < length && at[i] == word[i])
			i++;
		if (begins && i == length && (!whole || at[i] == ' ' || !at[i]))
			return at + length;
	}
	return NULL;
}

bool option(const char *word)
{
	return find_word(word, strlen(word), true) != NULL;
}

uint32_t option_number(const char *name, uint32_t standard)
{
	const char *at = find_word(name, strlen(name), false);
	uint32_t value = 0;

	if (!at || *at < '0' || *at > '9')
		return standard;
	while (*at >= '0' && *at <= '9')
		value = value * 10 + (uint32_t)(*at++ - '0');
	return value;
}

void *memcpy(void *to, const void *from, size_t size)
{
	void *result = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
	return result;
}

void *memset(void *to, int value, size_t size)
{
	void *result = to;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
	return result;
}

int memcmp(const void *a, const void *b, size_t size)
{
	const uint8_t *x = a, *y = b;

	for (; size; size--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}
