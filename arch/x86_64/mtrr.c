/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MTRRs as the boot CPU has them, read once and set alike on the others: memory types for guests' direct
 * mappings follow from them. A
 * question about a range walks from border to border of uniform pieces, a bounded number of steps.
 */
#include "arch/x86_64/mtrr.h"

#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/traps.h"

#define MSR_MTRR_CAP 0xfeu
#define MSR_MTRR_BASE(n) (0x200u + 2 * (n))
#define MSR_MTRR_MASK(n) (0x201u + 2 * (n))
#define MSR_MTRR_DEFAULT 0x2ffu
#define MTRR_CAP_FIXED BIT(8)
#define MTRR_ENABLE BIT(11)
#define MTRR_FIXED_ENABLE BIT(10)
#define MTRR_VALID BIT(11)
/* AMD APM vol. 2 section 7.9.4: memory between 4 GiB and TOM2 is write-back whatever the default is. */
#define MSR_AMD_SYSCFG 0xc0010010u
#define MSR_AMD_TOM2 0xc001001du
#define AMD_TOM2_WB (BIT(21) | BIT(22)) /* TOM2 counts, and forces write-back */

#define VARIABLE_MAX 32u
#define STEPS_MAX 4096u
#define FIXED_END MIB

static const struct fixed_msr {
	uint32_t msr;
	uint32_t base, piece; /* eight pieces each */
} fixed_msrs[] = {
	{ 0x250, 0, 0x10000 },      { 0x258, 0x80000, 0x4000 }, { 0x259, 0xa0000, 0x4000 }, { 0x268, 0xc0000, 0x1000 },
	{ 0x269, 0xc8000, 0x1000 }, { 0x26a, 0xd0000, 0x1000 }, { 0x26b, 0xd8000, 0x1000 }, { 0x26c, 0xe0000, 0x1000 },
	{ 0x26d, 0xe8000, 0x1000 }, { 0x26e, 0xf0000, 0x1000 }, { 0x26f, 0xf8000, 0x1000 },
};

struct mtrrs {
	uint64_t defaults, fixed[ARRAY_SIZE(fixed_msrs)];
	uint64_t base[VARIABLE_MAX], mask[VARIABLE_MAX];
	uint64_t tom2; /* 0: no such rule */
	unsigned variable_count;
};

static struct mtrrs boot;
static bool off;

static void read_tom2(struct mtrrs *m)
{
	uint64_t config, top;

	if (features.amd && rdmsr_safe(MSR_AMD_SYSCFG, &config) && (config & AMD_TOM2_WB) == AMD_TOM2_WB &&
	    rdmsr_safe(MSR_AMD_TOM2, &top))
		m->tom2 = top & BITS(51, 23);
}

static void read_all(struct mtrrs *m)
{
	uint64_t cap;

	memset(m, 0, sizeof(*m));
	if (!features.mtrr || !rdmsr_safe(MSR_MTRR_CAP, &cap))
		return;
	m->variable_count = (unsigned)min_u64(cap & 0xff, VARIABLE_MAX);
	m->defaults = rdmsr(MSR_MTRR_DEFAULT);
	if (!(cap & MTRR_CAP_FIXED))
		m->defaults &= ~MTRR_FIXED_ENABLE;
	for (size_t i = 0; i < ARRAY_SIZE(fixed_msrs) && cap & MTRR_CAP_FIXED; i++)
		m->fixed[i] = rdmsr(fixed_msrs[i].msr);
	for (unsigned i = 0; i < m->variable_count; i++) {
		m->base[i] = rdmsr(MSR_MTRR_BASE(i));
		m->mask[i] = rdmsr(MSR_MTRR_MASK(i));
	}
	read_tom2(m);
}

void mtrr_init(void)
{
	read_all(&boot);
	off = features.mtrr && !(boot.defaults & MTRR_ENABLE);
	if (off && features.hypervisor)
		log_line(LOG_WARNING "mtrr: left off: believing that the hypervisor below makes memory write-back");
}

bool mtrr_on(void)
{
	return !off || features.hypervisor;
}

/* A value that this processor has no room for (fewer address bits, a type it lacks) stays its own. */
static void write_all(const struct mtrrs *m, const struct mtrrs *now)
{
	bool taken = true;

	for (size_t i = 0; i < ARRAY_SIZE(fixed_msrs); i++)
		if (m->fixed[i] != now->fixed[i])
			taken &= wrmsr_safe(fixed_msrs[i].msr, m->fixed[i]);
	for (unsigned i = 0; i < m->variable_count; i++)
		if (m->base[i] != now->base[i] || m->mask[i] != now->mask[i])
			taken &= wrmsr_safe(MSR_MTRR_BASE(i), m->base[i]) && wrmsr_safe(MSR_MTRR_MASK(i), m->mask[i]);
	if (!taken)
		log_line(LOG_WARNING "mtrr: cpu %u does not take the boot CPU's", cpu_index());
}

/*
 * Section 12.11.7.2: caches off and empty, TLB empty, MTRRs off while they change. Section 12.11.8 wants all processors to do so at the
 * same time, for while they differ one of them may cache what another one doesn't. Here nobody else changes anything: the boot
 * CPU has these values already, this one has touched nothing but its own stack and what it was given, and it comes here before it
 * serves any machine. What is left: two threads of one core that share MTRRs and write the same values, one after the other. They
 * have to be equal in both (section 12.11.5), so the second finds nothing to change, or changes them to what they are.
 */
bool mtrr_adopt(void)
{
	struct mtrrs own;
	uint64_t cr0 = read_cr0(), cr4 = read_cr4();

	read_all(&own);
	if (!memcmp(&own, &boot, sizeof(own)))
		return false;
	if (own.variable_count != boot.variable_count)
		return true; /* another kind of processor: nothing to copy */
	write_cr0((cr0 | CR0_CD) & ~CR0_NW);
	__asm__ volatile("wbinvd" : : : "memory");
	write_cr4(cr4 & ~CR4_PGE);
	write_cr3(read_cr3());
	wrmsr(MSR_MTRR_DEFAULT, own.defaults & ~MTRR_ENABLE);
	write_all(&boot, &own);
	wrmsr(MSR_MTRR_DEFAULT, boot.defaults);
	__asm__ volatile("wbinvd" : : : "memory");
	write_cr3(read_cr3());
	write_cr0(cr0);
	write_cr4(cr4);
	return true;
}

static unsigned fixed_type(uint64_t where, uint64_t *border)
{
	for (size_t i = ARRAY_SIZE(fixed_msrs); i--;) {
		const struct fixed_msr *f = &fixed_msrs[i];

		if (where >= f->base) {
			uint64_t piece = (where - f->base) / f->piece;

			*border = min_u64(*border, f->base + (piece + 1) * f->piece);
			return boot.fixed[i] >> 8 * piece & 0xff;
		}
	}
	return MEMORY_TYPE_UC;
}

/* How two types that both apply come out; section 12.11.4.1. */
static unsigned combine(unsigned a, unsigned b)
{
	if (a == b)
		return a;
	if ((a == MEMORY_TYPE_WT && b == MEMORY_TYPE_WB) || (a == MEMORY_TYPE_WB && b == MEMORY_TYPE_WT))
		return MEMORY_TYPE_WT;
	return MEMORY_TYPE_UC;
}

/* Whether variable range i covers `where`; lowers *border to where that answer may change. */
static bool variable_covers(unsigned i, uint64_t where, uint64_t *border)
{
	uint64_t width = BITS(features.physical_bits - 1u, 12);
	uint64_t mask = boot.mask[i] & width, base = boot.base[i] & mask, size = mask & -mask;

	if (!mask)
		return true;
	if ((mask | (size - 1)) == (width | 0xfff)) { /* contiguous */
		if (where < base)
			*border = min_u64(*border, base);
		else if (where - base < size)
			*border = min_u64(*border, base + size);
	} else {
		*border = min_u64(*border, align_down(where, size) + size);
	}
	return (where & mask) == base;
}

static unsigned type_at(uint64_t where, uint64_t *border)
{
	unsigned type = MEMORY_TYPE_MIXED;

	if (!features.mtrr || off)
		return MEMORY_TYPE_WB;
	if (where < FIXED_END && boot.defaults & MTRR_FIXED_ENABLE)
		return fixed_type(where, border);
	for (unsigned i = 0; i < boot.variable_count; i++)
		if (boot.mask[i] & MTRR_VALID && variable_covers(i, where, border))
			type = type == MEMORY_TYPE_MIXED ? boot.base[i] & 0xff : combine(type, boot.base[i] & 0xff);
	if (type != MEMORY_TYPE_MIXED)
		return type;
	if (boot.tom2 > 4 * GIB && where < boot.tom2) {
		*border = min_u64(*border, where < 4 * GIB ? 4 * GIB : boot.tom2);
		if (where >= 4 * GIB)
			return MEMORY_TYPE_WB;
	}
	return boot.defaults & 0xff;
}

unsigned host_memory_type(hpa_t where, uint64_t size)
{
	uint64_t at = where.v, end = at + size;
	unsigned type = MEMORY_TYPE_MIXED;

	if (end < at)
		return MEMORY_TYPE_MIXED;
	for (unsigned step = 0; at < end; step++) {
		uint64_t border = end;
		unsigned here = type_at(at, &border);

		if (step == STEPS_MAX || (step && here != type))
			return MEMORY_TYPE_MIXED;
		type = here;
		at = border;
	}
	return type;
}
