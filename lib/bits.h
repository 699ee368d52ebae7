/* SPDX-License-Identifier: Apache-2.0 */
/* Small arithmetic on integers that the whole kernel uses. Nothing here has state. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BIT(n) (UINT64_C(1) << (n))
/* Bits high..low set, both included; 0 <= low <= high <= 63. */
#define BITS(high, low) ((~UINT64_C(0) >> (63 - (high))) & ~(BIT(low) - 1))

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* A variable that is set while the host starts and read ever after: in no cache line with one that changes (linker.ld). */
#define SET_ONCE __attribute__((section(".data.once")))

/* alignment must be a power of two; up wraps to 0 at the top of the range. */
static inline uint64_t align_down(uint64_t value, uint64_t alignment)
{
	return value & ~(alignment - 1);
}

static inline uint64_t align_up(uint64_t value, uint64_t alignment)
{
	return (value + alignment - 1) & ~(alignment - 1);
}

static inline bool is_aligned(uint64_t value, uint64_t alignment)
{
	return (value & (alignment - 1)) == 0;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Sign-extends the low `bits` bits of value; 1 <= bits <= 64. */
static inline uint64_t sign_extend(uint64_t value, unsigned bits)
{
	unsigned shift = 64 - bits;

	return (uint64_t)((int64_t)(value << shift) >> shift);
}

/* All ones in the low `bytes` bytes; 1 <= bytes <= 8. */
static inline uint64_t byte_mask(unsigned bytes)
{
	return ~UINT64_C(0) >> (64 - 8 * bytes);
}
