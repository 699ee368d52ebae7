/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator types, taken apart: words, numbers, patterns. No state; kernel-independent. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define PARSE_WORDS 16u
#define PARSE_LENGTH 256u

/* word[] point into text, NUL-terminated. */
struct words {
	unsigned count;
	char *word[PARSE_WORDS];
	char text[PARSE_LENGTH];
};

/*
 * Cuts a line at blanks; "..." and '...' hold a word with blanks together (no escapes inside). NULL, or what is wrong
 * with the line: too long, too many words, a quote that isn't closed.
 */
const char *parse_words(const char *line, struct words *words);

/* Decimal, or hexadecimal after 0x; then K, M, G or T for powers of 1024, either case. false: no number, or above 64 bits. */
bool parse_number(const char *text, uint64_t *value);

/* '*' stands for any run of characters, '?' for one; all else for itself. At most pattern length times text length steps. */
bool parse_glob(const char *pattern, const char *text);
