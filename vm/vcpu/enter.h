/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands between an exit and the next entry, for whoever ends exits: the run loop and the short ways. On the vcpu's own CPU.
 *
 * The order that makes flushes and kicks safe: in_guest is set before the requests are looked at. Whoever
 * changes tables first moves the generation on, then sets REQUEST_FLUSH, then looks at in_guest: either
 * this CPU sees the request, or the other sees in_guest and kicks and waits. It may do so with any lock held, and so no lock
 * is taken while in_guest is set, but for those under which nobody waits (RANK_LEAF): (wake.pml: DELIVER, INSIDE, CHECK),
 * (flush.pml: DELIVER, INSIDE, CHECK, ENTER) of the models in tests/models.
 */
#pragma once

#include "dev/apic/lapic.h"
#include "vm/vcpu/pv.h"

/* After what may have set its APIC's timer: the run loop looks at it before the next entry. */
static inline void vcpu_look_at_timer(struct vcpu *vcpu)
{
	if (unlikely(vcpu->lapic->deadline < vcpu->wakeup_ns))
		vcpu->hv->slice_deadline = 0;
}

/* Events and windows; whoever raises an interrupt later than this look also sets a request. */
static inline void deliver(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;

	if (unlikely(vcpu->nmi_pending || lapic_pending(vcpu->lapic) != LAPIC_NOTHING || h->want_interrupt_window))
		vcpu_deliver(vcpu);
}

/* Flushes wait for this vcpu, as if it were in its guest. No lock may be taken until it is outside. */
static inline void count_as_inside(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->in_guest, 1, __ATOMIC_SEQ_CST);
}

static inline void count_as_outside(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->in_guest, 0, __ATOMIC_RELEASE);
}

/* Out of the host as far as others are concerned; false: requests wait, and it isn't. */
static inline bool set_out(struct vcpu *vcpu)
{
	deliver(vcpu);
	count_as_inside(vcpu);
	if (likely(!__atomic_load_n(&vcpu->requests, __ATOMIC_RELAXED)))
		return true;
	count_as_outside(vcpu);
	return false;
}

static inline void settle_offer(struct vcpu *vcpu)
{
	if (unlikely(vcpu->eoi_offered))
		pv_eoi_settle(vcpu);
}

static inline void come_back(struct vcpu *vcpu, enum hv_exit_kind kind)
{
	count_as_outside(vcpu);
	vcpu->exits[kind]++;
	if (kind != EXIT_HOST_INTERRUPT)
		settle_offer(vcpu);
}

/* After an exit that is done with: true, and it counts as being in its guest again; false: there's something to look at first. */
static inline bool go_on(struct vcpu *vcpu)
{
	return likely(rdtsc() < vcpu->hv->slice_deadline) && set_out(vcpu);
}
