/* SPDX-License-Identifier: Apache-2.0 */
/* Guest state but for segments: what makes an entry an exit to L1. Intel SDM vol. 3 sections 27.3.1.1, 27.3.1.3 to 27.3.1.6. See check.h. */
#include "vmx/nested/check.h"

#define RFLAGS_FIXED UINT64_C(2)
#define RFLAGS_RESERVED (BITS(63, 22) | BIT(15) | BIT(5) | BIT(3))
#define PDPTE_PRESENT BIT(0)
#define PDPTE_RESERVED (BITS(8, 5) | BITS(2, 1))
#define NO_LINK (~UINT64_C(0))

static bool long_mode(const union vmcs12 *v)
{
	return AT(v, ENTRY_CONTROLS) & ENTRYC_IA32E;
}

static uint32_t event(const union vmcs12 *v)
{
	uint32_t word = (uint32_t)AT(v, ENTRY_EVENT);

	return word & EVENT_VALID ? word : 0;
}

static bool injects(const union vmcs12 *v, enum event_type type)
{
	return event(v) && EVENT_TYPE(event(v)) == type;
}

static bool control_fits(const struct vmx_check *check)
{
	const union vmcs12 *v = check->vmcs;
	uint64_t cr0 = AT(v, GUEST_CR0), cr4 = AT(v, GUEST_CR4);
	uint64_t loose = vmcs12_secondary(v) & SECONDARY_UNRESTRICTED ? CR0_PE | CR0_PG : 0;

	if (!vmx_offer_fixes(check->offer, MSR_VMX_CR0_FIXED0, cr0, loose) ||
	    !vmx_offer_fixes(check->offer, MSR_VMX_CR4_FIXED0, cr4, 0) || ((cr0 & CR0_PG) && !(cr0 & CR0_PE)))
		return false;
	if (long_mode(v) ? !(cr0 & CR0_PG) || !(cr4 & CR4_PAE) : cr4 & CR4_PCIDE)
		return false;
	return !(AT(v, GUEST_CR3) >> check->physical_bits);
}

static bool efer_fits(const struct vmx_check *check)
{
	const union vmcs12 *v = check->vmcs;
	uint64_t efer = AT(v, GUEST_EFER);
	bool lma = efer & EFER_LMA, lme = efer & EFER_LME;

	if (!(AT(v, ENTRY_CONTROLS) & ENTRYC_LOAD_EFER))
		return true;
	return !(efer & ~check->efer_valid) && lma == long_mode(v) && (!(AT(v, GUEST_CR0) & CR0_PG) || lma == lme);
}

/* Sections 27.3.1.1, 27.3.1.3. */
static bool registers_fit(const struct vmx_check *check)
{
	const union vmcs12 *v = check->vmcs;
	uint64_t entry = AT(v, ENTRY_CONTROLS);

	return control_fits(check) && efer_fits(check) && vmx_is_canonical(check, AT(v, GUEST_GDTR_BASE)) &&
	       vmx_is_canonical(check, AT(v, GUEST_IDTR_BASE)) && !(AT(v, GUEST_GDTR_LIMIT) >> 16) &&
	       !(AT(v, GUEST_IDTR_LIMIT) >> 16) &&
	       (!(entry & ENTRYC_LOAD_DEBUG) ||
		(!(AT(v, GUEST_DEBUGCTL) & ~(DEBUGCTL_LBR | DEBUGCTL_BTF)) && !(AT(v, GUEST_DR7) >> 32))) &&
	       vmx_is_canonical(check, AT(v, GUEST_SYSENTER_ESP)) &&
	       vmx_is_canonical(check, AT(v, GUEST_SYSENTER_EIP)) &&
	       (!(entry & ENTRYC_LOAD_PAT) || vmx_pat_fits(AT(v, GUEST_PAT)));
}

/*
 * Bits above the linear address's width are alike; canonical it needn't be: an instruction that ends with the last address of user space
 * leads to one that isn't, where the fetch faults.
 */
static bool rip_fits(const struct vmx_check *check, uint64_t rip)
{
	const union vmcs12 *v = check->vmcs;
	uint64_t above = rip >> check->linear_bits;

	if (!long_mode(v) || !(AT(v, GUEST_CS_RIGHTS) & SEG_ATTR_L))
		return !(rip >> 32);
	return !above || above == UINT64_MAX >> check->linear_bits;
}

/* Section 27.3.1.4. */
static bool flags_fit(const struct vmx_check *check)
{
	const union vmcs12 *v = check->vmcs;
	uint64_t rflags = AT(v, GUEST_RFLAGS);

	if (!rip_fits(check, AT(v, GUEST_RIP)) || (rflags & RFLAGS_RESERVED) || !(rflags & RFLAGS_FIXED))
		return false;
	if ((rflags & RFLAGS_VM) && (long_mode(v) || !(AT(v, GUEST_CR0) & CR0_PE)))
		return false;
	return (rflags & RFLAGS_IF) || !injects(v, EVENT_TYPE_INTERRUPT);
}

/* Halted, it can be given what ends that, or a trap; waiting for a SIPI, nothing. */
static bool activity_fits(const union vmcs12 *v)
{
	uint32_t word = event(v);
	unsigned vector = EVENT_VECTOR(word);

	if (AT(v, GUEST_ACTIVITY) == ACTIVITY_ACTIVE)
		return true;
	if (AT(v, GUEST_INTERRUPTIBILITY) & (BLOCKING_STI | BLOCKING_MOV_SS))
		return false;
	if (AT(v, GUEST_ACTIVITY) == ACTIVITY_WAIT_SIPI)
		return !word;
	if (AT(v, GUEST_ACTIVITY) != ACTIVITY_HLT || SEG_ATTR_DPL(AT(v, GUEST_SS_RIGHTS)))
		return false;
	return !word || EVENT_TYPE(word) == EVENT_TYPE_INTERRUPT || EVENT_TYPE(word) == EVENT_TYPE_NMI ||
	       (EVENT_TYPE(word) == EVENT_TYPE_HARDWARE_EXCEPTION && (vector == VECTOR_DB || vector == VECTOR_MC));
}

static bool blocking_fits(const union vmcs12 *v)
{
	uint64_t blocking = AT(v, GUEST_INTERRUPTIBILITY);

	if ((blocking & ~(BLOCKING_STI | BLOCKING_MOV_SS | BLOCKING_NMI)) ||
	    ((blocking & BLOCKING_STI) && ((blocking & BLOCKING_MOV_SS) || !(AT(v, GUEST_RFLAGS) & RFLAGS_IF))))
		return false;
	if (injects(v, EVENT_TYPE_INTERRUPT))
		return !(blocking & (BLOCKING_STI | BLOCKING_MOV_SS));
	if (injects(v, EVENT_TYPE_NMI))
		return !(blocking & BLOCKING_MOV_SS) &&
		       !((blocking & BLOCKING_NMI) && (AT(v, PIN_CONTROLS) & PIN_VIRTUAL_NMIS));
	return true;
}

/* In a shadow, or halted, a single step is pending if one is on, and only then. */
static bool pending_fits(const union vmcs12 *v)
{
	uint64_t pending = AT(v, GUEST_PENDING_DEBUG);
	bool steps = (AT(v, GUEST_RFLAGS) & RFLAGS_TF) && !(AT(v, GUEST_DEBUGCTL) & DEBUGCTL_BTF);

	if (pending & ~PENDING_DEBUG_DEFINED)
		return false;
	if (!(AT(v, GUEST_INTERRUPTIBILITY) & (BLOCKING_STI | BLOCKING_MOV_SS)) &&
	    AT(v, GUEST_ACTIVITY) != ACTIVITY_HLT)
		return true;
	return !!(pending & PENDING_DEBUG_BS) == steps;
}

bool vmx_pdptes_fit(const uint64_t pdpte[4], unsigned physical_bits)
{
	for (unsigned i = 0; i < 4; i++)
		if ((pdpte[i] & PDPTE_PRESENT) && ((pdpte[i] & PDPTE_RESERVED) || pdpte[i] >> physical_bits))
			return false;
	return true;
}

bool vmcs12_pae(const union vmcs12 *v)
{
	return (AT(v, GUEST_CR0) & CR0_PG) && (AT(v, GUEST_CR4) & CR4_PAE) && !long_mode(v);
}

unsigned vmx_check_guest(const struct vmx_check *check, bool all)
{
	const union vmcs12 *v = check->vmcs;

	all |= (AT(v, GUEST_RFLAGS) & RFLAGS_VM) != 0;
	if ((all && (!registers_fit(check) || !vmx_segments_fit(check))) || !flags_fit(check))
		return GUEST_INVALID;
	if (injects(v, EVENT_TYPE_NMI) && (AT(v, GUEST_INTERRUPTIBILITY) & BLOCKING_STI))
		return GUEST_NMI_BLOCKED;
	if (!activity_fits(v) || !blocking_fits(v) || !pending_fits(v))
		return GUEST_INVALID;
	if (AT(v, LINK_POINTER) != NO_LINK && !vmx_is_address(check, AT(v, LINK_POINTER), PAGE_SIZE))
		return GUEST_LINK;
	if (vmcs12_pae(v) && (vmcs12_secondary(v) & SECONDARY_EPT) &&
	    !vmx_pdptes_fit(&AT(v, GUEST_PDPTE0), check->physical_bits))
		return GUEST_PDPTE;
	return GUEST_FINE;
}

enum kind { KIND_CONTROL, KIND_EXIT, KIND_GUEST, KIND_HOST };

unsigned vmx_check_doubts(unsigned slot, uint64_t old, uint64_t value)
{
	switch ((enum kind)((slot >> 5 ^ 1u) & 3)) {
	case KIND_HOST: return JUDGED_HOST;
	case KIND_EXIT: return 0;
	case KIND_GUEST:
		if (slot == VMCS12_SLOT(VMCS_GUEST_CR0)) /* in real mode events have no error code */
			return JUDGED_GUEST | JUDGED_CONTROLS;
		/* Looked at each time, beside RSP. */
		return slot == VMCS12_SLOT(VMCS_GUEST_RIP) || slot == VMCS12_SLOT(VMCS_GUEST_RSP) ||
				       slot == VMCS12_SLOT(VMCS_GUEST_RFLAGS) ||
				       slot == VMCS12_SLOT(VMCS_GUEST_INTERRUPTIBILITY)
			       ? 0
			       : JUDGED_GUEST;
	default: break;
	}
	switch (slot) {
	case VMCS12_SLOT(VMCS_EXIT_CONTROLS): return JUDGED_CONTROLS | JUDGED_HOST;
	case VMCS12_SLOT(VMCS_PRIMARY_CONTROLS):
		return (old ^ value) & PRIMARY_SECONDARY ? JUDGED_CONTROLS | JUDGED_GUEST : JUDGED_CONTROLS;
	case VMCS12_SLOT(VMCS_ENTRY_CONTROLS): return JUDGED_CONTROLS | JUDGED_HOST | JUDGED_GUEST;
	case VMCS12_SLOT(VMCS_SECONDARY_CONTROLS): return JUDGED_CONTROLS | JUDGED_GUEST;
	default: return JUDGED_CONTROLS;
	}
}
