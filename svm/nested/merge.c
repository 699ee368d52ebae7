/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of VMCBs from one to another: what VMRUN and #VMEXIT switch, what they leave, and what two hypervisors' wishes come to
 * together. Pure. AMD APM vol. 2 sections 15.5.1, 15.5.2, 15.6, 15.11, 15.20, 15.21.
 */
#include "svm/nested/nested.h"

#include "arch/x86_64/registers.h"

void nested_copy_state(struct vmcb_save *to, const struct vmcb_save *from)
{
	to->es = from->es;
	to->cs = from->cs;
	to->ss = from->ss;
	to->ds = from->ds;
	to->gdtr = from->gdtr;
	to->idtr = from->idtr;
	to->cpl = from->cpl;
	to->efer = from->efer;
	to->cr4 = from->cr4;
	to->cr3 = from->cr3;
	to->cr0 = from->cr0;
	to->dr7 = from->dr7;
	to->dr6 = from->dr6;
	to->rflags = from->rflags;
	to->rip = from->rip;
	to->rsp = from->rsp;
	to->rax = from->rax;
	to->cr2 = from->cr2;
}

void nested_copy_loaded(struct vmcb_save *to, const struct vmcb_save *from)
{
	to->fs = from->fs;
	to->gs = from->gs;
	to->ldtr = from->ldtr;
	to->tr = from->tr;
	to->star = from->star;
	to->lstar = from->lstar;
	to->cstar = from->cstar;
	to->sfmask = from->sfmask;
	to->kernel_gs_base = from->kernel_gs_base;
	to->sysenter_cs = from->sysenter_cs;
	to->sysenter_esp = from->sysenter_esp;
	to->sysenter_eip = from->sysenter_eip;
}

static void merge(uint8_t *map, const uint8_t *l0, const uint8_t *l1, unsigned at, unsigned size)
{
	uint64_t *to = (uint64_t *)(map + at);
	const uint64_t *a = (const uint64_t *)(l0 + at), *b = (const uint64_t *)(l1 + at);

	for (unsigned i = 0; i < size / 8; i++)
		to[i] = a[i] | b[i];
}

void nested_merge_maps(uint8_t *map, const uint8_t *l0, const uint8_t *l1)
{
	l1 = l1 ? l1 : l0;
	merge(map, l0, l1, MSR_WINDOW_LOW, MSR_WINDOW_LOW_SIZE);
	merge(map, l0, l1, MSR_WINDOW_HIGH, MSR_WINDOW_HIGH_SIZE);
}

/* V_INTR_MASKING is Quire's for its own interrupts, whatever L1 wants for those that it takes for physical ones. */
uint64_t nested_interrupt_control(uint64_t control12, bool virtual_gif)
{
	uint64_t taken = V_TPR_MASK | V_IRQ | V_PRIORITY_HIGHEST | V_IGNORE_TPR | V_VECTOR_MASK;

	if (virtual_gif && (control12 & V_GIF_ENABLE))
		taken |= V_GIF_ENABLE | V_GIF;
	return (control12 & taken) | V_INTR_MASKING;
}

bool nested_virtual_due(uint64_t interrupts)
{
	return (interrupts & V_IRQ) && (interrupts & (V_GIF_ENABLE | V_GIF)) != V_GIF_ENABLE &&
	       ((interrupts & V_IGNORE_TPR) ||
		(interrupts & V_PRIORITY_HIGHEST) >> 16 > (interrupts & V_TPR_MASK & 15));
}

bool nested_takes_virtual(const struct vmcb *vmcb12, uint64_t interrupts)
{
	const struct vmcb_control *control12 = &vmcb12->control;

	return nested_virtual_due(interrupts) && (vmcb12->save.rflags & RFLAGS_IF) &&
	       !(control12->interrupt_state & INTERRUPT_SHADOW) && !(control12->event_inject & INJECT_VALID);
}

struct hv_event nested_event(const struct vmcb *vmcb12, bool next_rip)
{
	struct hv_event event;
	bool soft;

	svm_event_decode(vmcb12->control.event_inject, &event, &soft);
	event.soft = soft && event.kind == EVENT_EXCEPTION;
	/* Without it a soft event pushes the RIP that is there. */
	if (soft && next_rip)
		event.length = (uint8_t)(vmcb12->control.next_rip - vmcb12->save.rip);
	return event;
}
