/* SPDX-License-Identifier: Apache-2.0 */
/* What the rest of vm/ asks of pv.h's files, for programs without them: no guest there uses them. */
#include "vm/vcpu/pv.h"

#define WEAK __attribute__((weak))

WEAK void pv_tell(struct cpuid_result leaves[2])
{
}

WEAK enum status pv_read_msr(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	return NOT_FOUND;
}

WEAK enum status pv_write_msr(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	return NOT_FOUND;
}

WEAK enum status pv_clock_write(struct vcpu *vcpu)
{
	return OK;
}

WEAK void pv_steal_begin(struct vcpu *vcpu)
{
}

WEAK void pv_steal_end(struct vcpu *vcpu)
{
}

WEAK void pv_eoi_offer(struct vcpu *vcpu, uint8_t vector)
{
}

WEAK void pv_eoi_settle(struct vcpu *vcpu)
{
}
