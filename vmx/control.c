/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CR0, CR3, CR4 and EFER. hv_vcpu holds the guest's view. The processor runs with another one, since VMX fixes some
 * bits (Intel SDM vol. 3 appendix A.7, A.8) and the host needs some; read shadows hide the difference
 * (section 25.6.6). A write by the guest exits only where it touches a bit that the host owns.
 *
 * The guest owns just those bits whose change asks nobody: no other paging mode, no policy of CPUID. So the host-owned
 * part of hv_vcpu.cr0 and cr4, and all of efer, are right at any time, loaded or not.
 *
 * A guest's guest has two owners: bits that its hypervisor owns are as that has set them, and read as its shadow says.
 */
#include "vmx/instructions.h"
#include "vmx/vmx.h"

#define CR0_GUEST_OWNED (CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_WP | CR0_AM)
#define CR4_GUEST_OWNED (CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT)
#define EFER_PASSED (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)
/* An unrestricted guest may have these clear, whatever the fixed bits say. */
#define CR0_UNRESTRICTED (CR0_PE | CR0_PG)
/* A machine check with CR4.MCE clear would shut the host down. */
#define CR4_HOST_NEEDS CR4_MCE

_Static_assert((CR0_GUEST_OWNED & (CR0_UNRESTRICTED | CR0_CD | CR0_NW | CR0_NE)) == 0, "changes of mode must exit");
_Static_assert((CR4_GUEST_OWNED & (CR4_PAE | CR4_PSE | CR4_VMXE | CR4_MCE)) == 0, "changes of mode must exit");

/* A bit that VMX fixes can't be the guest's. */
uint64_t vmx_cr0_mask(void)
{
	return ~(CR0_GUEST_OWNED & ~vmx_capability.cr0_fixed0 & vmx_capability.cr0_fixed1);
}

uint64_t vmx_cr4_mask(void)
{
	return ~(CR4_GUEST_OWNED & ~vmx_capability.cr4_fixed0 & vmx_capability.cr4_fixed1);
}

static uint64_t real_cr0(uint64_t cr0)
{
	uint64_t fixed0 = vmx_capability.cr0_fixed0 & ~CR0_UNRESTRICTED;

	/* Caching is governed by EPT memory types; a guest's CD would slow it and no one else. */
	return ((cr0 & ~(CR0_CD | CR0_NW)) | CR0_NE | CR0_ET | fixed0) & vmx_capability.cr0_fixed1;
}

static uint64_t real_cr4(uint64_t cr4)
{
	return (cr4 | CR4_HOST_NEEDS | vmx_capability.cr4_fixed0) & vmx_capability.cr4_fixed1;
}

static bool uses_pdptes(const struct hv_vcpu *vcpu)
{
	return (vcpu->cr0 & CR0_PG) && (vcpu->cr4 & CR4_PAE) && !(vcpu->efer & EFER_LMA);
}

void vmx_load_control(struct hv_vcpu *vcpu)
{
	uint64_t cr0_mask = vmx_cr0_mask() | vmx_of(vcpu)->cr0.mask, cr4_mask = vmx_cr4_mask() | vmx_of(vcpu)->cr4.mask;

	vcpu->cr0 = (vcpu->cr0 & cr0_mask) | (vmcs_read(VMCS_GUEST_CR0) & ~cr0_mask);
	vcpu->cr4 = (vcpu->cr4 & cr4_mask) | (vmcs_read(VMCS_GUEST_CR4) & ~cr4_mask);
	vcpu->cr3 = vmcs_read(VMCS_GUEST_CR3);
	if (!uses_pdptes(vcpu))
		return;
	for (unsigned i = 0; i < 4; i++)
		vcpu->pdpte[i] = vmcs_read(VMCS_SEGMENT(VMCS_GUEST_PDPTE0, i));
}

static uint64_t shadow(uint64_t value, const struct vmx_outer_bits *outer)
{
	return (value & ~outer->mask) | (outer->shadow & outer->mask);
}

void vmx_write_control(struct vmx_vcpu *v)
{
	const struct hv_vcpu *vcpu = &v->hv;
	bool long_mode = vcpu->efer & EFER_LMA;

	vmcs_write(VMCS_CR0_SHADOW, shadow(vcpu->cr0, &v->cr0));
	vmcs_write(VMCS_CR4_SHADOW, shadow(vcpu->cr4, &v->cr4));
	vmcs_write(VMCS_GUEST_CR0, real_cr0(vcpu->cr0));
	vmcs_write(VMCS_GUEST_CR4, real_cr4(vcpu->cr4));
	vmcs_write(VMCS_GUEST_CR3, vcpu->cr3);
	vmcs_write(VMCS_GUEST_EFER, vcpu->efer & EFER_PASSED);
	vmcs_write(VMCS_ENTRY_CONTROLS, vmx_capability.entry | (long_mode ? ENTRYC_IA32E : 0));
	if (uses_pdptes(vcpu))
		for (unsigned i = 0; i < 4; i++)
			vmcs_write(VMCS_SEGMENT(VMCS_GUEST_PDPTE0, i), vcpu->pdpte[i]);
	/* A MOV to a control register would have flushed; an entry with a VPID doesn't. */
	if (!v->keep_linear)
		vmx_flush_linear(v);
	v->keep_linear = false;
}
