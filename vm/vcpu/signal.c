/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one processor sends another beside interrupts: NMI, INIT, start-up (SIPI).
 *
 * One word holds what has been sent and not been taken. A sender changes it in one step, then asks the vcpu to look, which takes the
 * whole word in one step on its own CPU; so what was sent is seen in the order in which it was sent:
 *
 *   INIT     what was sent before it is gone: a SIPI has started the processor, an NMI has come, and the INIT undoes both
 *   SIPI     the first one counts. Behind an INIT in the word it starts the processor that this INIT stops; alone it is for
 *            a processor that waits for one already, and any other ignores it
 *   NMI      as many as there are until they are taken make one
 *
 * Whether the vcpu waits for a SIPI is asked by itself alone, when it takes the word: a sender that asked might look between an INIT
 * that was taken and the state that follows from it, and lose the SIPI.
 *
 * An INIT may have to wait while the vcpu is a hypervisor (VMX root operation, GIF clear): it is kept as init_pending and tried again
 * after each of the hypervisor's instructions that could have ended that. A SIPI behind it is lost, as on a processor, which
 * isn't waiting for one; but where the hypervisor's guest waits for one (activity state of VMX), that gets it, and the INIT waits on.
 *
 * Manual: Intel SDM vol. 3 sections 9.4 (MP initialisation), 11.6.1 (ICR), table 10-1 (INIT), 26.2 (VMX); AMD APM vol. 2 sections
 * 14.1.3, 15.20 (SVM), 16.5.
 */
#include "dev/apic/lapic.h"
#include "vm/vcpu/nested.h"

#define SIGNAL_NMI BIT(0)
#define SIGNAL_INIT BIT(1)
#define SIGNAL_SIPI BIT(2)
#define SIGNAL_VECTOR BITS(15, 8)
#define VECTOR_SHIFT 8

/* Takes out `without`, puts in `with`, unless `unless` is there; then the vcpu looks at it. Any CPU. */
static void send(struct vcpu *vcpu, uint32_t without, uint32_t with, uint32_t unless)
{
	uint32_t old = __atomic_load_n(&vcpu->signals, __ATOMIC_RELAXED);

	do {
		if (old & unless)
			return;
	} while (!__atomic_compare_exchange_n(&vcpu->signals, &old, (old & ~without) | with, false, __ATOMIC_SEQ_CST,
					      __ATOMIC_RELAXED));
	vcpu_request(vcpu, REQUEST_EVENT);
}

void vcpu_send_nmi(struct vcpu *vcpu)
{
	send(vcpu, 0, SIGNAL_NMI, 0);
}

void vcpu_send_init(struct vcpu *vcpu)
{
	send(vcpu, ~UINT32_C(0), SIGNAL_INIT, 0);
}

void vcpu_send_startup(struct vcpu *vcpu, uint8_t vector)
{
	send(vcpu, 0, SIGNAL_SIPI | (uint32_t)vector << VECTOR_SHIFT, SIGNAL_SIPI);
}

/* Or it waits, or has led to an exit of L1's. */
static void take_init(struct vcpu *vcpu)
{
	if (unlikely(vcpu->nested != NULL) && vcpu_nested_takes_event(vcpu, NESTED_INIT))
		return;
	vcpu->init_pending = vcpu->nmi_pending = false;
	vcpu_init(vcpu);
}

/* At page `vector` in real mode; or behind the exit of a guest's guest that waits for it. */
static void start_up(struct vcpu *vcpu, uint8_t vector)
{
	struct segment *code = &vcpu->l1->segment[SEG_CS];

	vcpu->activity = VCPU_RUNNABLE;
	if (unlikely(vcpu_in_l2(vcpu))) {
		vcpu_nested_startup(vcpu, vector);
		return;
	}
	hv_need(vcpu->l1, REGS_CODE);
	code->selector = (uint16_t)(vector << 8);
	code->base = (uint64_t)vector << 12;
	hv_changed(vcpu->l1, REGS_CODE);
	vcpu->l1->rip = 0;
}

void vcpu_take_signals(struct vcpu *vcpu)
{
	uint32_t signals = __atomic_exchange_n(&vcpu->signals, 0, __ATOMIC_ACQ_REL);

	vcpu->init_pending |= (signals & SIGNAL_INIT) != 0;
	if (unlikely(vcpu->init_pending))
		take_init(vcpu);
	if ((signals & SIGNAL_SIPI) && vcpu->activity == VCPU_WAIT_SIPI)
		start_up(vcpu, (uint8_t)((signals & SIGNAL_VECTOR) >> VECTOR_SHIFT));
	vcpu->nmi_pending |= (signals & SIGNAL_NMI) != 0;
}
