/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counting equal pages by their hashes. The table holds one word per content: 63 bits of XXH3, and whether it has been
 * met again. Two contents with the same 63 bits would count as equal: one chance in some hundred thousand
 * with 2^22 pages, and nothing but a count depends on it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DUPLICATE_PIECE 65536u /* slots */
#define DUPLICATE_PIECES 1024u

struct duplicates {
	uint64_t *piece[DUPLICATE_PIECES];
	uint64_t slots, used;
	uint64_t zero;      /* all bytes zero, but with a frame of their own */
	uint64_t unique;    /* content met once */
	uint64_t duplicate; /* content met more often; each page counts */
	uint64_t untold;    /* no room in the table */
};

/* Room for so many pages, and some more. False: no memory, and nothing to free. */
bool duplicates_begin(struct duplicates *d, uint64_t pages);
void duplicates_add(struct duplicates *d, const void *page);
void duplicates_end(struct duplicates *d);
