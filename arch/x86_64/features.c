/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID once, as named truth values; and CR0, CR4, EFER, PAT, XCR0 made from them. Intel SDM vol. 2 CPUID, vol. 3
 * section 2.5.
 */
#include "arch/x86_64/features.h"

#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/errata.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/machine_check.h"
#include "arch/x86_64/traps.h"

#define VENDOR_GENU 0x756e6547u /* EBX of leaf 0 on GenuineIntel */
#define MSR_MISC_ENABLE 0x1a0u
#define MISC_ENABLE_LIMIT_CPUID BIT(22)
#define MISC_ENABLE_XD_DISABLE BIT(34)

struct features features;
static uint64_t offered; /* of bits[], by the boot CPU */

enum cpuid_register { IN_EAX, IN_EBX, IN_ECX, IN_EDX };

struct feature_bit {
	uint32_t leaf;
	uint8_t where, bit;
	uint16_t field; /* offset of a bool in struct features */
	const char *name;
};

#define FEATURE(leaf, where, bit, name)                                                                                \
	{                                                                                                              \
		leaf, where, bit, offsetof(struct features, name), #name                                               \
	}

static const struct feature_bit bits[] = {
	FEATURE(1, IN_ECX, 17, pcid),
	FEATURE(1, IN_ECX, 21, x2apic),
	FEATURE(1, IN_ECX, 24, tsc_deadline),
	FEATURE(1, IN_ECX, 26, xsave),
	FEATURE(1, IN_ECX, 31, hypervisor),
	FEATURE(1, IN_EDX, 12, mtrr),
	FEATURE(1, IN_EDX, 13, global_pages),
	FEATURE(1, IN_EDX, 7, machine_check),
	FEATURE(1, IN_EDX, 14, machine_check_banks),
	FEATURE(1, IN_EDX, 16, pat),
	FEATURE(1, IN_EDX, 24, fxsave),
	FEATURE(7, IN_EBX, 0, fsgsbase),
	FEATURE(7, IN_EBX, 1, tsc_adjust),
	FEATURE(7, IN_EBX, 7, smep),
	FEATURE(7, IN_EBX, 20, smap),
	FEATURE(7, IN_ECX, 2, umip),
	FEATURE(7, IN_ECX, 3, pku),
	FEATURE(7, IN_ECX, 16, la57),
	FEATURE(7, IN_EDX, 10, md_clear),
	FEATURE(0x80000021, IN_EAX, 5, md_clear), /* AMD's bit for it: its VERW clears them, too */
	FEATURE(7, IN_EDX, 26, ibpb),             /* Intel's bit for IBRS and IBPB both */
	FEATURE(7, IN_EDX, 26, spec_ctrl),
	FEATURE(7, IN_EDX, 27, spec_ctrl), /* STIBP */
	FEATURE(7, IN_EDX, 31, spec_ctrl), /* SSBD */
	FEATURE(7, IN_EDX, 29, arch_capabilities),
	FEATURE(0x80000001, IN_EDX, 20, nx),
	FEATURE(0x80000001, IN_EDX, 26, gigabyte_pages),
	FEATURE(0x80000001, IN_EDX, 27, rdtscp),
	FEATURE(0x80000007, IN_EBX, 1, mca_recovery),
	FEATURE(0x80000007, IN_EDX, 8, invariant_tsc),
	FEATURE(0x80000008, IN_EBX, 2, restores_fp_pointers),
	FEATURE(0x80000008, IN_EBX, 12, ibpb),
	FEATURE(0x80000008, IN_EBX, 14, spec_ctrl), /* IBRS */
	FEATURE(0x80000008, IN_EBX, 15, spec_ctrl), /* STIBP */
	FEATURE(0x80000008, IN_EBX, 24, spec_ctrl), /* SSBD */
	FEATURE(0x80000008, IN_EBX, 16, ibrs_stays),
	FEATURE(0x80000021, IN_EAX, 2, lfence_serialises),
	FEATURE(0x80000021, IN_EAX, 8, auto_ibrs),
	FEATURE(0x80000021, IN_EAX, 27, sbpb),
	FEATURE(0x80000021, IN_EAX, 28, ibpb_forgets_types),
};

_Static_assert(ARRAY_SIZE(bits) <= 64, "one bit of `offered` each");

static bool leaf_there(uint32_t leaf)
{
	return leaf <= (leaf >= 0x80000000 ? features.max_extended : features.max_leaf);
}

static uint32_t pick(struct cpuid_result r, unsigned where)
{
	return where == IN_EAX ? r.eax : where == IN_EBX ? r.ebx : where == IN_ECX ? r.ecx : r.edx;
}

static uint64_t read_bits(void)
{
	uint64_t found = 0;

	for (size_t i = 0; i < ARRAY_SIZE(bits); i++)
		if (leaf_there(bits[i].leaf) && pick(cpuid(bits[i].leaf, 0), bits[i].where) >> bits[i].bit & 1)
			found |= BIT(i);
	return found;
}

/*
 * Two things that firmware setups offer and that old systems needed: "Limit CPUID", which hides all leaves above 3, and
 * "XD disable". Intel SDM vol. 4, IA32_MISC_ENABLE. Of this CPU only; without effect where the bits are clear.
 */
static void undo_limits(void)
{
	struct cpuid_result r = cpuid(0, 0);
	uint64_t value;

	if (r.ebx != VENDOR_GENU || !rdmsr_safe(MSR_MISC_ENABLE, &value))
		return;
	if (value & (MISC_ENABLE_LIMIT_CPUID | MISC_ENABLE_XD_DISABLE) &&
	    wrmsr_safe(MSR_MISC_ENABLE, value & ~(MISC_ENABLE_LIMIT_CPUID | MISC_ENABLE_XD_DISABLE)))
		features.xd_was_off |= value & MISC_ENABLE_XD_DISABLE;
}

static void read_names(void)
{
	struct cpuid_result r = cpuid(0, 0);

	memcpy(features.vendor, &r.ebx, 4);
	memcpy(features.vendor + 4, &r.edx, 4);
	memcpy(features.vendor + 8, &r.ecx, 4);
	features.amd = !strcmp(features.vendor, "AuthenticAMD") || !strcmp(features.vendor, "HygonGenuine");
	for (uint32_t i = 0; i < 3 && leaf_there(0x80000004); i++) {
		r = cpuid(0x80000002 + i, 0);
		memcpy(features.brand + 16 * i, &r, 16);
	}
}

static void read_widths(void)
{
	features.physical_bits = 36;
	features.linear_bits = 48;
	if (leaf_there(0x80000008)) {
		struct cpuid_result r = cpuid(0x80000008, 0);

		features.physical_bits = (uint8_t)r.eax;
		features.linear_bits = (uint8_t)(r.eax >> 8);
	}
	if (features.physical_bits < 36 || features.physical_bits > 52)
		features.physical_bits = 36;
	if (features.linear_bits != 57)
		features.linear_bits = 48;
}

const char *features_init(void)
{
	uint64_t cap;

	undo_limits();
	features.max_leaf = cpuid(0, 0).eax;
	features.max_extended = cpuid(0x80000000, 0).eax;
	if (features.max_extended < 0x80000000)
		features.max_extended = 0;
	offered = read_bits();
	for (size_t i = 0; i < ARRAY_SIZE(bits); i++)
		*(bool *)((char *)&features + bits[i].field) |= offered >> i & 1;
	features.xsaveopt = features.xsave && leaf_there(0xd) && cpuid(0xd, 1).eax & 1;
	features.xsave &= leaf_there(0xd);
	/* Bochs 2.7 has CPUID's bit, but none of the registers. */
	features.machine_check_banks = features.machine_check_banks && rdmsr_safe(MSR_MCG_CAP, &cap);
	read_names();
	read_widths();
	features.tsc_deadline = features.tsc_deadline && !errata_tsc_deadline();
	features.restores_fp_pointers |= !features.amd;
	if (!features.nx)
		return "the processor has no execute-disable (NX), or the firmware setup turned it off";
	if (!features.pat)
		return "the processor has no page attribute table (PAT)";
	return features.fxsave ? NULL : "the processor has no FXSAVE";
}

const char *features_missing_here(void)
{
	uint64_t missing;

	undo_limits();
	missing = offered & ~read_bits();
	if (missing)
		return bits[__builtin_ctzll(missing)].name;
	if (features.xsave && host_xcr0() & ~((uint64_t)cpuid(0xd, 0).edx << 32 | cpuid(0xd, 0).eax))
		return "state component of XSAVE";
	return NULL;
}

void processor_before_paging(void)
{
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
	wrmsr(MSR_PAT, HOST_PAT);
	errata_mend_cpu();
}

void processor_control_registers(void)
{
	uint64_t cr4 = CR4_DE | CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;

	cr4 |= features.global_pages ? CR4_PGE : 0;
	machine_check_open();
	cr4 |= features.machine_check ? CR4_MCE : 0;
	cr4 |= features.xsave ? CR4_OSXSAVE : 0;
	cr4 |= features.smep ? CR4_SMEP : 0;
	cr4 |= features.smap ? CR4_SMAP : 0;
	cr4 |= features.umip ? CR4_UMIP : 0;
	write_cr4(cr4);
	__asm__ volatile("mov %0, %%dr7" : : "r"(DR7_RESET)); /* breakpoints of the firmware's debugger */
	write_cr0(CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG);
	if (features.xsave)
		xsetbv(0, host_xcr0());
	speculation_open_cpu();
}
