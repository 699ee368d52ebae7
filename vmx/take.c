/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exits that run.c doesn't take by a short way: those that need more fields than a length, and those that are no instruction's.
 * These may have broken off an event, and may be the host's business. Called on the vcpu's CPU right behind the exit.
 */
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "vmx/exit.h"
#include "vmx/instructions.h"
#include "vmx/vmx.h"

/* Only what the rule asks for: vmx_exit_decode() looks at nothing else. */
static void read_raw(struct vmx_raw_exit *raw, unsigned needs)
{
	raw->vectoring = (uint32_t)vmcs_read(VMCS_VECTORING_EVENT);
	if (needs & NEED_QUALIFICATION)
		raw->qualification = vmcs_read(VMCS_EXIT_QUALIFICATION);
	if (needs & NEED_GPA) {
		raw->gpa = vmcs_read(VMCS_GUEST_PHYSICAL_ADDRESS);
		raw->gva = vmcs_read(VMCS_GUEST_LINEAR_ADDRESS);
	}
	if (needs & NEED_EVENT) {
		raw->event = (uint32_t)vmcs_read(VMCS_EXIT_EVENT);
		raw->event_error = (uint32_t)vmcs_read(VMCS_EXIT_ERROR_CODE);
	}
	if ((needs & NEED_LENGTH) || (raw->vectoring & EVENT_VALID))
		raw->length = (uint32_t)vmcs_read(VMCS_EXIT_INSTRUCTION_LENGTH);
	if (raw->vectoring & EVENT_VALID)
		raw->vectoring_error = (uint32_t)vmcs_read(VMCS_VECTORING_ERROR_CODE);
}

static void set_nmi_blocking(struct hv_vcpu *vcpu, bool blocked)
{
	vmx_load(vcpu, REGS_SHADOW);
	vcpu->nmi_blocked = blocked;
	hv_changed(vcpu, REGS_SHADOW);
}

/* What must be done before anyone looks at the exit. */
static void settle(struct hv_vcpu *vcpu, const struct vmx_raw_exit *raw)
{
	struct hv_exit *exit = &vcpu->exit;
	struct hv_event event;

	if (exit->kind == EXIT_SLICE)
		vmx_of(vcpu)->slice_written = 0; /* it has run out */
	if (exit->kind == EXIT_DIRTY_FULL)
		vmx_pml_full(vmx_of(vcpu));
	if (exit->kind == EXIT_HOST_INTERRUPT) {
		if (raw->reason == REASON_EXTERNAL_INTERRUPT)
			interrupts_window(); /* still pending: not acknowledged by the exit */
		else
			host_take_nmi();
	}
	/* An entry that injects an NMI refuses to do so while they are blocked (section 27.3.1.5). */
	if (exit->interrupted.kind == EVENT_NMI)
		set_nmi_blocking(vcpu, false);
	else if (vmx_exit_undoes_iret(raw, exit))
		set_nmi_blocking(vcpu, true);
	if (quirk_sipi_blocks_smi(raw->reason)) {
		vmx_load(vcpu, REGS_SHADOW);
		hv_changed(vcpu, REGS_SHADOW);
	}
	if (vmx_exit_reflects(raw, &event)) {
		vcpu->inject = event;
		exit->kind = EXIT_NOTHING;
	}
}

/* Exits that are no instruction's. */
static void take_exit(struct hv_vcpu *vcpu, uint32_t reason)
{
	struct vmx_raw_exit raw;

	raw.reason = reason;
	read_raw(&raw, vmx_exit_rule(reason)->needs);
	vmx_exit_decode(&raw, &vcpu->exit);
	if (vcpu->exit.kind != EXIT_SLAT_MISCONFIG || vcpu->exit.interrupted.kind != EVENT_NONE)
		settle(vcpu, &raw);
	if (reason & REASON_ENTRY_FAILED)
		vmx_unload(vcpu); /* as in refused() */
}

void vmx_take_rest(struct hv_vcpu *vcpu, uint64_t reason)
{
	const struct vmx_exit_rule *rule = vmx_exit_rule((uint32_t)reason);
	struct hv_exit *exit = &vcpu->exit;
	struct vmx_raw_exit raw;

	if (rule->needs & NEED_VECTORING) {
		take_exit(vcpu, (uint32_t)reason);
		return;
	}
	raw.qualification = vmcs_read_hot(VMCS_EXIT_QUALIFICATION);
	exit->kind = rule->kind;
	exit->length = (uint8_t)vmcs_read_hot(VMCS_EXIT_INSTRUCTION_LENGTH);
	exit->raw_reason = reason;
	exit->interrupted.kind = EVENT_NONE;
	rule->decode(&raw, exit);
}
