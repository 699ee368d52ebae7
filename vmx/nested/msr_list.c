/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lists of MSRs that L1 has loaded at entries, and stored and loaded at exits (Intel SDM vol. 3 sections 25.7.2, 27.4, 28.4, 28.6):
 * as RDMSR and WRMSR would, but for those that the manual excludes, which end the list.
 */
#include "vmx/nested/nested.h"

/* IA32_VMX_MISC says 512 at most. */
#define LIST_MAX 512u

/* x2APIC's go by another way; FS and GS are loaded from the VMCS (sections 27.4, 28.4, 28.6). */
static bool excluded(uint32_t msr, bool store)
{
	return msr >> 8 == 8 || (!store && (msr == MSR_FS_BASE || msr == MSR_GS_BASE));
}

/* One entry; store: it gets the register's value. */
static bool carry_out(struct vmx_nested *n, struct hv_vcpu *level, gpa_t where, bool store)
{
	const struct hv_nested_env *env = n->base.env;
	struct vmx_msr_entry entry;

	if (env->read(n->base.context, where, &entry, sizeof(entry)) != OK || entry.reserved ||
	    excluded(entry.msr, store) || env->msr(n->base.context, level, entry.msr, !store, &entry.value) != OK)
		return false;
	return !store || env->write(n->base.context, where, &entry, sizeof(entry)) == OK;
}

unsigned vmx_nested_msr_list(struct vmx_nested *n, struct hv_vcpu *level, uint64_t address, uint64_t count, bool store)
{
	for (unsigned i = 0; i < count; i++)
		if (i == LIST_MAX || !carry_out(n, level, gpa(address + i * sizeof(struct vmx_msr_entry)), store))
			return i + 1;
	return 0;
}
