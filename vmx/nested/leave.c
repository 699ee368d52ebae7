/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From L2 to L1 (Intel SDM vol. 3 chapter 28): what happened goes into VMCS12's exit fields, L2's state into its guest fields, and L1
 * goes on in its host state, of which most is written to VMCS01 at once. An entry that failed leaves the guest fields alone
 * (section 27.8).
 */
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "vmx/convert.h"
#include "vmx/instructions.h"
#include "vmx/nested/nested.h"

#define RIGHTS_CODE 0x9bu   /* accessed, readable code of ring 0 */
#define RIGHTS_DATA 0xc093u /* writable data, big, with pages */
#define RIGHTS_TSS 0x8bu    /* busy */
#define TSS_LIMIT 0x67u
#define TABLE_LIMIT 0xffffu
#define RFLAGS_RESET 2u
#define CR0_UNCHANGED (CR0_CD | CR0_NW)
#define ABORT_LOADING_MSRS 4u /* section 28.7 */
#define ABORT_PDPTE 2u
#define ABORT_SAVING_MSRS 1u

/* Of an entry that failed nothing else is told. */
static void record(struct vmx_nested *n, const struct vmx_leave *leave)
{
	union vmcs12 *v = &n->vmcs12;
	uint32_t word = vmx_event_word(&leave->vectoring, n->base.l2->cr0 & CR0_PE);
	bool failed = leave->reason & REASON_ENTRY_FAILED;

	FOR_FIELDS(f, n->exit)
	if (!failed)
		v->field[f->slot] = leave->processor ? vmcs_read(f->encoding) : 0;
	if (leave->processor)
		return;
	AT(v, EXIT_REASON) = leave->reason;
	AT(v, EXIT_QUALIFICATION) = leave->qualification;
	if (failed)
		return;
	AT(v, GUEST_PHYSICAL_ADDRESS) = leave->gpa;
	AT(v, GUEST_LINEAR_ADDRESS) = leave->linear;
	AT(v, EXIT_EVENT) = leave->event;
	AT(v, EXIT_ERROR_CODE) = leave->event_error;
	AT(v, VECTORING_EVENT) = word;
	AT(v, VECTORING_ERROR_CODE) = leave->vectoring.has_error_code ? leave->vectoring.error_code : 0;
	AT(v, EXIT_INSTRUCTION_LENGTH) = vmx_event_has_length(word) ? leave->vectoring.length : leave->length;
}

/* NMIs are as they were before Quire made its own mind up about going on in L2, and VMCS02 isn't what L1 sees. */
static void save_blocking(struct vmx_nested *n, const struct vmx_leave *leave)
{
	uint64_t *blocking = &AT(&n->vmcs12, GUEST_INTERRUPTIBILITY);

	if (leave->vectoring.kind == EVENT_NMI)
		*blocking |= BLOCKING_NMI;
	else if (leave->undoes_iret)
		*blocking &= ~BLOCKING_NMI;
	else
		return;
	vmcs12_add(&n->dirty, VMCS12_SLOT(VMCS_GUEST_INTERRUPTIBILITY));
}

static void save_guest(struct vmx_nested *n, const struct vmx_leave *leave)
{
	union vmcs12 *v = &n->vmcs12;
	struct hv_vcpu *l2 = n->base.l2;
	uint64_t exit = AT(v, EXIT_CONTROLS);

	FOR_FIELDS(f, n->hot)
	v->field[f->slot] = vmcs_read(f->encoding);
	n->kept_in_02 = true;
	if (n->halted && l2->exit.kind == EXIT_HLT) {
		AT(v, GUEST_ACTIVITY) = ACTIVITY_HLT;
		vmcs12_add(&n->dirty, VMCS12_SLOT(VMCS_GUEST_ACTIVITY)); /* VMCS02 doesn't know of it */
	}
	hv_need(l2, REGS_CONTROL);
	AT(v, GUEST_CR0) = l2->cr0;
	AT(v, GUEST_CR3) = l2->cr3;
	AT(v, GUEST_CR4) = l2->cr4;
	AT(v, GUEST_RIP) = l2->rip;
	for (unsigned i = 0; i < 4 && (vmcs12_secondary(v) & SECONDARY_EPT); i++)
		AT_NEXT(v, GUEST_PDPTE0, i) = l2->pdpte[i];
	AT(v, ENTRY_CONTROLS) = (AT(v, ENTRY_CONTROLS) & ~ENTRYC_IA32E) | (l2->efer & EFER_LMA ? ENTRYC_IA32E : 0);
	AT(v, ENTRY_EVENT) &= ~EVENT_VALID;
	if (exit & EXITC_SAVE_EFER)
		AT(v, GUEST_EFER) = l2->efer;
	if (exit & EXITC_SAVE_PAT)
		AT(v, GUEST_PAT) = vmcs_read(VMCS_GUEST_PAT);
	if (exit & EXITC_SAVE_DEBUG) {
		AT(v, GUEST_DR7) = vmcs_read(VMCS_GUEST_DR7);
		AT(v, GUEST_DEBUGCTL) = vmcs_read(VMCS_GUEST_DEBUGCTL);
	}
	save_blocking(n, leave);
	vmx_nested_save_timer(n);
}

/* Host fields that become L1's guest fields as they are. */
static const struct {
	uint16_t guest, host;
} moved[] = {
	{ VMCS_SEGMENT(VMCS_GUEST_ES_SELECTOR, SEG_TR), VMCS_HOST_TR_SELECTOR },
	{ VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_TR), VMCS_HOST_TR_BASE },
	{ VMCS_GUEST_GDTR_BASE, VMCS_HOST_GDTR_BASE },
	{ VMCS_GUEST_IDTR_BASE, VMCS_HOST_IDTR_BASE },
	{ VMCS_GUEST_SYSENTER_CS, VMCS_HOST_SYSENTER_CS },
	{ VMCS_GUEST_SYSENTER_ESP, VMCS_HOST_SYSENTER_ESP },
	{ VMCS_GUEST_SYSENTER_EIP, VMCS_HOST_SYSENTER_EIP },
	{ VMCS_GUEST_RSP, VMCS_HOST_RSP },
};

/* The same whatever the host fields say, section 28.5.2, 28.5.3. */
static const struct {
	uint16_t field;
	uint32_t value;
} fixed[] = {
	{ VMCS_SEGMENT(VMCS_GUEST_ES_SELECTOR, SEG_LDTR), 0 },
	{ VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_LDTR), RIGHTS_UNUSABLE },
	{ VMCS_SEGMENT(VMCS_GUEST_ES_LIMIT, SEG_TR), TSS_LIMIT },
	{ VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_TR), RIGHTS_TSS },
	{ VMCS_GUEST_GDTR_LIMIT, TABLE_LIMIT },
	{ VMCS_GUEST_IDTR_LIMIT, TABLE_LIMIT },
	{ VMCS_GUEST_DR7, DR7_RESET },
	{ VMCS_GUEST_DEBUGCTL, 0 },
	{ VMCS_GUEST_RFLAGS, RFLAGS_RESET },
	{ VMCS_GUEST_PENDING_DEBUG, 0 },
};

static uint32_t rights_of(const union vmcs12 *v, unsigned i)
{
	if (i == SEG_CS)
		return RIGHTS_CODE | SEG_ATTR_G | (AT(v, EXIT_CONTROLS) & EXITC_HOST_64 ? SEG_ATTR_L : SEG_ATTR_DB);
	return AT_NEXT(v, HOST_ES_SELECTOR, i) ? RIGHTS_DATA : RIGHTS_UNUSABLE;
}

/*
 * Blocking of NMIs outlives an exit as it was in L2 (section 28.5.5), where L1's virtual NMIs have ended it (section 27.7.1); a failed
 * entry leaves it alone. VMCS01 is current.
 */
static uint64_t blocking_after(const struct vmx_nested *n, const struct vmx_leave *leave)
{
	const union vmcs12 *v = &n->vmcs12;

	if (leave->by_nmi)
		return BLOCKING_NMI;
	if (leave->reason & REASON_ENTRY_FAILED)
		return vmcs_read(VMCS_GUEST_INTERRUPTIBILITY) & BLOCKING_NMI;
	return AT(v, PIN_CONTROLS) & PIN_VIRTUAL_NMIS ? 0 : AT(v, GUEST_INTERRUPTIBILITY) & BLOCKING_NMI;
}

static void load_fields(const struct vmx_nested *n)
{
	const union vmcs12 *v = &n->vmcs12;

	for (unsigned i = 0; i < ARRAY_SIZE(moved); i++)
		vmcs_write((enum vmcs_field)moved[i].guest, v->field[VMCS12_SLOT(moved[i].host)]);
	for (unsigned i = 0; i < ARRAY_SIZE(fixed); i++)
		vmcs_write((enum vmcs_field)fixed[i].field, fixed[i].value);
	for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
		vmcs_write(VMCS_SEGMENT(VMCS_GUEST_ES_SELECTOR, i), AT_NEXT(v, HOST_ES_SELECTOR, i));
		vmcs_write(VMCS_SEGMENT(VMCS_GUEST_ES_BASE, i), i < SEG_FS ? 0 : AT_NEXT(v, HOST_FS_BASE, i - SEG_FS));
		vmcs_write(VMCS_SEGMENT(VMCS_GUEST_ES_LIMIT, i), BITS(31, 0));
		vmcs_write(VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, i), rights_of(v, i));
	}
}

/* EFER and PAT: L1's own, or what L2 has left there (section 28.5.1). VMCS01 is current. */
static void load_modes(struct vmx_nested *n, uint64_t efer, uint64_t pat)
{
	const union vmcs12 *v = &n->vmcs12;
	uint64_t exit = AT(v, EXIT_CONTROLS), cr0 = n->base.in_l2 ? n->base.l2->cr0 : n->base.l1->cr0;
	struct hv_vcpu *l1 = n->base.l1;

	efer = exit & EXITC_LOAD_EFER ? AT(v, HOST_EFER) : efer;
	efer &= ~(EFER_LMA | EFER_LME);
	l1->efer = efer | (exit & EXITC_HOST_64 ? EFER_LMA | EFER_LME : 0);
	l1->cr0 = (AT(v, HOST_CR0) & ~CR0_UNCHANGED) | (cr0 & CR0_UNCHANGED) | CR0_ET;
	l1->cr3 = AT(v, HOST_CR3);
	l1->cr4 = AT(v, HOST_CR4);
	if (vmx_capability.pat)
		vmcs_write(VMCS_GUEST_PAT, exit & EXITC_LOAD_PAT ? AT(v, HOST_PAT) : pat);
	vmx_of(l1)->keep_linear = vmcs12_secondary(v) & SECONDARY_VPID;
	l1->rip = AT(v, HOST_RIP);
	l1->rflags = RFLAGS_RESET;
	l1->inject.kind = EVENT_NONE;
	l1->valid = REGS_RFLAGS;
	hv_changed(l1, REGS_CONTROL);
}

/* A 32-bit L1 with PAE has its PDPTEs loaded. */
static bool load_pdptes(struct vmx_nested *n)
{
	struct hv_vcpu *l1 = n->base.l1;

	if (!(l1->cr4 & CR4_PAE) || (l1->efer & EFER_LMA))
		return true;
	return n->base.env->read(n->base.context, gpa(l1->cr3 & BITS(31, 5)), l1->pdpte, sizeof(l1->pdpte)) == OK &&
	       vmx_pdptes_fit(l1->pdpte, n->base.env->physical_bits);
}

/* Section 28.7: L1 is shut down, by a double fault for which there is no table; the reason stands in its region, if that can be. */
static void abort_l1(struct vmx_nested *n, uint32_t why)
{
	struct hv_vcpu *l1 = n->base.l1;
	gpa_t where = gpa(n->current.v + offsetof(union vmcs12, abort));

	n->vmcs12.abort = why;
	if (n->base.env->write(n->base.context, where, &why, sizeof(why)) != OK)
		n->current = NO_VMCS;
	vmx_make_current(vmx_of(l1));
	vmcs_write(VMCS_GUEST_IDTR_LIMIT, 0);
	l1->valid &= ~(uint32_t)REGS_OTHERS;
	l1->inject = hv_exception(VECTOR_DF, true, 0);
}

void vmx_nested_leave(struct vmx_nested *n, const struct vmx_leave *leave)
{
	union vmcs12 *v = &n->vmcs12;
	struct hv_vcpu *l1 = n->base.l1, *l2 = n->base.l2;
	struct hv_vcpu *level = n->base.in_l2 ? l2 : l1;
	uint64_t pat = 0;
	unsigned broken = 0;

	vmx_nested_settle(level);
	if (vmx_capability.pat)
		pat = vmcs_read(VMCS_GUEST_PAT);
	record(n, leave);
	if (!(leave->reason & REASON_ENTRY_FAILED)) {
		save_guest(n, leave);
		broken = vmx_nested_msr_list(n, l2, AT(v, EXIT_MSR_STORE_ADDRESS), AT(v, EXIT_MSR_STORE_COUNT), true)
				 ? ABORT_SAVING_MSRS
				 : 0;
	} else if (n->base.in_l2) {
		n->vmcs12.launched = n->launched_before;
	}
	if (level == l2)
		vmx_mirror_push(n, false);
	vmx_make_current(vmx_of(l1));
	load_modes(n, level->efer, pat);
	load_fields(n);
	vmcs_write(VMCS_GUEST_INTERRUPTIBILITY, blocking_after(n, leave));
	if (level == l2) {
		vmx_nested_carry(l2, l1);
		l2->inject.kind = EVENT_NONE;
		l2->want_interrupt_window = l2->want_nmi_window = false;
	}
	n->base.in_l2 = n->base.awaits_startup = n->below = false;
	n->base.deadline = UINT64_MAX;
	if (!load_pdptes(n))
		broken = ABORT_PDPTE;
	if (!broken && vmx_nested_msr_list(n, l1, AT(v, EXIT_MSR_LOAD_ADDRESS), AT(v, EXIT_MSR_LOAD_COUNT), false))
		broken = ABORT_LOADING_MSRS;
	if (broken)
		abort_l1(n, broken);
}
