/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checks of an entry (Intel SDM vol. 3 sections 27.2, 27.3.1) of a VMCS12 that has been copied: controls and host state fail the
 * instruction, guest state is an exit to L1. Pure, but for one byte of L1's virtual APIC.
 */
#pragma once

#include "vmx/nested/offer.h"
#include "vmx/nested/vmcs12.h"

struct vmx_check {
	const union vmcs12 *vmcs;
	const struct vmx_offer *offer;
	uint64_t efer_valid; /* bits that L1 may set */
	uint8_t physical_bits, linear_bits;
	bool long_mode;   /* L1's EFER.LMA */
	uint8_t priority; /* VTPR of the virtual-APIC page, where its shadow is on */
};

/* Numbers of VM-instruction errors, section 31.4. */
#define VMFAIL_CLEAR_ADDRESS 2u
#define VMFAIL_CLEAR_VMXON 3u
#define VMFAIL_LAUNCH_NOT_CLEAR 4u
#define VMFAIL_RESUME_NOT_LAUNCHED 5u
#define VMFAIL_CONTROLS 7u
#define VMFAIL_HOST 8u
#define VMFAIL_LOAD_ADDRESS 9u
#define VMFAIL_LOAD_VMXON 10u
#define VMFAIL_LOAD_REVISION 11u
#define VMFAIL_NO_FIELD 12u
#define VMFAIL_READ_ONLY 13u
#define VMFAIL_VMXON_IN_ROOT 15u
#define VMFAIL_MOV_SS 26u
#define VMFAIL_INVALIDATE 28u

/* Qualifications of a failed entry, section 27.8. */
#define GUEST_FINE (~0u)
#define GUEST_INVALID 0u
#define GUEST_PDPTE 2u
#define GUEST_NMI_BLOCKED 3u
#define GUEST_LINK 4u

/* 0, or the error's number. */
unsigned vmx_check_controls(const struct vmx_check *check);
unsigned vmx_check_host(const struct vmx_check *check);
/*
 * GUEST_FINE, or the qualification; all but what lies in L1's memory: PDPTEs without EPT, the VMCS at the link pointer. all: the
 * registers and segments, too, which are right as long as only the processor has changed them since they were judged.
 */
unsigned vmx_check_guest(const struct vmx_check *check, bool all);
/* Which of these verdicts another value of a field puts in doubt: JUDGED_*. */
#define JUDGED_CONTROLS 1u
#define JUDGED_HOST 2u
#define JUDGED_GUEST 4u
unsigned vmx_check_doubts(unsigned slot, uint64_t old, uint64_t value);
/* check_segments.c: of the guest's segments, section 27.3.1.2. */
bool vmx_segments_fit(const struct vmx_check *check);

/* Shared by these. */
bool vmx_is_address(const struct vmx_check *check, uint64_t address, uint64_t alignment);
static inline bool vmx_is_canonical(const struct vmx_check *check, uint64_t address)
{
	return sign_extend(address, check->linear_bits) == address;
}
bool vmx_pat_fits(uint64_t pat);
bool vmx_ept_pointer_fits(const struct vmx_check *check, uint64_t pointer);
/* Four PDPTEs: those that are present have no reserved bit. */
bool vmx_pdptes_fit(const uint64_t pdpte[4], unsigned physical_bits);
/* Does its guest page by PAE, with PDPTEs held? */
bool vmcs12_pae(const union vmcs12 *vmcs);
/* The secondary controls, 0 where they are not switched on. */
static inline uint32_t vmcs12_secondary(const union vmcs12 *vmcs)
{
	return AT(vmcs, PRIMARY_CONTROLS) & PRIMARY_SECONDARY ? (uint32_t)AT(vmcs, SECONDARY_CONTROLS) : 0;
}
