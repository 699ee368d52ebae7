/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accesses to debug registers where the processor must hand them over: writes, for svm/quirks.h's breakpoints_leak. Elsewhere they
 * don't exit. The checks are the processor's own. Intel SDM vol. 3 section 18.2, vol. 2 MOV to DR; AMD APM vol. 2 section 13.1.
 */
#include "vm/vcpu/vcpu.h"

/* Reserved bits of DR6 and DR7 read as the processor has them. */
static void write_debug(struct hv_vcpu *h, unsigned number, uint64_t value)
{
	h->dr[number] = value;
	if (number == 6)
		h->dr[6] = (value & UINT64_C(0xe00f)) | UINT64_C(0xffff0ff0);
	if (number == 7)
		h->dr[7] = (value & UINT64_C(0xffff2bff)) | UINT64_C(0x400);
	hv_changed(h, REGS_DEBUG);
}

/* The exit comes before the trap that the guest has set on these registers: DR7.GD (SDM vol. 3 section 18.2.4). */
static bool general_detect(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;

	if (!(h->dr[7] & DR7_GENERAL_DETECT))
		return false;
	hv_note_debug(h, DR6_GENERAL_DETECT);
	vcpu_inject_exception(vcpu, VECTOR_DB, false, 0);
	h->rflags |= RFLAGS_RF; /* the one #DB but breakpoints on instructions that is a fault */
	hv_changed(h, REGS_RFLAGS);
	return true;
}

static enum exit_action access_debug(struct vcpu *vcpu, unsigned number, unsigned gpr, bool write)
{
	struct hv_vcpu *h = vcpu->hv;
	bool wide = hv_in_64_bit(h);
	uint64_t value = h->gpr[gpr] & (wide ? UINT64_MAX : BITS(31, 0));

	if (number == 4 || number == 5) {
		if (h->cr4 & CR4_DE)
			return vcpu_inject_ud(vcpu);
		number += 2;
	}
	if (general_detect(vcpu))
		return ACTION_ENTER;
	if (!write) {
		h->gpr[gpr] = h->dr[number];
		hv_changed(h, REGS_RSP);
	} else if (number >= 6 && value >> 32) {
		return vcpu_inject_gp(vcpu);
	} else {
		write_debug(h, number, value);
	}
	return exit_skip(vcpu);
}

enum exit_action exit_dr_access(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;
	struct hv_exit *exit = &h->exit;
	struct instruction in;

	hv_need(h, REGS_DEBUG | REGS_RSP | REGS_CONTROL | REGS_CODE | REGS_RFLAGS);
	if (!exit->dr.decoded) {
		if (!vcpu_decode(vcpu, &in))
			return ACTION_ENTER;
		exit->length = in.length;
		exit->dr.gpr = (uint8_t)((in.modrm & 7) | (in.rex & REX_B ? 8 : 0));
	}
	return access_debug(vcpu, exit->dr.number, exit->dr.gpr, exit->dr.write);
}
