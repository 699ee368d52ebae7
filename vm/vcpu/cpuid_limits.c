/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CPUID's answers allow a guest: which bits of CR4, EFER and other registers it may set is read off the policy once it is
 * complete, so that a feature that is not told can't be switched on either.
 */
#include "arch/x86_64/features.h"
#include "vm/vcpu/cpuid_policy.h"

/* Bits of registers that exist because CPUID has told the guest of the feature. */
static const struct {
	uint32_t leaf;
	uint8_t subleaf, which, bit, limit;
	uint64_t mask;
} grants[] = {
	{ 0x1, 0, EDX, 1, CPUID_CR4, CR4_VME | CR4_PVI },
	{ 0x1, 0, EDX, 4, CPUID_CR4, CR4_TSD },
	{ 0x1, 0, EDX, 2, CPUID_CR4, CR4_DE },
	{ 0x1, 0, EDX, 3, CPUID_CR4, CR4_PSE },
	{ 0x1, 0, EDX, 6, CPUID_CR4, CR4_PAE },
	{ 0x1, 0, EDX, 7, CPUID_CR4, CR4_MCE },
	{ 0x1, 0, EDX, 13, CPUID_CR4, CR4_PGE },
	{ 0x1, 0, EDX, 24, CPUID_CR4, CR4_OSFXSR },
	{ 0x1, 0, EDX, 25, CPUID_CR4, CR4_OSXMMEXCPT },
	{ 0x1, 0, ECX, 17, CPUID_CR4, CR4_PCIDE },
	{ 0x1, 0, ECX, 26, CPUID_CR4, CR4_OSXSAVE },
	{ 0x1, 0, ECX, 5, CPUID_CR4, CR4_VMXE },
	{ 0x7, 0, EBX, 0, CPUID_CR4, CR4_FSGSBASE },
	{ 0x7, 0, EBX, 7, CPUID_CR4, CR4_SMEP },
	{ 0x7, 0, EBX, 20, CPUID_CR4, CR4_SMAP },
	{ 0x7, 0, ECX, 2, CPUID_CR4, CR4_UMIP },
	{ 0x7, 0, ECX, 16, CPUID_CR4, CR4_LA57 },
	{ 0x7, 0, ECX, 3, CPUID_CR4, CR4_PKE },
	{ 0x80000001, 0, EDX, 11, CPUID_EFER, EFER_SCE },
	{ 0x80000001, 0, EDX, 20, CPUID_EFER, EFER_NXE },
	{ 0x80000001, 0, EDX, 25, CPUID_EFER, EFER_FFXSR },
	{ 0x80000001, 0, ECX, 2, CPUID_EFER, EFER_SVME },
	{ 0x80000001, 0, EDX, 29, CPUID_EFER, EFER_LME | EFER_LMA },
	{ 0x80000021, 0, EAX, 8, CPUID_EFER, EFER_AUTO_IBRS },
	{ 0x7, 0, EDX, 26, CPUID_SPEC_CTRL, SPEC_CTRL_IBRS },
	{ 0x80000008, 0, EBX, 14, CPUID_SPEC_CTRL, SPEC_CTRL_IBRS },
	{ 0x7, 0, EDX, 27, CPUID_SPEC_CTRL, BIT(1) }, /* STIBP */
	{ 0x80000008, 0, EBX, 15, CPUID_SPEC_CTRL, BIT(1) },
	{ 0x7, 0, EDX, 31, CPUID_SPEC_CTRL, BIT(2) }, /* SSBD */
	{ 0x80000008, 0, EBX, 24, CPUID_SPEC_CTRL, BIT(2) },
	{ 0x7, 2, EDX, 0, CPUID_SPEC_CTRL, BIT(7) }, /* PSFD */
	{ 0x80000008, 0, EBX, 28, CPUID_SPEC_CTRL, BIT(7) },
	{ 0x7, 2, EDX, 1, CPUID_SPEC_CTRL, BITS(4, 3) }, /* IPRED_DIS */
	{ 0x7, 2, EDX, 2, CPUID_SPEC_CTRL, BITS(6, 5) }, /* RRSBA_DIS */
	{ 0x7, 2, EDX, 3, CPUID_SPEC_CTRL, BIT(8) },     /* DDPD_U */
	{ 0x7, 2, EDX, 4, CPUID_SPEC_CTRL, BIT(10) },    /* BHI_DIS_S */
	{ 0x7, 0, EDX, 26, CPUID_PRED_CMD, PRED_CMD_IBPB },
	{ 0x80000008, 0, EBX, 12, CPUID_PRED_CMD, PRED_CMD_IBPB },
	{ 0x80000021, 0, EAX, 27, CPUID_PRED_CMD, PRED_CMD_SBPB },
	{ 0x7, 0, EDX, 28, CPUID_FLUSH_CMD, BIT(0) },
	/* Of all that it can say: what processors are immune to, and that VERW or IBRS does more. No more MSRs. */
	{ 0x7, 0, EDX, 29, CPUID_ARCH_CAPABILITIES,
	  BITS(6, 0) | BIT(8) | BITS(15, 13) | BIT(17) | BIT(19) | BIT(20) | BIT(24) | BITS(28, 26) | BIT(62) },
};

void cpuid_fill_limits(struct cpuid_policy *p)
{
	p->limits[CPUID_CR4] = CR4_PCE;
	for (unsigned i = 0; i < ARRAY_SIZE(grants); i++)
		if (*cpuid_word(p, grants[i].leaf, grants[i].subleaf, grants[i].which) >> grants[i].bit & 1)
			p->limits[grants[i].limit] |= grants[i].mask;
	p->limits[CPUID_ARCH_CAPABILITIES] &= features.capabilities_value;
}
