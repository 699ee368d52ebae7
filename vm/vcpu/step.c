/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions that the hypervisor carries out for the guest: which one stands at rip, and the step over it when it is done, with
 * what every completed instruction leaves behind. vcpu_skip() in vm/vcpu/vcpu.h is the short way, this the rest: no length
 * given, a shadow or RF to end, a single step to report, a wrap at 4 GiB.
 */
#include "vm/vcpu/vcpu.h"

bool vcpu_decode(struct vcpu *vcpu, struct instruction *in)
{
	struct emulate_env env;
	enum emulate_result result;

	vcpu_emulate_env(vcpu, &env);
	result = emulate_decode(vcpu->hv, &env, in);
	if (result == EMULATE_UNHANDLED)
		vcpu_inject_ud(vcpu);
	return result == EMULATE_DONE;
}

/* RF is over, and TF traps. */
static void finish_flags(struct hv_vcpu *h)
{
	if (h->rflags & RFLAGS_RF) {
		h->rflags &= ~(uint64_t)RFLAGS_RF;
		hv_changed(h, REGS_RFLAGS);
	}
	if (h->rflags & RFLAGS_TF)
		emulate_single_step(h);
}

bool vcpu_measure(struct vcpu *vcpu)
{
	struct emulate_env env;
	enum emulate_result result;

	vcpu_emulate_env(vcpu, &env);
	vcpu->hv->exit.length = (uint8_t)emulate_length(vcpu->hv, &env, &result);
	return vcpu->hv->exit.length || result != EMULATE_UNHANDLED;
}

bool vcpu_find_length(struct vcpu *vcpu)
{
	if (!vcpu_measure(vcpu))
		vcpu_inject_ud(vcpu);
	return vcpu->hv->exit.length != 0;
}

bool vcpu_skip_slowly(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;
	uint64_t next;

	if (!h->exit.length && !vcpu_find_length(vcpu))
		return false;
	hv_need(h, REGS_SHADOW | REGS_RFLAGS);
	next = h->rip + h->exit.length;
	if ((next ^ h->rip) >> 32) {
		hv_need(h, REGS_CONTROL | REGS_SEGMENTS);
		if (!hv_in_64_bit(h))
			next &= BITS(31, 0);
	}
	h->rip = next;
	if (h->interrupt_shadow) {
		h->interrupt_shadow = false;
		hv_changed(h, REGS_SHADOW);
	}
	finish_flags(h);
	return true;
}
