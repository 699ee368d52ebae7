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

#define MSR_MICROCODE 0x8bu
#define ANY_STEPPING UINT16_MAX

static unsigned family(void)
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

/* Intel SDM vol. 3 section 10.11.7.1; 0: none is loaded, which only emulators and hypervisors show. */
static uint32_t microcode(void)
{
	uint64_t value;

	if (!wrmsr_safe(MSR_MICROCODE, 0))
		return 0;
	(void)cpuid(1, 0);
	return rdmsr_safe(MSR_MICROCODE, &value) ? (uint32_t)(value >> 32) : 0;
}

bool errata_tsc_deadline(void)
{
	uint32_t eax = cpuid(1, 0).eax, model = (eax >> 4 & 15) | (eax >> 12 & 0xf0), has;

	if (features.amd || features.hypervisor || family() != 6)
		return false;
	for (unsigned i = 0; i < ARRAY_SIZE(deadline_errata); i++) {
		const struct deadline_erratum *e = &deadline_errata[i];

		if (e->model != model || !(e->steppings >> (eax & 15) & 1))
			continue;
		has = microcode();
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

void errata_mend_cpu(void)
{
	uint64_t value;

	if (!features.amd || family() < 0xf || family() > 0x11)
		return;
	if (rdmsr_safe(MSR_INTERRUPT_PENDING, &value) && value & C1E_ON_HALT)
		(void)wrmsr_safe(MSR_INTERRUPT_PENDING, value & ~C1E_ON_HALT);
}
