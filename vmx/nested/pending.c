/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of an interrupt, NMI, INIT or SIPI that is pending for L1 while L2 runs (Intel SDM vol. 3 sections 26.2, 28.1): an exit,
 * if L1 asks for one. An L2 that waits for a SIPI gets nothing else. An event that L1 injects gets into L2 first, and whole (section 27.6): the exit follows by the shortest slice.
 */
#include "arch/x86_64/host.h"
#include "vmx/nested/nested.h"

#define INFO_NMI (EVENT_VALID | EVENT_TYPE_NMI << EVENT_TYPE_SHIFT | VECTOR_NMI)

/*
 * The slice is written at that entry, and its end comes behind the delivery; then what is pending is asked about again. Not an IPI to
 * itself where there's a timer: the host may take it before the entry.
 */
static bool event_first(const struct vmx_nested *n)
{
	if (n->base.l2->inject.kind == EVENT_NONE)
		return false;
	n->base.l2->slice_deadline = 0;
	if (!vmx_capability.timer)
		host_kick(cpu_index(), false);
	return true;
}

static enum hv_nested_verdict interrupt(struct vmx_nested *n)
{
	struct vmx_leave leave = { .reason = REASON_EXTERNAL_INTERRUPT };
	int vector;

	if (!(AT(&n->vmcs12, PIN_CONTROLS) & PIN_EXTERNAL_INTERRUPT))
		return NESTED_INJECT;
	if (event_first(n))
		return NESTED_HELD;
	if (AT(&n->vmcs12, EXIT_CONTROLS) & EXITC_ACKNOWLEDGE) {
		vector = n->base.env->acknowledge(n->base.context);
		if (vector < 0)
			return NESTED_HELD;
		leave.event = (uint32_t)EVENT_VALID | EVENT_TYPE_INTERRUPT << EVENT_TYPE_SHIFT | (uint32_t)vector;
	}
	vmx_nested_leave(n, &leave);
	return NESTED_REFLECTED;
}

/* Without virtual NMIs, blocking in L2 is blocking of L1's. */
static enum hv_nested_verdict nmi(struct vmx_nested *n)
{
	const struct vmx_leave leave = { .reason = REASON_EXCEPTION_OR_NMI,
					 .event = (uint32_t)INFO_NMI,
					 .by_nmi = true };
	uint64_t pin = AT(&n->vmcs12, PIN_CONTROLS);

	if (!(pin & PIN_NMI))
		return NESTED_INJECT;
	if (event_first(n))
		return NESTED_HELD;
	hv_need(n->base.l2, REGS_SHADOW);
	if (!(pin & PIN_VIRTUAL_NMIS) && n->base.l2->nmi_blocked)
		return NESTED_WINDOW;
	vmx_nested_leave(n, &leave);
	return NESTED_TAKEN;
}

enum hv_nested_verdict vmx_nested_pending(struct hv_nested *nested, enum hv_nested_event what)
{
	struct vmx_nested *n = nested_of(nested);
	const struct vmx_leave init = { .reason = REASON_INIT };

	if (!nested->in_l2)
		return what == NESTED_INIT && n->on ? NESTED_HELD : NESTED_INJECT;
	if (nested->awaits_startup)
		return NESTED_HELD;
	switch (what) {
	case NESTED_INTERRUPT: return interrupt(n);
	case NESTED_NMI: return nmi(n);
	default:
		if (event_first(n))
			return NESTED_HELD;
		vmx_nested_leave(n, &init);
		return NESTED_TAKEN;
	}
}

void vmx_nested_startup(struct hv_nested *nested, uint8_t vector)
{
	const struct vmx_leave leave = { .reason = REASON_SIPI, .qualification = vector };

	vmx_nested_leave(nested_of(nested), &leave);
}
