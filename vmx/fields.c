/* SPDX-License-Identifier: Apache-2.0 */
/* What a VMCS is given once: its controls, the state of the host it exits to, and the guest's state after reset. */
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/hv_power_on.h"
#include "vmx/instructions.h"
#include "vmx/vmx.h"

struct field_value {
	enum vmcs_field field;
	uint64_t value;
};

static void write_fields(const struct field_value *list, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		vmcs_write(list[i].field, list[i].value);
}

/*
 * Spinning: PAUSEs in the kernel less than so many ticks apart, for so many ticks. SDM vol. 3 section 26.1.3. A lock is held
 * for shorter by one that runs.
 */
#define PAUSE_GAP 128u
#define PAUSE_WINDOW 8192u

void vmx_write_controls(const struct vmx_vcpu *v)
{
	uint32_t secondary = vmx_capability.secondary;

	if (!v->vpid)
		secondary &= ~(uint32_t)SECONDARY_VPID;
	const struct field_value fields[] = {
		{ VMCS_PIN_CONTROLS, vmx_capability.pin },
		{ VMCS_PRIMARY_CONTROLS, vmx_capability.primary },
		{ VMCS_SECONDARY_CONTROLS, secondary },
		{ VMCS_EXIT_CONTROLS, vmx_capability.exit },
		{ VMCS_ENTRY_CONTROLS, vmx_capability.entry },
		{ VMCS_EXCEPTION_BITMAP, VMX_EXCEPTIONS },
		{ VMCS_PAGE_FAULT_MASK, 0 },
		{ VMCS_PAGE_FAULT_MATCH, 0 },
		{ VMCS_CR3_TARGET_COUNT, 0 },
		{ VMCS_ENTRY_EVENT, 0 },
		{ VMCS_MSR_BITMAP, v->msr_bitmap.v },
		{ VMCS_CR0_MASK, vmx_cr0_mask() },
		{ VMCS_CR4_MASK, vmx_cr4_mask() },
		{ VMCS_LINK_POINTER, ~UINT64_C(0) },
		{ VMCS_GUEST_ACTIVITY, 0 }, /* active; HLT is always an exit */
		{ VMCS_GUEST_PENDING_DEBUG, 0 },
	};

	write_fields(fields, ARRAY_SIZE(fields));
	if (vmx_capability.vpid && v->vpid)
		vmcs_write(VMCS_VPID, v->vpid);
	if (vmx_capability.pml) {
		vmcs_write(VMCS_PML_ADDRESS, v->pml.buffer.v);
		vmcs_write(VMCS_GUEST_PML_INDEX, PML_ENTRIES - 1);
	}
	if (vmx_capability.secondary & SECONDARY_PAUSE_LOOP) {
		vmcs_write(VMCS_PLE_GAP, PAUSE_GAP);
		vmcs_write(VMCS_PLE_WINDOW, PAUSE_WINDOW);
	}
	if (vmx_capability.secondary & SECONDARY_ENCLS)
		vmcs_write(VMCS_ENCLS_EXITING_BITMAP, ~UINT64_C(0));
}

void vmx_write_host_state(void)
{
	struct host_descriptor_tables tables;

	host_descriptor_tables(&tables);
	const struct field_value fields[] = {
		{ VMCS_HOST_CR0, read_cr0() },
		{ VMCS_HOST_CR3, read_cr3() },
		{ VMCS_HOST_CR4, read_cr4() },
		{ VMCS_HOST_EFER, rdmsr(MSR_EFER) },
		{ VMCS_HOST_CS_SELECTOR, tables.cs },
		{ VMCS_HOST_SS_SELECTOR, tables.ss },
		{ VMCS_HOST_TR_SELECTOR, tables.tr },
		{ VMCS_HOST_ES_SELECTOR, 0 },
		{ VMCS_SEGMENT(VMCS_HOST_ES_SELECTOR, SEG_DS), 0 },
		{ VMCS_SEGMENT(VMCS_HOST_ES_SELECTOR, SEG_FS), 0 },
		{ VMCS_SEGMENT(VMCS_HOST_ES_SELECTOR, SEG_GS), 0 },
		{ VMCS_HOST_FS_BASE, 0 },
		{ VMCS_HOST_GS_BASE, tables.gs_base },
		{ VMCS_HOST_TR_BASE, tables.tss_base },
		{ VMCS_HOST_GDTR_BASE, tables.gdt_base },
		{ VMCS_HOST_IDTR_BASE, tables.idt_base },
		{ VMCS_HOST_SYSENTER_CS, 0 },
		{ VMCS_HOST_SYSENTER_ESP, 0 },
		{ VMCS_HOST_SYSENTER_EIP, 0 },
		{ VMCS_HOST_RIP, (uint64_t)vmx_exit_point },
	};

	write_fields(fields, ARRAY_SIZE(fields));
	if (vmx_capability.pat)
		vmcs_write(VMCS_HOST_PAT, rdmsr(MSR_PAT));
}

/* Attributes after reset, table 9-1: read/write data (CS too), LDT, busy 32-bit TSS. */
/* EDX holds the processor's signature; family 6 is what any of them has. */
#define RESET_EDX UINT64_C(0x600)

void vmx_reset(struct hv_vcpu *vcpu)
{
	hv_power_on(vcpu);
	vcpu->gpr[GPR_RDX] = RESET_EDX;
	vmx_of(vcpu)->rip_seen = ~vcpu->rip; /* so that it is written */
	vmx_of(vcpu)->blocking = 0;
	vcpu->changed |= CHANGED_RESET;
}
