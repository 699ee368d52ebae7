/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bits of the host's page-table entries, 4 levels. Intel SDM vol. 3 section 4.5, tables 4-15 to 4-20. Private to
 * paging*.c and smp.c.
 */
#pragma once

#include "arch/x86_64/paging.h"

#define ENTRY_PRESENT BIT(0)
#define ENTRY_WRITE BIT(1)
#define ENTRY_PWT BIT(3)
#define ENTRY_PCD BIT(4)
#define ENTRY_ACCESSED BIT(5)
#define ENTRY_DIRTY BIT(6)
#define ENTRY_LARGE BIT(7)
#define ENTRY_PAT_4K BIT(7)
#define ENTRY_GLOBAL BIT(8)
#define ENTRY_PAT_LARGE BIT(12)
#define ENTRY_NX BIT(63)
#define ENTRY_ADDRESS BITS(51, 12)
/* Upper levels grant everything; the leaf decides. */
#define ENTRY_TABLE (ENTRY_PRESENT | ENTRY_WRITE | ENTRY_ACCESSED)

_Static_assert((ENTRY_ADDRESS & (ENTRY_TABLE | ENTRY_NX | ENTRY_PAT_4K | ENTRY_GLOBAL)) == 0,
	       "no flag lies in the address");

#define LEVEL_4K 1u
#define LEVEL_2M 2u
#define LEVEL_1G 3u
#define LEVEL_TOP 4u

static inline unsigned level_shift(unsigned level)
{
	return PAGE_SHIFT + 9 * (level - 1);
}

static inline uint64_t level_size(unsigned level)
{
	return UINT64_C(1) << level_shift(level);
}

/* The tables in use and how to reach them, set by paging_build.c. */
void paging_use(hpa_t root, uint64_t direct_base);

/* The shared tables' entry that ends the walk for `where`, leaf or absent, and its level. No lock: tables never go away. */
uint64_t *paging_find(uint64_t where, unsigned *level);
/* Tables down to the entry of `level`, larger leaves split on the way; that entry stays as it is. NO_MEMORY. */
enum status paging_make_table(uint64_t where, unsigned level) must_check;
