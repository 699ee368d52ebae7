/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is set once on each CPU against speculation, and what is done between guests of different machines on one
 * CPU. What isn't done is in docs/hardware.md.
 *
 * Each CPU: IBRS where it protects the host while it simply stays set (Intel's IBRS_ALL, AMD's automatic IBRS and "always
 * on").
 * Between guests: an indirect branch prediction barrier (IBPB) keeps one from steering the branches of the next; VERW
 * overwrites the buffers that hold data just loaded or stored, where the processor announces that it does.
 *
 * Manual: Intel SDM vol. 4 IA32_SPEC_CTRL, IA32_PRED_CMD, IA32_ARCH_CAPABILITIES; vol. 2 CPUID leaf 7; AMD APM vol. 2
 * section 3.2.9.
 */
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/errata.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/traps.h"

#define DE_CFG_LFENCE_BIT 1
#define ZEN_1_FAMILY 0x17u
#define ZEN_3_FAMILY 0x19u

/*
 * What no bit of CPUID says. Zen 3 and 4 have the selective barrier with newer microcode: an attempt shows. With it, and on
 * Zen 1 and 2, IBPB forgets the types of branches, too.
 */
static void find_out(void)
{
	uint64_t value;

	features.microcode = errata_microcode();
	if (features.arch_capabilities && rdmsr_safe(MSR_ARCH_CAPABILITIES, &value))
		features.capabilities_value = value;
	if (features.ibrs_stays || (features.capabilities_value & ARCH_CAPABILITIES_IBRS_ALL))
		features.host_spec_ctrl = SPEC_CTRL_IBRS;
	if (!features.amd)
		return;
	features.lfence_serialises |= rdmsr_safe(MSR_DE_CFG, &value) && (value >> DE_CFG_LFENCE_BIT & 1);
	if (errata_family() == ZEN_3_FAMILY && !features.sbpb)
		features.sbpb = wrmsr_safe(MSR_PRED_CMD, PRED_CMD_SBPB);
	features.ibpb_forgets_types |= features.sbpb || (errata_family() == ZEN_1_FAMILY && features.ibpb);
}

void speculation_open_cpu(void)
{
	uint64_t value;

	if (cpu_index() == 0)
		find_out();
	if (features.auto_ibrs && rdmsr_safe(MSR_EFER, &value))
		(void)wrmsr_safe(MSR_EFER, value | EFER_AUTO_IBRS);
	if (features.spec_ctrl)
		(void)wrmsr_safe(MSR_SPEC_CTRL, features.host_spec_ctrl);
}

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
