/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of <string.h> that the kernel and the compiler itself need. Copies and fills
 * go by 8 bytes with string instructions: an emulator counts each repetition as an
 * instruction, and on hardware the fast-string microcode takes either width.
 *
 * The compiler must not turn a loop in here back into a call of the function it is in.
 */
#include <stdint.h>
#include <string.h>

#pragma GCC optimize("no-tree-loop-distribute-patterns")

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
	void *target = to;
	size_t words = size / 8, rest = size % 8;

	__asm__ volatile("rep movsq\n\tmov %3, %%rcx\n\trep movsb"
			 : "+&D"(target), "+&S"(from), "+&c"(words)
			 : "r"(rest)
			 : "memory");
	return to;
}

void *memset(void *to, int value, size_t size)
{
	void *target = to;
	size_t words = size / 8, rest = size % 8;
	uint64_t pattern = (uint8_t)value * UINT64_C(0x0101010101010101);

	__asm__ volatile("rep stosq\n\tmov %2, %%rcx\n\trep stosb"
			 : "+&D"(target), "+&c"(words)
			 : "r"(rest), "a"(pattern)
			 : "memory");
	return to;
}

/* From the last byte to the first: the tail's odd bytes, then words. An exception entry clears DF itself. */
static void copy_down(uint8_t *to, const uint8_t *from, size_t size)
{
	size_t words = size / 8, rest = size % 8;

	to += size;
	from += size;
	while (rest--)
		*--to = *--from;
	to -= 8;
	from -= 8;
	__asm__ volatile("std\n\trep movsq\n\tcld" : "+D"(to), "+S"(from), "+c"(words) : : "memory", "cc");
}

void *memmove(void *to, const void *from, size_t size)
{
	if ((uintptr_t)to - (uintptr_t)from >= size)
		return memcpy(to, from, size);
	copy_down(to, from, size);
	return to;
}

/* Zero if 8 bytes are equal. */
static uint64_t difference(const uint8_t *left, const uint8_t *right)
{
	uint64_t x, y;

	__builtin_memcpy(&x, left, sizeof(x));
	__builtin_memcpy(&y, right, sizeof(y));
	return x ^ y;
}

int memcmp(const void *a, const void *b, size_t size)
{
	const uint8_t *left = a, *right = b;

	for (; size >= 32; left += 32, right += 32, size -= 32)
		if (difference(left, right) | difference(left + 8, right + 8) | difference(left + 16, right + 16) |
		    difference(left + 24, right + 24))
			break;
	for (; size; left++, right++, size--)
		if (*left != *right)
			return *left < *right ? -1 : 1;
	return 0;
}

void *memchr(const void *where, int value, size_t size)
{
	const uint8_t *p = where;

	for (; size; p++, size--)
		if (*p == (uint8_t)value)
			return (void *)(uintptr_t)p;
	return NULL;
}

size_t strlen(const char *text)
{
	size_t n = 0;

	while (text[n])
		n++;
	return n;
}

size_t strnlen(const char *text, size_t most)
{
	size_t n = 0;

	while (n < most && text[n])
		n++;
	return n;
}

int strcmp(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return (int)(uint8_t)*a - (int)(uint8_t)*b;
}

int strncmp(const char *a, const char *b, size_t most)
{
	for (; most; a++, b++, most--) {
		if (*a != *b)
			return (int)(uint8_t)*a - (int)(uint8_t)*b;
		if (!*a)
			break;
	}
	return 0;
}

char *strchr(const char *text, int c)
{
	for (;; text++) {
		if (*text == (char)c)
			return (char *)(uintptr_t)text;
		if (!*text)
			return NULL;
	}
}
