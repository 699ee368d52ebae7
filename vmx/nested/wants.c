/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which exits of L2 are L1's: by a table of its controls, and for some by more than one bit (Intel SDM vol. 3 sections 26.1.2, 26.1.3,
 * 26.2). What isn't L1's is Quire's, as if L2 were a guest of its own. Here, too, the shadow of the TPR: moves to and from CR8 always
 * exit, and are carried out on L1's virtual-APIC page (section 30.1.1, 30.1.2).
 */
#include "vmx/exit.h"
#include "vmx/instructions.h"
#include "vmx/nested/nested.h"

#define VTPR_OFFSET 0x80u

enum when { NEVER, ALWAYS, PRIMARY, SECONDARY, ASK };

static const struct {
	uint8_t when;
	uint32_t bit;
} wants[REASON_COUNT] = {
	[REASON_EXCEPTION_OR_NMI] = { ASK, 0 },
	[REASON_TRIPLE_FAULT] = { ALWAYS, 0 },
	[REASON_INTERRUPT_WINDOW] = { PRIMARY, PRIMARY_INTERRUPT_WINDOW },
	[REASON_NMI_WINDOW] = { PRIMARY, PRIMARY_NMI_WINDOW },
	[REASON_TASK_SWITCH... REASON_GETSEC] = { ALWAYS, 0 },
	[REASON_HLT] = { PRIMARY, PRIMARY_HLT },
	[REASON_INVD] = { ALWAYS, 0 },
	[REASON_INVLPG] = { PRIMARY, PRIMARY_INVLPG },
	[REASON_RDPMC] = { PRIMARY, PRIMARY_RDPMC },
	[REASON_RDTSC] = { PRIMARY, PRIMARY_RDTSC },
	[REASON_VMCALL... REASON_VMXON] = { ALWAYS, 0 },
	[REASON_CR_ACCESS] = { ASK, 0 },
	[REASON_DR_ACCESS] = { PRIMARY, PRIMARY_MOV_DR },
	[REASON_IO... REASON_WRMSR] = { ASK, 0 },
	[REASON_MWAIT] = { PRIMARY, PRIMARY_MWAIT },
	[REASON_MONITOR] = { PRIMARY, PRIMARY_MONITOR },
	[REASON_PAUSE] = { PRIMARY, PRIMARY_PAUSE },
	[REASON_DESCRIPTOR_TABLE... REASON_LOCAL_TABLE] = { SECONDARY, SECONDARY_DESCRIPTOR_TABLES },
	[REASON_INVEPT] = { ALWAYS, 0 },
	[REASON_RDTSCP] = { PRIMARY, PRIMARY_RDTSC },
	[REASON_INVVPID] = { ALWAYS, 0 },
	[REASON_WBINVD] = { SECONDARY, SECONDARY_WBINVD },
	[REASON_XSETBV] = { ALWAYS, 0 },
	[REASON_RDRAND] = { SECONDARY, SECONDARY_RDRAND },
	[REASON_INVPCID] = { PRIMARY, PRIMARY_INVLPG },
	[REASON_RDSEED] = { SECONDARY, SECONDARY_RDSEED },
};

/* A page fault by its error code, too; NMIs are the host's. */
static bool wants_event(const union vmcs12 *v)
{
	uint32_t word = (uint32_t)vmcs_read(VMCS_EXIT_EVENT), vector = EVENT_VECTOR(word);
	bool in_bitmap = AT(v, EXCEPTION_BITMAP) >> (vector & 31) & 1;

	if (EVENT_TYPE(word) == EVENT_TYPE_NMI || vector == VECTOR_MC)
		return false;
	if (vector != VECTOR_PF)
		return in_bitmap;
	return in_bitmap == ((vmcs_read(VMCS_EXIT_ERROR_CODE) & AT(v, PAGE_FAULT_MASK)) == AT(v, PAGE_FAULT_MATCH));
}

/* Outside 64-bit mode a register's upper half is anything; in it, vm/ faults for one that isn't 0. */
static bool differs(const union vmcs12 *v, unsigned number, uint64_t value)
{
	uint64_t shadow = number == 0 ? AT(v, CR0_SHADOW) : AT(v, CR4_SHADOW);
	uint64_t mask = number == 0 ? AT(v, CR0_MASK) : AT(v, CR4_MASK);

	return (uint32_t)((value ^ shadow) & mask);
}

static bool wants_cr3(const union vmcs12 *v, bool write, uint64_t value)
{
	if (!write)
		return AT(v, PRIMARY_CONTROLS) & PRIMARY_CR3_STORE;
	for (unsigned i = 0; i < AT(v, CR3_TARGET_COUNT); i++)
		if (AT_NEXT(v, CR3_TARGET0, i) == value)
			return false;
	return AT(v, PRIMARY_CONTROLS) & PRIMARY_CR3_LOAD;
}

static bool wants_cr(const union vmcs12 *v, struct hv_vcpu *l2)
{
	const struct hv_exit *exit = &l2->exit;
	uint64_t value, seen = AT(v, CR0_SHADOW) & AT(v, CR0_MASK);

	if (exit->cr.clts)
		return seen & CR0_TS;
	if (exit->cr.lmsw) /* it can't clear PE */
		return differs(v, 0,
			       (AT(v, CR0_SHADOW) & ~(CR0_MP | CR0_EM | CR0_TS)) |
				       (exit->cr.lmsw_source & (CR0_PE | CR0_MP | CR0_EM | CR0_TS)));
	if (exit->cr.gpr == GPR_RSP)
		hv_need(l2, REGS_RSP);
	value = l2->gpr[exit->cr.gpr];
	if (exit->cr.number == 3)
		return wants_cr3(v, exit->cr.write, value);
	if (exit->cr.number == 8)
		return AT(v, PRIMARY_CONTROLS) & (exit->cr.write ? PRIMARY_CR8_LOAD : PRIMARY_CR8_STORE);
	return differs(v, exit->cr.number, value);
}

/* Where the bitmaps can't be read they ask for an exit. */
static bool wants_io(const struct vmx_nested *n, unsigned port, unsigned size)
{
	const union vmcs12 *v = &n->vmcs12;

	if (!(AT(v, PRIMARY_CONTROLS) & PRIMARY_IO_BITMAPS))
		return AT(v, PRIMARY_CONTROLS) & PRIMARY_UNCONDITIONAL_IO;
	for (unsigned end = port + size; port < end; port++) {
		uint64_t page = port < 0x8000 ? AT(v, IO_BITMAP_A) : AT(v, IO_BITMAP_B);
		uint8_t byte;

		if (port > 0xffff ||
		    n->base.env->read(n->base.context, gpa(page + (port & 0x7fff) / 8), &byte, 1) != OK ||
		    (byte >> port % 8 & 1))
			return true;
	}
	return false;
}

static bool wants_msr(struct vmx_nested *n, uint32_t msr, bool write)
{
	unsigned at = vmx_msr_bitmap_byte(msr, write);
	gpa_t where = gpa(AT(&n->vmcs12, MSR_BITMAP) + at);

	if (n->base.env->read(n->base.context, where, &n->msr_bitmap[at], 1) != OK)
		n->msr_bitmap[at] = 0xff;
	return vmx_msr_bitmap_exits(n->msr_bitmap, msr, write);
}

static bool asked(struct vmx_nested *n, unsigned reason)
{
	const union vmcs12 *v = &n->vmcs12;
	struct hv_vcpu *l2 = n->base.l2;

	switch (reason) {
	case REASON_EXCEPTION_OR_NMI: return wants_event(v);
	case REASON_CR_ACCESS: return wants_cr(v, l2);
	case REASON_IO: return wants_io(n, l2->exit.io.port, l2->exit.io.size);
	default:
		return !(AT(v, PRIMARY_CONTROLS) & PRIMARY_MSR_BITMAP) ||
		       wants_msr(n, (uint32_t)l2->gpr[GPR_RCX], reason == REASON_WRMSR);
	}
}

bool vmx_nested_wants(struct vmx_nested *n)
{
	uint64_t reason = n->base.l2->exit.raw_reason;
	const union vmcs12 *v = &n->vmcs12;

	if (reason >= REASON_COUNT)
		return false;
	switch (wants[reason].when) {
	case ALWAYS: return true;
	case PRIMARY: return AT(v, PRIMARY_CONTROLS) & wants[reason].bit;
	case SECONDARY: return vmcs12_secondary(v) & wants[reason].bit;
	case ASK: return asked(n, (unsigned)reason);
	default: return false;
	}
}

static gpa_t vtpr(const struct vmx_nested *n)
{
	return gpa(AT(&n->vmcs12, VIRTUAL_APIC_ADDRESS) + VTPR_OFFSET);
}

uint8_t vmx_nested_read_priority(const struct vmx_nested *n)
{
	uint8_t value;

	if (!(AT(&n->vmcs12, PRIMARY_CONTROLS) & PRIMARY_TPR_SHADOW) ||
	    n->base.env->read(n->base.context, vtpr(n), &value, 1) != OK)
		return 0;
	return value;
}

bool vmx_nested_priority(struct vmx_nested *n, bool *below)
{
	struct hv_vcpu *l2 = n->base.l2;
	struct hv_exit *exit = &l2->exit;
	uint64_t *value;
	uint8_t priority;
	enum status status;

	*below = false;
	if (exit->kind != EXIT_CR_ACCESS || exit->cr.number != 8 || exit->cr.clts || exit->cr.lmsw ||
	    !(AT(&n->vmcs12, PRIMARY_CONTROLS) & PRIMARY_TPR_SHADOW))
		return false;
	value = &l2->gpr[exit->cr.gpr];
	hv_need(l2, REGS_RSP);
	if (!exit->cr.write) {
		*value = vmx_nested_read_priority(n) >> 4;
		hv_changed(l2, REGS_RSP);
	} else if (*value >> 4) {
		return false; /* vm/ finds the same fault */
	} else {
		priority = (uint8_t)(*value << 4);
		status = n->base.env->write(n->base.context, vtpr(n), &priority, 1);
		if (status_is_shortage(status)) {
			exit->kind = EXIT_PAUSE;
			exit->length = 0;
			return true;
		}
		*below = *value < AT(&n->vmcs12, TPR_THRESHOLD);
	}
	exit->kind = EXIT_CACHE; /* nothing to do but step over it */
	return true;
}
