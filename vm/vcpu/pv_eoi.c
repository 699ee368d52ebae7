/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of an interrupt without an exit: a bit in the guest's memory says that nobody would notice it. The guest clears it in place of
 * its write to the APIC; if it finds it clear, it writes.
 *
 * The offer stands until the guest's exit, and only where that end is all that the APIC would do: edge-triggered, nothing requested behind
 * it. An exit for the host's own interrupt doesn't count if the guest goes on at once: requests haven't been looked at. It is
 * settled at the exit, before anything looks at the APIC: either the guest has taken it, and the interrupt ends, or it is taken back.
 * Who requests something meanwhile finds the vcpu inside and kicks, or the vcpu finds the request before its entry: so nothing
 * waits behind an end that was not seen.
 *
 * Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_PV_EOI_EN.
 */
#include "vm/vcpu/pv.h"

#include <linux/kvm_para.h>

#include "dev/apic/lapic.h"

static gpa_t place(const struct vcpu *vcpu)
{
	return gpa(vcpu->pv.eoi & ~(uint64_t)KVM_MSR_ENABLED);
}

void pv_eoi_offer(struct vcpu *vcpu, uint8_t vector)
{
	static const uint8_t offer = KVM_PV_EOI_ENABLED;

	if (vcpu->hv == vcpu->l1 && lapic_ends_alone(vcpu->lapic, vector))
		vcpu->eoi_offered = pgm_write_simple(vcpu->machine->pgm, place(vcpu), &offer, sizeof(offer)) == OK;
}

void pv_eoi_settle(struct vcpu *vcpu)
{
	uint64_t seen = KVM_PV_EOI_DISABLED;
	enum status status = pgm_compare_exchange(vcpu->machine->pgm, place(vcpu), KVM_PV_EOI_ENABLED,
						  KVM_PV_EOI_DISABLED, sizeof(uint8_t), &seen);

	vcpu->eoi_offered = false;
	if (status != OK || !(seen & KVM_PV_EOI_MASK))
		lapic_end_of_interrupt(vcpu->lapic);
}
