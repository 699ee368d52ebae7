/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events on their way into the guest. One event is injected per entry: an exception or an event that
 * was broken off comes first, then an NMI, then an external interrupt, if the guest can take it
 * now; otherwise the window is asked for and the processor tells when it opens.
 *
 * Manual: Intel SDM vol. 3 sections 6.9, 6.15 (double fault), 27.8.3; AMD APM vol. 2 sections 8.5, 15.20.
 */
#include "dev/apic/lapic.h"
#include "vm/vcpu/nested.h"
#include "vm/vcpu/pv.h"

/* Contributory exceptions make a double fault of one another (SDM vol. 3 table 6-5). */
static bool contributory(uint8_t vector)
{
	return vector == VECTOR_DE || (vector >= VECTOR_TS && vector <= VECTOR_GP) || vector == VECTOR_CP;
}

static bool makes_double_fault(uint8_t first, uint8_t second)
{
	if (first == VECTOR_PF)
		return second == VECTOR_PF || contributory(second);
	return contributory(first) && contributory(second);
}

/* Traps and aborts (SDM vol. 3 table 6-1). A #DB comes with RF as the processor, or who found it, has made it. */
#define NOT_FAULTS (BIT(VECTOR_DB) | BIT(VECTOR_BP) | BIT(VECTOR_OF) | BIT(VECTOR_DF) | BIT(VECTOR_MC))

/*
 * As the delivery does. It must not be left to it: with TF set an entry demands a pending single step beside a shadow, and a #DB in
 * the shadow of STI has just taken that (section 27.3.1.5).
 */
static void end_shadow(struct hv_vcpu *h)
{
	hv_need(h, REGS_SHADOW);
	if (!h->interrupt_shadow)
		return;
	h->interrupt_shadow = false;
	hv_changed(h, REGS_SHADOW);
}

void vcpu_inject_exception(struct vcpu *vcpu, uint8_t vector, bool has_error, uint32_t error)
{
	struct hv_event *event = &vcpu->hv->inject, fault = hv_exception(vector, has_error, error);

	if (unlikely(vcpu->nested != NULL) && vcpu_nested_takes_exception(vcpu, &fault))
		return;
	if (event->kind == EVENT_EXCEPTION) {
		if (event->vector == VECTOR_DF) {
			machine_end(vcpu->machine, END_TRIPLE_FAULT, 0, NULL);
			return;
		}
		if (makes_double_fault(event->vector, vector)) {
			fault = hv_exception(VECTOR_DF, true, 0);
			if (unlikely(vcpu->nested != NULL) && vcpu_nested_takes_exception(vcpu, &fault))
				return;
		}
	}
	if (NOT_FAULTS & BIT(fault.vector))
		*event = fault;
	else
		hv_inject_fault(vcpu->hv, fault);
	end_shadow(vcpu->hv);
}

enum exit_action vcpu_inject_gp(struct vcpu *vcpu)
{
	vcpu_inject_exception(vcpu, VECTOR_GP, true, 0);
	return ACTION_ENTER;
}

enum exit_action vcpu_inject_ud(struct vcpu *vcpu)
{
	vcpu_inject_exception(vcpu, VECTOR_UD, false, 0);
	return ACTION_ENTER;
}

void vcpu_recover_event(struct vcpu *vcpu)
{
	/* The exit's own handler may merge an exception into it afterwards. */
	vcpu->hv->inject = vcpu->hv->exit.interrupted;
}

/* Of what is pending only what goes the ordinary way is left. True: L1 has got an exit for one, and runs. */
static bool nested_wakes(struct vcpu *vcpu, bool *nmi, bool *interrupt)
{
	const struct hv_vcpu *level = vcpu->hv;

	*nmi = *nmi && !vcpu_nested_takes_event(vcpu, NESTED_NMI);
	if (vcpu->hv == level)
		*interrupt = *interrupt && !vcpu_nested_takes_event(vcpu, NESTED_INTERRUPT);
	return vcpu->hv != level;
}

bool vcpu_has_wake_event(struct vcpu *vcpu)
{
	bool nmi = vcpu->nmi_pending, interrupt;

	if (vcpu->activity == VCPU_PARKED)
		return rdtsc() >= vcpu->parked_until;
	if (vcpu->activity == VCPU_WAIT_SIPI)
		return false;
	/* It is delivered before anything that waits: a single step over HLT. */
	if (vcpu->hv->inject.kind != EVENT_NONE)
		return true;
	if (__atomic_load_n(&vcpu->pv.kicked, __ATOMIC_RELAXED) &&
	    __atomic_exchange_n(&vcpu->pv.kicked, false, __ATOMIC_ACQUIRE))
		return true;
	lapic_update(vcpu->lapic); /* (wake.pml: HALT) */
	interrupt = lapic_pending(vcpu->lapic) != LAPIC_NOTHING;
	if (unlikely(vcpu->nested != NULL) && nested_wakes(vcpu, &nmi, &interrupt))
		return true;
	hv_need(vcpu->hv, REGS_SHADOW);
	if (nmi && !vcpu->hv->nmi_blocked)
		return true;
	if (!interrupt)
		return false;
	hv_need(vcpu->hv, REGS_RFLAGS);
	return (vcpu->hv->rflags & RFLAGS_IF) != 0;
}

static void deliver_nmi(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;

	if (unlikely(vcpu->nested != NULL) && vcpu_nested_takes_event(vcpu, NESTED_NMI))
		return;
	hv_need(h, REGS_SHADOW);
	if (h->nmi_blocked || h->interrupt_shadow || h->inject.kind != EVENT_NONE) {
		h->want_nmi_window = true;
		return;
	}
	h->inject = (struct hv_event){ .kind = EVENT_NMI, .vector = VECTOR_NMI };
	h->want_nmi_window = false;
	vcpu->nmi_pending = false;
}

static void deliver_interrupt(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;
	bool pics;
	int vector;

	if (unlikely(vcpu->nested != NULL) && vcpu_nested_takes_event(vcpu, NESTED_INTERRUPT))
		return;
	hv_need(h, REGS_RFLAGS | REGS_SHADOW);
	if (!(h->rflags & RFLAGS_IF) || h->interrupt_shadow || h->inject.kind != EVENT_NONE) {
		h->want_interrupt_window = true;
		return;
	}
	pics = lapic_pending(vcpu->lapic) == LAPIC_EXTINT;
	vector = board_take_interrupt(vcpu->machine->board, vcpu->lapic);
	h->want_interrupt_window = lapic_pending(vcpu->lapic) != LAPIC_NOTHING;
	if (vector >= 0)
		h->inject = (struct hv_event){ .kind = EVENT_INTERRUPT, .vector = (uint8_t)vector };
	if ((vcpu->pv.eoi & 1) && vector >= 0 && !pics)
		pv_eoi_offer(vcpu, (uint8_t)vector);
}

void vcpu_deliver(struct vcpu *vcpu)
{
	const struct hv_vcpu *level = vcpu->hv;

	if (unlikely(vcpu->nmi_pending))
		deliver_nmi(vcpu);
	if (unlikely(lapic_pending(vcpu->lapic) != LAPIC_NOTHING))
		deliver_interrupt(vcpu);
	else
		vcpu->hv->want_interrupt_window = false;
	/* It has led to L1, for which the same is pending still and which may run long without an exit: its own window. */
	if (unlikely(vcpu->hv != level))
		vcpu_deliver(vcpu);
}
