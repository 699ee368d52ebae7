/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Formatted print without allocation and without floating point.
 *
 * Conversions: %d %i %u %x %X %o %c %s %p %%, lengths hh h l ll z j, flags - 0 + space #,
 * width and precision as numbers or *. Anything else is printed as it stands.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>

/* A sink takes `length` bytes of output; called several times for one format. */
typedef void (*format_sink)(void *context, const char *bytes, size_t length);

void format_to(format_sink sink, void *context, const char *format, va_list args) __attribute__((format(printf, 3, 0)));

/*
 * Writes at most size - 1 bytes and a NUL into buffer (size may be 0: nothing is written).
 * Returns the length that the whole text has, as C's snprintf does.
 */
size_t format_string(char *buffer, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Says why in the text of that size; its value is the status. */
#define EXPLAIN(status, why, size, ...) (format_string(why, size, __VA_ARGS__), (status))
/* In a function whose last named parameter is `format`: the same of it and what follows it. */
#define format_arguments(buffer, size, format)                                                                         \
	({                                                                                                             \
		va_list arguments_;                                                                                    \
		size_t length_;                                                                                        \
		va_start(arguments_, format);                                                                          \
		length_ = format_string_v(buffer, size, format, arguments_);                                           \
		va_end(arguments_);                                                                                    \
		length_;                                                                                               \
	})
size_t format_string_v(char *buffer, size_t size, const char *format, va_list args)
	__attribute__((format(printf, 3, 0)));
