/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which vcpu's state is in each host CPU: FPU, XCR0, TSC_AUX, and what a backend keeps there. It stays until another vcpu comes to run
 * there, or this one leaves. Then one that may run elsewhere has nothing left here, and its ->loaded says so to those that would
 * take it; one that is pinned leaves the backend's part. Each function runs on the CPU that it speaks of.
 */
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "vm/vcpu/nested.h"

struct first_entry first_entry;

/* How long it took from the firmware to the first instruction of a guest: told once. */
static void note_first_entry(void)
{
	if (first_entry.handover_tsc && !__atomic_exchange_n(&first_entry.told, 1, __ATOMIC_RELAXED))
		log_line("first guest instruction: %lu ticks after the firmware's hand-over",
			 (rdtsc() - first_entry.handover_tsc));
}

/* Whose FPU state, XCR0 and TSC_AUX are in each CPU's registers; NULL: nobody's. */
static struct vcpu *loaded[MAX_CPUS];

/* Whose guest each CPU ran last; a machine keeps its place, so this may be one that has ended. */
static const struct machine *served[MAX_CPUS];

struct vcpu *vcpu_current(void)
{
	return loaded[cpu_index()];
}

/* Where CPUs' time stamp counters differ, the guest's goes on from where it was on the last one. */
static void follow_tsc(struct vcpu *vcpu)
{
	int64_t ahead = host_tsc_ahead(), by = vcpu->tsc_ahead - ahead;

	if (likely(!by))
		return;
	vcpu->tsc_ahead = ahead;
	vcpu->parked_until -= (uint64_t)by;
	vcpu->wakeup = 0; /* to be found anew */
	if (vcpu->nested)
		vcpu_nested_follow(vcpu->nested, (uint64_t)by);
	vcpu_move_tsc(vcpu, (uint64_t)by);
}

void vcpu_switch_in(struct vcpu *vcpu)
{
	unsigned cpu = cpu_index();
	struct vcpu *other = loaded[cpu];

	if (other == vcpu)
		return;
	note_first_entry();
	if (other && other->movable)
		vcpu_unload(other);
	else if (other)
		vcpu_switch_out(other);
	if (served[cpu] != vcpu->machine)
		host_forget_guest();
	served[cpu] = vcpu->machine;
	follow_tsc(vcpu);
	host_fpu_restore(vcpu->fpu);
	if (host_xcr0())
		xsetbv(0, vcpu->hv->xcr0);
	if (cpuid_has_tsc_aux(vcpu->machine->cpuid))
		wrmsr(MSR_TSC_AUX, vcpu->msr.tsc_aux);
	loaded[cpu] = vcpu;
	__atomic_store_n(&vcpu->loaded, true, __ATOMIC_RELAXED);
	vcpu_flush_late(vcpu);
}

static void save(struct vcpu *vcpu)
{
	if (host_xcr0()) {
		vcpu->hv->xcr0 = xgetbv(0); /* some processors give no exit for a guest's XSETBV */
		xsetbv(0, host_xcr0());
	}
	host_fpu_save(vcpu->fpu);
	loaded[cpu_index()] = NULL;
}

void vcpu_switch_out(struct vcpu *vcpu)
{
	if (!vcpu->loaded)
		return;
	save(vcpu);
	__atomic_store_n(&vcpu->loaded, false, __ATOMIC_RELEASE);
}

void vcpu_release(struct vcpu *vcpu)
{
	hv->unload(vcpu->l1);
	if (vcpu->nested)
		hv->unload(vcpu->nested->state->l2);
}

void vcpu_settle(struct vcpu *vcpu)
{
	if (vcpu->movable && !vcpu->loaded)
		vcpu_release(vcpu);
}

void vcpu_unload(struct vcpu *vcpu)
{
	const struct cpu_set *allowed = vcpu->allowed;

	vcpu_release(vcpu);
	if (!vcpu->loaded)
		return;
	save(vcpu);
	/* From now on another CPU may run it, and its end may come. */
	__atomic_store_n(&vcpu->loaded, false, __ATOMIC_RELEASE);
	schedule_freed(allowed);
}
