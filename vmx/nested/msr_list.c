/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lists of MSRs that L1 has loaded at entries, and stored and loaded at exits (Intel SDM vol. 3 sections 25.7.2, 27.4, 28.4, 28.6).
 * Only MSRs that a level has by itself; others, and those that the manual excludes, end the list.
 */
#include "arch/x86_64/features.h"
#include "vmx/convert.h"
#include "vmx/nested/nested.h"

/* IA32_VMX_MISC says 512 at most. */
#define LIST_MAX 512u

static const struct {
	uint32_t msr;
	uint16_t offset;
	bool canonical;
} listed[] = {
	{ MSR_STAR, offsetof(struct hv_vcpu, star), false },
	{ MSR_LSTAR, offsetof(struct hv_vcpu, lstar), true },
	{ MSR_CSTAR, offsetof(struct hv_vcpu, cstar), true },
	{ MSR_SFMASK, offsetof(struct hv_vcpu, sfmask), false },
	{ MSR_KERNEL_GS_BASE, offsetof(struct hv_vcpu, kernel_gs_base), true },
	{ MSR_SYSENTER_CS, offsetof(struct hv_vcpu, sysenter_cs), false },
	{ MSR_SYSENTER_ESP, offsetof(struct hv_vcpu, sysenter_esp), true },
	{ MSR_SYSENTER_EIP, offsetof(struct hv_vcpu, sysenter_eip), true },
	{ MSR_PAT, offsetof(struct hv_vcpu, pat), false },
	{ MSR_EFER, offsetof(struct hv_vcpu, efer), false },
};

static uint64_t *place(struct hv_vcpu *level, uint32_t msr, bool *canonical)
{
	for (unsigned i = 0; i < ARRAY_SIZE(listed); i++) {
		if (listed[i].msr != msr)
			continue;
		*canonical = listed[i].canonical;
		return (uint64_t *)((char *)level + listed[i].offset);
	}
	return NULL;
}

/* As WRMSR would take it; paging is on, so that LME can't change, and LMA is the processor's. */
static bool takes(const struct vmx_nested *n, const struct hv_vcpu *level, const struct vmx_msr_entry *entry,
		  bool canonical)
{
	if (canonical)
		return sign_extend(entry->value, features.linear_bits) == entry->value;
	switch (entry->msr) {
	case MSR_PAT: return vmx_pat_fits(entry->value);
	case MSR_EFER:
		return !(entry->value & ~n->base.env->efer_valid) &&
		       !((entry->value ^ level->efer) & (EFER_LME | EFER_LMA));
	default: return true;
	}
}

static bool read_entry(const struct vmx_nested *n, uint64_t address, unsigned i, struct vmx_msr_entry *entry)
{
	return n->base.env->read(n->base.context, gpa(address + i * sizeof(*entry)), entry, sizeof(*entry)) == OK &&
	       !entry->reserved;
}

unsigned vmx_nested_load_msrs(struct vmx_nested *n, struct hv_vcpu *level, uint64_t address, uint64_t count)
{
	struct vmx_msr_entry entry;
	bool canonical;
	uint64_t *to;

	if (!count)
		return 0;
	hv_need(level, REGS_SYSTEM | REGS_CONTROL);
	hv_changed(level, REGS_SYSTEM | REGS_CONTROL);
	for (unsigned i = 0; i < count; i++) {
		if (i == LIST_MAX || !read_entry(n, address, i, &entry))
			return i + 1;
		to = place(level, entry.msr, &canonical);
		if (!to || !takes(n, level, &entry, canonical))
			return i + 1;
		*to = entry.value;
	}
	return 0;
}

unsigned vmx_nested_store_msrs(struct vmx_nested *n, uint64_t address, uint64_t count)
{
	struct hv_vcpu *l2 = n->base.l2;
	struct vmx_msr_entry entry;
	const uint64_t *from;
	bool canonical;

	if (count)
		hv_need(l2, REGS_SYSTEM);
	for (unsigned i = 0; i < count; i++) {
		if (i == LIST_MAX || !read_entry(n, address, i, &entry))
			return i + 1;
		from = place(l2, entry.msr, &canonical);
		if (!from ||
		    n->base.env->write(n->base.context,
				       gpa(address + i * sizeof(entry) + offsetof(struct vmx_msr_entry, value)), from,
				       sizeof(*from)) != OK)
			return i + 1;
	}
	return 0;
}
