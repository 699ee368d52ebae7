/* SPDX-License-Identifier: Apache-2.0 */
/* XXH3 is Debian's header, plain C without vector registers; the CRC goes by half bytes, sixteen words of table. */
#include "lib/hash.h"

#ifndef __clang__                  /* the fuzzers' compiler */
#pragma GCC optimize("peel-loops") /* XXH3's over eight words: a third less to do */
#endif

#define XXH_INLINE_ALL
#define XXH_NO_STDLIB
#define XXH_NO_STREAM
#define XXH_VECTOR 0              /* scalar */
#define XXH_FORCE_MEMORY_ACCESS 1 /* loads, where its memcpy() would be a call in a freestanding program */
#include <xxhash.h>

uint64_t hash_xxh3(const void *bytes, size_t length)
{
	return XXH3_64bits(bytes, length);
}

uint32_t hash_crc32(uint32_t crc, const void *bytes, size_t length)
{
	static const uint32_t table[16] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
		0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};
	const uint8_t *at = bytes;

	crc = ~crc;
	for (size_t i = 0; i < length; i++) {
		crc = crc >> 4 ^ table[(crc ^ at[i]) & 15];
		crc = crc >> 4 ^ table[(crc ^ at[i] >> 4) & 15];
	}
	return ~crc;
}

bool hash_is_zero(const void *bytes, size_t length)
{
	const uint64_t *words = bytes;

	for (size_t i = 0; i < length / sizeof(*words); i += 4)
		if (words[i] | words[i + 1] | words[i + 2] | words[i + 3])
			return false;
	return true;
}
