/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of pages by their content, of which fusion takes what may be equal: a hint, for contents decide. Its size is fixed, 8 bytes for every two pages of the
 * host (pgm_fusion_start): buckets of a cache line, where what is new drives out another. Fusion's alone.
 */
#pragma once

#include "mm/account.h"

/* An entry: 33:0 page or frame number, 43:34 owner, 63:44 of the hash; an owner OWNER_SHARED stands for a shared frame. 0: none. */
#define ENTRY_PAGE BITS(33, 0)
#define ENTRY_OWNER_SHIFT 34
#define ENTRY_HASH BITS(63, 44)

static inline uint64_t entry_of(uint64_t key, owner_t owner, uint64_t page)
{
	return (key & ENTRY_HASH) | (uint64_t)owner << ENTRY_OWNER_SHIFT | page >> PAGE_SHIFT;
}

static inline owner_t entry_owner(uint64_t entry)
{
	return entry >> ENTRY_OWNER_SHIFT & (MAX_OWNERS - 1);
}

/* The entry of this content, or one that it may take; NULL: there is no table. */
uint64_t *candidate_slot(uint64_t key);
