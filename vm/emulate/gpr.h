/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A general register's low bytes, as an instruction names them: 4 bytes clear the upper half, 1 and 2 leave the rest; without
 * a REX prefix, byte registers 4 to 7 are AH, CH, DH and BH. Intel SDM vol. 1 section 3.4.1.1.
 */
#pragma once

#include "lib/bits.h"

static inline uint64_t gpr_read(const uint64_t *gpr, unsigned number, unsigned size, bool rex)
{
	if (unlikely(size == 1) && number >= 4 && !rex && number < 8)
		return (gpr[number - 4] >> 8) & 0xff;
	return gpr[number] & (~UINT64_C(0) >> (64 - 8 * size));
}

/* Whoever writes register 4 with more than a byte, or with REX, tells the backend (hv_changed). */
static inline void gpr_write(uint64_t *gpr, unsigned number, unsigned size, bool rex, uint64_t value)
{
	uint64_t *one = &gpr[number];

	if (size >= 4)
		*one = size == 4 ? (uint32_t)value : value;
	else if (size == 2)
		*one = (*one & ~UINT64_C(0xffff)) | (uint16_t)value;
	else if (number >= 4 && !rex && number < 8)
		one[-4] = (one[-4] & ~UINT64_C(0xff00)) | (uint64_t)(uint8_t)value << 8;
	else
		*one = (*one & ~UINT64_C(0xff)) | (uint8_t)value;
}
