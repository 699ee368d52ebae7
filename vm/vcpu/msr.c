/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSRs as a table: which the guest has, and what each does. What is not in the table, or only for the other vendor's
 * processors, raises #GP, as on a processor without it, and is told in the log. Order is by number; the lookup halves.
 *
 * A row without functions is STORED in struct vcpu, or FIXED: it reads a constant. A write raises #GP where it has bits that
 * the row doesn't let be written; what a fixed one does let be written has no effect. Registers whose doing is a file's own subject
 * have functions, in msr_registers.c. Counters that CPUID doesn't offer read 0 and take anything, since test kernels and Linux
 * touch them without asking.
 *
 * Manual: Intel SDM vol. 4; AMD APM vol. 2 appendix A.
 */
#include "arch/x86_64/features.h"
#include "arch/x86_64/log.h"
#include "dev/apic/lapic.h"
#include "vm/vcpu/nested.h"
#include "vm/vcpu/pv.h"

struct msr_rule {
	uint32_t first, last;
	uint8_t vendors;
	msr_function *read, *write; /* NULL: stored or fixed */
	uint64_t value;             /* fixed */
	uint64_t writable;
	uint16_t where; /* stored: offset in struct vcpu + 1 */
};

#define INTEL 1u
#define AMD 2u
#define BOTH (INTEL | AMD)
#define ANY (~UINT64_C(0))

/* In the order of struct msr_rule from `read` on. */
#define FUNCTIONS(read, write) read, write, 0, 0, 0
#define FIXED(value, writable) NULL, NULL, value, writable, 0
#define STORED_AT(field) (uint16_t)(offsetof(struct vcpu, msr.field) + 1)
#define STORED(field, writable) NULL, NULL, 0, writable, STORED_AT(field)

#define FEATURE_CONTROL_LOCKED 1u
/* 8 variable ranges, fixed ranges, write combining. */
#define MTRR_CAP 0x508u
#define HWCR_TSC_AT_P0 BIT(24)
#define VM_CR_OFF (BIT(4) | BIT(3)) /* SVM disabled, and locked so */
/* Last branch records and single steps over branches may be asked for; the rest is reserved. */
#define DEBUGCTL_TAKEN BITS(1, 0)

static const struct msr_rule table[] = {
	{ 0x10, 0x10, BOTH, FUNCTIONS(msr_read_tsc, msr_write_tsc) },
	{ 0x17, 0x17, INTEL, FIXED(0, 0) }, /* platform id */
	{ 0x1b, 0x1b, BOTH, FUNCTIONS(msr_read_apic, msr_write_apic) },
	{ 0x2a, 0x2a, INTEL, FIXED(0, ANY) }, /* hard power-on */
	{ 0x34, 0x34, INTEL, FIXED(0, 0) },   /* SMI count */
	{ 0x3a, 0x3a, INTEL, FIXED(FEATURE_CONTROL_LOCKED, 0) },
	{ 0x3b, 0x3b, BOTH, .write = msr_write_tsc_adjust, .where = STORED_AT(tsc_adjust) },
	{ 0x48, 0x48, BOTH, FUNCTIONS(msr_read_spec_ctrl, msr_write_spec_ctrl) },
	{ 0x49, 0x49, BOTH,
	  FUNCTIONS(msr_refuse, msr_refuse) }, /* PRED_CMD: a guest that has it writes without an exit */
	{ 0x79, 0x79, INTEL, FUNCTIONS(msr_refuse, msr_ignore) }, /* microcode update */
	{ 0x8b, 0x8b, BOTH, FUNCTIONS(msr_read_revision, msr_write_revision) },
	{ 0xc1, 0xc8, INTEL, FIXED(0, ANY) }, /* performance counters */
	{ 0xce, 0xce, INTEL, FIXED(0, 0) },   /* platform info */
	{ 0xfe, 0xfe, BOTH, FIXED(MTRR_CAP, 0) },
	{ 0x10a, 0x10a, INTEL, FUNCTIONS(msr_read_capabilities, msr_refuse) },
	{ 0x10b, 0x10b, BOTH, FUNCTIONS(msr_refuse, msr_refuse) }, /* FLUSH_CMD: likewise */
	{ 0x174, 0x176, BOTH, FUNCTIONS(msr_read_system, msr_write_system) },
	{ 0x179, 0x179, BOTH, FIXED(0, 0) },                    /* machine check: no banks, no CMCI */
	{ 0x17a, 0x17a, BOTH, STORED(mcg_status, BITS(2, 0)) }, /* and its status */
	{ 0x186, 0x189, INTEL, FIXED(0, ANY) },                 /* performance counters */
	{ 0x198, 0x198, INTEL, FIXED(0, 0) },                   /* clock */
	{ 0x199, 0x19b, INTEL, FIXED(0, ANY) },                 /* clock, thermal interrupt */
	{ 0x19c, 0x19c, INTEL, FIXED(0, 0) },                   /* thermal status */
	{ 0x1a0, 0x1a0, INTEL, .write = msr_write_misc_enable, .where = STORED_AT(misc_enable) },
	{ 0x1d9, 0x1d9, BOTH, FIXED(0, DEBUGCTL_TAKEN) },
	{ 0x200, 0x20f, BOTH, FUNCTIONS(msr_read_mtrr, msr_write_mtrr) },
	{ 0x250, 0x250, BOTH, FUNCTIONS(msr_read_mtrr, msr_write_mtrr) },
	{ 0x258, 0x259, BOTH, FUNCTIONS(msr_read_mtrr, msr_write_mtrr) },
	{ 0x268, 0x26f, BOTH, FUNCTIONS(msr_read_mtrr, msr_write_mtrr) },
	{ 0x277, 0x277, BOTH, FUNCTIONS(msr_read_system, msr_write_pat) },
	{ 0x2ff, 0x2ff, BOTH, FUNCTIONS(msr_read_mtrr, msr_write_mtrr) },
	{ 0x611, 0x611, INTEL, FIXED(0, 0) }, /* energy: probed by Linux */
	{ 0x4b564d00, 0x4b564dff, BOTH, FUNCTIONS(pv_read_msr, pv_write_msr) },
	{ 0xc0000080, 0xc0000080, BOTH, FUNCTIONS(msr_read_system, msr_write_efer) },
	{ 0xc0000081, 0xc0000084, BOTH, FUNCTIONS(msr_read_system, msr_write_system) },
	{ 0xc0000100, 0xc0000102, BOTH, FUNCTIONS(msr_read_system, msr_write_system) },
	{ 0xc0000103, 0xc0000103, BOTH, FUNCTIONS(msr_read_tsc_aux, msr_write_tsc_aux) },
	{ 0xc0010000, 0xc0010007, AMD, FIXED(0, ANY) }, /* performance counters */
	{ 0xc0010010, 0xc0010010, AMD, FIXED(0, ANY) }, /* SYSCFG */
	{ 0xc0010015, 0xc0010015, AMD, FIXED(HWCR_TSC_AT_P0, ANY) },
	{ 0xc001001f, 0xc001001f, AMD, FIXED(0, ANY) },         /* NB_CFG */
	{ 0xc0010055, 0xc0010055, AMD, FIXED(0, ANY) },         /* interrupt pending */
	{ 0xc0010058, 0xc0010058, AMD, FIXED(0, ANY) },         /* MMIO configuration: none */
	{ 0xc0010112, 0xc0010113, AMD, FIXED(0, ANY) },         /* SMM base and mask */
	{ 0xc0010114, 0xc0010114, AMD, FIXED(VM_CR_OFF, ANY) }, /* locked bits ignore writes: APM section 15.30.1 */
	{ 0xc0010200, 0xc001020b, AMD, FIXED(0, ANY) },         /* performance counters */
	{ 0xc0011020, 0xc0011023, AMD, FIXED(0, ANY) },         /* LS, IC, DC configuration */
	{ 0xc0011029, 0xc0011029, AMD, FUNCTIONS(msr_read_de_cfg, msr_ignore) },
	{ 0xc001102a, 0xc001102d, AMD, FIXED(0, ANY) },
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
			return table[middle].vendors & (features.amd ? AMD : INTEL) ? &table[middle] : NULL;
	}
	return NULL;
}

static uint64_t *stored(struct vcpu *vcpu, const struct msr_rule *rule)
{
	return (uint64_t *)((uint8_t *)vcpu + rule->where - 1);
}

/* The local APIC's that guests use all the time, found without a search. */
static inline bool of_apic(uint32_t msr)
{
	return msr - MSR_X2APIC_FIRST <= MSR_X2APIC_LAST - MSR_X2APIC_FIRST || msr == MSR_TSC_DEADLINE;
}

static enum status msr_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	const struct msr_rule *rule;
	enum status status;

	if (of_apic(msr))
		return msr_read_apic(vcpu, msr, value);
	status = vcpu_nested_msr(vcpu, msr, false, value);
	if (status != NOT_FOUND)
		return status;
	rule = find(msr);
	if (!rule)
		return NOT_FOUND;
	if (rule->read)
		return rule->read(vcpu, msr, value);
	*value = rule->where ? *stored(vcpu, rule) : rule->value;
	return OK;
}

static enum status msr_write(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
	const struct msr_rule *rule;
	enum status status;

	if (of_apic(msr))
		return msr_write_apic(vcpu, msr, &value);
	status = vcpu_nested_msr(vcpu, msr, true, &value);
	if (status != NOT_FOUND)
		return status;
	rule = find(msr);
	if (!rule)
		return NOT_FOUND;
	if (rule->write)
		return rule->write(vcpu, msr, &value);
	if (!rule->writable || (value & ~rule->writable))
		return DENIED;
	if (rule->where)
		*stored(vcpu, rule) = value;
	return OK;
}

enum status vcpu_msr(struct vcpu *vcpu, uint32_t msr, bool write, uint64_t *value)
{
	return write ? msr_write(vcpu, msr, *value) : msr_read(vcpu, msr, value);
}

static enum exit_action refuse(struct vcpu *vcpu, const char *what, enum status status)
{
	if (status_is_shortage(status))
		return vcpu_park(vcpu, "no memory where an MSR of its points to");
	if (status == NOT_FOUND && vcpu->machine->msr_complaints++ < 8)
		log_line(LOG_WARNING "vm %s: %s of unknown MSR %#x: #GP", vcpu->machine->name, what,
			 (uint32_t)vcpu->hv->gpr[GPR_RCX]);
	return vcpu_inject_gp(vcpu);
}

enum exit_action exit_msr_read(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;
	uint64_t value = 0;
	enum status status = msr_read(vcpu, (uint32_t)h->gpr[GPR_RCX], &value);

	if (status != OK)
		return refuse(vcpu, "read", status);
	vcpu_got_on(vcpu);
	if (vcpu_skip(vcpu)) {
		h->gpr[GPR_RAX] = value & BITS(31, 0);
		h->gpr[GPR_RDX] = value >> 32;
	}
	return ACTION_ENTER;
}

enum exit_action exit_msr_write(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;
	enum status status =
		msr_write(vcpu, (uint32_t)h->gpr[GPR_RCX], h->gpr[GPR_RDX] << 32 | (h->gpr[GPR_RAX] & BITS(31, 0)));

	if (status != OK)
		return refuse(vcpu, "write", status);
	vcpu_got_on(vcpu);
	return exit_skip(vcpu);
}
