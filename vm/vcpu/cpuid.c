/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID as data: for each leaf and register a mask of what passes from the host, bits that are
 * always set, and the few fields that depend on the vcpu or its registers. The answers of a machine are made
 * once; an exit is a lookup and, for four leaves, a fix-up.
 *
 * Manual: Intel SDM vol. 2 CPUID; AMD APM vol. 3 appendix E. Hypervisor leaves: 0x40000000 vendor and highest
 * leaf, 0x40000010 EAX TSC and EBX local APIC timer frequency in kHz, as several hypervisors have it.
 */
#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "dev/apic/lapic.h"
#include "vm/vcpu/vcpu.h"

#define BASIC_LEAVES 0x17u
#define EXTENDED_LEAVES 0x20u
#define HYPERVISOR_LEAF 0x40000000u
#define HYPERVISOR_LAST 0x40000010u
#define XSAVE_SUBLEAVES 20u
#define LEAF_7_SUBLEAVES 2u

struct cpuid_policy {
	struct cpuid_result basic[BASIC_LEAVES];
	struct cpuid_result leaf7[LEAF_7_SUBLEAVES];
	struct cpuid_result cache[8];
	struct cpuid_result xsave[XSAVE_SUBLEAVES];
	struct cpuid_result extended[EXTENDED_LEAVES];
	struct cpuid_result amd_cache[8];
	struct cpuid_result hypervisor, timing;
	uint32_t basic_max, extended_max;
	unsigned vcpus;
	uint64_t cr4_mask, efer_mask, xcr0_mask;
	uint8_t physical_bits;
	bool page_1g;
};

/* Leaf 1. ECX: SSE3 PCLMUL SSSE3 FMA CX16 PCID SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND. */
#define LEAF1_ECX                                                                                                      \
	(BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | BIT(17) | BIT(19) | BIT(20) | BIT(22) | BIT(23) | BIT(25) |    \
	 BIT(26) | BIT(28) | BIT(29) | BIT(30))
#define LEAF1_ECX_OSXSAVE BIT(27)
/* Emulated whatever the host has: x2APIC, TSC deadline, and the mark of a hypervisor. */
#define LEAF1_ECX_SET (BIT(21) | BIT(24) | BIT(31))
/* EDX: all but DS, ACPI clock control, TM, PBE, IA-64, and the serial number. */
#define LEAF1_EDX                                                                                                      \
	(BIT(0) | BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(11) | BIT(13) | BIT(15) |         \
	 BIT(16) | BIT(17) | BIT(19) | BIT(23) | BIT(24) | BIT(25) | BIT(26) | BIT(27))
#define LEAF1_EDX_SET (BIT(7) | BIT(9) | BIT(12) | BIT(14)) /* MCE, APIC, MTRR, MCA (no banks) */
/* Leaf 7 EBX: FSGSBASE BMI1 AVX2 SMEP BMI2 ERMS INVPCID AVX-512 F,DQ,IFMA,CD,BW,VL RDSEED ADX SMAP CLFLUSHOPT CLWB SHA. */
#define LEAF7_EBX                                                                                                      \
	(BIT(0) | BIT(3) | BIT(5) | BIT(7) | BIT(8) | BIT(9) | BIT(10) | BIT(16) | BIT(17) | BIT(18) | BIT(19) |       \
	 BIT(20) | BIT(21) | BIT(23) | BIT(24) | BIT(28) | BIT(29) | BIT(30) | BIT(31))
#define LEAF7_EBX_SET BIT(1) /* IA32_TSC_ADJUST, emulated */
/* ECX: AVX512_VBMI UMIP PKU VBMI2 GFNI VAES VPCLMUL VNNI BITALG VPOPCNT LA57 RDPID. */
#define LEAF7_ECX                                                                                                      \
	(BIT(1) | BIT(2) | BIT(3) | BIT(6) | BIT(8) | BIT(9) | BIT(10) | BIT(11) | BIT(12) | BIT(14) | BIT(16) |       \
	 BIT(22))
#define LEAF7_ECX_PKU BIT(3)
#define LEAF7_ECX_OSPKE BIT(4)
#define LEAF7_EDX (BIT(2) | BIT(3) | BIT(4)) /* AVX512_4VNNIW, 4FMAPS, FSRM */
/* 8000_0001 ECX: LAHF ABM SSE4A misaligned-SSE PREFETCHW XOP FMA4 TBM TOPOEXT. */
#define EXT1_ECX (BIT(0) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(11) | BIT(16) | BIT(21) | BIT(22))
/* EDX: as leaf 1 for AMD, SYSCALL NX MMXEXT FFXSR 1G RDTSCP LM 3DNow. */
#define EXT1_EDX                                                                                                       \
	((LEAF1_EDX & UINT64_C(0x0183f3ff)) | LEAF1_EDX_SET | BIT(11) | BIT(20) | BIT(22) | BIT(24) | BIT(26) |        \
	 BIT(27) | BIT(29) | BIT(30) | BIT(31))
#define MAX_PHYSICAL_BITS 46u /* PGM_MAX_GPA */
_Static_assert(PGM_MAX_GPA == UINT64_C(1) << MAX_PHYSICAL_BITS, "what the guest is told is what PGM can hold");

struct leaf_rule {
	uint32_t leaf;
	uint32_t pass[4]; /* eax ebx ecx edx */
	uint32_t set[4];
};

#define ALL UINT32_MAX
/* Leaves that are not here read as zero. */
static const struct leaf_rule rules[] = {
	{ 0x0, { 0, ALL, ALL, ALL }, { 0 } },
	{ 0x1, { ALL, 0x0000ff00, LEAF1_ECX, LEAF1_EDX }, { 0, 0, LEAF1_ECX_SET, LEAF1_EDX_SET } },
	{ 0x2, { ALL, ALL, ALL, ALL }, { 0 } },
	{ 0x6, { 0 }, { BIT(2), 0, 0, 0 } }, /* the APIC timer always runs */
	{ 0x80000000, { 0, ALL, ALL, ALL }, { 0 } },
	{ 0x80000001, { ALL, ALL, EXT1_ECX, EXT1_EDX }, { 0, 0, 0, BIT(9) } },
	{ 0x80000002, { ALL, ALL, ALL, ALL }, { 0 } },
	{ 0x80000003, { ALL, ALL, ALL, ALL }, { 0 } },
	{ 0x80000004, { ALL, ALL, ALL, ALL }, { 0 } },
	{ 0x80000005, { ALL, ALL, ALL, ALL }, { 0 } },
	{ 0x80000006, { ALL, ALL, ALL, ALL }, { 0 } },
	{ 0x80000007, { 0, 0, 0, BIT(8) }, { 0 } }, /* invariant TSC */
	{ 0x80000008, { 0xffff, BIT(0), 0, 0 }, { 0 } },
};

static struct cpuid_result apply(const struct leaf_rule *rule)
{
	struct cpuid_result r = cpuid(rule->leaf, 0);

	r.eax = (r.eax & rule->pass[0]) | rule->set[0];
	r.ebx = (r.ebx & rule->pass[1]) | rule->set[1];
	r.ecx = (r.ecx & rule->pass[2]) | rule->set[2];
	r.edx = (r.edx & rule->pass[3]) | rule->set[3];
	return r;
}

static void fill_by_rules(struct cpuid_policy *p)
{
	uint32_t host_basic = cpuid(0, 0).eax, host_extended = cpuid(0x80000000, 0).eax;

	for (unsigned i = 0; i < ARRAY_SIZE(rules); i++) {
		uint32_t leaf = rules[i].leaf;

		if (leaf < BASIC_LEAVES && leaf <= host_basic)
			p->basic[leaf] = apply(&rules[i]);
		else if (leaf >= 0x80000000 && leaf <= host_extended)
			p->extended[leaf - 0x80000000] = apply(&rules[i]);
	}
	p->basic_max = host_basic < 0x7 ? host_basic : 0x16;
	p->basic[0].eax = p->basic_max;
	p->extended_max = host_extended < 0x8000001e ? host_extended : 0x8000001e;
	p->extended[0].eax = p->extended_max;
}

static void fill_features(struct cpuid_policy *p)
{
	struct cpuid_result seven = cpuid(7, 0);

	if (cpuid(0, 0).eax < 7)
		return;
	p->leaf7[0].ebx = (seven.ebx & LEAF7_EBX) | LEAF7_EBX_SET;
	p->leaf7[0].ecx = seven.ecx & LEAF7_ECX;
	p->leaf7[0].edx = seven.edx & LEAF7_EDX;
	if (!(host_xcr0() & BIT(9))) /* PKRU would not be switched with the rest */
		p->leaf7[0].ecx &= ~(uint32_t)LEAF7_ECX_PKU;
	if (!(host_xcr0() & BIT(5))) /* no AVX-512 state: none of its instructions */
		p->leaf7[0].ebx &= ~(uint32_t)(BIT(16) | BIT(17) | BIT(21) | BIT(28) | BIT(30) | BIT(31));
}

/*
 * What the processor has for the host but not for a guest: there it is #UD. PCIDs are for those whose flushes are told apart.
 * The others of the kind need no taking out: XSAVES is announced to no guest, UMIP is a matter of CR4 alone.
 */
static void hide_what_is_undefined(struct cpuid_policy *p)
{
	if (!hv_capabilities.vpid && hv_capabilities.slat == SLAT_EPT)
		p->basic[1].ecx &= ~(uint32_t)BIT(17);
	if (!hv_capabilities.invpcid)
		p->leaf7[0].ebx &= ~(uint32_t)BIT(10);
	if (!hv_capabilities.rdtscp) {
		p->extended[1].edx &= ~(uint32_t)BIT(27);
		p->leaf7[0].ecx &= ~(uint32_t)BIT(22);
	}
}

/* Caches: every vcpu shares none of them with another. */
static void fill_caches(struct cpuid_policy *p)
{
	for (unsigned i = 0; i < ARRAY_SIZE(p->cache); i++) {
		if (cpuid(0, 0).eax >= 4)
			p->cache[i] = cpuid(4, i);
		p->cache[i].eax &= 0x3fffu;
		if (cpuid(0x80000000, 0).eax >= 0x8000001d && (p->extended[1].ecx & BIT(22)))
			p->amd_cache[i] = cpuid(0x8000001d, i);
		p->amd_cache[i].eax &= 0x3fffu;
	}
}

static void fill_xsave(struct cpuid_policy *p)
{
	struct cpuid_result d;

	p->xcr0_mask = host_xcr0();
	if (!p->xcr0_mask || !(p->basic[1].ecx & BIT(26))) {
		p->basic[1].ecx &= ~(uint32_t)(BIT(26) | BIT(28) | BIT(12) | BIT(29));
		return;
	}
	d = cpuid(0xd, 0);
	p->xsave[0] = (struct cpuid_result){ .eax = (uint32_t)p->xcr0_mask,
					     .ebx = d.ebx,
					     .ecx = (uint32_t)host_fpu_size(),
					     .edx = (uint32_t)(p->xcr0_mask >> 32) };
	/* XSAVEOPT, XSAVEC, XGETBV 1; no supervisor states, so no XSAVES. */
	p->xsave[1].eax = cpuid(0xd, 1).eax & (features.xsavec ? 7u : 5u);
	for (unsigned i = 2; i < XSAVE_SUBLEAVES; i++)
		if (p->xcr0_mask >> i & 1)
			p->xsave[i] = cpuid(0xd, i);
}

static void fill_hypervisor(struct cpuid_policy *p)
{
	uint64_t tsc_khz = host_tsc_hz() / 1000, ratio;

	p->hypervisor = (struct cpuid_result){ .eax = HYPERVISOR_LAST };
	memcpy(&p->hypervisor.ebx, "Quir", 4);
	memcpy(&p->hypervisor.ecx, "eQui", 4);
	memcpy(&p->hypervisor.edx, "reQu", 4);
	p->timing = (struct cpuid_result){ .eax = (uint32_t)tsc_khz, .ebx = (uint32_t)(LAPIC_TIMER_HZ / 1000) };
	/* Leaf 15h: TSC = crystal * EBX / EAX; Linux multiplies in 32 bits, so the ratio is kept below 2^32 / crystal kHz. */
	ratio = tsc_khz * 1000 / (LAPIC_TIMER_HZ / 1000);
	if (p->basic_max >= 0x15 && ratio && ratio < UINT32_MAX / (LAPIC_TIMER_HZ / 1000))
		p->basic[0x15] = (struct cpuid_result){ .eax = 1000, .ebx = (uint32_t)ratio, .ecx = LAPIC_TIMER_HZ };
	if (p->basic_max >= 0x16)
		p->basic[0x16] = (struct cpuid_result){ .eax = (uint32_t)(tsc_khz / 1000),
							.ebx = (uint32_t)(tsc_khz / 1000),
							.ecx = LAPIC_TIMER_HZ / 1000000 };
}

static void fill_masks(struct cpuid_policy *p)
{
	static const struct {
		uint8_t leaf, reg, bit;
		uint64_t cr4;
	} features[] = {
		{ 1, 3, 1, CR4_VME | CR4_PVI }, { 1, 3, 4, CR4_TSD },      { 1, 3, 2, CR4_DE },
		{ 1, 3, 3, CR4_PSE },           { 1, 3, 6, CR4_PAE },      { 1, 3, 7, CR4_MCE },
		{ 1, 3, 13, CR4_PGE },          { 1, 3, 24, CR4_OSFXSR },  { 1, 3, 25, CR4_OSXMMEXCPT },
		{ 1, 2, 17, CR4_PCIDE },        { 1, 2, 26, CR4_OSXSAVE }, { 7, 1, 0, CR4_FSGSBASE },
		{ 7, 1, 7, CR4_SMEP },          { 7, 1, 20, CR4_SMAP },    { 7, 2, 2, CR4_UMIP },
		{ 7, 2, 16, CR4_LA57 },         { 7, 2, 3, CR4_PKE },
	};

	p->cr4_mask = CR4_PCE;
	for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
		const struct cpuid_result *r = features[i].leaf == 1 ? &p->basic[1] : &p->leaf7[0];
		const uint32_t regs[4] = { r->eax, r->ebx, r->ecx, r->edx };

		if (regs[features[i].reg] >> features[i].bit & 1)
			p->cr4_mask |= features[i].cr4;
	}
	p->efer_mask = 0;
	if (p->extended[1].edx & BIT(11))
		p->efer_mask |= EFER_SCE;
	if (p->extended[1].edx & BIT(20))
		p->efer_mask |= EFER_NXE;
	if (p->extended[1].edx & BIT(25))
		p->efer_mask |= BIT(14); /* fast FXSAVE */
	if (p->extended[1].edx & BIT(29))
		p->efer_mask |= EFER_LME | EFER_LMA;
}

struct cpuid_policy *cpuid_policy_create(const struct machine *machine)
{
	struct cpuid_policy *p = heap_alloc(sizeof(*p));
	unsigned bits = 36;

	if (!p)
		return NULL;
	p->vcpus = machine->vcpu_count;
	fill_by_rules(p);
	fill_features(p);
	hide_what_is_undefined(p);
	fill_caches(p);
	fill_xsave(p);
	fill_hypervisor(p);
	if (p->extended_max >= 0x80000008)
		bits = p->extended[8].eax & 0xff;
	p->physical_bits = (uint8_t)(bits < MAX_PHYSICAL_BITS ? bits : MAX_PHYSICAL_BITS);
	p->extended[8].eax = (p->extended[8].eax & 0xff00) | p->physical_bits;
	p->extended[8].ecx = p->vcpus - 1;
	p->page_1g = (p->extended[1].edx & BIT(26)) != 0;
	if (p->vcpus > 1)
		p->basic[1].edx |= BIT(28);
	fill_masks(p);
	return p;
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
	return policy->page_1g;
}

uint64_t cpuid_cr4_mask(const struct cpuid_policy *policy)
{
	return policy->cr4_mask;
}

uint64_t cpuid_efer_mask(const struct cpuid_policy *policy)
{
	return policy->efer_mask;
}

uint64_t cpuid_xcr0_mask(const struct cpuid_policy *policy)
{
	return policy->xcr0_mask;
}

bool cpuid_has_tsc_aux(const struct cpuid_policy *policy)
{
	return (policy->extended[1].edx & BIT(27)) != 0 || (policy->leaf7[0].ecx & BIT(22)) != 0;
}

/* Level 0: one thread a core; level 1: the cores. x2APIC id in EDX. */
static struct cpuid_result topology(const struct vcpu *vcpu, uint32_t subleaf)
{
	const struct cpuid_policy *p = vcpu->machine->cpuid;
	struct cpuid_result r = { .ecx = subleaf, .edx = vcpu->id };
	unsigned shift = 0;

	if (subleaf == 0) {
		r.ebx = 1;
		r.ecx |= 1u << 8;
	} else if (subleaf == 1) {
		while ((1u << shift) < p->vcpus)
			shift++;
		r.eax = shift;
		r.ebx = p->vcpus;
		r.ecx |= 2u << 8;
	}
	return r;
}

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

static struct cpuid_result basic(struct vcpu *vcpu, uint32_t leaf, uint32_t subleaf)
{
	const struct cpuid_policy *p = vcpu->machine->cpuid;
	struct cpuid_result r = p->basic[leaf];

	switch (leaf) {
	case 1:
		r.ebx |= vcpu->id << 24 | p->vcpus << 16;
		hv_need(vcpu->hv, REGS_CONTROL);
		if (vcpu->hv->cr4 & CR4_OSXSAVE)
			r.ecx |= (uint32_t)LEAF1_ECX_OSXSAVE;
		return r;
	case 4: return subleaf < ARRAY_SIZE(p->cache) ? p->cache[subleaf] : (struct cpuid_result){ 0 };
	case 7:
		r = subleaf < LEAF_7_SUBLEAVES ? p->leaf7[subleaf] : (struct cpuid_result){ 0 };
		hv_need(vcpu->hv, REGS_CONTROL);
		if (!subleaf && (vcpu->hv->cr4 & CR4_PKE))
			r.ecx |= (uint32_t)LEAF7_ECX_OSPKE;
		return r;
	case 0xb: return topology(vcpu, subleaf);
	case 0xd:
		r = subleaf < XSAVE_SUBLEAVES ? p->xsave[subleaf] : (struct cpuid_result){ 0 };
		if (subleaf < 2 && r.eax)
			r.ebx = xsave_size(vcpu, subleaf == 1);
		return r;
	default: return r;
	}
}

static struct cpuid_result answer(struct vcpu *vcpu, uint32_t leaf, uint32_t subleaf)
{
	const struct cpuid_policy *p = vcpu->machine->cpuid;

	if (leaf <= p->basic_max)
		return basic(vcpu, leaf, subleaf);
	if (leaf >= 0x80000000 && leaf <= p->extended_max) {
		if (leaf == 0x8000001d)
			return subleaf < ARRAY_SIZE(p->amd_cache) ? p->amd_cache[subleaf] : (struct cpuid_result){ 0 };
		if (leaf == 0x8000001e)
			return (struct cpuid_result){ .eax = vcpu->id, .ebx = vcpu->id };
		return p->extended[leaf - 0x80000000];
	}
	if (leaf == HYPERVISOR_LEAF)
		return p->hypervisor;
	if (leaf == HYPERVISOR_LAST)
		return p->timing;
	return (struct cpuid_result){ 0 };
}

/* Basic leaves whose answer depends on the vcpu, its registers or the subleaf. */
#define VARYING (BIT(1) | BIT(4) | BIT(7) | BIT(0xb) | BIT(0xd))

void cpuid_answers(const struct cpuid_policy *policy, struct hv_answers *answers)
{
	answers->cpuid = policy->basic;
	answers->leaves = BITS(policy->basic_max, 0) & ~VARYING;
}

enum exit_action exit_cpuid(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;
	struct cpuid_result r = answer(vcpu, (uint32_t)h->gpr[GPR_RAX], (uint32_t)h->gpr[GPR_RCX]);

	if (!vcpu_skip(vcpu))
		return ACTION_ENTER;
	h->gpr[GPR_RAX] = r.eax;
	h->gpr[GPR_RBX] = r.ebx;
	h->gpr[GPR_RCX] = r.ecx;
	h->gpr[GPR_RDX] = r.edx;
	return ACTION_ENTER;
}
