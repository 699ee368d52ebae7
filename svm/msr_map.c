/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MSR permission map: two bits for each MSR of three ranges, the even one for reads, the odd one for writes; a set
 * bit exits. MSRs outside the ranges always exit. AMD APM vol. 2 section 15.11. Pure.
 */
#include "svm/svm.h"

#include "arch/x86_64/registers.h"

#define MSRS_PER_RANGE 0x2000u
#define RANGE_BYTES 0x800u

_Static_assert(MSRS_PER_RANGE * 2 / 8 == RANGE_BYTES, "two bits for each MSR");

static const uint32_t ranges[] = { 0x00000000u, 0xc0000000u, 0xc0010000u };

_Static_assert(ARRAY_SIZE(ranges) * RANGE_BYTES <= MSR_MAP_SIZE, "the map holds the ranges");

static const uint32_t switched[] = {
	MSR_STAR,           MSR_LSTAR,       MSR_CSTAR,        MSR_SFMASK,       MSR_FS_BASE,   MSR_GS_BASE,
	MSR_KERNEL_GS_BASE, MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_SPEC_CTRL,
};

bool svm_msr_passable(uint32_t msr, bool read)
{
	for (unsigned i = 0; i < ARRAY_SIZE(switched); i++)
		if (switched[i] == msr)
			return true;
	return !read && (msr == MSR_PRED_CMD || msr == MSR_FLUSH_CMD);
}

bool svm_msr_map_place(uint32_t msr, unsigned *byte, unsigned *shift)
{
	for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++) {
		uint32_t index = msr - ranges[i];

		if (index >= MSRS_PER_RANGE)
			continue;

		*byte = i * RANGE_BYTES + index / 4;
		*shift = index % 4 * 2;
		return true;
	}
	return false;
}

bool svm_msr_map_set(uint8_t *map, uint32_t msr, bool exit_on_read, bool exit_on_write)
{
	unsigned bits = (exit_on_read ? 1u : 0u) | (exit_on_write ? 2u : 0u), byte, shift;

	if (!svm_msr_map_place(msr, &byte, &shift))
		return false;
	map[byte] = (uint8_t)((map[byte] & ~(3u << shift)) | bits << shift);
	return true;
}
