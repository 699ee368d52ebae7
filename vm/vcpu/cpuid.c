/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID by a guest: a lookup in what the machine's policy holds, and for a few leaves a fix-up by the vcpu, its registers or
 * the subleaf. Bits that follow the processor's state do so here: OSXSAVE, OSPKE, APIC, and SYSCALL, which Intel's
 * processors tell of in 64-bit mode only. (MONITOR, another of the kind, no guest has.)
 *
 * Manual: Intel SDM vol. 2 CPUID; AMD APM vol. 3 appendix E.
 */
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "dev/apic/lapic.h"
#include "vm/vcpu/cpuid_policy.h"
#include "vm/vcpu/pv.h"

#define LEAF1_ECX_OSXSAVE BIT(27)
#define LEAF7_ECX_OSPKE BIT(4)
#define EDX_APIC BIT(9) /* leaf 1, and AMD's 8000_0001 */
#define EXT1_EDX_SYSCALL BIT(11)

/* The size of the area for what XCR0 holds now, in the standard or the compacted form (SDM vol. 1 section 13.4.3). */
static uint32_t xsave_size(const struct vcpu *vcpu, bool compacted)
{
	const struct cpuid_policy *p = vcpu->machine->cpuid;
	uint64_t xcr0 = host_xcr0() && vcpu->loaded ? xgetbv(0) : vcpu->hv->xcr0;
	uint32_t size = 576;

	for (unsigned i = 2; i < XSAVE_SUBLEAVES; i++) {
		const struct cpuid_result *r = &p->xsave[i];

		if (!(xcr0 >> i & 1))
			continue;
		if (compacted)
			size = (uint32_t)(r->ecx & 2 ? align_up(size, 64) : size) + r->eax;
		else if (r->ebx + r->eax > size)
			size = r->ebx + r->eax;
	}
	return size;
}

static struct cpuid_result made_up(struct vcpu *vcpu, uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_policy *p = vcpu->machine->cpuid;
	const struct cpuid_result *at = cpuid_place(p, leaf, subleaf);
	struct cpuid_result r = at ? *at : (struct cpuid_result){ 0 };
	uint32_t apic_off = vcpu->lapic->base & APIC_BASE_ENABLE ? 0 : (uint32_t)EDX_APIC;

	hv_need(vcpu->hv, REGS_CONTROL | REGS_CODE);
	switch (leaf) {
	case 1:
		r.ebx |= cpuid_apic_id(vcpu) << 24;
		r.ecx |= vcpu->hv->cr4 & CR4_OSXSAVE ? (uint32_t)LEAF1_ECX_OSXSAVE : 0;
		r.edx &= ~apic_off;
		break;
	case 7: r.ecx |= !subleaf && (vcpu->hv->cr4 & CR4_PKE) ? (uint32_t)LEAF7_ECX_OSPKE : 0; break;
	case 0xb:
	case 0x1f: return cpuid_levels(vcpu, subleaf);
	case 0xd:
		if (subleaf < 2 && r.eax)
			r.ebx = xsave_size(vcpu, subleaf == 1);
		break;
	case 0x80000001:
		r.edx &= ~apic_off;
		if (!features.amd && !hv_in_64_bit(vcpu->hv))
			r.edx &= ~(uint32_t)EXT1_EDX_SYSCALL;
		break;
	case 0x8000001e: return cpuid_amd_place(vcpu);
	default: break;
	}
	return r;
}

struct cpuid_result vcpu_cpuid(struct vcpu *vcpu, uint32_t leaf, uint32_t subleaf)
{
	const struct cpuid_policy *p = vcpu->machine->cpuid;

	if (leaf <= p->basic_max || (leaf >= EXTENDED_LEAF && leaf <= p->extended_max))
		return made_up(vcpu, leaf, subleaf);
	if (leaf - PV_LEAF < ARRAY_SIZE(p->pv))
		return p->pv[leaf - PV_LEAF];
	return leaf == HYPERVISOR_LEAF   ? p->hypervisor
	       : leaf == HYPERVISOR_LAST ? p->timing
					 : (struct cpuid_result){ 0 };
}

/* Basic leaves whose answer depends on the vcpu, its registers or the subleaf. */
#define VARYING (BIT(1) | BIT(4) | BIT(7) | BIT(0xb) | BIT(0xd) | BIT(0x1f))

void cpuid_answers(const struct cpuid_policy *policy, struct hv_answers *answers)
{
	answers->cpuid = policy->basic;
	answers->leaves = BITS(policy->basic_max, 0) & ~VARYING;
}

enum exit_action exit_cpuid(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;
	struct cpuid_result r = vcpu_cpuid(vcpu, (uint32_t)h->gpr[GPR_RAX], (uint32_t)h->gpr[GPR_RCX]);

	if (!vcpu_skip(vcpu))
		return ACTION_ENTER;
	h->gpr[GPR_RAX] = r.eax;
	h->gpr[GPR_RBX] = r.ebx;
	h->gpr[GPR_RCX] = r.ecx;
	h->gpr[GPR_RDX] = r.edx;
	return ACTION_ENTER;
}

void cpuid_policy_destroy(struct cpuid_policy *policy)
{
	heap_free(policy, sizeof(*policy));
}

uint8_t cpuid_physical_bits(const struct cpuid_policy *policy)
{
	return policy->physical_bits;
}

bool cpuid_has_1g(const struct cpuid_policy *policy)
{
	return policy->extended[1].edx & BIT(26);
}

uint64_t cpuid_limit(const struct cpuid_policy *policy, enum cpuid_limit limit)
{
	return policy->limits[limit];
}

bool cpuid_has_tsc_aux(const struct cpuid_policy *policy)
{
	return (policy->extended[1].edx & BIT(27)) || (policy->features[0].ecx & BIT(22));
}
