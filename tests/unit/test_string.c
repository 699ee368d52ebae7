/* SPDX-License-Identifier: Apache-2.0 */
// sources: lib/status.c
/*
 * The kernel's string functions against the C library's, over lengths and distances around the 8-byte
 * words that they copy by. The file is included under other names, because the library's are in use here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define memcpy kernel_memcpy
#define memset kernel_memset
#define memmove kernel_memmove
#define memcmp kernel_memcmp
#define memchr kernel_memchr
#define strlen kernel_strlen
#define strnlen kernel_strnlen
#define strcmp kernel_strcmp
#define strncmp kernel_strncmp
#define strchr kernel_strchr
#include "lib/string.c"
#undef memcpy
#undef memset
#undef memmove
#undef memcmp
#undef memchr
#undef strlen
#undef strnlen
#undef strcmp
#undef strncmp
#undef strchr

#define SPACE 96

static void pattern(uint8_t *bytes)
{
	for (unsigned i = 0; i < SPACE; i++)
		bytes[i] = (uint8_t)(i * 37 + 1);
}

static void moves(void **state)
{
	uint8_t ours[SPACE], theirs[SPACE];

	for (unsigned from = 0; from < 24; from++)
		for (unsigned to = 0; to < 24; to++)
			for (unsigned size = 0; size <= 64; size++) {
				pattern(ours);
				pattern(theirs);
				assert_ptr_equal(kernel_memmove(ours + to, ours + from, size), ours + to);
				memmove(theirs + to, theirs + from, size);
				if (memcmp(ours, theirs, SPACE))
					fail_msg("memmove of %u bytes from %u to %u", size, from, to);
			}
}

static void copies_and_fills(void **state)
{
	uint8_t source[SPACE], ours[SPACE], theirs[SPACE];

	pattern(source);
	for (unsigned at = 0; at < 16; at++)
		for (unsigned size = 0; size <= 64; size++) {
			memset(ours, 0xee, SPACE);
			memset(theirs, 0xee, SPACE);
			assert_ptr_equal(kernel_memcpy(ours + at, source + 3, size), ours + at);
			memcpy(theirs + at, source + 3, size);
			assert_memory_equal(ours, theirs, SPACE);
			assert_ptr_equal(kernel_memset(ours + at, 0x1a5, size), ours + at);
			memset(theirs + at, 0x1a5, size);
			assert_memory_equal(ours, theirs, SPACE);
		}
}

static int sign(int value)
{
	return (value > 0) - (value < 0);
}

static void comparisons(void **state)
{
	uint8_t a[SPACE], b[SPACE];

	for (unsigned size = 0; size <= 72; size++)
		for (unsigned at = 0; at < 72; at++)
			for (int change = -1; change <= 1; change++) {
				pattern(a);
				pattern(b);
				b[at] = (uint8_t)(b[at] + change);
				assert_int_equal(sign(kernel_memcmp(a, b, size)), sign(memcmp(a, b, size)));
			}
}

static void texts(void **state)
{
	static const char *const samples[] = { "", "a", "ab", "abc", "abd", "\xff", "a\x80", "abab", "b" };
	enum { COUNT = sizeof(samples) / sizeof(*samples) };

	for (unsigned i = 0; i < COUNT; i++) {
		const char *s = samples[i];

		assert_int_equal(kernel_strlen(s), strlen(s));
		for (unsigned n = 0; n < 6; n++)
			assert_int_equal(kernel_strnlen(s, n), strnlen(s, n));
		for (int c = 0; c < 256; c++) {
			assert_ptr_equal(kernel_strchr(s, c), strchr(s, c));
			assert_ptr_equal(kernel_memchr(s, c, strlen(s)), memchr(s, c, strlen(s)));
		}
		for (unsigned j = 0; j < COUNT; j++) {
			assert_int_equal(sign(kernel_strcmp(s, samples[j])), sign(strcmp(s, samples[j])));
			for (unsigned n = 0; n < 6; n++)
				assert_int_equal(sign(kernel_strncmp(s, samples[j], n)),
						 sign(strncmp(s, samples[j], n)));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moves),
		cmocka_unit_test(copies_and_fills),
		cmocka_unit_test(comparisons),
		cmocka_unit_test(texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
