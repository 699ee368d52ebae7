/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VMCS12 that is to be entered, judged: by check*.c, whose verdict of what hasn't changed since is kept (judged), and by what lies
 * in L1's memory.
 */
#include "arch/x86_64/features.h"
#include "vmx/nested/nested.h"

static struct vmx_check check_of(const struct vmx_nested *n)
{
	return (struct vmx_check){ .vmcs = &n->vmcs12,
				   .offer = &n->offer,
				   .efer_valid = n->base.env->efer_valid,
				   .physical_bits = n->base.env->physical_bits,
				   .linear_bits = features.linear_bits,
				   .long_mode = n->base.l1->efer & EFER_LMA,
				   .priority = vmx_nested_read_priority(n) };
}

/* The TPR that L1 has in memory may be another each time. */
unsigned vmx_nested_judge(struct vmx_nested *n)
{
	const struct vmx_check check = check_of(n);
	unsigned error = 0;

	if (!(n->judged & JUDGED_CONTROLS) || (AT(&n->vmcs12, PRIMARY_CONTROLS) & PRIMARY_TPR_SHADOW))
		error = vmx_check_controls(&check);
	if (!error && !(n->judged & JUDGED_HOST))
		error = vmx_check_host(&check);
	n->judged |= error ? 0 : JUDGED_CONTROLS | JUDGED_HOST;
	return error;
}

/* What of the guest's state lies in L1's memory: PDPTEs of an L2 without EPT, the VMCS that the link pointer names. */
static enum status check_memory(const struct vmx_nested *n, uint64_t pdpte[4], unsigned *verdict)
{
	const union vmcs12 *v = &n->vmcs12;
	const struct hv_nested_env *env = n->base.env;
	uint32_t revision = VMCS12_REVISION;
	enum status status = OK;

	if (AT(v, LINK_POINTER) != ~UINT64_C(0))
		status = env->read(n->base.context, gpa(AT(v, LINK_POINTER)), &revision, sizeof(revision));
	if (status_is_shortage(status))
		return status;
	if (status != OK || revision != VMCS12_REVISION || AT(v, LINK_POINTER) == n->current.v)
		*verdict = GUEST_LINK;
	for (unsigned i = 0; i < 4; i++)
		pdpte[i] = AT_NEXT(v, GUEST_PDPTE0, i);
	if (*verdict != GUEST_FINE || !vmcs12_pae(v) || (vmcs12_secondary(v) & SECONDARY_EPT))
		return OK;
	status = env->read(n->base.context, gpa(AT(v, GUEST_CR3) & BITS(31, 5)), pdpte, 4 * sizeof(pdpte[0]));
	if (status != OK || !vmx_pdptes_fit(pdpte, env->physical_bits))
		*verdict = GUEST_PDPTE;
	return status_is_shortage(status) ? status : OK;
}

enum status vmx_nested_judge_guest(struct vmx_nested *n, uint64_t pdpte[4], unsigned *verdict)
{
	const struct vmx_check check = check_of(n);
	bool all = !(n->judged & JUDGED_GUEST) || (AT(&n->vmcs12, GUEST_RFLAGS) & RFLAGS_VM);

	if (all)
		vmx_nested_fetch_kept(n);
	*verdict = vmx_check_guest(&check, all);
	if (*verdict != GUEST_FINE)
		return OK;
	n->judged |= JUDGED_GUEST;
	return check_memory(n, pdpte, verdict);
}
