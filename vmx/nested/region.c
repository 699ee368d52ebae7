/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instructions that name a region of L1's: VMXON, VMXOFF, VMCLEAR, VMPTRLD, VMPTRST (Intel SDM vol. 3 chapter 31). Which VMCS12
 * is current, and that all others are in L1's memory, is settled here.
 */
#include "vmx/nested/instruction.h"

/* A region's address; NO_VMCS: not a possible one. */
static enum hv_nested_step read_pointer(struct vmx_nested *n, gpa_t *region)
{
	enum hv_nested_step step = vmx_nested_read_operand(n, &region->v, sizeof(region->v));

	if (step == NESTED_DONE && ((region->v & (PAGE_SIZE - 1)) || region->v >> n->base.env->physical_bits))
		*region = NO_VMCS;
	return step;
}

/* Where there's no memory nothing has the right revision. */
static enum hv_nested_step read_revision(struct vmx_nested *n, gpa_t region, uint32_t *revision)
{
	enum status status = n->base.env->read(n->base.context, region, revision, sizeof(*revision));

	if (status_is_shortage(status))
		return NESTED_AGAIN;
	if (status != OK)
		*revision = ~0u;
	return NESTED_DONE;
}

/* VMCS12 goes back into L1's memory, as it must before another is current. */
static enum hv_nested_step put_away(struct vmx_nested *n)
{
	enum status status = OK;

	if (!gpa_is(n->current, NO_VMCS)) {
		vmx_mirror_pull(n);
		vmx_nested_fetch_kept(n);
		status = n->base.env->write(n->base.context, n->current, &n->vmcs12, sizeof(n->vmcs12));
	}
	if (status_is_shortage(status)) {
		vmx_mirror_push(n, false);
		return NESTED_AGAIN;
	}
	if (!gpa_is(n->current, NO_VMCS))
		vmx_mirror_hide(n);
	n->current = NO_VMCS;
	return NESTED_DONE;
}

enum hv_nested_step vmx_nested_vmxon(struct vmx_nested *n)
{
	const struct hv_vcpu *l1 = n->base.l1;
	uint32_t revision;
	gpa_t region;

	if (n->on)
		return vmx_nested_fail(n, VMFAIL_VMXON_IN_ROOT);
	if (!vmx_offer_fixes(&n->offer, MSR_VMX_CR0_FIXED0, l1->cr0, 0) ||
	    !vmx_offer_fixes(&n->offer, MSR_VMX_CR4_FIXED0, l1->cr4, 0))
		return vmx_nested_fault(n, VECTOR_GP);
	TRY(read_pointer(n, &region));
	if (gpa_is(region, NO_VMCS))
		return vmx_nested_result(n, RFLAGS_CF);
	TRY(read_revision(n, region, &revision));
	if (revision != VMCS12_REVISION)
		return vmx_nested_result(n, RFLAGS_CF);
	n->on = true;
	n->vmxon = region;
	n->current = NO_VMCS;
	return vmx_nested_succeed(n);
}

enum hv_nested_step vmx_nested_vmxoff(struct vmx_nested *n)
{
	TRY(put_away(n));
	n->on = false;
	return vmx_nested_succeed(n);
}

enum hv_nested_step vmx_nested_vmclear(struct vmx_nested *n)
{
	const uint32_t clear = 0;
	enum status status;
	gpa_t region;

	TRY(read_pointer(n, &region));
	if (gpa_is(region, NO_VMCS))
		return vmx_nested_fail(n, VMFAIL_CLEAR_ADDRESS);
	if (gpa_is(region, n->vmxon))
		return vmx_nested_fail(n, VMFAIL_CLEAR_VMXON);
	if (gpa_is(region, n->current)) {
		n->vmcs12.launched = 0;
		TRY(put_away(n));
		return vmx_nested_succeed(n);
	}
	status = n->base.env->write(n->base.context, gpa(region.v + offsetof(union vmcs12, launched)), &clear,
				    sizeof(clear));
	return status_is_shortage(status) ? NESTED_AGAIN : vmx_nested_succeed(n);
}

enum hv_nested_step vmx_nested_vmptrld(struct vmx_nested *n)
{
	uint32_t revision;
	gpa_t region;

	TRY(read_pointer(n, &region));
	if (gpa_is(region, NO_VMCS))
		return vmx_nested_fail(n, VMFAIL_LOAD_ADDRESS);
	if (gpa_is(region, n->vmxon))
		return vmx_nested_fail(n, VMFAIL_LOAD_VMXON);
	if (gpa_is(region, n->current))
		return vmx_nested_succeed(n);
	TRY(read_revision(n, region, &revision));
	if (revision != VMCS12_REVISION)
		return vmx_nested_fail(n, VMFAIL_LOAD_REVISION);
	TRY(put_away(n));
	if (n->base.env->read(n->base.context, region, &n->vmcs12, sizeof(n->vmcs12)) != OK)
		return NESTED_AGAIN;
	n->current = region;
	n->kept_in_02 = false;
	n->dirty = n->copied;
	n->judged = 0;
	vmx_mirror_push(n, true);
	return vmx_nested_succeed(n);
}

enum hv_nested_step vmx_nested_vmptrst(struct vmx_nested *n)
{
	TRY(vmx_nested_write_operand(n, &n->current.v, sizeof(n->current.v)));
	return vmx_nested_succeed(n);
}
