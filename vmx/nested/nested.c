/* SPDX-License-Identifier: Apache-2.0 */
/* The table of functions of arch/x86_64/hv_nested.h: life, exits, pending events, MSRs. See nested.h. */
#include "arch/x86_64/hv_answer.h"
#include "lib/memory.h"
#include "vmx/convert.h"
#include "vmx/exit.h"
#include "vmx/instructions.h"
#include "vmx/nested/nested.h"

#define CPUID_1_ECX_VMX BIT(5)
/* Of DR6, what a #DB's qualification has, table 28-1. */
#define DEBUG_CONDITIONS (DR6_BREAKPOINTS | DR6_GENERAL_DETECT | DR6_SINGLE_STEP)

void vmx_nested_settle(struct hv_vcpu *v)
{
	vmx_make_current(vmx_of(v));
	if (!(v->changed & REGS_ALL))
		return;
	if (!vmx_of(v)->ready)
		vmx_make_ready(vmx_of(v));
	vmx_write_back(vmx_of(v));
}

void vmx_nested_carry(struct hv_vcpu *from, struct hv_vcpu *to)
{
	uint64_t rsp = to->gpr[GPR_RSP];

#pragma GCC unroll 16
	for (unsigned i = 0; i < GPR_COUNT; i++)
		to->gpr[i] = from->gpr[i];
	to->gpr[GPR_RSP] = rsp;
	to->cr2 = from->cr2;
	to->xcr0 = from->xcr0;
	vmx_lazy_hand_over(vmx_of(from), vmx_of(to));
}

void vmx_nested_fetch_kept(struct vmx_nested *n)
{
	if (!n->kept_in_02)
		return;
	vmx_make_current(vmx_of(n->base.l2));
	FOR_SLOTS(slot, n->kept)
	if (!vmcs12_has(&n->dirty, (unsigned)slot))
		n->vmcs12.field[slot] = vmcs_read(vmcs12_encoding((unsigned)slot));
	n->kept_in_02 = false;
}

static void reset(struct hv_nested *nested)
{
	struct vmx_nested *n = nested_of(nested);

	nested->in_l2 = nested->awaits_startup = false;
	nested->slat = (struct hv_nested_slat){ .on = false };
	nested->slat_changed = true;
	nested->deadline = nested->timer = UINT64_MAX;
	n->on = n->kept_in_02 = n->in_mirror = false; /* L1 has no mirror either, by its own reset */
	n->vmxon = n->current = NO_VMCS;
	n->vpid = VPID_UNKNOWN;
}

static void destroy(struct hv_nested *nested)
{
	vmx_mirror_destroy(nested_of(nested));
	vmx_destroy(nested->l2);
	heap_free(nested, sizeof(struct vmx_nested));
}

static enum status create(struct hv_vcpu *l1, const struct hv_nested_env *env, void *context, struct hv_nested **out)
{
	struct vmx_nested *n = heap_alloc(sizeof(*n));
	enum status status = n ? vmx_create(&n->base.l2) : NO_MEMORY;

	if (status != OK) {
		heap_free(n, sizeof(*n));
		return status;
	}
	n->base.l1 = l1;
	n->base.env = env;
	n->base.context = context;
	vmx_offer_make(&n->offer, &vmx_capability, env->cr4_valid);
	vmcs12_fields(&n->copied, FIELD_COPIED);
	vmcs12_fields(&n->kept, FIELD_KEPT);
	vmcs12_list(&n->hot, FIELD_HOT, false);
	vmcs12_list(&n->exit, FIELD_EXIT, false);
	reset(&n->base);
	status = vmx_mirror_create(n);
	if (status != OK)
		destroy(&n->base);
	*out = &n->base;
	return status;
}

/* What the processor refused of VMCS02, and VMCS12's checks let through. */
static bool entry_failed(struct vmx_nested *n)
{
	const struct hv_exit *exit = &n->base.l2->exit;
	const struct vmx_leave leave = { .reason = REASON_ENTRY_FAILED | REASON_INVALID_GUEST_STATE,
					 .qualification = exit->failure.code };

	if (exit->raw_reason != REASON_INVALID_GUEST_STATE)
		return false;
	vmx_nested_leave(n, &leave);
	return true;
}

/* Did an IRET that had unblocked NMIs end in this exit (vmx_exit_undoes_iret())? */
static bool undoes_iret(const struct hv_exit *exit)
{
	const struct vmx_raw_exit raw = { .reason = (uint32_t)exit->raw_reason,
					  .event = (uint32_t)vmcs_read(VMCS_EXIT_EVENT),
					  .qualification = vmcs_read(VMCS_EXIT_QUALIFICATION) };

	return vmx_exit_undoes_iret(&raw, exit);
}

/* Exits at which no instruction of L2's is half done. */
static bool may_stop(const struct hv_exit *exit)
{
	return exit->kind == EXIT_SLICE || exit->kind == EXIT_HOST_INTERRUPT || exit->kind == EXIT_INTERRUPT_WINDOW ||
	       exit->kind == EXIT_NMI_WINDOW;
}

/* L2 is behind an instruction that Quire has carried out, before anything else happens there (section 30.1.2). */
static bool complete(struct hv_vcpu *l2)
{
	uint64_t next, pending;

	if (!hv_step(l2->rip, l2->exit.length, &next))
		return false;
	hv_need(l2, REGS_RFLAGS | REGS_SHADOW);
	l2->rip = next;
	l2->interrupt_shadow = false;
	l2->rflags &= ~RFLAGS_RF;
	hv_changed(l2, REGS_RFLAGS | REGS_SHADOW);
	pending = vmcs_read(VMCS_GUEST_PENDING_DEBUG) & ~PENDING_DEBUG_BS;
	if ((l2->rflags & RFLAGS_TF) && !(vmcs_read(VMCS_GUEST_DEBUGCTL) & DEBUGCTL_BTF))
		pending |= PENDING_DEBUG_BS;
	vmcs_write(VMCS_GUEST_PENDING_DEBUG, pending);
	return true;
}

static bool exit_l2(struct hv_nested *nested)
{
	struct vmx_nested *n = nested_of(nested);
	struct hv_vcpu *l2 = nested->l2;
	struct vmx_leave leave = { .reason = l2->exit.raw_reason, .processor = true };
	bool below;

	n->halted = n->lowered = false;
	if (l2->exit.kind == EXIT_INVALID_STATE)
		return entry_failed(n);
	if (vmx_nested_wants(n)) {
		leave.vectoring = l2->exit.interrupted;
		leave.undoes_iret = undoes_iret(&l2->exit);
	} else if (vmx_nested_priority(n, &below)) {
		if (!below || !complete(l2))
			return false;
		leave = (struct vmx_leave){ .reason = REASON_TPR_THRESHOLD };
	} else if (may_stop(&l2->exit) && rdtsc() >= nested->deadline) {
		leave = (struct vmx_leave){ .reason = n->below ? REASON_TPR_THRESHOLD : REASON_PREEMPTION_TIMER,
					    .vectoring = l2->exit.interrupted };
	} else {
		n->halted = l2->exit.kind == EXIT_HLT;
		return false;
	}
	vmx_nested_leave(n, &leave);
	return true;
}

/* Table 28-7, from what L1's own tables say. */
static void reflect_slat(struct hv_nested *nested, const struct hv_nested_fault *fault)
{
	struct hv_exit *exit = &nested->l2->exit;
	struct vmx_leave leave = { .reason = fault->misconfigured ? REASON_EPT_MISCONFIG : REASON_EPT_VIOLATION,
				   .gpa = fault->where.v,
				   .vectoring = exit->interrupted };

	if (fault->trapped) {
		vmx_nested_apic_exit(exit, fault, &leave);
	} else if (!fault->misconfigured) {
		leave.qualification = fault->access | (uint64_t)fault->rights << 3;
		if (fault->linear_valid)
			leave.qualification |= VIOLATION_LINEAR_VALID | (fault->guest_table ? 0 : VIOLATION_FINAL);
		leave.linear = fault->linear_valid ? fault->linear.v : 0;
		vmx_make_current(vmx_of(nested->l2));
		leave.undoes_iret = exit->kind == EXIT_SLAT_FAULT && undoes_iret(exit);
		if (leave.undoes_iret)
			leave.qualification |= VIOLATION_NMI_UNBLOCKED;
	}
	vmx_nested_leave(nested_of(nested), &leave);
}

/* Vectors that are no faults, table 6-1: their flags are told as they are. */
#define NOT_FAULTS (BIT(VECTOR_DB) | BIT(VECTOR_BP) | BIT(VECTOR_OF) | BIT(VECTOR_DF) | BIT(VECTOR_MC))

/* A second fault while a double fault is delivered is a shutdown. What a double fault has come of isn't told (section 28.2.4). */
static bool exception(struct hv_nested *nested, const struct hv_event *event, uint64_t detail)
{
	struct vmx_nested *n = nested_of(nested);
	const union vmcs12 *v = &n->vmcs12;
	struct vmx_leave leave = { .reason = REASON_EXCEPTION_OR_NMI,
				   .qualification = event->vector == VECTOR_PF   ? detail
						    : event->vector == VECTOR_DB ? detail & DEBUG_CONDITIONS
										 : 0,
				   .event = vmx_event_word(event, nested->l2->cr0 & CR0_PE),
				   .event_error = event->error_code };
	bool in_bitmap = AT(v, EXCEPTION_BITMAP) >> (event->vector & 31) & 1;

	if (!nested->in_l2)
		return false;
	if (event->vector != VECTOR_DF)
		leave.vectoring = nested->l2->inject;
	if (event->vector == VECTOR_PF)
		in_bitmap = in_bitmap == ((event->error_code & AT(v, PAGE_FAULT_MASK)) == AT(v, PAGE_FAULT_MATCH));
	if (!in_bitmap && nested->l2->inject.kind == EVENT_EXCEPTION && nested->l2->inject.vector == VECTOR_DF)
		leave = (struct vmx_leave){ .reason = REASON_TRIPLE_FAULT };
	else if (!in_bitmap)
		return false;
	if (!(NOT_FAULTS >> (event->vector & 31) & 1)) {
		hv_need(nested->l2, REGS_RFLAGS);
		nested->l2->rflags |= RFLAGS_RF; /* as the fault would have pushed it, section 28.3.3 */
		hv_changed(nested->l2, REGS_RFLAGS);
	}
	vmx_nested_leave(n, &leave);
	return true;
}

static enum status msr(struct hv_nested *nested, uint32_t number, bool write, uint64_t *value)
{
	bool feature_control = number == MSR_FEATURE_CONTROL;

	if (!feature_control && (number < OFFER_FIRST || number > OFFER_LAST))
		return NOT_FOUND;
	if (write)
		return DENIED;
	*value = feature_control ? FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX
				 : vmx_offered(&nested_of(nested)->offer, number);
	return OK;
}

static bool control(const struct hv_nested *nested, uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	const struct vmx_nested *n = nested_of(nested);
	bool loose = nested->in_l2 && (vmcs12_secondary(&n->vmcs12) & SECONDARY_UNRESTRICTED);

	return !n->on || (vmx_offer_fixes(&n->offer, MSR_VMX_CR0_FIXED0, cr0, loose ? CR0_PE | CR0_PG : 0) &&
			  vmx_offer_fixes(&n->offer, MSR_VMX_CR4_FIXED0, cr4, 0));
}

static uint64_t control_value(const struct hv_nested *nested, unsigned number, uint64_t value)
{
	const struct hv_vcpu *l2 = nested->l2;
	uint64_t mask = number == 0 ? vmx_of(nested->l2)->cr0.mask : vmx_of(nested->l2)->cr4.mask;

	return (value & ~mask) | ((number == 0 ? l2->cr0 : l2->cr4) & mask);
}

static void tell(uint32_t leaf, struct cpuid_result *result)
{
	if (leaf == 1)
		result->ecx |= (uint32_t)CPUID_1_ECX_VMX;
}

const struct hv_nested_ops vmx_nested_ops = {
	.create = create,
	.destroy = destroy,
	.reset = reset,
	.instruction = vmx_nested_instruction,
	.exit = exit_l2,
	.reflect_slat = reflect_slat,
	.redirect = vmx_nested_redirect,
	.redirected = vmx_nested_redirected,
	.exception = exception,
	.pending = vmx_nested_pending,
	.startup = vmx_nested_startup,
	.msr = msr,
	.control = control,
	.control_value = control_value,
	.tell = tell,
};
