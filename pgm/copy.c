/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of guest memory by naturally aligned units: see the header. */
#include "pgm/copy.h"

#include <string.h>

#define UNIT(type)                                                                                                     \
	static inline void unit_##type(uint8_t *guest, uint8_t *other, bool in)                                        \
	{                                                                                                              \
		type unit;                                                                                             \
		if (in) {                                                                                              \
			__builtin_memcpy(&unit, other, sizeof(unit));                                                  \
			__atomic_store_n((type *)guest, unit, __ATOMIC_RELAXED);                                       \
		} else {                                                                                               \
			unit = __atomic_load_n((type *)guest, __ATOMIC_RELAXED);                                       \
			__builtin_memcpy(other, &unit, sizeof(unit));                                                  \
		}                                                                                                      \
	}
UNIT(uint8_t)
UNIT(uint16_t)
UNIT(uint32_t)
UNIT(uint64_t)

void copy_units(uint8_t *guest, uint8_t *other, size_t length, bool in)
{
	for (size_t unit; length; guest += unit, other += unit, length -= unit) {
		uint64_t at = (uint64_t)guest;

		if (!(at & 7) && length >= COPY_LONG) {
			unit = length & ~(size_t)7;
			if (in)
				memcpy(guest, other, unit);
			else
				memcpy(other, guest, unit);
		} else if (!(at & 7) && length >= 8) {
			unit = 8;
			unit_uint64_t(guest, other, in);
		} else if (!(at & 3) && length >= 4) {
			unit = 4;
			unit_uint32_t(guest, other, in);
		} else if (!(at & 1) && length >= 2) {
			unit = 2;
			unit_uint16_t(guest, other, in);
		} else {
			unit = 1;
			unit_uint8_t(guest, other, in);
		}
	}
}

uint64_t copy_exchange(void *guest, uint64_t expected, uint64_t desired, unsigned size)
{
	switch (size) {
	case 1: return __sync_val_compare_and_swap((uint8_t *)guest, (uint8_t)expected, (uint8_t)desired);
	case 2: return __sync_val_compare_and_swap((uint16_t *)guest, (uint16_t)expected, (uint16_t)desired);
	case 4: return __sync_val_compare_and_swap((uint32_t *)guest, (uint32_t)expected, (uint32_t)desired);
	default: return __sync_val_compare_and_swap((uint64_t *)guest, expected, desired);
	}
}
