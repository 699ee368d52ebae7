/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a vcpu has decoded lately. A driver comes back to the same few instructions for all of its device's registers.
 *
 * Invariant: a slot holds what decode() makes of the 15 bytes and the mode in it, and is used only for the very same
 * bytes, which have just been fetched by the ordinary way. So neither code that changes itself, nor another mapping, nor
 * any fault of the fetch is seen otherwise than without it. Slots are chosen by address, which decides nothing.
 *
 * Belongs to one vcpu; no lock.
 */
#pragma once

#include "vm/emulate/decode.h"

#define DECODE_CACHE_SLOTS 16u

struct decode_slot {
	uint64_t first, last; /* bytes 0 to 7, and 7 to 14 */
	uint32_t mode;        /* enum decode_mode, plus 1; 0: empty */
	uint32_t user;        /* whoever reads slots keeps here what it has found out of the instruction; 0 at first */
	struct instruction instruction;
};

struct decode_cache {
	struct decode_slot slot[DECODE_CACHE_SLOTS];
	uint64_t hits, misses;
};

_Static_assert((DECODE_CACHE_SLOTS & (DECODE_CACHE_SLOTS - 1)) == 0, "a mask chooses the slot");

/* The slot with what decode() makes of INSTRUCTION_MAX bytes; NULL: it doesn't say OK. where: their address. */
static inline struct decode_slot *decode_cached(struct decode_cache *cache, const uint8_t *bytes, enum decode_mode mode,
						uint64_t where)
{
	struct decode_slot *slot = &cache->slot[(where ^ where >> 4) & (DECODE_CACHE_SLOTS - 1)];
	uint64_t first, last;

	__builtin_memcpy(&first, bytes, sizeof(first));
	__builtin_memcpy(&last, bytes + INSTRUCTION_MAX - sizeof(last), sizeof(last));
	if (likely(slot->first == first && slot->last == last && slot->mode == mode + 1u)) {
		cache->hits++;
		return slot;
	}
	cache->misses++;
	*slot = (struct decode_slot){ .first = first, .last = last };
	if (decode(bytes, INSTRUCTION_MAX, mode, &slot->instruction) != OK)
		return NULL;
	slot->mode = mode + 1u;
	return slot;
}
