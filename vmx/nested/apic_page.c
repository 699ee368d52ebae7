/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "Virtualize APIC accesses" (Intel SDM vol. 3 section 30.4): one page of L1's is no memory for L2. The composed tables never map it, so
 * that each access comes here, whatever the host's processor could do itself. With the shadow of the TPR, accesses of up to four bytes to
 * that register go to L1's virtual-APIC page, by emulation; all others are exits. No other register is virtualized: L1 isn't offered it.
 */
#include "vmx/instructions.h"
#include "vmx/nested/nested.h"

#define TPR_OFFSET 0x80u
#define OFFSET(address) ((address) & (PAGE_SIZE - 1))

/* Bits 15:12 of the qualification, table 28-6. */
enum { TYPE_READ, TYPE_WRITE, TYPE_FETCH, TYPE_EVENT, TYPE_PHYSICAL_EVENT = 10, TYPE_PHYSICAL = 15 };

bool vmx_nested_below(const struct vmx_nested *n)
{
	const union vmcs12 *v = &n->vmcs12;

	return (vmcs12_secondary(v) & SECONDARY_APIC_ACCESSES) && (AT(v, PRIMARY_CONTROLS) & PRIMARY_TPR_SHADOW) &&
	       vmx_nested_read_priority(n) >> 4 < AT(v, TPR_THRESHOLD);
}

/* An access to L2's own tables is none to the register (section 30.4.6). */
bool vmx_nested_redirect(struct hv_nested *nested, const struct hv_nested_fault *fault, gpa_t *where)
{
	struct vmx_nested *n = nested_of(nested);
	const union vmcs12 *v = &n->vmcs12;

	if (!(AT(v, PRIMARY_CONTROLS) & PRIMARY_TPR_SHADOW) || OFFSET(fault->where.v) != TPR_OFFSET ||
	    fault->guest_table || (fault->access & ACCESS_EXECUTE))
		return false;
	n->lowered |= (fault->access & ACCESS_WRITE) != 0;
	*where = gpa(AT(v, VIRTUAL_APIC_ADDRESS) + TPR_OFFSET);
	return true;
}

/* Section 30.1.2: before a single step's trap, which stays pending. */
bool vmx_nested_redirected(struct hv_nested *nested)
{
	const struct vmx_leave leave = { .reason = REASON_TPR_THRESHOLD };
	struct vmx_nested *n = nested_of(nested);
	struct hv_event *event = &nested->l2->inject;
	bool lowered = n->lowered;

	n->lowered = false;
	if (!nested->in_l2 || !lowered || !vmx_nested_below(n))
		return false;
	vmx_make_current(vmx_of(nested->l2));
	if (event->kind == EVENT_EXCEPTION && event->vector == VECTOR_DB)
		vmcs_write(VMCS_GUEST_PENDING_DEBUG, vmcs_read(VMCS_GUEST_PENDING_DEBUG) | PENDING_DEBUG_BS);
	vmx_nested_leave(n, &leave);
	return true;
}

/* Section 28.2.1, table 28-6. */
void vmx_nested_apic_exit(const struct hv_exit *exit, const struct hv_nested_fault *fault, struct vmx_leave *leave)
{
	bool event = exit->interrupted.kind != EVENT_NONE;
	unsigned type = event                            ? TYPE_EVENT
			: fault->access & ACCESS_EXECUTE ? TYPE_FETCH
			: fault->access & ACCESS_WRITE   ? TYPE_WRITE
							 : TYPE_READ;

	if (fault->guest_table)
		type = event ? TYPE_PHYSICAL_EVENT : TYPE_PHYSICAL;
	*leave = (struct vmx_leave){ .reason = REASON_APIC_ACCESS,
				     .qualification = (fault->guest_table ? 0 : OFFSET(fault->where.v)) | type << 12,
				     .length = exit->length,
				     .vectoring = exit->interrupted };
}
