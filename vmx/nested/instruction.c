/* SPDX-License-Identifier: Apache-2.0 */
/*
 * L1's VM instructions (Intel SDM vol. 3 chapter 31): the faults and failures of each, in the manual's order, and what it does. An
 * operand is read before anything changes. What has no memory just now changes nothing, and L1 comes again.
 */
#include "arch/x86_64/features.h"
#include "vmx/instructions.h"
#include "vmx/nested/instruction.h"
#include "vmx/nested/operand.h"

#define RFLAGS_ARITHMETIC (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)
#define INVVPID_ADDRESS 0u
#define INVVPID_ALL 2u
#define INVVPID_NOT_GLOBAL 3u

enum hv_nested_step vmx_nested_fault(struct vmx_nested *n, uint8_t vector)
{
	n->base.fault = hv_exception(vector, vector != VECTOR_UD, 0);
	return NESTED_FAULT;
}

/* Section 31.2. */
enum hv_nested_step vmx_nested_result(struct vmx_nested *n, uint64_t flag)
{
	struct hv_vcpu *l1 = n->base.l1;

	hv_need(l1, REGS_RFLAGS);
	l1->rflags = (l1->rflags & ~RFLAGS_ARITHMETIC) | flag;
	hv_changed(l1, REGS_RFLAGS);
	return NESTED_DONE;
}

enum hv_nested_step vmx_nested_fail(struct vmx_nested *n, unsigned number)
{
	if (gpa_is(n->current, NO_VMCS))
		return vmx_nested_result(n, RFLAGS_CF);
	AT(&n->vmcs12, INSTRUCTION_ERROR) = number;
	return vmx_nested_result(n, RFLAGS_ZF);
}

static enum hv_nested_step vmx_nested_step(struct vmx_nested *n, enum status status)
{
	switch (status) {
	case OK: return NESTED_DONE;
	case GUEST_FAULT: return NESTED_FAULT;
	case NO_MEMORY:
	case OVER_QUOTA: return NESTED_AGAIN;
	default: return vmx_nested_fault(n, VECTOR_GP); /* an operand in a device */
	}
}

static bool operand_at(struct vmx_nested *n, uint32_t info, unsigned size, bool write, gva_t *where)
{
	struct hv_vcpu *l1 = n->base.l1;
	enum segment_name name = INFO_SEGMENT(info);

	hv_need(l1, REGS_RSP | REGS_CONTROL | REGS_CODE | (name < SEG_LDTR ? REGS_OF_SEGMENT(name) : 0));
	return vmx_operand_address(l1, info, vmcs_read(VMCS_EXIT_QUALIFICATION), size, write, features.linear_bits,
				   where, &n->base.fault);
}

enum hv_nested_step vmx_nested_read_operand(struct vmx_nested *n, void *to, unsigned size)
{
	gva_t where;

	if (!operand_at(n, (uint32_t)vmcs_read(VMCS_EXIT_INSTRUCTION_INFO), size, false, &where))
		return NESTED_FAULT;
	return vmx_nested_step(n, n->base.env->read_linear(n->base.context, where, to, size));
}

enum hv_nested_step vmx_nested_write_operand(struct vmx_nested *n, const void *from, unsigned size)
{
	gva_t where;

	if (!operand_at(n, (uint32_t)vmcs_read(VMCS_EXIT_INSTRUCTION_INFO), size, true, &where))
		return NESTED_FAULT;
	return vmx_nested_step(n, n->base.env->write_linear(n->base.context, where, from, size));
}

/* The encoding of VMREAD's and VMWRITE's field is in their second register. */
static uint64_t register_value(struct hv_vcpu *l1, unsigned gpr)
{
	hv_need(l1, REGS_RSP);
	return hv_in_64_bit(l1) ? l1->gpr[gpr] : (uint32_t)l1->gpr[gpr];
}

static bool find_field(const struct vmx_nested *n, uint64_t encoding, unsigned *slot, bool *high)
{
	return vmcs12_find(encoding, slot, high) &&
	       (*slot != VMCS12_SLOT(VMCS_TSC_MULTIPLIER) ||
		(vmx_offered(&n->offer, MSR_VMX_SECONDARY) >> 32 & SECONDARY_TSC_SCALING));
}

static enum hv_nested_step vmread_l1(struct vmx_nested *n)
{
	struct hv_vcpu *l1 = n->base.l1;
	uint32_t info = (uint32_t)vmcs_read(VMCS_EXIT_INSTRUCTION_INFO);
	unsigned slot, size = hv_in_64_bit(l1) ? 8 : 4;
	bool high, memory = !(info & INFO_IS_REGISTER);
	uint64_t value;
	gva_t where;

	if (gpa_is(n->current, NO_VMCS))
		return vmx_nested_result(n, RFLAGS_CF);
	if (!find_field(n, register_value(l1, INFO_REG2(info)), &slot, &high))
		return vmx_nested_fail(n, VMFAIL_NO_FIELD);
	/* While VMCS01, which describes it, is surely current. */
	if (memory && !operand_at(n, info, size, true, &where))
		return NESTED_FAULT;
	if (vmcs12_has(&n->kept, slot))
		vmx_nested_fetch_kept(n);
	value = vmcs12_read(&n->vmcs12, slot, high) & byte_mask(size);
	if (memory) {
		TRY(vmx_nested_step(n, n->base.env->write_linear(n->base.context, where, &value, size)));
		return vmx_nested_succeed(n);
	}
	l1->gpr[INFO_REG1(info)] = value;
	if (INFO_REG1(info) == GPR_RSP)
		hv_changed(l1, REGS_RSP);
	return vmx_nested_succeed(n);
}

void vmx_nested_store_field(struct vmx_nested *n, unsigned slot, uint64_t value)
{
	uint64_t old = n->vmcs12.field[slot];

	/* A kept field may be another in VMCS02 by now. */
	if (value == old && !(n->kept_in_02 && vmcs12_has(&n->kept, slot)))
		return;
	n->vmcs12.field[slot] = value;
	n->judged &= (uint8_t)~vmx_check_doubts(slot, old, value);
	if (vmcs12_has(&n->copied, slot))
		vmcs12_add(&n->dirty, slot);
}

static enum hv_nested_step vmwrite_l1(struct vmx_nested *n)
{
	struct hv_vcpu *l1 = n->base.l1;
	uint32_t info = (uint32_t)vmcs_read(VMCS_EXIT_INSTRUCTION_INFO);
	uint64_t value = 0;
	unsigned slot;
	bool high;

	if (gpa_is(n->current, NO_VMCS))
		return vmx_nested_result(n, RFLAGS_CF);
	if (info & INFO_IS_REGISTER) {
		value = register_value(l1, INFO_REG1(info));
	} else {
		TRY(vmx_nested_read_operand(n, &value, hv_in_64_bit(l1) ? 8 : 4));
	}
	if (!find_field(n, register_value(l1, INFO_REG2(info)), &slot, &high))
		return vmx_nested_fail(n, VMFAIL_NO_FIELD);
	if (vmcs12_read_only(slot))
		return vmx_nested_fail(n, VMFAIL_READ_ONLY);
	vmx_nested_store_field(n, slot, vmcs12_written(&n->vmcs12, slot, high, value));
	return vmx_nested_succeed(n);
}

static enum hv_nested_step enter_l1(struct vmx_nested *n)
{
	struct vmx_vcpu *v = vmx_of(n->base.l1);
	bool launch = v->hv.exit.raw_reason == REASON_VMLAUNCH;
	enum hv_nested_step step;
	unsigned error = 0;

	if (gpa_is(n->current, NO_VMCS))
		return vmx_nested_result(n, RFLAGS_CF);
	if (v->hv.interrupt_shadow && (v->blocking & BLOCKING_MOV_SS))
		return vmx_nested_fail(n, VMFAIL_MOV_SS);
	if (launch && n->vmcs12.launched)
		return vmx_nested_fail(n, VMFAIL_LAUNCH_NOT_CLEAR);
	if (!launch && !n->vmcs12.launched)
		return vmx_nested_fail(n, VMFAIL_RESUME_NOT_LAUNCHED);
	vmx_mirror_pull(n);
	step = vmx_nested_enter(n, launch, &error);
	if (!n->base.in_l2)
		vmx_mirror_push(n, false);
	return error ? vmx_nested_fail(n, error) : step;
}

/* Of INVEPT and INVVPID. One that isn't known fails before the descriptor is read. */
static uint64_t invalidation_type(struct vmx_nested *n)
{
	return register_value(n->base.l1, INFO_REG2((uint32_t)vmcs_read(VMCS_EXIT_INSTRUCTION_INFO)));
}

static enum hv_nested_step invept_l1(struct vmx_nested *n)
{
	uint64_t type = invalidation_type(n), descriptor[2];
	struct hv_nested_slat slat;

	if (type != INVALIDATE_SINGLE && type != INVALIDATE_ALL)
		return vmx_nested_fail(n, VMFAIL_INVALIDATE);
	TRY(vmx_nested_read_operand(n, descriptor, sizeof(descriptor)));
	if (type == INVALIDATE_SINGLE && !vmx_nested_slat(n, descriptor[0], &slat))
		return vmx_nested_fail(n, VMFAIL_INVALIDATE);
	n->base.env->invalidate(n->base.context, type == INVALIDATE_SINGLE ? &slat : NULL);
	n->base.l2->flush_pending = true;
	return vmx_nested_succeed(n);
}

/* All of L1's VPIDs share l2's one: more is dropped than was asked for. */
static enum hv_nested_step invvpid_l1(struct vmx_nested *n)
{
	uint64_t type = invalidation_type(n), descriptor[2];
	unsigned bits = features.linear_bits;

	if (type > INVVPID_NOT_GLOBAL)
		return vmx_nested_fail(n, VMFAIL_INVALIDATE);
	TRY(vmx_nested_read_operand(n, descriptor, sizeof(descriptor)));
	if ((descriptor[0] >> 16) || (type != INVVPID_ALL && !descriptor[0]) ||
	    (type == INVVPID_ADDRESS && sign_extend(descriptor[1], bits) != descriptor[1]))
		return vmx_nested_fail(n, VMFAIL_INVALIDATE);
	n->vpid = VPID_UNKNOWN;
	return vmx_nested_succeed(n);
}

static enum hv_nested_step (*const instructions[REASON_COUNT])(struct vmx_nested *) = {
	[REASON_VMCLEAR] = vmx_nested_vmclear, [REASON_VMLAUNCH] = enter_l1,
	[REASON_VMPTRLD] = vmx_nested_vmptrld, [REASON_VMPTRST] = vmx_nested_vmptrst,
	[REASON_VMREAD] = vmread_l1,           [REASON_VMRESUME] = enter_l1,
	[REASON_VMWRITE] = vmwrite_l1,         [REASON_VMXOFF] = vmx_nested_vmxoff,
	[REASON_VMXON] = vmx_nested_vmxon,     [REASON_INVEPT] = invept_l1,
	[REASON_INVVPID] = invvpid_l1,
};

enum hv_nested_step vmx_nested_instruction(struct hv_nested *nested)
{
	struct vmx_nested *n = nested_of(nested);
	struct hv_vcpu *l1 = nested->l1;
	uint64_t reason = l1->exit.raw_reason;

	hv_need(l1, REGS_RFLAGS | REGS_CONTROL | REGS_CODE | REGS_SHADOW);
	if (reason >= REASON_COUNT || !instructions[reason] || !(l1->cr0 & CR0_PE) || (l1->rflags & RFLAGS_VM) ||
	    ((l1->efer & EFER_LMA) && !hv_in_64_bit(l1)) || (reason == REASON_VMXON ? !(l1->cr4 & CR4_VMXE) : !n->on))
		return vmx_nested_fault(n, VECTOR_UD);
	if (SEG_ATTR_DPL(l1->segment[SEG_SS].attributes))
		return vmx_nested_fault(n, VECTOR_GP);
	return instructions[reason](n);
}
