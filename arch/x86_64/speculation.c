/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest leaves behind in a CPU where no instruction reads it but speculation may: run between guests of different
 * machines on one CPU. An indirect branch prediction barrier (IBPB) keeps one from steering the branches of the next; VERW
 * overwrites the buffers that hold data just loaded or stored, where the processor announces that it does (MD_CLEAR). What is
 * not done is in docs/hardware.md.
 *
 * Manual: Intel SDM vol. 4 IA32_PRED_CMD, vol. 2 CPUID leaf 7; AMD APM vol. 2 section 3.2.9.
 */
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/registers.h"

#define PRED_CMD_IBPB BIT(0)

void host_forget_guest(void)
{
	if (features.ibpb)
		wrmsr(MSR_PRED_CMD, PRED_CMD_IBPB);
	if (features.md_clear) {
		uint16_t selector;

		/* The form with an operand in memory, of a segment that may be written: the others may do nothing. */
		__asm__ volatile("mov %%ss, %0; verw %0" : "=m"(selector) : : "cc", "memory");
	}
}
