/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory types by the guest: MTRRs and PAT. The MTRRs are kept for the guest to read, its memory has the types that its host gives
 * it; PAT is the processor's own. Reserved types, bits and addresses beyond the guest's physical width are refused.
 *
 * Manual: Intel SDM vol. 3 sections 12.11, 12.12; AMD APM vol. 2 sections 7.7, 7.8.
 */
#include "arch/x86_64/host.h"
#include "vm/vcpu/msr.h"

#define PAT_UNCACHED_MINUS 7u
#define MTRR_MASK_VALID BIT(11)
#define MTRR_DEF_ENABLES BITS(11, 10)
#define MSR_MTRR_VARIABLE_FIRST 0x200u
#define MSR_MTRR_FIXED_FIRST 0x250u
#define MSR_MTRR_DEF_TYPE 0x2ffu

/* Memory types that exist: PAT has one more, uncached that an MTRR may override. */
static bool types_exist(uint64_t types, unsigned count, bool pat)
{
	for (; count--; types >>= 8) {
		uint8_t type = (uint8_t)types;

		if (type == 2 || type == 3 || type > (pat ? PAT_UNCACHED_MINUS : MEMORY_TYPE_WB))
			return false;
	}
	return true;
}

enum status msr_write_pat(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	return types_exist(*value, 8, true) ? msr_write_system(vcpu, msr, value) : DENIED;
}

/* Where it is kept. */
static uint64_t *place(struct vcpu *vcpu, uint32_t msr)
{
	if (msr == MSR_MTRR_DEF_TYPE)
		return &vcpu->msr.mtrr_def;
	if (msr < MSR_MTRR_FIXED_FIRST)
		return &(msr & 1 ? vcpu->msr.mtrr_mask : vcpu->msr.mtrr_base)[(msr - MSR_MTRR_VARIABLE_FIRST) / 2];
	return &vcpu->msr.mtrr_fixed[msr == 0x250 ? 0 : msr <= 0x259 ? msr - 0x257 : msr - 0x265];
}

enum status msr_read_mtrr(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	*value = *place(vcpu, msr);
	return OK;
}

enum status msr_write_mtrr(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	uint64_t address = BITS(cpuid_physical_bits(vcpu->machine->cpuid) - 1, 12);
	bool variable = msr < MSR_MTRR_FIXED_FIRST, mask = variable && (msr & 1);
	uint64_t allowed = mask                       ? address | MTRR_MASK_VALID
			   : variable                 ? address | BITS(7, 0)
			   : msr == MSR_MTRR_DEF_TYPE ? MTRR_DEF_ENABLES | BITS(7, 0)
						      : ~UINT64_C(0);

	if ((*value & ~allowed) || (!mask && !types_exist(*value, variable || msr == MSR_MTRR_DEF_TYPE ? 1 : 8, false)))
		return DENIED;
	*place(vcpu, msr) = *value;
	return OK;
}
