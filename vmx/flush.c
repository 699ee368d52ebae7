/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processor caches of translations, and how it forgets (Intel SDM vol. 3 section 29.4). With EPT on, everything
 * cached for a guest is tagged by the EPT pointer, and combined mappings by the VPID as well:
 *
 *   second-level table changed   INVEPT of that pointer: takes the guest-physical and the combined mappings
 *   guest's own tables changed   INVVPID of the vcpu's: takes the combined ones; vcpus without a VPID need nothing
 *   vcpu comes from another CPU  as the first, since a flush acts only on the CPU that executes it
 */
#include "arch/x86_64/log.h"
#include "vmx/instructions.h"
#include "vmx/vmx.h"

#define VPID_COUNT 4096u

/* A bit per VPID in use; 0 is the host's. */
static uint64_t vpids[VPID_COUNT / 64] = { 1 };
static struct spinlock vpid_lock = SPINLOCK(RANK_LEAF, "VPIDs");

uint16_t vmx_vpid_take(void)
{
	uint16_t vpid = 0;

	if (!vmx_capability.vpid)
		return 0;
	HOLD(&vpid_lock);
	for (unsigned i = 0; i < ARRAY_SIZE(vpids) && !vpid; i++) {
		if (vpids[i] == ~UINT64_C(0))
			continue;
		vpid = (uint16_t)(i * 64 + (unsigned)__builtin_ctzll(~vpids[i]));
		vpids[i] |= BIT(vpid % 64);
	}
	return vpid;
}

void vmx_vpid_give(uint16_t vpid)
{
	if (!vpid)
		return;
	HOLD(&vpid_lock);
	vpids[vpid / 64] &= ~BIT(vpid % 64);
}

uint64_t vmx_ept_pointer(const struct vmx_vcpu *v)
{
	bool marks = (vmx_capability.ept_vpid & EPT_ACCESSED_DIRTY) && !v->leaves_marks;

	return v->hv.slat_root.v | EPT_POINTER_WB | EPT_POINTER_LEVELS(4) | (marks ? EPT_POINTER_ACCESSED_DIRTY : 0);
}

void vmx_set_slat(struct hv_vcpu *vcpu, hpa_t root)
{
	vcpu->slat_root = root;
	vcpu->changed |= CHANGED_SLAT;
	vcpu->flush_pending = true;
}

void vmx_flush(struct hv_vcpu *vcpu)
{
	bool single = vmx_capability.ept_vpid & EPT_INVEPT_SINGLE;

	vcpu->flush_pending = false;
	/* Type and descriptor are ours and were probed: it fails on broken hardware only; to go on would be to leave stale translations. */
	panic_unless(invept(single ? INVALIDATE_SINGLE : INVALIDATE_ALL, single ? vmx_ept_pointer(vmx_of(vcpu)) : 0));
	/* A VPID given to another vcpu before, with another EPT pointer, leaves nothing that is ours. */
}

void vmx_flush_linear(const struct vmx_vcpu *v)
{
	bool single = vmx_capability.ept_vpid & EPT_INVVPID_SINGLE;

	if (v->vpid)
		panic_unless(invvpid(single ? INVALIDATE_SINGLE : INVALIDATE_ALL, single ? v->vpid : 0));
}

void vmx_flush_everything(void)
{
	if (vmx_capability.ept_vpid & EPT_INVEPT_ALL)
		panic_unless(invept(INVALIDATE_ALL, 0));
	if (vmx_capability.vpid && (vmx_capability.ept_vpid & EPT_INVVPID_ALL))
		panic_unless(invvpid(INVALIDATE_ALL, 0));
}
