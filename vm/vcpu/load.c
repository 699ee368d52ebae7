/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which vcpu's state is in each host CPU beyond what a backend switches: FPU, XCR0, TSC_AUX. It stays until another vcpu comes to
 * run there, or this one leaves. Each function runs on the CPU that it speaks of.
 */
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/registers.h"
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

void vcpu_switch_in(struct vcpu *vcpu)
{
	struct vcpu *other = loaded[vcpu->cpu];

	if (other == vcpu)
		return;
	note_first_entry();
	if (other)
		vcpu_switch_out(other);
	if (served[vcpu->cpu] != vcpu->machine)
		host_forget_guest();
	served[vcpu->cpu] = vcpu->machine;
	host_fpu_restore(vcpu->fpu);
	if (host_xcr0())
		xsetbv(0, vcpu->hv->xcr0);
	if (cpuid_has_tsc_aux(vcpu->machine->cpuid))
		wrmsr(MSR_TSC_AUX, vcpu->msr.tsc_aux);
	loaded[vcpu->cpu] = vcpu;
	vcpu->loaded = true;
	vcpu_flush_late(vcpu);
}

void vcpu_switch_out(struct vcpu *vcpu)
{
	if (!vcpu->loaded)
		return;
	if (host_xcr0()) {
		vcpu->hv->xcr0 = xgetbv(0); /* some processors give no exit for a guest's XSETBV */
		xsetbv(0, host_xcr0());
	}
	host_fpu_save(vcpu->fpu);
	loaded[vcpu->cpu] = NULL;
	vcpu->loaded = false;
}

void vcpu_release(struct vcpu *vcpu)
{
	hv->unload(vcpu->l1);
	if (vcpu->nested)
		hv->unload(vcpu->nested->state->l2);
}

void vcpu_unload(struct vcpu *vcpu)
{
	vcpu_switch_out(vcpu);
	vcpu_release(vcpu);
}
