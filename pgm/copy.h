/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies from and to guest memory, which processors and devices change meanwhile. Each naturally aligned unit of 2, 4 or 8
 * bytes on the guest's side is read or written at once, as by a processor (Intel SDM vol. 3 section 9.1.1, AMD APM vol. 2 section
 * 7.3.2): a table's entry, a ring's index or a flag is never seen by halves. The other side may lie anywhere.
 */
#pragma once

#include "mm/map.h"

/* The units from `at` to `end`, bytes from the guest's side: in, from `other`; else to it. */
void copy_units(uint8_t *guest, uint8_t *other, size_t length, bool in);

/* Puts `desired` of 1, 2, 4 or 8 bytes in if `expected` is there; returns what was there. Aligned. */
uint64_t copy_exchange(void *guest, uint64_t expected, uint64_t desired, unsigned size);

/*
 * From here on by string instructions, whose elements are words (Intel SDM vol. 3 section 9.2.4): who copies so much looks at none of
 * them meanwhile.
 */
#define COPY_LONG 64u
static inline bool copy_is_long(const void *guest, size_t length)
{
	return length >= COPY_LONG && !(((uint64_t)guest | length) & 7);
}

/* Table entries and instructions are most of what is read. Instructions alone have such lengths: nobody needs them in units. */
static inline void copy_out(hpa_t from, void *to, size_t length)
{
	uint8_t *guest = frame_map(from);
	uint64_t head, tail;

	if (length == sizeof(head) && is_aligned(from.v, sizeof(head))) {
		head = __atomic_load_n((const uint64_t *)guest, __ATOMIC_RELAXED);
		__builtin_memcpy(to, &head, sizeof(head));
	} else if (length > sizeof(head) && length < 2 * sizeof(head)) {
		__builtin_memcpy(&head, guest, sizeof(head));
		__builtin_memcpy(&tail, guest + length - sizeof(tail), sizeof(tail));
		__builtin_memcpy(to, &head, sizeof(head));
		__builtin_memcpy((uint8_t *)to + length - sizeof(tail), &tail, sizeof(tail));
	} else if (likely(copy_is_long(guest, length))) {
		__builtin_memcpy(to, guest, length);
	} else {
		copy_units(guest, to, length, false);
	}
	frame_unmap(guest);
}

static inline void copy_in(hpa_t to, const void *from, size_t length)
{
	uint8_t *guest = frame_map(to);

	if (likely(copy_is_long(guest, length)))
		__builtin_memcpy(guest, from, length);
	else
		copy_units(guest, (uint8_t *)(uintptr_t)from, length, true);
	frame_unmap(guest);
}
