/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operands of L1's VM instructions, out of the exit's instruction information (Intel SDM vol. 3 tables 28-13 and 28-14) and its
 * qualification, which is the displacement (with RIP already added where that is the base). Pure.
 */
#pragma once

#include "arch/x86_64/hv.h"

#define INFO_SCALING(info) ((info)&3u)
#define INFO_REG1(info) ((info) >> 3 & 15u)
#define INFO_ADDRESS_SIZE(info) ((info) >> 7 & 7u)
#define INFO_IS_REGISTER BIT(10)
#define INFO_SEGMENT(info) ((enum segment_name)((info) >> 15 & 7u))
#define INFO_INDEX(info) ((info) >> 18 & 15u)
#define INFO_NO_INDEX BIT(22)
#define INFO_BASE(info) ((info) >> 23 & 15u)
#define INFO_NO_BASE BIT(27)
#define INFO_REG2(info) ((info) >> 28 & 15u)

/*
 * Linear address of a memory operand of `size` bytes; RSP, the segment and the control registers of l1 are there. false: what the
 * access raises for its segment (#SS or #GP) stands in *fault.
 */
bool vmx_operand_address(const struct hv_vcpu *l1, uint32_t info, uint64_t displacement, unsigned size, bool write,
			 unsigned linear_bits, gva_t *address, struct hv_event *fault);
