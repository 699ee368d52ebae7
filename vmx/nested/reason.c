/* SPDX-License-Identifier: Apache-2.0 */
/* What exits of L2 are called in statistics. Pure. */
#include "vmx/nested/nested.h"

static const char *const reasons[REASON_COUNT] = {
	[REASON_EXCEPTION_OR_NMI] = "exception or NMI",
	[REASON_EXTERNAL_INTERRUPT] = "external interrupt",
	[REASON_TRIPLE_FAULT] = "triple fault",
	[REASON_INTERRUPT_WINDOW] = "interrupt window",
	[REASON_NMI_WINDOW] = "NMI window",
	[REASON_TASK_SWITCH] = "task switch",
	[REASON_CPUID] = "CPUID",
	[REASON_HLT] = "HLT",
	[REASON_INVLPG] = "INVLPG",
	[REASON_RDTSC] = "RDTSC",
	[REASON_VMCALL] = "VMCALL",
	[REASON_CR_ACCESS] = "CR access",
	[REASON_DR_ACCESS] = "DR access",
	[REASON_IO] = "port",
	[REASON_RDMSR] = "RDMSR",
	[REASON_WRMSR] = "WRMSR",
	[REASON_PAUSE] = "PAUSE",
	[REASON_EPT_VIOLATION] = "EPT violation",
	[REASON_EPT_MISCONFIG] = "EPT misconfiguration",
	[REASON_PREEMPTION_TIMER] = "preemption timer",
	[REASON_WBINVD] = "WBINVD",
	[REASON_XSETBV] = "XSETBV",
};

const char *vmx_nested_reason(uint64_t raw_reason)
{
	return raw_reason < REASON_COUNT ? reasons[raw_reason] : NULL;
}
