/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSRs as a table: which the guest has, and what each does. What is not in the table raises #GP, as
 * on a processor without it, and is told once per machine in the log.
 *
 * Kinds: STORED lives in struct vcpu and means nothing more; FIXED reads a constant and takes writes without
 * effect; the others have a function. Order is by number; the lookup halves.
 *
 * Manual: Intel SDM vol. 4; AMD APM vol. 2 appendix A.
 */
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/log.h"
#include "dev/apic/lapic.h"
#include "vm/vcpu/vcpu.h"

#define MSR_STATUS_GP DENIED

typedef enum status (*msr_function)(struct vcpu *vcpu, uint32_t msr, uint64_t *value);

struct msr_rule {
	uint32_t first, last;
	msr_function read, write; /* NULL: stored at `where`, or fixed */
	uint64_t value;           /* fixed */
	uint16_t where;           /* offset in struct vcpu + 1; 0: fixed */
	uint64_t writable;        /* stored: bits that may be set; others #GP */
};

static enum status read_tsc(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	(void)msr;
	*value = rdtsc() + vcpu->hv->tsc_offset;
	return OK;
}

/* The counter jumps: a deadline that is set lies elsewhere in time then. */
static void move_tsc(struct vcpu *vcpu, uint64_t by)
{
	struct machine *m = vcpu->machine;

	vcpu->hv->tsc_offset += by;
	vcpu->hv->tsc_changed = true;
	vcpu->msr.tsc_adjust += by;
	lock_acquire(&m->lock);
	lapic_tsc_changed(vcpu->lapic);
	machine_look_at_timers(m);
	lock_release(&m->lock);
}

static enum status write_tsc(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	(void)msr;
	move_tsc(vcpu, *value - rdtsc() - vcpu->hv->tsc_offset);
	return OK;
}

static enum status write_tsc_adjust(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	(void)msr;
	move_tsc(vcpu, *value - vcpu->msr.tsc_adjust);
	return OK;
}

static enum status read_apic(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	enum status status;

	lock_acquire(&vcpu->machine->lock);
	status = lapic_msr_read(vcpu->lapic, msr, value);
	lock_release(&vcpu->machine->lock);
	return status;
}

/* IA32_APIC_BASE names the page, which on a real processor may hide memory: here it may not. */
static void place_apic(struct vcpu *vcpu, uint64_t base)
{
	enum status status = board_place_apic(vcpu->machine);

	if (status != OK)
		machine_end(vcpu->machine, END_ERROR, 0, "local APIC moved to gpa %#llx: %s",
			    (unsigned long long)(base & BITS(51, 12)), status_text(status));
}

static enum status write_apic(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	enum status status;

	if (msr == LAPIC_MSR_BASE && *value >> cpuid_physical_bits(vcpu->machine->cpuid))
		return BAD_VALUE;
	lock_acquire(&vcpu->machine->lock);
	status = lapic_msr_write(vcpu->lapic, msr, *value);
	machine_look_at_timers(vcpu->machine);
	lock_release(&vcpu->machine->lock);
	if (msr == LAPIC_MSR_BASE && status == OK)
		place_apic(vcpu, *value);
	return status;
}

static enum status read_efer(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	(void)msr;
	hv_need(vcpu->hv, REGS_CONTROL);
	*value = vcpu->hv->efer;
	return OK;
}

static enum status write_efer(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	struct hv_vcpu *h = vcpu->hv;
	uint64_t fresh = *value;

	(void)msr;
	hv_need(h, REGS_CONTROL);
	if (fresh & ~cpuid_efer_mask(vcpu->machine->cpuid))
		return MSR_STATUS_GP;
	if (((fresh ^ h->efer) & EFER_LME) && (h->cr0 & CR0_PG))
		return MSR_STATUS_GP;
	fresh = (fresh & ~EFER_LMA) | (h->efer & EFER_LMA);
	if ((fresh ^ h->efer) & EFER_NXE)
		h->flush_pending = true;
	h->efer = fresh;
	hv_changed(h, REGS_CONTROL);
	return OK;
}

/* The syscall and sysenter registers and the segment bases: a field of hv_vcpu, canonical where it is an address. */
static uint64_t *system_field(struct hv_vcpu *h, uint32_t msr, uint32_t *group, bool *canonical)
{
	*group = REGS_SYSTEM;
	*canonical = true;
	switch (msr) {
	case MSR_SYSENTER_CS: *canonical = false; return &h->sysenter_cs;
	case MSR_SYSENTER_ESP: return &h->sysenter_esp;
	case MSR_SYSENTER_EIP: return &h->sysenter_eip;
	case MSR_STAR: *canonical = false; return &h->star;
	case MSR_LSTAR: return &h->lstar;
	case MSR_CSTAR: return &h->cstar;
	case MSR_SFMASK: *canonical = false; return &h->sfmask;
	case MSR_KERNEL_GS_BASE: return &h->kernel_gs_base;
	case MSR_FS_BASE: *group = REGS_SEGMENTS; return &h->segment[SEG_FS].base;
	default: *group = REGS_SEGMENTS; return &h->segment[SEG_GS].base;
	}
}

static enum status read_system(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	uint32_t group;
	bool canonical;
	uint64_t *field = system_field(vcpu->hv, msr, &group, &canonical);

	hv_need(vcpu->hv, group);
	*value = *field;
	return OK;
}

static enum status write_system(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	unsigned bits = cpuid_cr4_mask(vcpu->machine->cpuid) & CR4_LA57 ? 57 : 48;
	uint32_t group;
	bool canonical;
	uint64_t *field = system_field(vcpu->hv, msr, &group, &canonical);

	if (canonical && sign_extend(*value, bits) != *value)
		return MSR_STATUS_GP;
	hv_need(vcpu->hv, group);
	*field = *value;
	hv_changed(vcpu->hv, group);
	return OK;
}

static enum status read_pat(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	(void)msr;
	hv_need(vcpu->hv, REGS_SYSTEM);
	*value = vcpu->hv->pat;
	return OK;
}

static enum status write_pat(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	(void)msr;
	for (unsigned i = 0; i < 8; i++) {
		uint8_t type = (uint8_t)(*value >> (8 * i));

		if (type > 7 || type == 2 || type == 3)
			return MSR_STATUS_GP;
	}
	hv_need(vcpu->hv, REGS_SYSTEM);
	vcpu->hv->pat = *value;
	hv_changed(vcpu->hv, REGS_SYSTEM);
	return OK;
}

/* It is the processor's own that the guest gets: where there is none, touching it would fault in the host. */
static enum status read_tsc_aux(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	(void)msr;
	*value = vcpu->msr.tsc_aux;
	return cpuid_has_tsc_aux(vcpu->machine->cpuid) ? OK : MSR_STATUS_GP;
}

static enum status write_tsc_aux(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	if (*value >> 32 || !cpuid_has_tsc_aux(vcpu->machine->cpuid))
		return MSR_STATUS_GP;
	vcpu->msr.tsc_aux = *value;
	wrmsr(msr, *value); /* the host doesn't use it; each vcpu brings its own when it is loaded */
	return OK;
}

static enum status read_mtrr(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	if (msr >= 0x200 && msr <= 0x20f)
		*value = (msr & 1 ? vcpu->msr.mtrr_mask : vcpu->msr.mtrr_base)[(msr - 0x200) / 2];
	else
		*value = vcpu->msr.mtrr_fixed[msr == 0x250 ? 0 : msr <= 0x259 ? msr - 0x257 : msr - 0x265];
	return OK;
}

static enum status write_mtrr(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	if (msr >= 0x200 && msr <= 0x20f)
		(msr & 1 ? vcpu->msr.mtrr_mask : vcpu->msr.mtrr_base)[(msr - 0x200) / 2] = *value;
	else
		vcpu->msr.mtrr_fixed[msr == 0x250 ? 0 : msr <= 0x259 ? msr - 0x257 : msr - 0x265] = *value;
	return OK;
}

#define STORED(field) .where = (uint16_t)(offsetof(struct vcpu, msr.field) + 1)

static const struct msr_rule table[] = {
	{ 0x10, 0x10, read_tsc, write_tsc, 0, 0, 0 },
	{ 0x17, 0x17, NULL, NULL, 0, 0, 0 }, /* platform id */
	{ 0x1b, 0x1b, read_apic, write_apic, 0, 0, 0 },
	{ 0x2a, 0x2a, NULL, NULL, 0, 0, 0 }, /* hard power-on */
	{ 0x34, 0x34, NULL, NULL, 0, 0, 0 }, /* SMI count */
	{ 0x3a, 0x3a, NULL, NULL, 1, 0, 0 }, /* feature control: locked, no VMX */
	{ 0x3b, 0x3b, .write = write_tsc_adjust, STORED(tsc_adjust) },
	{ 0x79, 0x79, NULL, NULL, 0, 0, 0 },                 /* microcode update */
	{ 0x8b, 0x8b, NULL, NULL, UINT64_C(1) << 32, 0, 0 }, /* microcode revision */
	{ 0xc1, 0xc8, NULL, NULL, 0, 0, 0 },                 /* performance counters: none, but probed blindly */
	{ 0xce, 0xce, NULL, NULL, 0, 0, 0 },                 /* platform info */
	{ 0xfe, 0xfe, NULL, NULL, 0x508, 0, 0 },             /* MTRR: 8 variable, fixed, WC */
	{ 0x174, 0x176, read_system, write_system, 0, 0, 0 },
	{ 0x179, 0x17a, NULL, NULL, 0, 0, 0 }, /* machine check: no banks */
	{ 0x186, 0x189, NULL, NULL, 0, 0, 0 },
	{ 0x198, 0x19c, NULL, NULL, 0, 0, 0 }, /* clock, thermal */
	{ 0x1a0, 0x1a0, STORED(misc_enable), .writable = ~UINT64_C(0) },
	{ 0x1d9, 0x1d9, NULL, NULL, 0, 0, 0 }, /* debug control: no branch records */
	{ 0x200, 0x20f, read_mtrr, write_mtrr, 0, 0, 0 },
	{ 0x250, 0x250, read_mtrr, write_mtrr, 0, 0, 0 },
	{ 0x258, 0x259, read_mtrr, write_mtrr, 0, 0, 0 },
	{ 0x268, 0x26f, read_mtrr, write_mtrr, 0, 0, 0 },
	{ 0x277, 0x277, read_pat, write_pat, 0, 0, 0 },
	{ 0x2ff, 0x2ff, STORED(mtrr_def), .writable = 0xcff },
	{ 0x611, 0x611, NULL, NULL, 0, 0, 0 },            /* energy: probed by Linux */
	{ 0x6e0, 0x6e0, read_apic, write_apic, 0, 0, 0 }, /* TSC deadline */
	{ 0x800, 0x8ff, read_apic, write_apic, 0, 0, 0 }, /* x2APIC */
	{ 0xc0000080, 0xc0000080, read_efer, write_efer, 0, 0, 0 },
	{ 0xc0000081, 0xc0000084, read_system, write_system, 0, 0, 0 },
	{ 0xc0000100, 0xc0000102, read_system, write_system, 0, 0, 0 },
	{ 0xc0000103, 0xc0000103, read_tsc_aux, write_tsc_aux, 0, 0, 0 },
	{ 0xc0010000, 0xc0010007, NULL, NULL, 0, 0, 0 },                 /* AMD performance counters, probed blindly */
	{ 0xc0010010, 0xc0010010, NULL, NULL, 0, 0, 0 },                 /* SYSCFG */
	{ 0xc0010015, 0xc0010015, NULL, NULL, UINT64_C(1) << 24, 0, 0 }, /* HWCR: TSC runs at P0 */
	{ 0xc001001f, 0xc001001f, NULL, NULL, 0, 0, 0 },                 /* NB_CFG */
	{ 0xc0010055, 0xc0010055, NULL, NULL, 0, 0, 0 },                 /* interrupt pending */
	{ 0xc0010058, 0xc0010058, NULL, NULL, 0, 0, 0 },                 /* MMIO configuration: none */
	{ 0xc0010112, 0xc0010113, NULL, NULL, 0, 0, 0 },                 /* SMM base and mask */
	{ 0xc0010114, 0xc0010114, NULL, NULL, UINT64_C(1) << 4 | 1 << 3, 0, 0 }, /* VM_CR: SVM off, locked */
	{ 0xc0010117, 0xc0010117, NULL, NULL, 0, 0, 0 },
	{ 0xc0010200, 0xc001020b, NULL, NULL, 0, 0, 0 },
	{ 0xc0011020, 0xc0011023, NULL, NULL, 0, 0, 0 }, /* LS, IC, DC configuration */
	{ 0xc0011029, 0xc0011029, NULL, NULL, 2, 0, 0 }, /* DE_CFG: LFENCE serialises */
	{ 0xc001102a, 0xc001102d, NULL, NULL, 0, 0, 0 },
};

static const struct msr_rule *find(uint32_t msr)
{
	unsigned low = 0, high = ARRAY_SIZE(table);

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (msr < table[middle].first)
			high = middle;
		else if (msr > table[middle].last)
			low = middle + 1;
		else
			return &table[middle];
	}
	return NULL;
}

static uint64_t *stored(struct vcpu *vcpu, const struct msr_rule *rule)
{
	return (uint64_t *)((uint8_t *)vcpu + rule->where - 1);
}

static enum status msr_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	const struct msr_rule *rule = find(msr);

	if (!rule)
		return NOT_FOUND;
	if (rule->read)
		return rule->read(vcpu, msr, value);
	*value = rule->where ? *stored(vcpu, rule) : rule->value;
	return OK;
}

static enum status msr_write(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
	const struct msr_rule *rule = find(msr);

	if (!rule)
		return NOT_FOUND;
	if (rule->write)
		return rule->write(vcpu, msr, &value);
	if (rule->where) {
		if (value & ~rule->writable)
			return MSR_STATUS_GP;
		*stored(vcpu, rule) = value;
	}
	return OK;
}

static void tell(struct vcpu *vcpu, const char *what, uint32_t msr)
{
	if (vcpu->machine->msr_complaints++ < 8)
		log_line(LOG_WARNING "vm %s: %s of unknown MSR %#x: #GP", vcpu->machine->name, what, msr);
}

enum exit_action exit_msr_read(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;
	uint32_t msr = (uint32_t)h->gpr[GPR_RCX];
	uint64_t value = 0;
	enum status status = msr_read(vcpu, msr, &value);

	if (status != OK) {
		if (status == NOT_FOUND)
			tell(vcpu, "read", msr);
		vcpu_inject_gp(vcpu);
		return ACTION_ENTER;
	}
	if (vcpu_skip(vcpu)) {
		h->gpr[GPR_RAX] = value & BITS(31, 0);
		h->gpr[GPR_RDX] = value >> 32;
	}
	return ACTION_ENTER;
}

enum exit_action exit_msr_write(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;
	uint32_t msr = (uint32_t)h->gpr[GPR_RCX];
	enum status status = msr_write(vcpu, msr, h->gpr[GPR_RDX] << 32 | (h->gpr[GPR_RAX] & BITS(31, 0)));

	if (status != OK) {
		if (status == NOT_FOUND)
			tell(vcpu, "write", msr);
		vcpu_inject_gp(vcpu);
		return ACTION_ENTER;
	}
	(void)vcpu_skip(vcpu);
	return ACTION_ENTER;
}

void msr_reset(struct vcpu *vcpu)
{
	vcpu->msr = (struct vcpu_msrs){ .misc_enable = 1, .mtrr_def = 0xc06 };
	for (unsigned i = 0; i < ARRAY_SIZE(vcpu->msr.mtrr_fixed); i++)
		vcpu->msr.mtrr_fixed[i] = i == 2 ? 0 : UINT64_C(0x0606060606060606);
}

void msr_pass_through(struct vcpu *vcpu)
{
	static const uint32_t switched[] = {
		MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_STAR,    MSR_LSTAR,
		MSR_CSTAR,       MSR_SFMASK,       MSR_FS_BASE,      MSR_GS_BASE, MSR_KERNEL_GS_BASE,
	};

	for (unsigned i = 0; i < ARRAY_SIZE(switched); i++)
		hv->pass_msr(vcpu->hv, switched[i], true, true);
}
