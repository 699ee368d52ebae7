/* SPDX-License-Identifier: Apache-2.0 */
/* A vcpu's registers for the monitor: see the header. */
#include "monitor/command/registers.h"

#include "pgm/walk.h"
#include "vm/vcpu/vcpu.h"

#define SHOWN_GROUPS (REGS_CONTROL | REGS_RFLAGS | REGS_RSP)

bool registers_fetch(struct vcpu *v)
{
	/* Of a movable one only what this CPU holds stays here, for it is this CPU that lets go. */
	bool here = __atomic_load_n(&v->cpu, __ATOMIC_RELAXED) == cpu_index() &&
		    (!v->movable || __atomic_load_n(&v->loaded, __ATOMIC_ACQUIRE));

	if (!here && (__atomic_load_n(&v->machine->state, __ATOMIC_ACQUIRE) == MACHINE_RUNNING ||
		      __atomic_load_n(&v->machine->vcpus_inside, __ATOMIC_ACQUIRE)))
		return false;
	hv_need(v->hv, SHOWN_GROUPS);
	if (!here)
		vcpu_release(v);
	return true;
}

const char *registers_seen(bool now)
{
	return now ? "now" : "last seen";
}

void registers_walk_context(const struct vcpu *v, struct walk_context *c)
{
	const struct hv_vcpu *h = v->hv;

	*c = (struct walk_context){ .cr0 = h->cr0,
				    .cr3 = h->cr3,
				    .cr4 = h->cr4,
				    .efer = h->efer,
				    .rflags = h->rflags,
				    .physical_bits = cpuid_physical_bits(v->machine->cpuid),
				    .page_1g = cpuid_has_1g(v->machine->cpuid),
				    .bit8_reserved = hv_capabilities.slat == SLAT_NPT,
				    .a20_mask = v->a20_mask };
	if (guest_mode_format(guest_mode_of(c->cr0, c->cr4, c->efer)) == &pt_pae)
		vcpu_fetch_pdptes(v, c, ORIGIN_DEBUGGER);
}
