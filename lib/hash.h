/* SPDX-License-Identifier: Apache-2.0 */
/* What a run of bytes amounts to: XXH3 for comparing pages, CRC-32 for what goes over a wire, nothing but zeros. No state. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* XXH3, 64 bits, seed 0. */
uint64_t hash_xxh3(const void *bytes, size_t length);

/* CRC-32 as in IEEE 802.3, zlib and Python's zlib.crc32: crc is 0 at first, then what came out for the bytes before. */
uint32_t hash_crc32(uint32_t crc, const void *bytes, size_t length);

/* bytes: aligned to 8; length: a multiple of 32. */
bool hash_is_zero(const void *bytes, size_t length);
