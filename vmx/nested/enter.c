/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From L1 to L2 (Intel SDM vol. 3 chapter 27): VMCS12 is checked as it stands in our own memory, then becomes VMCS02 beside what Quire
 * wants of any guest. The processor's fields are written where they have changed since the last entry.
 *
 * VMCS02 always has EPT, unrestricted guest, Quire's pin, exit and entry controls. L1's tables are shadowed (slat), the timer and the
 * I/O bitmaps are looked at in exits. HLT exits, and vm/ lets the vcpu sleep, whoever's the instruction is; but while L1's timer is to
 * end it (section 26.5.1) L2 is halted in the processor, which vm/'s slice for that timer reaches.
 */
#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "vmx/convert.h"
#include "vmx/instructions.h"
#include "vmx/nested/nested.h"

/* Of L1's controls, those that VMCS02 takes over; Quire's own of the others stay. */
#define PRIMARY_OF_L1                                                                                                  \
	(PRIMARY_INTERRUPT_WINDOW | PRIMARY_INVLPG | PRIMARY_RDTSC | PRIMARY_CR3_LOAD | PRIMARY_CR3_STORE |            \
	 PRIMARY_NMI_WINDOW | PRIMARY_MOV_DR | PRIMARY_PAUSE)
#define SECONDARY_OF_L1                                                                                                \
	(SECONDARY_DESCRIPTOR_TABLES | SECONDARY_RDTSCP | SECONDARY_RDRAND | SECONDARY_INVPCID | SECONDARY_RDSEED |    \
	 SECONDARY_TSC_SCALING)
#define CR0_UNCHANGED (CR0_CD | CR0_NW) /* by entries and exits, section 27.3.2.1 */

/* EPT as L1 was offered it: execute-only may not be there. */
static const struct pt_format *format_of(const struct vmx_nested *n)
{
	static struct pt_format readable;
	static bool made;

	if (vmx_offered(&n->offer, MSR_VMX_EPT_VPID) & EPT_EXECUTE_ONLY)
		return &pt_ept4;
	if (!__atomic_load_n(&made, __ATOMIC_ACQUIRE)) {
		struct pt_format format = pt_ept4;

		format.invalid_rights |= 1u << ACCESS_EXECUTE;
		readable = format; /* by several CPUs the same */
		__atomic_store_n(&made, true, __ATOMIC_RELEASE);
	}
	return &readable;
}

bool vmx_nested_slat(const struct vmx_nested *n, uint64_t pointer, struct hv_nested_slat *slat)
{
	const struct vmx_check check = { .offer = &n->offer, .physical_bits = n->base.env->physical_bits };

	*slat = (struct hv_nested_slat){ .on = true,
					 .root = gpa(pointer & ~(PAGE_SIZE - 1)),
					 .format = format_of(n),
					 .physical_bits = n->base.env->physical_bits,
					 .large_1g = vmx_offered(&n->offer, MSR_VMX_EPT_VPID) & EPT_1G,
					 .accessed_dirty = pointer & EPT_POINTER_ACCESSED_DIRTY };
	return vmx_ept_pointer_fits(&check, pointer);
}

static void choose_slat(struct vmx_nested *n)
{
	struct hv_nested_slat slat = { .format = format_of(n) }, *old = &n->base.slat;
	struct vmx_vcpu *l2 = vmx_of(n->base.l2);

	if (vmcs12_secondary(&n->vmcs12) & SECONDARY_EPT)
		(void)vmx_nested_slat(n, AT(&n->vmcs12, EPT_POINTER), &slat); /* it has been checked */
	slat.traps = vmcs12_secondary(&n->vmcs12) & SECONDARY_APIC_ACCESSES;
	slat.trapped = gpa(slat.traps ? AT(&n->vmcs12, APIC_ACCESS_ADDRESS) : 0);
	if (slat.on != old->on || !gpa_is(slat.root, old->root) || slat.accessed_dirty != old->accessed_dirty ||
	    slat.traps != old->traps || !gpa_is(slat.trapped, old->trapped))
		n->base.slat_changed = true;
	*old = slat;
	/* As L1 has asked for: with marks on, walks of L2's tables count as writes (section 29.3.3.2). */
	if (l2->leaves_marks != (slat.on && !slat.accessed_dirty))
		l2->hv.changed |= CHANGED_SLAT;
	l2->leaves_marks = slat.on && !slat.accessed_dirty;
}

static void write_masks(struct vmx_nested *n)
{
	const union vmcs12 *v = &n->vmcs12;
	struct vmx_vcpu *l2 = vmx_of(n->base.l2);
	bool same = n->masks_written && l2->cr0.mask == AT(v, CR0_MASK) && l2->cr4.mask == AT(v, CR4_MASK);

	l2->cr0 = (struct vmx_outer_bits){ AT(v, CR0_MASK), AT(v, CR0_SHADOW) };
	l2->cr4 = (struct vmx_outer_bits){ AT(v, CR4_MASK), AT(v, CR4_SHADOW) };
	if (same)
		return;
	vmcs_write(VMCS_CR0_MASK, vmx_cr0_mask() | l2->cr0.mask);
	vmcs_write(VMCS_CR4_MASK, vmx_cr4_mask() | l2->cr4.mask);
	n->masks_written = true;
}

static void write_controls(struct vmx_nested *n)
{
	const union vmcs12 *v = &n->vmcs12;
	struct vmx_vcpu *l2 = vmx_of(n->base.l2);
	uint32_t wanted = vmcs12_secondary(v), secondary = vmx_capability.secondary, exceptions;

	l2->primary = vmx_capability.primary | (AT(v, PRIMARY_CONTROLS) & PRIMARY_OF_L1);
	if ((AT(v, PIN_CONTROLS) & PIN_PREEMPTION_TIMER) && !(AT(v, PRIMARY_CONTROLS) & PRIMARY_HLT))
		l2->primary &= ~(uint32_t)PRIMARY_HLT;
	secondary = (secondary & ~(uint32_t)SECONDARY_OF_L1) | (wanted & SECONDARY_OF_L1);
	if (!l2->vpid)
		secondary &= ~(uint32_t)SECONDARY_VPID;
	if (wanted & SECONDARY_EPT)
		secondary &= ~(uint32_t)SECONDARY_PML; /* it would log L2's addresses */
	if (!(AT(v, PRIMARY_CONTROLS) & PRIMARY_TSC_OFFSET))
		secondary &=
			~(uint32_t)SECONDARY_TSC_SCALING; /* of no effect (26.3), and our multiplier is an old one */
	if (secondary != n->secondary)
		vmcs_write(VMCS_SECONDARY_CONTROLS, secondary);
	n->secondary = secondary;
	exceptions = (uint32_t)(VMX_EXCEPTIONS | AT(v, EXCEPTION_BITMAP));
	if (exceptions != n->exceptions)
		vmcs_write(VMCS_EXCEPTION_BITMAP, exceptions);
	n->exceptions = exceptions;
	write_masks(n);
}

/* Registers that L2 has in common with L1 unless a control says otherwise. */
struct common {
	uint64_t pat, dr7, debugctl;
};

static void read_common(const struct vmx_nested *n, struct common *c)
{
	uint64_t entry = AT(&n->vmcs12, ENTRY_CONTROLS);
	bool debug = entry & ENTRYC_LOAD_DEBUG;

	c->dr7 = debug ? AT(&n->vmcs12, GUEST_DR7) : vmcs_read(VMCS_GUEST_DR7);
	c->debugctl = debug ? AT(&n->vmcs12, GUEST_DEBUGCTL) : vmcs_read(VMCS_GUEST_DEBUGCTL);
	if (vmx_capability.pat)
		c->pat = entry & ENTRYC_LOAD_PAT ? AT(&n->vmcs12, GUEST_PAT) : vmcs_read(VMCS_GUEST_PAT);
}

static void write_common(const struct common *c)
{
	vmcs_write(VMCS_GUEST_DR7, c->dr7);
	vmcs_write(VMCS_GUEST_DEBUGCTL, c->debugctl);
	if (vmx_capability.pat)
		vmcs_write(VMCS_GUEST_PAT, c->pat);
}

static uint64_t efer(const struct vmx_nested *n)
{
	const union vmcs12 *v = &n->vmcs12;
	uint64_t value = n->base.l1->efer & ~EFER_LMA, entry = AT(v, ENTRY_CONTROLS);

	if (entry & ENTRYC_LOAD_EFER)
		return AT(v, GUEST_EFER);
	if (AT(v, GUEST_CR0) & CR0_PG)
		value = entry & ENTRYC_IA32E ? value | EFER_LME : value & ~EFER_LME;
	return value | (entry & ENTRYC_IA32E ? EFER_LMA : 0);
}

/* Control registers go the ordinary way, with the bits that Quire owns. A changed VPID, or none, forgets L2's translations. */
static void set_control(struct vmx_nested *n)
{
	const union vmcs12 *v = &n->vmcs12;
	struct hv_vcpu *l1 = n->base.l1, *l2 = n->base.l2;
	unsigned vpid = vmcs12_secondary(v) & SECONDARY_VPID ? (unsigned)AT(v, VPID) : VPID_UNKNOWN;

	l2->cr0 = (AT(v, GUEST_CR0) & ~CR0_UNCHANGED) | (l1->cr0 & CR0_UNCHANGED) | CR0_ET;
	l2->cr3 = AT(v, GUEST_CR3);
	l2->cr4 = AT(v, GUEST_CR4);
	l2->efer = efer(n);
	l2->valid = 0;
	l2->changed &= ~(uint32_t)(REGS_ALL | CHANGED_RESET);
	hv_changed(l2, REGS_CONTROL);
	vmx_of(l2)->keep_linear = vpid != VPID_UNKNOWN && vpid == n->vpid;
	n->vpid = vpid;
}

/* Virtual NMIs are on in VMCS02 even if L1's aren't: then no NMI may be injected while they are blocked (section 27.3.1.5). */
static void inject(struct vmx_nested *n)
{
	const union vmcs12 *v = &n->vmcs12;
	struct hv_event *event = &n->base.l2->inject;

	vmcs_write(VMCS_ENTRY_EVENT, 0); /* of an entry that failed */
	*event = vmx_event_from_word((uint32_t)AT(v, ENTRY_EVENT), (uint32_t)AT(v, ENTRY_ERROR_CODE),
				     (uint32_t)AT(v, ENTRY_INSTRUCTION_LENGTH));
	if (event->kind == EVENT_NMI)
		vmcs_write(VMCS_GUEST_INTERRUPTIBILITY, AT(v, GUEST_INTERRUPTIBILITY) & ~BLOCKING_NMI);
}

static void share_spec_ctrl(struct vmx_vcpu *l1, struct vmx_vcpu *l2, bool anew)
{
	if (!anew && l1->spec_ctrl.on == l2->spec_ctrl.on)
		return;
	l2->spec_ctrl.on = l1->spec_ctrl.on;
	vmx_write_spec_ctrl(l2);
}

/* All checks are passed, but for the MSRs'. VMCS02 is current from here on. */
static void commit(struct vmx_nested *n, const uint64_t *pdpte)
{
	const union vmcs12 *v = &n->vmcs12;
	struct hv_vcpu *l1 = n->base.l1, *l2 = n->base.l2;
	bool masks_written = n->masks_written;
	struct common common = { 0 };

	vmx_nested_settle(l1);
	read_common(n, &common);
	vmx_nested_carry(l1, l2);
	vmx_make_current(vmx_of(l2));
	FOR_SLOTS(slot, n->dirty)
	vmcs_write(vmcs12_encoding((unsigned)slot), v->field[slot]);
	n->dirty = (struct vmcs12_set){ { 0 } };
	write_controls(n);
	write_common(&common);
	share_spec_ctrl(vmx_of(l1), vmx_of(l2), !masks_written);
	set_control(n);
	for (unsigned i = 0; i < 4; i++)
		l2->pdpte[i] = pdpte[i];
	inject(n);
	vmx_nested_set_clock(n);
	vmx_msr_bitmap_merge(vmx_of(l2), vmx_of(l1),
			     AT(v, PRIMARY_CONTROLS) & PRIMARY_MSR_BITMAP ? n->msr_bitmap : NULL);
	choose_slat(n);
	l2->rip = AT(v, GUEST_RIP);
	vmx_of(l2)->rip_seen = ~l2->rip;
	n->halted = false;
	n->base.in_l2 = true;
	n->base.awaits_startup = AT(v, GUEST_ACTIVITY) == ACTIVITY_WAIT_SIPI;
}

static enum hv_nested_step failed(struct vmx_nested *n, unsigned reason, unsigned qualification)
{
	const struct vmx_leave leave = { .reason = REASON_ENTRY_FAILED | reason, .qualification = qualification };

	if (!n->base.in_l2) /* nothing of L2 has been loaded */
		vmx_nested_settle(n->base.l1);
	vmx_nested_leave(n, &leave);
	return NESTED_ENTERED;
}

/* A TPR that is below its threshold is an exit behind the entry and its event (section 27.7.7). */
static void exit_below(struct vmx_nested *n)
{
	const struct vmx_leave leave = { .reason = REASON_TPR_THRESHOLD };

	n->below = vmx_nested_below(n);
	if (!n->below)
		return;
	if (n->base.l2->inject.kind == EVENT_NONE) {
		vmx_nested_leave(n, &leave);
		return;
	}
	n->base.deadline = 0;
	if (!vmx_capability.timer)
		host_kick(cpu_index(), false);
}

/* Where it can't be read each access exits. */
static void read_msr_bitmap(struct vmx_nested *n)
{
	const union vmcs12 *v = &n->vmcs12;

	if ((AT(v, PRIMARY_CONTROLS) & PRIMARY_MSR_BITMAP) &&
	    n->base.env->parts(n->base.context, gpa(AT(v, MSR_BITMAP)), n->msr_bitmap, vmx_msr_bitmap_parts,
			       VMX_MSR_BITMAP_PARTS, false) != OK)
		memset(n->msr_bitmap, 0xff, PAGE_SIZE);
}

enum hv_nested_step vmx_nested_enter(struct vmx_nested *n, bool launch, unsigned *error)
{
	const union vmcs12 *v = &n->vmcs12;
	unsigned verdict;
	uint64_t pdpte[4];

	*error = vmx_nested_judge(n);
	if (*error)
		return NESTED_DONE;
	if (vmx_nested_judge_guest(n, pdpte, &verdict) != OK)
		return NESTED_AGAIN;
	if (verdict != GUEST_FINE)
		return failed(n, REASON_INVALID_GUEST_STATE, verdict);
	read_msr_bitmap(n);
	commit(n, pdpte);
	n->launched_before = n->vmcs12.launched;
	verdict = vmx_nested_msr_list(n, n->base.l2, AT(v, ENTRY_MSR_LOAD_ADDRESS), AT(v, ENTRY_MSR_LOAD_COUNT), false);
	if (verdict)
		return failed(n, REASON_MSR_LOADING, verdict);
	if (launch)
		n->vmcs12.launched = 1;
	if (!n->base.awaits_startup)
		exit_below(n);
	return NESTED_ENTERED;
}
