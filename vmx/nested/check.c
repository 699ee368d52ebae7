/* SPDX-License-Identifier: Apache-2.0 */
/* Controls and host state: what makes VMLAUNCH and VMRESUME fail. Intel SDM vol. 3 sections 27.2.1 to 27.2.4. See check.h. */
#include "vmx/nested/check.h"

#define CR3_TARGETS_MAX 4u
#define LIST_ENTRY_SIZE 16u
#define SOFT_LENGTH_MAX 15u
#define EVENT_RESERVED BITS(30, 12)
#define SELECTOR_RPL_TI 7u
#define ERROR_VECTORS                                                                                                  \
	(BIT(VECTOR_DF) | BIT(VECTOR_TS) | BIT(VECTOR_NP) | BIT(VECTOR_SS) | BIT(VECTOR_GP) | BIT(VECTOR_PF) |         \
	 BIT(VECTOR_AC))

bool vmx_is_address(const struct vmx_check *check, uint64_t address, uint64_t alignment)
{
	return is_aligned(address, alignment) && !(address >> check->physical_bits);
}

static bool list_fits(const struct vmx_check *check, uint64_t count, uint64_t address)
{
	return !count || (vmx_is_address(check, address, LIST_ENTRY_SIZE) &&
			  !((address + count * LIST_ENTRY_SIZE - 1) >> check->physical_bits));
}

static bool priority_fits(const struct vmx_check *check)
{
	uint64_t threshold = AT(check->vmcs, TPR_THRESHOLD);
	bool accesses =
		vmcs12_secondary(check->vmcs) & SECONDARY_APIC_ACCESSES; /* then it's an exit behind the entry */

	return vmx_is_address(check, AT(check->vmcs, VIRTUAL_APIC_ADDRESS), PAGE_SIZE) && !(threshold >> 4) &&
	       (accesses || threshold <= check->priority >> 4);
}

bool vmx_ept_pointer_fits(const struct vmx_check *check, uint64_t pointer)
{
	uint64_t offered = vmx_offered(check->offer, MSR_VMX_EPT_VPID);
	uint64_t flags = offered & EPT_ACCESSED_DIRTY ? EPT_POINTER_ACCESSED_DIRTY : 0;

	return ((pointer & 7) == EPT_POINTER_WB || (pointer & 7) == 0) &&
	       (pointer & BITS(11, 3) & ~flags) == EPT_POINTER_LEVELS(4) && !(pointer >> check->physical_bits);
}

/* Section 27.2.1.1. */
static bool execution_fits(const struct vmx_check *check)
{
	const union vmcs12 *v = check->vmcs;
	uint64_t pin = AT(v, PIN_CONTROLS), primary = AT(v, PRIMARY_CONTROLS);
	uint32_t secondary = vmcs12_secondary(v);

	return vmx_offer_allows(check->offer, MSR_VMX_TRUE_PIN, pin) &&
	       vmx_offer_allows(check->offer, MSR_VMX_TRUE_PRIMARY, primary) &&
	       vmx_offer_allows(check->offer, MSR_VMX_SECONDARY, secondary) &&
	       AT(v, CR3_TARGET_COUNT) <= CR3_TARGETS_MAX &&
	       (!(primary & PRIMARY_IO_BITMAPS) || (vmx_is_address(check, AT(v, IO_BITMAP_A), PAGE_SIZE) &&
						    vmx_is_address(check, AT(v, IO_BITMAP_B), PAGE_SIZE))) &&
	       (!(primary & PRIMARY_MSR_BITMAP) || vmx_is_address(check, AT(v, MSR_BITMAP), PAGE_SIZE)) &&
	       (!(primary & PRIMARY_TPR_SHADOW) || priority_fits(check)) &&
	       (!(secondary & SECONDARY_APIC_ACCESSES) ||
		vmx_is_address(check, AT(v, APIC_ACCESS_ADDRESS), PAGE_SIZE)) &&
	       ((pin & PIN_NMI) || !(pin & PIN_VIRTUAL_NMIS)) &&
	       ((pin & PIN_VIRTUAL_NMIS) || !(primary & PRIMARY_NMI_WINDOW)) &&
	       (!(secondary & SECONDARY_VPID) || AT(v, VPID)) &&
	       (!(secondary & SECONDARY_EPT) || vmx_ept_pointer_fits(check, AT(v, EPT_POINTER))) &&
	       (!(secondary & SECONDARY_UNRESTRICTED) || (secondary & SECONDARY_EPT)) &&
	       (!(secondary & SECONDARY_TSC_SCALING) || AT(v, TSC_MULTIPLIER));
}

/* Section 27.2.1.2. */
static bool exits_fit(const struct vmx_check *check)
{
	const union vmcs12 *v = check->vmcs;
	uint64_t exit = AT(v, EXIT_CONTROLS);

	return vmx_offer_allows(check->offer, MSR_VMX_TRUE_EXIT, exit) &&
	       (!(exit & EXITC_SAVE_TIMER) || (AT(v, PIN_CONTROLS) & PIN_PREEMPTION_TIMER)) &&
	       list_fits(check, AT(v, EXIT_MSR_STORE_COUNT), AT(v, EXIT_MSR_STORE_ADDRESS)) &&
	       list_fits(check, AT(v, EXIT_MSR_LOAD_COUNT), AT(v, EXIT_MSR_LOAD_ADDRESS));
}

/* The type and vector, and whether an error code goes with them. */
static bool event_kind_fits(const union vmcs12 *v, uint32_t word)
{
	unsigned type = EVENT_TYPE(word), vector = EVENT_VECTOR(word);
	bool error = type == EVENT_TYPE_HARDWARE_EXCEPTION && vector < 32 && (ERROR_VECTORS & BIT(vector));

	if (type == 1 || type == 7 || (type == EVENT_TYPE_NMI && vector != VECTOR_NMI) ||
	    (type == EVENT_TYPE_HARDWARE_EXCEPTION && vector > 31))
		return false;
	if ((vmcs12_secondary(v) & SECONDARY_UNRESTRICTED) && !(AT(v, GUEST_CR0) & CR0_PE))
		error = false;
	return error == !!(word & EVENT_HAS_ERROR);
}

static bool event_fits(const struct vmx_check *check)
{
	const union vmcs12 *v = check->vmcs;
	uint32_t word = (uint32_t)AT(v, ENTRY_EVENT);
	uint64_t length = AT(v, ENTRY_INSTRUCTION_LENGTH);
	bool soft = EVENT_TYPE(word) >= EVENT_TYPE_SOFT_INTERRUPT && EVENT_TYPE(word) <= EVENT_TYPE_SOFT_EXCEPTION;

	if (!(word & EVENT_VALID))
		return true;
	if ((word & EVENT_RESERVED) || !event_kind_fits(v, word))
		return false;
	if ((word & EVENT_HAS_ERROR) && (AT(v, ENTRY_ERROR_CODE) >> 16))
		return false;
	return !soft ||
	       (length <= SOFT_LENGTH_MAX && (length || (vmx_offered(check->offer, MSR_VMX_MISC) & MISC_NO_LENGTH)));
}

/* Section 27.2.1.3. */
static bool entry_fits(const struct vmx_check *check)
{
	const union vmcs12 *v = check->vmcs;

	return vmx_offer_allows(check->offer, MSR_VMX_TRUE_ENTRY, AT(v, ENTRY_CONTROLS)) && event_fits(check) &&
	       list_fits(check, AT(v, ENTRY_MSR_LOAD_COUNT), AT(v, ENTRY_MSR_LOAD_ADDRESS));
}

unsigned vmx_check_controls(const struct vmx_check *check)
{
	return execution_fits(check) && exits_fit(check) && entry_fits(check) ? 0 : VMFAIL_CONTROLS;
}

/* Section 27.2.2; each byte one of the six memory types. */
bool vmx_pat_fits(uint64_t pat)
{
	for (; pat; pat >>= 8)
		if ((pat & 0xff) > 7 || (pat & 0xff) == 2 || (pat & 0xff) == 3)
			return false;
	return true;
}

static bool host_registers_fit(const struct vmx_check *check)
{
	const union vmcs12 *v = check->vmcs;
	uint64_t exit = AT(v, EXIT_CONTROLS), efer = AT(v, HOST_EFER);
	uint64_t long_mode = exit & EXITC_HOST_64 ? EFER_LMA | EFER_LME : 0;

	return vmx_offer_fixes(check->offer, MSR_VMX_CR0_FIXED0, AT(v, HOST_CR0), 0) &&
	       vmx_offer_fixes(check->offer, MSR_VMX_CR4_FIXED0, AT(v, HOST_CR4), 0) &&
	       !(AT(v, HOST_CR3) >> check->physical_bits) && vmx_is_canonical(check, AT(v, HOST_SYSENTER_ESP)) &&
	       vmx_is_canonical(check, AT(v, HOST_SYSENTER_EIP)) &&
	       (!(exit & EXITC_LOAD_PAT) || vmx_pat_fits(AT(v, HOST_PAT))) &&
	       (!(exit & EXITC_LOAD_EFER) ||
		(!(efer & ~check->efer_valid) && (efer & (EFER_LMA | EFER_LME)) == long_mode));
}

/* Section 27.2.3. */
static bool host_segments_fit(const struct vmx_check *check)
{
	const union vmcs12 *v = check->vmcs;

	for (unsigned i = 0; i < 7; i++)
		if (AT_NEXT(v, HOST_ES_SELECTOR, i) & SELECTOR_RPL_TI)
			return false;
	for (unsigned i = 0; i < 5; i++) /* FS, GS, TR, GDTR, IDTR */
		if (!vmx_is_canonical(check, AT_NEXT(v, HOST_FS_BASE, i)))
			return false;
	return AT(v, HOST_CS_SELECTOR) && AT(v, HOST_TR_SELECTOR) &&
	       (AT(v, HOST_SS_SELECTOR) || (AT(v, EXIT_CONTROLS) & EXITC_HOST_64));
}

/* Section 27.2.4. */
static bool host_mode_fits(const struct vmx_check *check)
{
	const union vmcs12 *v = check->vmcs;
	bool wide = AT(v, EXIT_CONTROLS) & EXITC_HOST_64;

	if (check->long_mode != wide)
		return false;
	if (wide)
		return (AT(v, HOST_CR4) & CR4_PAE) && vmx_is_canonical(check, AT(v, HOST_RIP));
	return !(AT(v, ENTRY_CONTROLS) & ENTRYC_IA32E) && !(AT(v, HOST_CR4) & CR4_PCIDE) && !(AT(v, HOST_RIP) >> 32);
}

unsigned vmx_check_host(const struct vmx_check *check)
{
	return host_registers_fit(check) && host_segments_fit(check) && host_mode_fits(check) ? 0 : VMFAIL_HOST;
}
