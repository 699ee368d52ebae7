/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID as data: for each leaf and register a mask of what passes from the host and bits that are always set; and what is
 * taken out again where the host can't hand it on. Which bits of registers follow from what is told: cpuid_limits.c.
 *
 * Manual: Intel SDM vol. 2 CPUID; AMD APM vol. 3 appendix E. Hypervisor leaves: 0x40000000 vendor and highest
 * leaf, 0x40000010 EAX TSC and EBX local APIC timer frequency in kHz, as several hypervisors have it; from 0x40000100 on Linux' own
 * for guests of KVM (Linux Documentation/virt/kvm/x86/cpuid.rst).
 */
#include "arch/x86_64/hv_nested.h"
#include "vm/vcpu/cpuid_policy.h"
#include "vm/vcpu/pv.h"

#include <string.h>

#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "dev/apic/lapic.h"

/* Leaf 1. ECX: SSE3 PCLMUL SSSE3 FMA CX16 PCID SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND. */
#define LEAF1_ECX                                                                                                      \
	(BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | BIT(17) | BIT(19) | BIT(20) | BIT(22) | BIT(23) | BIT(25) |    \
	 BIT(26) | BIT(28) | BIT(29) | BIT(30))
/* Emulated whatever the host has: x2APIC, TSC deadline, and the mark of a hypervisor. */
#define LEAF1_ECX_SET (BIT(21) | BIT(24) | BIT(31))
/* EDX: all but DS, ACPI clock control, TM, PBE, IA-64, and the serial number. */
#define LEAF1_EDX                                                                                                      \
	(BIT(0) | BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(11) | BIT(13) | BIT(15) |         \
	 BIT(16) | BIT(17) | BIT(19) | BIT(23) | BIT(24) | BIT(25) | BIT(26) | BIT(27))
#define LEAF1_EDX_SET (BIT(7) | BIT(9) | BIT(12) | BIT(14)) /* MCE, APIC, MTRR, MCA (no banks) */
/* Leaf 7 EBX: FSGSBASE BMI1 AVX2 SMEP BMI2 ERMS INVPCID, AVX-512's, RDSEED ADX SMAP CLFLUSHOPT CLWB SHA. */
#define LEAF7_AVX512 (BIT(16) | BIT(17) | BIT(21) | BIT(28) | BIT(30) | BIT(31))
#define LEAF7_EBX                                                                                                      \
	(BIT(0) | BIT(3) | BIT(5) | BIT(7) | BIT(8) | BIT(9) | BIT(10) | BIT(18) | BIT(19) | BIT(20) | BIT(23) |       \
	 BIT(24) | BIT(29) | LEAF7_AVX512)
#define LEAF7_EBX_SET BIT(1) /* IA32_TSC_ADJUST, emulated */
/* ECX: AVX512_VBMI UMIP PKU VBMI2 GFNI VAES VPCLMUL VNNI BITALG VPOPCNT LA57 RDPID. */
#define LEAF7_ECX                                                                                                      \
	(BIT(1) | BIT(2) | BIT(3) | BIT(6) | BIT(8) | BIT(9) | BIT(10) | BIT(11) | BIT(12) | BIT(14) | BIT(16) |       \
	 BIT(22))
/* EDX: AVX512_4VNNIW 4FMAPS FSRM MD_CLEAR IBRS+IBPB STIBP L1D_FLUSH ARCH_CAPABILITIES SSBD. */
#define LEAF7_EDX (BIT(2) | BIT(3) | BIT(4) | BIT(10) | BIT(26) | BIT(27) | BIT(28) | BIT(29) | BIT(31))
#define LEAF7_2_EDX BITS(5, 0) /* PSFD IPRED_CTRL RRSBA_CTRL DDPD_U BHI_CTRL MCDT_NO */
/* 8000_0001 ECX: LAHF ABM SSE4A misaligned-SSE PREFETCHW XOP FMA4 TBM TOPOEXT. */
#define EXT1_ECX (BIT(0) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(11) | BIT(16) | BIT(21) | BIT(22))
/* EDX: as leaf 1 for AMD, SYSCALL NX MMXEXT FFXSR 1G RDTSCP LM 3DNow. */
#define EXT1_EDX                                                                                                       \
	((LEAF1_EDX & UINT64_C(0x0183f3ff)) | LEAF1_EDX_SET | BIT(11) | BIT(20) | BIT(22) | BIT(24) | BIT(26) |        \
	 BIT(27) | BIT(29) | BIT(30) | BIT(31))
/*
 * 8000_0008 EBX: CLZERO XSAVEERPTR IBPB IBRS STIBP, how IBRS is best used, SSBD SSB_NO PSFD BTC_NO IBPB_RET. Not VIRT_SSBD:
 * what stands behind it where SPEC_CTRL can't do it is a bit that two threads of a core share.
 */
#define EXT8_EBX (BIT(0) | BIT(2) | BIT(12) | BITS(19, 14) | BIT(24) | BIT(26) | BITS(30, 28))
/*
 * 8000_0021 EAX: data breakpoints don't nest, LFENCE serialises, VERW clears, null selectors clear the base, automatic IBRS,
 * SBPB, IBPB of branch types, SRSO_NO, SRSO_USER_KERNEL_NO. ECX: TSA_SQ_NO TSA_L1_NO.
 */
#define EXT21_EAX (BIT(0) | BIT(2) | BIT(5) | BIT(6) | BIT(8) | BITS(30, 27))
#define EXT21_ECX BITS(2, 1)
#define MAX_PHYSICAL_BITS 46u /* PGM_MAX_GPA */
_Static_assert(PGM_MAX_GPA == UINT64_C(1) << MAX_PHYSICAL_BITS, "what the guest is told is what PGM can hold");

struct leaf_rule {
	uint32_t leaf;
	uint8_t first, last; /* subleaves */
	uint32_t pass[4];    /* eax ebx ecx edx */
	uint32_t set[4];
};

#define ALL UINT32_MAX
/* Leaves that are not here read as zero. Who shares a cache with whom: cpuid_topology.c. */
static const struct leaf_rule rules[] = {
	{ 0x0, 0, 0, { 0, ALL, ALL, ALL }, { 0 } },
	{ 0x1, 0, 0, { ALL, 0x0000ff00, LEAF1_ECX, LEAF1_EDX }, { 0, 0, LEAF1_ECX_SET, LEAF1_EDX_SET } },
	{ 0x2, 0, 0, { ALL, ALL, ALL, ALL }, { 0 } },
	{ 0x4, 0, CACHE_SUBLEAVES - 1, { 0x3fff, ALL, ALL, ALL }, { 0 } },
	{ 0x6, 0, 0, { 0 }, { BIT(2), 0, 0, 0 } }, /* the APIC timer always runs */
	{ 0x7, 0, 0, { 2, LEAF7_EBX, LEAF7_ECX, LEAF7_EDX }, { 0, LEAF7_EBX_SET, 0, 0 } },
	{ 0x7, 2, 2, { 0, 0, 0, LEAF7_2_EDX }, { 0 } },
	{ 0x80000000, 0, 0, { 0, ALL, ALL, ALL }, { 0 } },
	{ 0x80000001, 0, 0, { ALL, ALL, EXT1_ECX, EXT1_EDX }, { 0 } },
	{ 0x80000002, 0, 0, { ALL, ALL, ALL, ALL }, { 0 } },
	{ 0x80000003, 0, 0, { ALL, ALL, ALL, ALL }, { 0 } },
	{ 0x80000004, 0, 0, { ALL, ALL, ALL, ALL }, { 0 } },
	{ 0x80000005, 0, 0, { ALL, ALL, ALL, ALL }, { 0 } },
	{ 0x80000006, 0, 0, { ALL, ALL, ALL, ALL }, { 0 } },
	{ 0x80000007, 0, 0, { 0, 0, 0, BIT(8) }, { 0 } }, /* invariant TSC */
	{ 0x80000008, 0, 0, { 0xffff, EXT8_EBX, 0, 0 }, { 0 } },
	{ 0x8000001d, 0, CACHE_SUBLEAVES - 1, { 0x3fff, ALL, ALL, ALL }, { 0 } },
	{ 0x80000021, 0, 0, { EXT21_EAX, 0, EXT21_ECX, 0 }, { 0 } },
};

struct cpuid_result *cpuid_place(struct cpuid_policy *p, uint32_t leaf, uint32_t subleaf)
{
	switch (leaf) {
	case 0x4: return subleaf < CACHE_SUBLEAVES ? &p->cache[subleaf] : NULL;
	case 0x7: return subleaf < FEATURE_SUBLEAVES ? &p->features[subleaf] : NULL;
	case 0xd: return subleaf < XSAVE_SUBLEAVES ? &p->xsave[subleaf] : NULL;
	case 0x8000001d: return subleaf < CACHE_SUBLEAVES ? &p->amd_cache[subleaf] : NULL;
	default: break;
	}
	if (leaf < BASIC_LEAVES)
		return &p->basic[leaf];
	return leaf - EXTENDED_LEAF < EXTENDED_LEAVES ? &p->extended[leaf - EXTENDED_LEAF] : NULL;
}

uint32_t *cpuid_word(struct cpuid_policy *p, uint32_t leaf, uint32_t subleaf, enum cpuid_register which)
{
	struct cpuid_result *r = cpuid_place(p, leaf, subleaf);

	return which == EAX ? &r->eax : which == EBX ? &r->ebx : which == ECX ? &r->ecx : &r->edx;
}

static void fill_by_rules(struct cpuid_policy *p)
{
	uint32_t host_basic = cpuid(0, 0).eax, host_extended = cpuid(EXTENDED_LEAF, 0).eax;

	for (const struct leaf_rule *rule = rules; rule < rules + ARRAY_SIZE(rules); rule++) {
		if (rule->leaf > (rule->leaf < EXTENDED_LEAF ? host_basic : host_extended))
			continue;
		for (uint32_t i = rule->first; i <= rule->last; i++) {
			struct cpuid_result r = cpuid(rule->leaf, i);

			*cpuid_place(p, rule->leaf, i) = (struct cpuid_result){
				(r.eax & rule->pass[EAX]) | rule->set[EAX], (r.ebx & rule->pass[EBX]) | rule->set[EBX],
				(r.ecx & rule->pass[ECX]) | rule->set[ECX], (r.edx & rule->pass[EDX]) | rule->set[EDX]
			};
		}
	}
	/* Intel's guests have the leaves of frequencies, whatever the host's, and of leaves behind none but the host's 1Fh. */
	p->basic_max = !features.amd && host_basic >= 0x1f ? 0x1f
		       : !features.amd && host_basic >= 7  ? 0x16
							   : (uint32_t)min_u64(host_basic, 0x16);
	p->extended_max = host_extended < 0x80000021 ? host_extended : 0x80000021;
	if (features.sbpb || features.ibpb_forgets_types) {
		p->extended_max = 0x80000021;
		*cpuid_word(p, 0x80000021, 0, EAX) |=
			(features.sbpb ? BIT(27) : 0) | (features.ibpb_forgets_types ? BIT(28) : 0);
	}
	p->basic[0].eax = p->basic_max;
	p->extended[0].eax = p->extended_max;
}

/*
 * What the processor has for the host but not for a guest: there it is #UD, or its state would not be switched. PCIDs are for
 * those whose flushes are told apart. XSAVES is announced to no guest; UMIP is a matter of CR4 alone.
 */
static void hide_what_cannot_be_had(struct cpuid_policy *p)
{
	uint64_t xcr0 = host_xcr0();
	const struct {
		bool hidden;
		enum cpuid_register which;
		uint32_t leaf, bits;
	} hidden[] = {
		{ !hv_capabilities.vpid && hv_capabilities.slat == SLAT_EPT, ECX, 0x1, BIT(17) },
		{ !hv_capabilities.invpcid, EBX, 0x7, BIT(10) },
		{ !hv_capabilities.rdtscp, ECX, 0x7, BIT(22) },
		{ !hv_capabilities.rdtscp, EDX, 0x80000001, BIT(27) },
		{ !xcr0, ECX, 0x1, BIT(26) },
		{ !(xcr0 & BIT(2)), ECX, 0x1, BIT(28) | BIT(12) | BIT(29) }, /* AVX FMA F16C */
		{ !(xcr0 & BIT(2)), EBX, 0x7, BIT(5) },                      /* AVX2 */
		{ !(xcr0 & BIT(2)), ECX, 0x80000001, BIT(11) | BIT(16) },    /* XOP FMA4 */
		{ !(xcr0 & BIT(5)), EBX, 0x7, LEAF7_AVX512 },
		{ !(xcr0 & BIT(9)), ECX, 0x7, BIT(3) }, /* PKU */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(hidden); i++)
		if (hidden[i].hidden)
			*cpuid_word(p, hidden[i].leaf, 0, hidden[i].which) &= ~hidden[i].bits;
}

static void fill_xsave(struct cpuid_policy *p)
{
	uint64_t xcr0 = host_xcr0();

	p->limits[CPUID_XCR0] = xcr0;
	if (!xcr0)
		return;
	p->xsave[0] = (struct cpuid_result){ .eax = (uint32_t)xcr0,
					     .ebx = cpuid(0xd, 0).ebx,
					     .ecx = (uint32_t)host_fpu_size(),
					     .edx = (uint32_t)(xcr0 >> 32) };
	/* XSAVEOPT, XSAVEC, XGETBV 1; no supervisor states, so no XSAVES. */
	p->xsave[1].eax = cpuid(0xd, 1).eax & (features.xsavec ? 7u : 5u);
	for (unsigned i = 2; i < XSAVE_SUBLEAVES; i++)
		if (xcr0 >> i & 1)
			p->xsave[i] = cpuid(0xd, i);
}

#define CRYSTAL_KHZ (LAPIC_TIMER_HZ / 1000)

/*
 * Leaf 15h: TSC = crystal * EBX / EAX, and the crystal is what the APIC timer counts. Linux multiplies kHz in 32 bits, so EBX
 * is kept small; of all such fractions the nearest one is told.
 */
static void fill_frequencies(struct cpuid_policy *p)
{
	uint64_t tsc_khz = host_tsc_hz() / 1000, best_error = UINT64_MAX, best = 1;

	p->timing = (struct cpuid_result){ .eax = (uint32_t)tsc_khz, .ebx = CRYSTAL_KHZ };
	for (uint64_t eax = 1; eax <= UINT32_MAX / CRYSTAL_KHZ; eax++) {
		uint64_t ebx = (tsc_khz * eax + CRYSTAL_KHZ / 2) / CRYSTAL_KHZ, exact = tsc_khz * eax;
		uint64_t error = exact > ebx * CRYSTAL_KHZ ? exact - ebx * CRYSTAL_KHZ : ebx * CRYSTAL_KHZ - exact;

		if (ebx && ebx <= UINT32_MAX / CRYSTAL_KHZ &&
		    (best_error == UINT64_MAX || error * best < best_error * eax)) {
			best = eax;
			best_error = error;
			p->basic[0x15] = (struct cpuid_result){ (uint32_t)eax, (uint32_t)ebx, LAPIC_TIMER_HZ, 0 };
		}
	}
	p->basic[0x16] =
		(struct cpuid_result){ (uint32_t)(tsc_khz / 1000), (uint32_t)(tsc_khz / 1000), CRYSTAL_KHZ / 1000, 0 };
}

/* The virtualisation extension, for a machine that may run machines. */
static void tell_of_nesting(struct cpuid_policy *p)
{
	static const uint32_t leaves[] = { 1, 0x80000001, 0x8000000a };

	for (unsigned i = 0; i < ARRAY_SIZE(leaves); i++) {
		struct cpuid_result *place = cpuid_place(p, leaves[i], 0);

		if (place)
			hv->nested->tell(leaves[i], place);
	}
}

struct cpuid_policy *cpuid_policy_create(const struct machine *machine)
{
	struct cpuid_policy *p = heap_alloc(sizeof(*p));
	unsigned bits = 36;

	if (!p)
		return NULL;
	p->topology = topology_of(machine->config);
	fill_by_rules(p);
	hide_what_cannot_be_had(p);
	fill_xsave(p);
	fill_frequencies(p);
	p->hypervisor = (struct cpuid_result){ .eax = HYPERVISOR_LAST };
	memcpy(&p->hypervisor.ebx, "Quir", 4);
	memcpy(&p->hypervisor.ecx, "eQui", 4);
	memcpy(&p->hypervisor.edx, "reQu", 4);
	if (p->extended_max >= 0x80000008)
		bits = p->extended[8].eax & 0xff;
	p->physical_bits = (uint8_t)(bits < MAX_PHYSICAL_BITS ? bits : MAX_PHYSICAL_BITS);
	p->extended[8].eax = (p->extended[8].eax & 0xff00) | p->physical_bits;
	cpuid_tell_topology(p);
	if (machine->config->pv)
		pv_tell(p->pv);
	if (machine->config->nested && hv->nested)
		tell_of_nesting(p);
	cpuid_fill_limits(p);
	return p;
}
