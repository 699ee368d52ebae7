/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The errata that the host's own work would suffer from, each with the document that tells of it. A guest's are told where
 * its registers are made.
 */
#include "arch/x86_64/errata.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/traps.h"

#define ANY_STEPPING UINT16_MAX

unsigned errata_family(void)
{
	uint32_t eax = cpuid(1, 0).eax, base = eax >> 8 & 15;

	return base == 15 ? base + (eax >> 20 & 255) : base;
}

/*
 * "TSC deadline timer may not work properly": HSD/HSE/BDX/BDE/SKL/SKX/KBL in Intel's specification updates, from Haswell to
 * Kaby Lake, mended by the microcode named here.
 */
static const struct deadline_erratum {
	uint8_t model;      /* of family 6 */
	uint16_t steppings; /* bit n: stepping n */
	uint32_t mended;
} deadline_errata[] = {
	{ 0x3c, ANY_STEPPING, 0x22 },  { 0x3d, ANY_STEPPING, 0x25 },  { 0x3f, 1u << 2, 0x3a },
	{ 0x3f, 1u << 4, 0x0f },       { 0x45, ANY_STEPPING, 0x20 },  { 0x46, ANY_STEPPING, 0x17 },
	{ 0x47, ANY_STEPPING, 0x17 },  { 0x4e, ANY_STEPPING, 0xb2 },  { 0x4f, ANY_STEPPING, 0x0b000020 },
	{ 0x55, 1u << 3, 0x01000136 }, { 0x55, 1u << 4, 0x02000014 }, { 0x56, 1u << 2, 0x11 },
	{ 0x56, 1u << 3, 0x0700000e }, { 0x56, 1u << 4, 0x0f00000c }, { 0x56, 1u << 5, 0x0e000003 },
	{ 0x5e, ANY_STEPPING, 0xb2 },  { 0x8e, ANY_STEPPING, 0x52 },  { 0x9e, ANY_STEPPING, 0x52 },
};

uint64_t errata_microcode(void)
{
	uint64_t value;

	/* Intel's is there after a write of 0 and a CPUID. */
	if (!features.amd && !wrmsr_safe(MSR_BIOS_SIGN_ID, 0))
		return 0;
	(void)cpuid(1, 0);
	return rdmsr_safe(MSR_BIOS_SIGN_ID, &value) ? value : 0;
}

static uint32_t model(void)
{
	uint32_t eax = cpuid(1, 0).eax;

	return (eax >> 4 & 15) | (eax >> 12 & 0xf0);
}

/* Zen 4 for clients: as AMD has told Linux, whose kernel takes no notice of the bit there since 6.12. */
bool errata_virtual_load_save(void)
{
	return errata_family() == 0x19 && ((model() & ~7u) == 0x18 || (model() & ~31u) == 0x60);
}

bool errata_tsc_deadline(void)
{
	uint32_t eax = cpuid(1, 0).eax, has;

	if (features.amd || features.hypervisor || errata_family() != 6)
		return false;
	for (unsigned i = 0; i < ARRAY_SIZE(deadline_errata); i++) {
		const struct deadline_erratum *e = &deadline_errata[i];

		if (e->model != model() || !(e->steppings >> (eax & 15) & 1))
			continue;
		has = (uint32_t)(errata_microcode() >> 32);
		if (!has || has >= e->mended)
			return false;
		log_line(LOG_WARNING "host: microcode %x has a broken TSC deadline timer, mended in %x: not used", has,
			 e->mended);
		return true;
	}
	return false;
}

/*
 * AMD's erratum 400, families Fh to 11h: with the bits that firmware sets in the interrupt pending message register, a core
 * in HLT goes to C1E, where its APIC timer stands still.
 */
#define MSR_INTERRUPT_PENDING 0xc0010055u
#define C1E_ON_HALT BITS(28, 27)
#define DE_CFG_LFENCE_BIT 1

/* AMD: a bit that is to be set in an MSR of these families and models, unless the microcode is as new as fixed_by. */
static const struct bit_erratum {
	uint16_t first_family, last_family;
	uint8_t first_model, last_model;
	uint32_t msr, fixed_by; /* ~0: by none */
	uint8_t bit;
} bit_errata[] = {
	/* LFENCE serialises: families 0Fh and 11h have no such MSR, and an LFENCE that does. */
	{ 0x10, 0x10, 0, 0xff, MSR_DE_CFG, ~0u, DE_CFG_LFENCE_BIT },
	{ 0x12, 0xffff, 0, 0xff, MSR_DE_CFG, ~0u, DE_CFG_LFENCE_BIT },
	/* Erratum 383: a page's size changed under a guest may find two translations in the TLB, which is a machine check. */
	{ 0x10, 0x10, 0, 0xff, MSR_DC_CFG, ~0u, 47 },
	/* Zen 2: the upper halves of vector registers leak, rolled back, to whoever runs next (CVE-2023-20593). */
	{ 0x17, 0x17, 0x30, 0x3f, MSR_DE_CFG, 0x0830107a, 9 },
	{ 0x17, 0x17, 0x60, 0x67, MSR_DE_CFG, 0x0860010b, 9 },
	{ 0x17, 0x17, 0x68, 0x6f, MSR_DE_CFG, 0x08608105, 9 },
	{ 0x17, 0x17, 0x70, 0x7f, MSR_DE_CFG, 0x08701032, 9 },
	{ 0x17, 0x17, 0xa0, 0xaf, MSR_DE_CFG, 0x08a00008, 9 },
};

static void change(uint32_t msr, uint64_t clear, uint64_t set)
{
	uint64_t value;

	/* A hypervisor below may refuse it; it is read back where it matters. */
	if (rdmsr_safe(msr, &value) && ((value & clear) || (set & ~value)))
		(void)wrmsr_safe(msr, (value & ~clear) | set);
}

void errata_mend_cpu(void)
{
	unsigned family = errata_family();

	if (!features.amd)
		return;
	if (family >= 0xf && family <= 0x11)
		change(MSR_INTERRUPT_PENDING, C1E_ON_HALT, 0);
	for (const struct bit_erratum *e = bit_errata; e < bit_errata + ARRAY_SIZE(bit_errata); e++)
		if (family >= e->first_family && family <= e->last_family && model() >= e->first_model &&
		    model() <= e->last_model && (uint32_t)errata_microcode() < e->fixed_by)
			change(e->msr, 0, BIT(e->bit));
}
