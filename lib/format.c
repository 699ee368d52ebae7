/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Formatted print. One pass over the format: each conversion is parsed into a struct
 * specification, its digits are made in a small buffer from the right, and one function
 * puts prefix, zeros, digits and padding out. No allocation, no state.
 */
#include "lib/format.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define DIGITS_MAX 24u /* 64 bits in octal are 22 */

_Static_assert(DIGITS_MAX > (64 + 2) / 3, "octal digits of 64 bits fit");

struct specification {
	bool left, zero, plus, space, alternate;
	int width, precision; /* precision -1: none given */
	char length;          /* 0, 'H' for hh, 'h', 'l', 'q' for ll, 'z', 'j' */
	char conversion;
};

struct output {
	format_sink sink;
	void *context;
};

static void put(const struct output *out, const char *bytes, size_t length)
{
	if (length)
		out->sink(out->context, bytes, length);
}

static void fill(const struct output *out, char c, long count)
{
	char run[16];

	memset(run, c, sizeof(run));
	for (; count > 0; count -= (long)sizeof(run))
		put(out, run, count < (long)sizeof(run) ? (size_t)count : sizeof(run));
}

static const char *parse_number(const char *p, va_list *args, int *number, bool *negative)
{
	int n = 0;

	*negative = false;
	if (*p == '*') {
		n = va_arg(*args, int);
		*negative = n < 0;
		n = n == INT32_MIN ? 0 : n < 0 ? -n : n;
		p++;
	} else {
		for (; *p >= '0' && *p <= '9'; p++)
			n = n < 100000 ? n * 10 + (*p - '0') : n;
	}
	*number = n;
	return p;
}

static const char *parse_flags(const char *p, struct specification *spec)
{
	for (;; p++) {
		switch (*p) {
		case '-': spec->left = true; break;
		case '0': spec->zero = true; break;
		case '+': spec->plus = true; break;
		case ' ': spec->space = true; break;
		case '#': spec->alternate = true; break;
		default: return p;
		}
	}
}

static const char *parse_length(const char *p, struct specification *spec)
{
	if (*p == 'h' || *p == 'l') {
		spec->length = *p;
		if (p[1] == *p) {
			spec->length = *p == 'h' ? 'H' : 'q';
			p++;
		}
		return p + 1;
	}
	if (*p == 'z' || *p == 'j' || *p == 't') {
		spec->length = *p;
		return p + 1;
	}
	return p;
}

/* p stands behind the '%'; returns the place of the conversion letter. */
static const char *parse_specification(const char *p, va_list *args, struct specification *spec)
{
	bool negative;

	*spec = (struct specification){ .precision = -1 };
	p = parse_flags(p, spec);
	p = parse_number(p, args, &spec->width, &negative);
	spec->left |= negative;
	if (*p == '.') {
		p = parse_number(p + 1, args, &spec->precision, &negative);
		if (negative)
			spec->precision = -1;
	}
	p = parse_length(p, spec);
	spec->conversion = *p;
	return p;
}

static uint64_t fetch_unsigned(const struct specification *spec, va_list *args)
{
	switch (spec->length) {
	case 'H': return (unsigned char)va_arg(*args, unsigned);
	case 'h': return (unsigned short)va_arg(*args, unsigned);
	case 0: return va_arg(*args, unsigned);
	default: return va_arg(*args, uint64_t); /* l, ll, z, j and t are all 64 bits wide here */
	}
}

static int64_t fetch_signed(const struct specification *spec, va_list *args)
{
	switch (spec->length) {
	case 'H': return (signed char)va_arg(*args, int);
	case 'h': return (short)va_arg(*args, int);
	case 0: return va_arg(*args, int);
	default: return va_arg(*args, int64_t);
	}
}

_Static_assert(sizeof(long) == 8 && sizeof(size_t) == 8 && sizeof(long long) == 8 && sizeof(intmax_t) == 8,
	       "the wide lengths are fetched alike");

/* Digits of value into the end of `digits`; returns how many. 0 gives none when precision is 0, as C says. */
static unsigned make_digits(uint64_t value, const struct specification *spec, char digits[DIGITS_MAX])
{
	const char *alphabet = spec->conversion == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
	unsigned base = spec->conversion == 'o' ? 8 : spec->conversion == 'u' || spec->conversion == 'd' ? 10 : 16;
	unsigned count = 0;

	if (!value && spec->precision)
		digits[DIGITS_MAX - ++count] = '0';
	for (; value; value /= base)
		digits[DIGITS_MAX - ++count] = alphabet[value % base];
	return count;
}

static void put_number(const struct output *out, const struct specification *spec, uint64_t value, const char *prefix)
{
	char digits[DIGITS_MAX];
	unsigned count = make_digits(value, spec, digits);
	long prefix_length = (long)strlen(prefix);
	long zeros = spec->precision > (long)count ? spec->precision - (long)count : 0;
	long padding;

	if (spec->conversion == 'o' && spec->alternate && !zeros && (!count || digits[DIGITS_MAX - count] != '0'))
		zeros = 1;
	padding = spec->width - prefix_length - zeros - (long)count;
	if (spec->zero && !spec->left && spec->precision < 0 && padding > 0) {
		zeros += padding;
		padding = 0;
	}
	if (!spec->left)
		fill(out, ' ', padding);
	put(out, prefix, (size_t)prefix_length);
	fill(out, '0', zeros);
	put(out, digits + DIGITS_MAX - count, count);
	if (spec->left)
		fill(out, ' ', padding);
}

static void put_text(const struct output *out, const struct specification *spec, const char *text, size_t length)
{
	long padding = spec->width - (long)length;

	if (!spec->left)
		fill(out, ' ', padding);
	put(out, text, length);
	if (spec->left)
		fill(out, ' ', padding);
}

static void put_signed(const struct output *out, struct specification *spec, va_list *args)
{
	int64_t value = fetch_signed(spec, args);

	spec->conversion = 'd';
	put_number(out, spec, value < 0 ? -(uint64_t)value : (uint64_t)value,
		   value < 0     ? "-"
		   : spec->plus  ? "+"
		   : spec->space ? " "
				 : "");
}

static void put_unsigned(const struct output *out, const struct specification *spec, va_list *args)
{
	uint64_t value = fetch_unsigned(spec, args);
	const char *prefix = spec->conversion == 'x' ? "0x" : spec->conversion == 'X' ? "0X" : "";

	put_number(out, spec, value, spec->alternate && value ? prefix : "");
}

static void put_string(const struct output *out, const struct specification *spec, const char *text)
{
	if (!text)
		text = "(null)";
	put_text(out, spec, text, spec->precision < 0 ? strlen(text) : strnlen(text, (size_t)spec->precision));
}

/* False: not a conversion that we know; the caller prints it as it stands. */
static bool put_conversion(const struct output *out, struct specification *spec, va_list *args)
{
	char c;

	switch (spec->conversion) {
	case 'd':
	case 'i': put_signed(out, spec, args); return true;
	case 'u':
	case 'x':
	case 'X':
	case 'o': put_unsigned(out, spec, args); return true;
	case 'p':
		spec->conversion = 'x';
		put_number(out, spec, (uint64_t)va_arg(*args, void *), "0x");
		return true;
	case 'c':
		c = (char)va_arg(*args, int);
		put_text(out, spec, &c, 1);
		return true;
	case 's': put_string(out, spec, va_arg(*args, const char *)); return true;
	case '%': put(out, "%", 1); return true;
	default: return false;
	}
}

void format_to(format_sink sink, void *context, const char *format, va_list args)
{
	const struct output out = { sink, context };
	struct specification spec;
	const char *start, *p = format;
	va_list copy;

	va_copy(copy, args);
	while (*p) {
		for (start = p; *p && *p != '%'; p++)
			;
		put(&out, start, (size_t)(p - start));
		if (!*p)
			break;
		start = p;
		p = parse_specification(p + 1, &copy, &spec);
		if (*p)
			p++;
		if (!put_conversion(&out, &spec, &copy))
			put(&out, start, (size_t)(p - start));
	}
	va_end(copy);
}

struct string_output {
	char *buffer;
	size_t size, length;
};

static void string_sink(void *context, const char *bytes, size_t length)
{
	struct string_output *to = context;

	if (to->length < to->size) {
		size_t room = to->size - to->length;

		memcpy(to->buffer + to->length, bytes, length < room ? length : room);
	}
	to->length += length;
}

size_t format_string_v(char *buffer, size_t size, const char *format, va_list args)
{
	struct string_output to = { buffer, size ? size - 1 : 0, 0 };

	format_to(string_sink, &to, format, args);
	if (size)
		buffer[to.length < size - 1 ? to.length : size - 1] = '\0';
	return to.length;
}

size_t format_string(char *buffer, size_t size, const char *format, ...)
{
	size_t length;

	length = format_arguments(buffer, size, format);
	return length;
}
