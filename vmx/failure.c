/* SPDX-License-Identifier: Apache-2.0 */
/* What a failed VM instruction or VM entry means, for messages. Intel SDM vol. 3 sections 31.4 and 27.8. Pure. */
#include "vmx/exit.h"

static const char *const instruction_errors[] = {
	[1] = "VMCALL in VMX root operation",
	[2] = "VMCLEAR of an invalid address",
	[3] = "VMCLEAR of the VMXON region",
	[4] = "VMLAUNCH of a VMCS that isn't clear",
	[5] = "VMRESUME of a VMCS that wasn't launched",
	[6] = "VMRESUME after VMXOFF",
	[7] = "VM entry with invalid control fields",
	[8] = "VM entry with invalid host-state fields",
	[9] = "VMPTRLD of an invalid address",
	[10] = "VMPTRLD of the VMXON region",
	[11] = "VMPTRLD of a VMCS with another revision",
	[12] = "VMREAD or VMWRITE of a field that doesn't exist",
	[13] = "VMWRITE to a read-only field",
	[15] = "VMXON in VMX root operation",
	[16] = "VM entry with an invalid executive VMCS",
	[17] = "VM entry with an executive VMCS that wasn't launched",
	[18] = "VM entry with an executive VMCS that isn't the VMXON region",
	[19] = "VMCALL with a VMCS that isn't clear",
	[20] = "VMCALL with invalid exit controls",
	[22] = "VMCALL with another MSEG revision",
	[23] = "VMXOFF under dual-monitor treatment",
	[24] = "VMCALL with invalid SMM features",
	[25] = "VM entry with invalid execution controls in the executive VMCS",
	[26] = "VM entry with an event while MOV SS blocks it",
	[28] = "invalid operand of INVEPT or INVVPID",
};

const char *vmx_instruction_error_text(uint32_t number)
{
	return number < ARRAY_SIZE(instruction_errors) ? instruction_errors[number] : NULL;
}

/* The qualification of a failed check of guest state; other values say nothing. */
static const char *const guest_state_errors[] = {
	[0] = "a check of the guest's state failed",
	[2] = "the guest's PDPTEs are invalid",
	[3] = "an NMI was to be injected in the shadow of STI",
	[4] = "the VMCS link pointer is invalid",
};

const char *vmx_entry_failure_text(uint32_t reason, uint64_t qualification)
{
	switch (reason & 0xffff) {
	case REASON_INVALID_GUEST_STATE:
		return qualification < ARRAY_SIZE(guest_state_errors) ? guest_state_errors[qualification] : NULL;
	case REASON_MSR_LOADING: return "an MSR could not be loaded";
	default: return NULL;
	}
}
