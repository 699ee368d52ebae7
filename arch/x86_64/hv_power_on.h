/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both vendors' processors hold after power-on: Intel SDM vol. 3 table 9-1, AMD APM vol. 2 table 14-1. Each backend calls it
 * from its reset and adds what is its own.
 */
#pragma once

#include "arch/x86_64/hv.h"

static inline void hv_power_on(struct hv_vcpu *vcpu)
{
	const struct segment data = { .limit = 0xffff, .attributes = 0x93 };

	__builtin_memset(vcpu->gpr, 0, sizeof(vcpu->gpr));
	__builtin_memset(vcpu->dr, 0, sizeof(vcpu->dr));
	__builtin_memset(vcpu->pdpte, 0, sizeof(vcpu->pdpte));
	for (unsigned i = 0; i < SEG_COUNT; i++)
		vcpu->segment[i] = data;
	vcpu->segment[SEG_CS].base = 0xffff0000;
	vcpu->segment[SEG_CS].selector = 0xf000;
	vcpu->segment[SEG_LDTR].attributes = 0x82;
	vcpu->segment[SEG_TR].attributes = 0x8b;
	vcpu->gdtr = vcpu->idtr = (struct table_register){ .limit = 0xffff };
	vcpu->rip = 0xfff0;
	vcpu->rflags = BIT(1);
	vcpu->cr0 = CR0_CD | CR0_NW | CR0_ET;
	vcpu->cr2 = vcpu->cr3 = vcpu->cr4 = vcpu->efer = 0;
	vcpu->xcr0 = 1;
	vcpu->dr[6] = DR6_RESET;
	vcpu->dr[7] = DR7_RESET;
	vcpu->debugctl = 0;
	vcpu->sysenter_cs = vcpu->sysenter_esp = vcpu->sysenter_eip = 0;
	vcpu->pat = UINT64_C(0x0007040600070406);
	vcpu->star = vcpu->lstar = vcpu->cstar = vcpu->sfmask = vcpu->kernel_gs_base = vcpu->spec_ctrl = 0;
	vcpu->interrupt_shadow = vcpu->nmi_blocked = false;
	vcpu->inject = vcpu->exit.interrupted = (struct hv_event){ .kind = EVENT_NONE };
	vcpu->want_interrupt_window = vcpu->want_nmi_window = false;
	vcpu->tsc_changed = vcpu->flush_pending = true;
	hv_changed(vcpu, REGS_ALL);
}
