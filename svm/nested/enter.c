/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMRUN of L1: VMCB12 is copied, checked, and made l2's together with what Quire wants. Nothing of L1 has changed before all of it is
 * copied, so that L1 can come again when memory lacks. AMD APM vol. 2 sections 15.5, 15.11, 15.16, 15.20, 15.25.
 */
#include "svm/nested/nested.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/registers.h"

/* Beyond these nothing is looked at: L1 has been told of no feature that lives there. */
static const struct hv_nested_part parts[] = {
	{ 0, offsetof(struct vmcb_control, reserved_0e0) },
	{ offsetof(struct vmcb, save), offsetof(struct vmcb_save, debugctl) },
};
static const struct hv_nested_part windows[] = {
	{ MSR_WINDOW_LOW, MSR_WINDOW_LOW_SIZE },
	{ MSR_WINDOW_HIGH, MSR_WINDOW_HIGH_SIZE },
};
#define CR0_CACHE (CR0_CD | CR0_NW)

/* Whatever is wrong with the map's address has been found before; where L1 has no memory, a bus reads as ones. */
static enum status read_maps(struct svm_nested *n)
{
	const struct hv_nested_env *env = n->common.env;
	uint64_t base = align_down(n->vmcb12->control.msrpm_base, PAGE_SIZE);
	enum status status = OK;

	if (!(n->vmcb12->control.intercept[0] & INTERCEPT1_MSR))
		return OK;
	status = env->parts(n->common.context, gpa(base), n->maps, windows, ARRAY_SIZE(windows), false);
	if (status == OK || status == NO_MEMORY || status == OVER_QUOTA)
		return status;
	__builtin_memset(n->maps, 0xff, sizeof(n->maps));
	return OK;
}

static enum status copy_in(struct svm_nested *n)
{
	const struct hv_nested_env *env = n->common.env;
	enum status status = env->parts(n->common.context, n->address, n->vmcb12, parts, ARRAY_SIZE(parts), false);

	return status == OK ? read_maps(n) : status;
}

/* L1 goes on behind VMRUN, whatever becomes of L2. */
static void step_over(struct svm_nested *n)
{
	struct svm_vcpu *l1 = nested_l1(n);
	struct vmcb *vmcb = l1->vmcb;

	l1->hv.rip += l1->hv.exit.length;
	if (!(svm_code_of(&vmcb->save) & HV_CODE_64))
		l1->hv.rip &= BITS(31, 0);
	n->step = vmcb->save.rflags & RFLAGS_TF;
	vmcb->save.rflags &= ~(uint64_t)RFLAGS_RF;
	vmcb->control.interrupt_state = 0;
	l1->hv.valid = 0;
}

static void load_state(struct svm_nested *n)
{
	struct svm_vcpu *l1 = nested_l1(n), *l2 = nested_l2(n);
	const struct vmcb_save *save12 = &n->vmcb12->save;
	struct vmcb_save *save = &l2->vmcb->save;
	struct hv_vcpu *h = &l2->hv;

	nested_copy_state(save, save12);
	save->cr0 &= ~CR0_CACHE; /* see state.c */
	save->pat = n->vmcb12->control.nested_control & NESTED_PAGING ? save12->pat : l1->vmcb->save.pat;
	h->cr2 = save12->cr2;
	nested_hand_over(l1, l2);
	h->rip = save12->rip;
	h->gpr[GPR_RAX] = save12->rax;
	h->cr0 = save12->cr0;
	h->efer = save12->efer;
	h->valid = h->changed = 0;
	h->interrupt_shadow = h->nmi_blocked = false;
}

static void load_control(struct svm_nested *n)
{
	struct svm_vcpu *l1 = nested_l1(n), *l2 = nested_l2(n);
	const struct vmcb_control *control12 = &n->vmcb12->control;
	struct vmcb_control *control = &l2->vmcb->control;

	l2->armed &= ARMED_FLUSH | ARMED_BREAKPOINTS | ARMED_SPEC_CTRL;
	l2->nmi_blocked = l2->rip_advanced = false;
	l2->shadow_tries = 0;
	l2->own_priority = control12->interrupt_control & V_INTR_MASKING;
	l2->virtual_vector = -1;
	if (control12->interrupt_control & V_IRQ)
		l2->virtual_vector = (uint8_t)(control12->interrupt_control >> V_VECTOR_SHIFT);
	control->interrupt_control = nested_interrupt_control(control12->interrupt_control, svm_features.virtual_gif);
	control->interrupt_state = control12->interrupt_state & INTERRUPT_SHADOW;
	__builtin_memcpy(l2->also, control12->intercepts, sizeof(l2->also));
	svm_set_intercepts(l2);
	nested_merge_maps(l2->msr_map, l1->msr_map, control12->intercept[0] & INTERCEPT1_MSR ? n->maps : NULL);
	control->clean = 0;
	l2->hv.tsc_offset = l1->hv.tsc_offset + control12->tsc_offset;
	l2->hv.tsc_changed = true;
	l2->hv.inject = nested_event(n->vmcb12, svm_features.next_rip);
}

/* The format of nested tables is that of L1's own paging as it is at VMRUN: section 15.25.3. */
static const struct pt_format *format(const struct vmcb_save *save1)
{
	if ((save1->efer & EFER_LME) && (save1->cr0 & CR0_PG))
		return save1->cr4 & CR4_LA57 ? &pt_5level : &pt_npt4;
	return save1->cr4 & CR4_PAE ? &pt_pae : &pt_32bit;
}

static void choose_tables(struct svm_nested *n)
{
	const struct vmcb_save *save1 = &nested_l1(n)->vmcb->save;
	const struct vmcb_control *control12 = &n->vmcb12->control;
	struct hv_nested_slat *old = &n->common.slat;
	struct cpuid_result extended;
	struct hv_nested_slat slat = { .on = control12->nested_control & NESTED_PAGING,
				       .root = gpa(align_down(control12->nested_cr3, PAGE_SIZE)),
				       .format = format(save1),
				       .physical_bits = n->common.env->physical_bits,
				       .accessed_dirty = true,
				       .no_execute = save1->efer & EFER_NXE };

	if (slat.format == &pt_pae)
		slat.root = gpa(align_down(control12->nested_cr3 & BITS(31, 0), 32));
	if (slat.on == old->on && (!slat.on || (slat.root.v == old->root.v && slat.format == old->format &&
						slat.no_execute == old->no_execute)))
		return;
	n->common.env->cpuid(n->common.context, CPUID_EXTENDED_FEATURES, 0, &extended);
	slat.large_1g = extended.edx & CPUID_EDX_1G_PAGES;
	*old = slat;
	n->common.slat_changed = true;
}

/*
 * All of L1's ASIDs share l2's: another one than last time is new to the processor. What L1 derived a new one's tables from
 * it may have changed without a flush, so they are looked at again, too.
 */
static void flush(struct svm_nested *n)
{
	const struct vmcb_control *control12 = &n->vmcb12->control;

	if (!control12->tlb_control && control12->asid == n->asid)
		return;
	n->asid = control12->asid;
	n->common.l2->flush_pending = true;
	if (control12->tlb_control == TLB_FLUSH_ALL) {
		n->common.l1->flush_pending = true; /* that's ASID 0, L1's own, as well */
		n->common.env->invalidate(n->common.context, NULL);
	} else if (n->common.slat.on) {
		n->common.env->invalidate(n->common.context, &n->common.slat);
	}
}

/*
 * A virtual interrupt that is due needs no help of the processor's (Bochs gives none, see quirks.h): it is an exit if L1 asks for one,
 * else injected.
 */
static void take_virtual(struct svm_nested *n)
{
	struct svm_vcpu *l2 = nested_l2(n);

	if (!nested_takes_virtual(n->vmcb12, l2->vmcb->control.interrupt_control))
		return;
	if (n->vmcb12->control.intercept[0] & INTERCEPT1_VINTR) {
		nested_leave(n, SVM_EXIT_VINTR, 0, 0, &l2->hv.inject);
		return;
	}
	l2->hv.inject = (struct hv_event){ .kind = EVENT_INTERRUPT, .vector = (uint8_t)l2->virtual_vector };
	l2->vmcb->control.interrupt_control &= ~V_IRQ;
	l2->virtual_vector = -1;
}

enum hv_nested_step nested_vmrun(struct svm_nested *n, gpa_t where)
{
	const struct svm_limits limits = { .cr4 = n->common.env->cr4_valid,
					   .efer = n->common.env->efer_valid | EFER_LMA,
					   .asid_count = NESTED_ASIDS,
					   .physical_bits = n->common.env->physical_bits };
	enum status status;

	n->address = where;
	status = copy_in(n);
	if (status != OK)
		return nested_refused(n, status);
	step_over(n);
	if (svm_explain_refusal(n->vmcb12, &limits, true)) {
		nested_refuse(n);
		return NESTED_ENTERED;
	}
	load_state(n);
	load_control(n);
	choose_tables(n);
	flush(n);
	n->common.in_l2 = true;
	take_virtual(n);
	return NESTED_ENTERED;
}
