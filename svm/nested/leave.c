/* SPDX-License-Identifier: Apache-2.0 */
/*
 * #VMEXIT to L1: VMCB12 is written back, l1's VMCB goes on behind its VMRUN. AMD APM vol. 2 sections 15.5.1, 15.6, 15.7.
 */
#include "svm/nested/nested.h"

#include "arch/x86_64/registers.h"
#include "svm/quirks.h"

/*
 * Written back: all that #VMEXIT stores, and what lies between as it was at VMRUN. L1 may not write to the VMCB of a guest that runs
 * (15.5.1), so nothing is lost, and two pieces cost a fifth of ten.
 */
#define PIECE(from, to)                                                                                                \
	{                                                                                                              \
		offsetof(struct vmcb, from), offsetof(struct vmcb, to) - offsetof(struct vmcb, from)                   \
	}
static const struct hv_nested_part pieces[] = {
	PIECE(control.interrupt_control, control.reserved_0e0),
	PIECE(save, save.debugctl),
};
static const struct hv_nested_part refusal[] = { PIECE(control.exit_code, control.nested_control) };

/*
 * It was plain memory at VMRUN. If it isn't any more, or has no frame just now: the state of L2 is lost, which L1 is told as the
 * loss of memory that it is.
 */
static void write_back(struct svm_nested *n, const struct hv_nested_part *parts, unsigned count)
{
	if (n->common.env->parts(n->common.context, n->address, n->vmcb12, parts, count, true) != OK)
		n->common.l1->inject = (struct hv_event){ .kind = EVENT_EXCEPTION, .vector = VECTOR_MC };
}

/* L1 single-stepped its VMRUN. */
static void end_step(struct svm_nested *n)
{
	struct hv_vcpu *h = n->common.l1;

	if (!n->step)
		return;
	h->inject = (struct hv_event){ .kind = EVENT_EXCEPTION, .vector = VECTOR_DB };
	hv_note_debug(h, DR6_SINGLE_STEP);
}

void nested_refuse(struct svm_nested *n)
{
	struct vmcb_control *control12 = &n->vmcb12->control;

	end_step(n);
	control12->exit_code = ~UINT64_C(0);
	control12->exit_info1 = control12->exit_info2 = control12->exit_interrupt_info = 0;
	nested_set_gif(n, false);
	write_back(n, refusal, ARRAY_SIZE(refusal));
}

static void hand_over_breakpoints(struct svm_vcpu *from, struct svm_vcpu *to)
{
	struct svm_cpu *cpu = &svm_cpus[cpu_index()];

	/* The common case: DR0-3 stay where they are, and the other level's ASID is good as well. */
	if (cpu->loaded == from && asid_valid(&cpu->asids, &to->asid) &&
	    !(svm_quirks.breakpoints_leak &&
	      ((from->armed & ARMED_BREAKPOINTS) || (to->vmcb->save.dr7 & DR7_ENABLES)))) {
		to->armed &= ~ARMED_BREAKPOINTS;
		cpu->loaded = to;
		return;
	}
	svm_unload(&from->hv);
	__builtin_memcpy(to->hv.dr, from->hv.dr, 4 * sizeof(to->hv.dr[0]));
	to->hv.dr[7] = to->vmcb->save.dr7;
	svm_arm_breakpoints(to);
}

void nested_hand_over(struct svm_vcpu *from, struct svm_vcpu *to)
{
	uint64_t rax = to->hv.gpr[GPR_RAX];

	__builtin_memcpy(to->hv.gpr, from->hv.gpr, sizeof(to->hv.gpr));
	to->hv.gpr[GPR_RAX] = rax;
	to->hv.xcr0 = from->hv.xcr0;
	nested_copy_loaded(&to->vmcb->save, &from->vmcb->save);
	to->vmcb->save.spec_ctrl = from->vmcb->save.spec_ctrl;
	to->armed = (to->armed & ~ARMED_SPEC_CTRL) | (from->armed & ARMED_SPEC_CTRL);
	hand_over_breakpoints(from, to);
	if (to->hv.cr2 != from->hv.cr2)
		svm_write_cr2(to->hv.cr2); /* see quirks.h */
}

static void store_state(struct svm_nested *n)
{
	struct vmcb *vmcb1 = nested_l1(n)->vmcb;
	const struct hv_vcpu *h = n->common.l2;
	const struct vmcb_save *save = &nested_l2(n)->vmcb->save;
	struct vmcb_save *save12 = &n->vmcb12->save;

	nested_copy_state(save12, save);
	save12->rip = h->rip;
	save12->rax = h->gpr[GPR_RAX];
	save12->cr2 = h->cr2;
	save12->cr0 |= h->cr0 & (CR0_CD | CR0_NW);
	save12->efer &= ~(uint64_t)EFER_LMA; /* see quirks.h */
	if ((save12->efer & EFER_LME) && (save12->cr0 & CR0_PG))
		save12->efer |= EFER_LMA;
	if (n->vmcb12->control.nested_control & NESTED_PAGING) {
		save12->pat = save->pat;
	} else if (vmcb1->save.pat != save->pat) { /* both levels' */
		vmcb1->save.pat = save->pat;
		svm_dirty(vmcb1, CLEAN_NESTED);
	}
}

/* What the processor has told of the instruction, or of the event that the guest's own INT n was, goes along if this exit is its. */
static void store_details(struct svm_nested *n, const struct hv_event *met)
{
	const struct vmcb_control *control = &nested_l2(n)->vmcb->control;
	struct vmcb_control *control12 = &n->vmcb12->control;
	bool told = control->exit_code == control12->exit_code;
	struct hv_event own;
	bool soft = false;

	if (told)
		svm_event_decode(control->exit_interrupt_info, &own, &soft);
	control12->exit_interrupt_info = met->kind != EVENT_NONE ? svm_event_encode(met)
					 : soft                  ? control->exit_interrupt_info
								 : 0;
	if (svm_features.next_rip)
		control12->next_rip = told ? control->next_rip : 0;
	if (svm_features.decode_assists) {
		control12->fetched_count = told ? control->fetched_count : 0;
		__builtin_memcpy(control12->fetched, control->fetched, sizeof(control12->fetched));
	}
}

static void resume_l1(struct svm_nested *n)
{
	struct svm_vcpu *l1 = nested_l1(n), *l2 = nested_l2(n);
	struct hv_vcpu *h = &l1->hv;

	l1->vmcb->save.dr6 = l2->vmcb->save.dr6;
	l1->vmcb->save.dr7 = DR7_RESET;
	svm_dirty(l1->vmcb, CLEAN_DEBUG);
	h->cr2 = l2->hv.cr2;
	nested_hand_over(l2, l1);
	h->valid = h->changed = 0;
	h->inject.kind = l2->hv.inject.kind = EVENT_NONE;
	end_step(n);
	n->common.in_l2 = false;
	nested_set_gif(n, false);
}

void nested_give_up(struct svm_nested *n)
{
	struct svm_vcpu *l2 = nested_l2(n);

	/* The save area may be the host's (quirk). */
	l2->vmcb->save.dr6 = n->vmcb12->save.dr6;
	l2->hv.valid = l2->hv.changed = 0;
	resume_l1(n);
	nested_refuse(n);
}

void nested_leave(struct svm_nested *n, uint64_t code, uint64_t info1, uint64_t info2, const struct hv_event *met)
{
	struct vmcb_control *control12 = &n->vmcb12->control;
	struct svm_vcpu *l2 = nested_l2(n);
	uint64_t now, stored;

	svm_store_changed(l2);
	now = svm_interrupt_control(l2);
	stored = V_TPR_MASK | V_IRQ | (now & V_GIF_ENABLE ? V_GIF : 0);
	control12->interrupt_control = (control12->interrupt_control & ~stored) | (now & stored);
	control12->interrupt_state = l2->vmcb->control.interrupt_state & INTERRUPT_SHADOW;
	control12->exit_code = code;
	control12->exit_info1 = info1;
	control12->exit_info2 = info2;
	control12->event_inject = 0;
	store_details(n, met);
	store_state(n);
	resume_l1(n);
	write_back(n, pieces, ARRAY_SIZE(pieces));
}
