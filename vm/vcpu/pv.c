/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest of KVM's interface is told of, and its MSRs: see the header. */
#include "vm/vcpu/pv.h"

#include <linux/kvm_para.h>
#include <string.h>

#include "arch/x86_64/host.h"

/*
 * Asynchronous page faults, halt polling and encrypted memory aren't there. That writes to port 80h are no use as a delay is true of any
 * machine without such a port.
 */
#define FEATURES                                                                                                       \
	(BIT(KVM_FEATURE_CLOCKSOURCE2) | BIT(KVM_FEATURE_NOP_IO_DELAY) | BIT(KVM_FEATURE_STEAL_TIME) |                 \
	 BIT(KVM_FEATURE_PV_EOI) | BIT(KVM_FEATURE_PV_UNHALT) | BIT(KVM_FEATURE_PV_TLB_FLUSH) |                        \
	 BIT(KVM_FEATURE_PV_SEND_IPI) | BIT(KVM_FEATURE_PV_SCHED_YIELD))

void pv_tell(struct cpuid_result leaves[2])
{
	leaves[0] = (struct cpuid_result){ .eax = PV_LEAF + 1 };
	memcpy(&leaves[0].ebx, KVM_SIGNATURE, 12);
	leaves[1] = (struct cpuid_result){ .eax = FEATURES |
						  (host_tsc_in_step() ? BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT) : 0) };
}

void pv_reset(struct vcpu *vcpu)
{
	vcpu->eoi_offered = false;
	vcpu->pv = (struct vcpu_pv){ .version = vcpu->pv.version };
}

bool pv_place(const struct vcpu *vcpu, gpa_t where, unsigned size, unsigned unit)
{
	struct pgm_range range;

	return !(where.v & (unit - 1)) && (where.v & (PAGE_SIZE - 1)) + size <= PAGE_SIZE &&
	       pgm_range_find(vcpu->machine->pgm, where, &range) && range.type == PAGE_RAM;
}

static uint64_t *place_of(struct vcpu *vcpu, uint32_t msr)
{
	switch (msr) {
	case MSR_KVM_WALL_CLOCK_NEW: return &vcpu->pv.wall;
	case MSR_KVM_SYSTEM_TIME_NEW: return &vcpu->pv.clock;
	case MSR_KVM_STEAL_TIME: return &vcpu->pv.steal;
	case MSR_KVM_PV_EOI_EN: return &vcpu->pv.eoi;
	default: return NULL;
	}
}

enum status pv_read_msr(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	const uint64_t *place = vcpu->machine->config->pv ? place_of(vcpu, msr) : NULL;

	if (!place)
		return NOT_FOUND;
	*value = *place;
	return OK;
}

static bool good(const struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
	gpa_t where = gpa(value & ~(uint64_t)KVM_MSR_ENABLED);

	switch (msr) {
	case MSR_KVM_WALL_CLOCK_NEW: return pv_place(vcpu, gpa(value), PV_WALL_SIZE, 4);
	case MSR_KVM_SYSTEM_TIME_NEW: return !(value & KVM_MSR_ENABLED) || pv_place(vcpu, where, PV_CLOCK_SIZE, 4);
	case MSR_KVM_PV_EOI_EN: return !(value & KVM_MSR_ENABLED) || pv_place(vcpu, where, sizeof(uint8_t), 4);
	default:
		return !(value & KVM_STEAL_RESERVED_MASK) &&
		       (!(value & KVM_MSR_ENABLED) || pv_place(vcpu, where, sizeof(struct kvm_steal_time), 64));
	}
}

enum status pv_write_msr(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	uint64_t *place = vcpu->machine->config->pv ? place_of(vcpu, msr) : NULL, old;
	enum status status = OK;

	if (!place)
		return NOT_FOUND;
	if (!good(vcpu, msr, *value))
		return DENIED;
	old = *place;
	*place = *value;
	if (msr == MSR_KVM_WALL_CLOCK_NEW)
		status = pv_wall_write(vcpu, gpa(*value));
	else if (msr == MSR_KVM_SYSTEM_TIME_NEW)
		status = pv_clock_write(vcpu);
	else if (msr == MSR_KVM_STEAL_TIME)
		status = pv_steal_open(vcpu);
	if (status != OK)
		*place = old;
	return status;
}
