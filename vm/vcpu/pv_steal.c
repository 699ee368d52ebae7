/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steal time: how long the vcpu could have run and didn't, and a flag that says that it doesn't run just now. Another vcpu that finds the
 * flag need not wait for this one: of a flush of linear addresses it leaves a note beside the flag, by compare-and-exchange while the
 * flag is set. The flag and the note are taken by one exchange before the vcpu's next entry, so each note is found, and a flush comes
 * before whatever the vcpu would have read with an old translation.
 *
 * Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_STEAL_TIME.
 */
#include "vm/vcpu/pv.h"

#include <linux/kvm_para.h>

#include "arch/x86_64/host.h"

static gpa_t at(const struct vcpu *vcpu, size_t offset)
{
	return gpa((vcpu->pv.steal & KVM_STEAL_VALID_BITS) + offset);
}

#define AT(vcpu, member) at(vcpu, offsetof(struct kvm_steal_time, member))

/* Takes flag and note; what can't be read may have held a note. */
static bool take_note(struct vcpu *vcpu)
{
	uint64_t seen = vcpu->pv.preempted ? KVM_VCPU_PREEMPTED : 0, expected;

	do {
		expected = seen;
		if (pgm_compare_exchange(vcpu->machine->pgm, AT(vcpu, preempted), expected, 0, sizeof(uint8_t),
					 &seen) != OK)
			return true;
	} while (seen != expected);
	return (seen & KVM_VCPU_FLUSH_TLB) != 0;
}

static enum status tell(struct vcpu *vcpu, uint64_t stolen)
{
	struct pgm *pgm = vcpu->machine->pgm;
	uint32_t version = vcpu->pv.version | 1;

	vcpu->pv.version += 2;
	TRY(pgm_write_simple(pgm, AT(vcpu, version), &version, sizeof(version)));
	TRY(pgm_write_simple(pgm, AT(vcpu, steal), &stolen, sizeof(stolen)));
	return pgm_write_simple(pgm, AT(vcpu, version), &vcpu->pv.version, sizeof(version));
}

/* What stands there is added to: of a processor that was off for a while the guest goes on counting. */
enum status pv_steal_open(struct vcpu *vcpu)
{
	if (!(vcpu->pv.steal & KVM_MSR_ENABLED))
		return OK;
	TRY(pgm_read_simple(vcpu->machine->pgm, AT(vcpu, steal), &vcpu->pv.stolen, sizeof(vcpu->pv.stolen)));
	vcpu->pv.told = vcpu->waited_ticks;
	vcpu->pv.preempted = false;
	pv_steal_begin(vcpu);
	return OK;
}

void pv_steal_begin(struct vcpu *vcpu)
{
	uint64_t waited = vcpu->waited_ticks - vcpu->pv.told, stolen;

	if (!(vcpu->pv.steal & KVM_MSR_ENABLED))
		return;
	vcpu->l1->flush_pending |= take_note(vcpu);
	vcpu->pv.preempted = false;
	stolen = vcpu->pv.stolen + host_tsc_to_ns(waited);
	if (!waited || tell(vcpu, stolen) != OK)
		return; /* it is told the next time */
	vcpu->pv.told += waited;
	vcpu->pv.stolen = stolen;
}

void pv_steal_end(struct vcpu *vcpu)
{
	static const uint8_t preempted = KVM_VCPU_PREEMPTED;

	if (vcpu->pv.steal & KVM_MSR_ENABLED)
		vcpu->pv.preempted = pgm_write_simple(vcpu->machine->pgm, AT(vcpu, preempted), &preempted, 1) == OK;
}
