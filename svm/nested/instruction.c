/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The extension's instructions as L1 executes them; VMRUN itself is enter.c's. Who may: with EFER.SVME in protected mode, else #UD;
 * at CPL 0, else #GP. AMD APM vol. 2 sections 15.4, 15.5.2, 15.16.2, 15.17; vol. 3.
 */
#include "svm/nested/nested.h"

#include "arch/x86_64/registers.h"

enum hv_nested_step nested_fault(struct svm_nested *n, uint8_t vector)
{
	n->common.fault =
		(struct hv_event){ .kind = EVENT_EXCEPTION, .vector = vector, .has_error_code = vector == VECTOR_GP };
	return NESTED_FAULT;
}

enum hv_nested_step nested_refused(struct svm_nested *n, enum status status)
{
	return status == NO_MEMORY || status == OVER_QUOTA ? NESTED_AGAIN : nested_fault(n, VECTOR_GP);
}

/* What VMLOAD and VMSAVE exchange stands in four places of the save area. */
#define SAVED(field) offsetof(struct vmcb, save.field)
static const struct hv_nested_part pieces[] = {
	{ SAVED(fs), 2 * sizeof(struct vmcb_segment) },
	{ SAVED(ldtr), sizeof(struct vmcb_segment) },
	{ SAVED(tr), sizeof(struct vmcb_segment) },
	{ SAVED(star), SAVED(cr2) - SAVED(star) },
};

/* VMCB12's copy serves as buffer: no L2 runs. */
static enum hv_nested_step exchange(struct svm_nested *n, gpa_t where, bool load)
{
	const struct hv_nested_env *env = n->common.env;
	struct vmcb_save *buffer = &n->vmcb12->save, *save = &nested_l1(n)->vmcb->save;
	enum status status;

	if (!load)
		nested_copy_loaded(buffer, save);
	status = env->parts(n->common.context, where, n->vmcb12, pieces, ARRAY_SIZE(pieces), !load);
	if (status != OK)
		return nested_refused(n, status);
	if (load) {
		nested_copy_loaded(save, buffer);
		n->common.l1->valid &= ~(REGS_OTHERS | REGS_SYSTEM);
	}
	return NESTED_DONE;
}

/* rAX by a VMCB: page-aligned, and an address that L1 has. */
static enum hv_nested_step on_vmcb(struct svm_nested *n, uint64_t code, uint64_t rax)
{
	if (!is_aligned(rax, PAGE_SIZE) || rax >> n->common.env->physical_bits)
		return nested_fault(n, VECTOR_GP);
	return code == SVM_EXIT_VMRUN ? nested_vmrun(n, gpa(rax)) : exchange(n, gpa(rax), code == SVM_EXIT_VMLOAD);
}

/* L1 means one address; all that is cached for its guests goes. ASID 0 is its own. */
static enum hv_nested_step invlpga(struct svm_nested *n)
{
	if (!(uint32_t)n->common.l1->gpr[GPR_RCX]) {
		n->common.l1->flush_pending = true;
		return NESTED_DONE;
	}
	n->common.l2->flush_pending = true;
	if (n->common.slat.on)
		n->common.env->invalidate(n->common.context, NULL);
	return NESTED_DONE;
}

enum hv_nested_step nested_instruction(struct hv_nested *nested)
{
	struct svm_nested *n = nested_of(nested);
	struct svm_vcpu *l1 = nested_l1(n);
	const struct vmcb_save *save = &l1->vmcb->save;
	uint64_t code = l1->hv.exit.raw_reason, rax = l1->hv.gpr[GPR_RAX];

	svm_store_changed(l1);
	if (!(l1->hv.efer & EFER_SVME) || !(save->cr0 & CR0_PE) || (save->rflags & RFLAGS_VM) ||
	    code == SVM_EXIT_SKINIT)
		return nested_fault(n, VECTOR_UD);
	if (save->cpl)
		return nested_fault(n, VECTOR_GP);
	if (!(svm_code_of(save) & HV_CODE_64))
		rax &= BITS(31, 0);
	switch (code) {
	case SVM_EXIT_STGI:
	case SVM_EXIT_CLGI: nested_set_gif(n, code == SVM_EXIT_STGI); return NESTED_DONE;
	case SVM_EXIT_INVLPGA: return invlpga(n);
	default: return on_vmcb(n, code, rax);
	}
}
