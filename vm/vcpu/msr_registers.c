/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSRs that do something: each function here is one that msr.c's table names. Values are judged before anything changes, by
 * what the manual calls reserved.
 *
 * Manual: Intel SDM vol. 4; vol. 3 section 18.17 (TSC); AMD APM vol. 2 section 3.2.
 */

#include "arch/x86_64/features.h"
#include "vm/vcpu/enter.h"

#define DE_CFG_LFENCE BIT(1)
/* Fast strings, the one that can be changed; and no branch trace store, no PEBS. */
#define MISC_ENABLE_FAST_STRINGS BIT(0)
#define MISC_ENABLE_FIXED (BIT(11) | BIT(12))
/* Of things that aren't there, so without effect. Limiting CPUID (22) and disabling XD (34) would have one. */
#define MISC_ENABLE_IGNORED (BIT(3) | BIT(7) | BIT(16) | BIT(18) | BIT(23) | BIT(38))

enum status msr_refuse(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	return DENIED;
}

enum status msr_ignore(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	return OK;
}

enum status msr_read_tsc(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	*value = hv_tsc(vcpu->hv, rdtsc());
	return OK;
}

/* The counter jumps: a deadline that is set lies elsewhere in time then. */
static enum status move_tsc(struct vcpu *vcpu, uint64_t by)
{
	vcpu_move_tsc(vcpu, by);
	vcpu->msr.tsc_adjust += by;
	lapic_tsc_changed(vcpu->lapic);
	vcpu_look_at_timer(vcpu);
	return pv_clock_write(vcpu);
}

/* L2's write, where L1 lets it, is one to L1's counter: an offset is for reads alone (Intel SDM vol. 3 section 26.3, RDTSC and RDMSR). */
enum status msr_write_tsc(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	return move_tsc(vcpu, *value - rdtsc() - vcpu->l1->tsc_offset);
}

enum status msr_write_tsc_adjust(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	return move_tsc(vcpu, *value - vcpu->msr.tsc_adjust);
}

enum status msr_read_apic(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	return lapic_msr_read(vcpu->lapic, msr, value);
}

/* IA32_APIC_BASE names the page, which on a real processor may hide memory: here it may not. */
static void place_apic(struct vcpu *vcpu, uint64_t base)
{
	enum status status = board_place_apic(vcpu->machine);

	if (status != OK)
		machine_end(vcpu->machine, END_ERROR, 0, "local APIC moved to gpa %#lx: %s", (base & BITS(51, 12)),
			    status_text(status));
}

enum status msr_write_apic(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	enum status status;

	if (msr == MSR_APIC_BASE && *value >> cpuid_physical_bits(vcpu->machine->cpuid))
		return BAD_VALUE;
	status = lapic_msr_write(vcpu->lapic, msr, *value);
	vcpu_look_at_timer(vcpu);
	if (msr == MSR_APIC_BASE && status == OK && vcpu->id == 0)
		place_apic(vcpu, *value);
	return status;
}

/* MSRs that are a field of hv_vcpu. */
static const struct system_msr {
	uint32_t msr, group;
	uint16_t offset;
	bool canonical; /* an address */
} system_msrs[] = {
#define SYSTEM_MSR(msr, group, field, canonical)                                                                       \
	{                                                                                                              \
		msr, group, offsetof(struct hv_vcpu, field), canonical                                                 \
	}
	SYSTEM_MSR(MSR_SYSENTER_CS, REGS_SYSTEM, sysenter_cs, false),
	SYSTEM_MSR(MSR_SYSENTER_ESP, REGS_SYSTEM, sysenter_esp, true),
	SYSTEM_MSR(MSR_SYSENTER_EIP, REGS_SYSTEM, sysenter_eip, true),
	SYSTEM_MSR(MSR_STAR, REGS_SYSTEM, star, false),
	SYSTEM_MSR(MSR_LSTAR, REGS_SYSTEM, lstar, true),
	SYSTEM_MSR(MSR_CSTAR, REGS_SYSTEM, cstar, true),
	SYSTEM_MSR(MSR_SFMASK, REGS_SYSTEM, sfmask, false),
	SYSTEM_MSR(MSR_KERNEL_GS_BASE, REGS_SYSTEM, kernel_gs_base, true),
	SYSTEM_MSR(MSR_PAT, REGS_SYSTEM, pat, false),
	SYSTEM_MSR(MSR_SPEC_CTRL, REGS_SYSTEM, spec_ctrl, false),
	SYSTEM_MSR(MSR_FS_BASE, REGS_OTHERS, segment[SEG_FS].base, true),
	SYSTEM_MSR(MSR_GS_BASE, REGS_OTHERS, segment[SEG_GS].base, true),
	SYSTEM_MSR(MSR_EFER, REGS_CONTROL, efer, false),
};

static const struct system_msr *system_msr(uint32_t msr)
{
	const struct system_msr *m = system_msrs;

	while (m->msr != msr)
		m++;
	return m;
}

static uint64_t *system_field(struct vcpu *vcpu, const struct system_msr *m)
{
	hv_need(vcpu->hv, m->group);
	return (uint64_t *)((uint8_t *)vcpu->hv + m->offset);
}

enum status msr_read_system(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	*value = *system_field(vcpu, system_msr(msr));
	return OK;
}

enum status msr_write_system(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	const struct system_msr *m = system_msr(msr);
	unsigned bits = cpuid_limit(vcpu->machine->cpuid, CPUID_CR4) & CR4_LA57 ? 57 : 48;

	if (m->canonical && sign_extend(*value, bits) != *value)
		return DENIED;
	*system_field(vcpu, m) = *value;
	hv_changed(vcpu->hv, m->group);
	return OK;
}

enum status msr_write_efer(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	struct hv_vcpu *h = vcpu->hv;
	uint64_t fresh = *value;

	hv_need(h, REGS_CONTROL);
	if (fresh & ~cpuid_limit(vcpu->machine->cpuid, CPUID_EFER))
		return DENIED;
	if (((fresh ^ h->efer) & EFER_LME) && (h->cr0 & CR0_PG))
		return DENIED;
	fresh = (fresh & ~EFER_LMA) | (h->efer & EFER_LMA);
	if ((fresh ^ h->efer) & EFER_NXE)
		h->flush_pending = true;
	return msr_write_system(vcpu, msr, &fresh);
}

enum status msr_read_spec_ctrl(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	return cpuid_limit(vcpu->machine->cpuid, CPUID_SPEC_CTRL) ? msr_read_system(vcpu, msr, value) : DENIED;
}

/* Until a guest has once put something there it runs with the host's; from then on its own is exchanged with it. */
enum status msr_write_spec_ctrl(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	uint64_t limit = cpuid_limit(vcpu->machine->cpuid, CPUID_SPEC_CTRL);

	if (!limit || (*value & ~limit))
		return DENIED;
	if (*value)
		hv->pass_msr(vcpu->l1, msr, true, true);
	return msr_write_system(vcpu, msr, value);
}

enum status msr_read_capabilities(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	*value = cpuid_limit(vcpu->machine->cpuid, CPUID_ARCH_CAPABILITIES);
	return *value ? OK : DENIED;
}

/* The host's, by which guests judge what their processor's microcode mends. */
enum status msr_read_revision(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	*value = features.microcode;
	return OK;
}

/* Intel's software writes 0 before it reads. */
enum status msr_write_revision(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	return features.amd ? DENIED : OK;
}

enum status msr_read_de_cfg(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	*value = features.lfence_serialises ? DE_CFG_LFENCE : 0;
	return OK;
}

/* It is the processor's own that the guest gets: where there is none, touching it would fault in the host. */
enum status msr_read_tsc_aux(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	*value = vcpu->msr.tsc_aux;
	return cpuid_has_tsc_aux(vcpu->machine->cpuid) ? OK : DENIED;
}

enum status msr_write_tsc_aux(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	if (*value >> 32 || !cpuid_has_tsc_aux(vcpu->machine->cpuid))
		return DENIED;
	vcpu->msr.tsc_aux = *value;
	wrmsr(msr, *value); /* the host doesn't use it; each vcpu brings its own when it is loaded */
	return OK;
}

enum status msr_write_misc_enable(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	if (*value & ~(MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_FIXED | MISC_ENABLE_IGNORED))
		return DENIED;
	vcpu->msr.misc_enable = (*value & MISC_ENABLE_FAST_STRINGS) | MISC_ENABLE_FIXED;
	return OK;
}

void msr_reset(struct vcpu *vcpu)
{
	vcpu->msr =
		(struct vcpu_msrs){ .misc_enable = MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_FIXED, .mtrr_def = 0xc06 };
	for (unsigned i = 0; i < ARRAY_SIZE(vcpu->msr.mtrr_fixed); i++)
		vcpu->msr.mtrr_fixed[i] = i == 2 ? 0 : UINT64_C(0x0606060606060606);
	hv->pass_msr(vcpu->l1, MSR_SPEC_CTRL, false, false);
}

void msr_pass_through(struct vcpu *vcpu)
{
	const struct cpuid_policy *policy = vcpu->machine->cpuid;

	for (unsigned i = 0; i < ARRAY_SIZE(system_msrs); i++)
		if (system_msrs[i].msr != MSR_SPEC_CTRL && system_msrs[i].msr != MSR_PAT &&
		    system_msrs[i].msr != MSR_EFER)
			hv->pass_msr(vcpu->l1, system_msrs[i].msr, true, true);
	hv->pass_msr(vcpu->l1, MSR_PRED_CMD, false, cpuid_limit(policy, CPUID_PRED_CMD) != 0);
	hv->pass_msr(vcpu->l1, MSR_FLUSH_CMD, false, cpuid_limit(policy, CPUID_FLUSH_CMD) != 0);
}
