/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to L2, and whose it is: its exits, exceptions that Quire raises for it, and what is pending for L1. What L1 doesn't
 * intercept is Quire's to do on l2 as on l1, since a processor would do it for L2 itself.
 * AMD APM vol. 2 sections 15.7.2, 15.9 - 15.13, 15.17, 15.21.
 */
#include "svm/nested/nested.h"

#include "arch/x86_64/host.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/registers.h"

/* A bit of L1's maps in its memory; where there is none, a bus reads as ones. count bits from `bit` on, at most 8. */
static bool map_asks(const struct svm_nested *n, uint64_t map, uint64_t bit, unsigned count)
{
	gpa_t where = gpa(align_down(map, PAGE_SIZE) + bit / 8);
	uint8_t bytes[2] = { 0xff, 0xff };

	if (n->common.env->read(n->common.context, where, bytes, sizeof(bytes)) != OK)
		return true;
	return (bytes[0] | bytes[1] << 8) >> bit % 8 & ((1u << count) - 1);
}

/* For each port a bit, up to three of them behind the last port's: section 15.10.1. */
static bool port_asks(const struct svm_nested *n, uint64_t info)
{
	return map_asks(n, n->vmcb12->control.iopm_base, (uint16_t)(info >> IOIO_PORT_SHIFT),
			(unsigned)(info >> IOIO_SIZE_SHIFT & 7));
}

static bool msr_asks(const struct svm_nested *n, uint64_t info)
{
	unsigned byte, shift;

	if (!svm_msr_map_place((uint32_t)n->common.l2->gpr[GPR_RCX], &byte, &shift))
		return true;
	return map_asks(n, n->vmcb12->control.msrpm_base, byte * 8u + shift + (info & 1), 1);
}

/* An exit that can be L1's at all, by its kind. */
static bool is_guests(const struct svm_vcpu *l2)
{
	switch (l2->hv.exit.kind) {
	case EXIT_HOST_INTERRUPT: return false;
	case EXIT_NMI_WINDOW: return false; /* Quire's own single step */
	case EXIT_INTERRUPT_WINDOW: return l2->hv.exit.raw_reason == SVM_EXIT_VINTR && !(l2->armed & ARMED_WINDOW);
	case EXIT_EXCEPTION: return l2->hv.exit.raw_reason != SVM_EXIT_EXCEPTION + VECTOR_MC;
	default: return true;
	}
}

/* What the processor would have done, but for Quire's window, or for a due interrupt: the exit is then one to be stepped over. */
static void carry_out(struct svm_vcpu *l2)
{
	uint64_t code = l2->hv.exit.raw_reason, interrupts = svm_interrupt_control(l2);

	if (code == SVM_EXIT_HLT && (l2->vmcb->save.rflags & RFLAGS_IF) && nested_virtual_due(interrupts)) {
		l2->hv.exit.kind = EXIT_CACHE;
	} else if ((code == SVM_EXIT_STGI || code == SVM_EXIT_CLGI) && (interrupts & V_GIF_ENABLE)) {
		svm_set_gif(l2, code == SVM_EXIT_STGI);
		l2->hv.exit.kind = EXIT_CACHE;
	}
}

bool nested_exit(struct hv_nested *nested)
{
	struct svm_nested *n = nested_of(nested);
	struct svm_vcpu *l2 = nested_l2(n);
	const struct vmcb_control *control = &l2->vmcb->control, *control12 = &n->vmcb12->control;
	uint64_t code = l2->hv.exit.raw_reason, info1 = control->exit_info1;

	if (l2->hv.exit.kind == EXIT_INVALID_STATE) {
		nested_give_up(n);
		return true;
	}
	if (!is_guests(l2))
		return false;
	/* Quire asks for the selective ones; one who asks for all gets all. */
	if (code == SVM_EXIT_CR0_SELECTIVE && nested_wants(control12, SVM_EXIT_CR_WRITE))
		code = SVM_EXIT_CR_WRITE;
	if (!nested_wants(control12, code) || (code == SVM_EXIT_IOIO && !port_asks(n, info1)) ||
	    (code == SVM_EXIT_MSR && !msr_asks(n, info1))) {
		carry_out(l2);
		return false;
	}
	nested_leave(n, code, info1, control->exit_info2, &l2->hv.exit.interrupted);
	return true;
}

void nested_reflect_slat(struct hv_nested *nested, const struct hv_nested_fault *fault)
{
	struct svm_nested *n = nested_of(nested);

	nested_leave(n, SVM_EXIT_NPF, nested_fault_info(fault, nested->slat.no_execute), fault->where.v,
		     &nested->l2->exit.interrupted);
}

bool nested_exception(struct hv_nested *nested, const struct hv_event *event, uint64_t detail)
{
	struct svm_nested *n = nested_of(nested);
	struct hv_event met = nested->l2->inject;
	uint64_t code = SVM_EXIT_EXCEPTION + event->vector;

	if (!nested->in_l2)
		return false;
	/* It is looked at for itself before it is for what the two make (15.12). */
	if (!nested_wants(&n->vmcb12->control, code) && met.kind == EVENT_EXCEPTION && met.vector == VECTOR_DF)
		code = SVM_EXIT_SHUTDOWN;
	if (!nested_wants(&n->vmcb12->control, code))
		return false;
	/* A page fault's intercept comes before CR2 is written: 15.12.15. */
	if (code == SVM_EXIT_EXCEPTION + VECTOR_PF)
		nested->l2->cr2 = nested_l2(n)->vmcb->save.cr2;
	nested_leave(n, code, event->has_error_code ? event->error_code : 0, event->vector == VECTOR_PF ? detail : 0,
		     &met);
	return true;
}

static void await_gif(struct svm_vcpu *l1, bool on)
{
	if (l1->awaits_gif == on)
		return;
	l1->awaits_gif = on;
	svm_set_intercepts(l1);
}

void nested_set_gif(struct svm_nested *n, bool on)
{
	n->gif = on;
	if (svm_features.virtual_gif)
		svm_set_gif(nested_l1(n), on);
	await_gif(nested_l1(n), false);
}

static enum hv_nested_verdict reflect_event(struct svm_nested *n, uint64_t code)
{
	nested_leave(n, code, 0, 0, &(struct hv_event){ .kind = EVENT_NONE });
	return NESTED_REFLECTED;
}

/* With V_INTR_MASKING it is L1's RFLAGS.IF as it was at VMRUN that lets interrupts through. Section 15.21.1. */
static enum hv_nested_verdict interrupt(struct svm_nested *n)
{
	bool masking = n->vmcb12->control.interrupt_control & V_INTR_MASKING, on;

	hv_need(n->common.l2, REGS_RFLAGS);
	on = (masking ? nested_l1(n)->vmcb->save.rflags : n->common.l2->rflags) & RFLAGS_IF;
	if (masking && !on)
		return NESTED_HELD;
	if (!nested_wants(&n->vmcb12->control, SVM_EXIT_INTR))
		return NESTED_INJECT;
	return on ? reflect_event(n, SVM_EXIT_INTR) : NESTED_WINDOW;
}

enum hv_nested_verdict nested_pending(struct hv_nested *nested, enum hv_nested_event what)
{
	struct svm_nested *n = nested_of(nested);
	uint64_t code = what == NESTED_NMI ? SVM_EXIT_NMI : SVM_EXIT_INIT;

	if (!nested->in_l2) {
		if (nested_gif(n) || !(nested->l1->efer & EFER_SVME))
			return NESTED_INJECT;
		await_gif(nested_l1(n), true);
		return NESTED_HELD;
	}
	/*
	 * What is to be delivered to L2 comes first, VMRUN's own event above all (15.20): KVM counts on it. Its own interrupt takes this CPU
	 * out of L2 right behind.
	 */
	if (nested->l2->inject.kind != EVENT_NONE) {
		host_kick(cpu_index(), false);
		return NESTED_HELD;
	}
	if (what == NESTED_INTERRUPT)
		return interrupt(n);
	if (!nested_wants(&n->vmcb12->control, code))
		return NESTED_INJECT;
	return what == NESTED_NMI && nested_l1(n)->nmi_blocked ? NESTED_HELD : reflect_event(n, code);
}
