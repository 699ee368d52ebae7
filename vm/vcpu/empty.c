/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that runs through emptiness: a firmware image loaded as something else, a jump into nowhere. Zeros are an instruction (ADD),
 * so it goes on and on and nothing is heard of it. Looked at whenever its slice ends; told once, and left alone: it harms nobody.
 */
#include "arch/x86_64/log.h"
#include "vm/vcpu/nested.h"

#define LOOKS 20u  /* in a row, a millisecond apart at least */
#define SELDOM 16u /* for the first of them each so many turns: a look walks the guest's tables */

static bool at_zeros(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;
	uint64_t bytes[2], linear = h->rip;

	hv_need(h, REGS_CODE | REGS_CONTROL);
	if (!hv_in_64_bit(h))
		linear = (linear + h->segment[SEG_CS].base) & BITS(31, 0);
	return vcpu_peek(vcpu, gva(linear), bytes, sizeof(bytes)) == OK && !(bytes[0] | bytes[1]);
}

void vcpu_look_for_emptiness(struct vcpu *vcpu)
{
	/* What an L2 runs through is L1's to notice, and a walk of two levels is long. */
	if (vcpu->empty_looks > LOOKS || vcpu_in_l2(vcpu) || (!vcpu->empty_looks && vcpu->runs % SELDOM))
		return;
	vcpu->empty_looks = at_zeros(vcpu) ? vcpu->empty_looks + 1 : 0;
	if (vcpu->empty_looks > LOOKS)
		log_line(LOG_WARNING
			 "vm %s: vcpu %u runs through empty memory, at rip %#llx: is its kernel of another kind?",
			 vcpu->machine->name, vcpu->id, (unsigned long long)vcpu->hv->rip);
}
