/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hypercalls: VMCALL on Intel, VMMCALL on AMD, at CPL 0: a number in RAX, arguments in RBX, RCX, RDX, RSI, the result in RAX; 32 bits of
 * each outside 64-bit mode. Processors are named by APIC ids. Of a guest that runs in this one, the instruction is #UD here: what calls
 * it has is its hypervisor's business.
 *
 * Linux Documentation/virt/kvm/x86/hypercalls.rst.
 */
#include <limits.h>
#include <linux/kvm_para.h>

#include "dev/apic/lapic.h"
#include "pgm/modules.h"
#include "vm/config/topology.h"
#include "vm/vcpu/module_call.h"
#include "vm/vcpu/vcpu.h"

/* As the guest's errno.h has them. */
#define GUEST_EPERM 1
#define GUEST_ENOENT 2
#define GUEST_ENOMEM 12
#define GUEST_EINVAL 22
#define GUEST_ENOSPC 28

struct call {
	uint64_t number, argument[4];
	unsigned bits; /* of a register */
	enum exit_action action;
};

static struct vcpu *find(struct vcpu *vcpu, uint64_t apic_id)
{
	const struct topology t = topology_of(vcpu->machine->config);
	unsigned number = apic_id < topology_ids(&t) ? topology_vcpu(&t, (unsigned)apic_id) : UINT_MAX;

	return number < vcpu->machine->vcpu_count ? vcpu->machine->vcpu[number] : NULL;
}

/* HLT ends, the next one if it doesn't halt, with interrupts off too. */
static int64_t kick(struct vcpu *vcpu, struct call *c)
{
	struct vcpu *other = find(vcpu, c->argument[1]);

	if (other) {
		__atomic_store_n(&other->pv.kicked, true, __ATOMIC_RELEASE);
		vcpu_request(other, REQUEST_EVENT);
	}
	return 0;
}

/* One that doesn't run is worth more than one that waits for it. */
static int64_t yield(struct vcpu *vcpu, struct call *c)
{
	struct vcpu *other = find(vcpu, c->argument[0]);

	if (other && schedule_yield_to(vcpu, other))
		c->action = ACTION_YIELD;
	return 0;
}

#define ICR_VECTOR 0xffu
#define ICR_MODE(icr) ((icr) >> 8 & 7)
#define ICR_DESTINATION (BITS(63, 32) | BITS(19, 18) | BIT(11)) /* given otherwise */

/* Two words of a bitmap, the APIC id of its first bit, and the low half of an ICR: how many got it. */
static int64_t send(struct vcpu *vcpu, struct call *c)
{
	uint64_t icr = c->argument[3];
	const struct apic_message message = { .mode = ICR_MODE(icr), .vector = (uint8_t)(icr & ICR_VECTOR) };
	uint64_t first = min_u64(c->argument[2], UINT32_MAX);
	int64_t reached = 0;

	if ((icr & ICR_DESTINATION) || (message.mode != DELIVERY_FIXED && message.mode != DELIVERY_NMI))
		return -GUEST_EINVAL;
	for (unsigned i = 0; i < 2 * c->bits; i++) {
		struct vcpu *other = NULL;

		if (c->argument[i / c->bits] >> i % c->bits & 1)
			other = find(vcpu, first + i);
		if (other)
			reached += lapic_receive(other->lapic, &message, other == vcpu) != IRQ_UNHEARD;
	}
	return reached;
}

static int64_t name_module(struct vcpu *vcpu, struct call *c)
{
	uint64_t name = c->argument[0], pages = c->argument[2];
	struct pgm *pgm = vcpu->machine->pgm;

	switch (pages ? pgm_module_add(pgm, name, gpa(c->argument[1]), pages) : pgm_module_remove(pgm, name)) {
	case OK: return 0;
	case NOT_FOUND: return -GUEST_ENOENT;
	case NOT_SUPPORTED: return -KVM_EOPNOTSUPP;
	case LIMIT: return -GUEST_ENOSPC;
	case NO_MEMORY: return -GUEST_ENOMEM;
	default: return -GUEST_EINVAL;
	}
}

static const struct {
	uint64_t number;
	int64_t (*serve)(struct vcpu *vcpu, struct call *c);
} calls[] = {
	{ KVM_HC_KICK_CPU, kick },
	{ KVM_HC_SEND_IPI, send },
	{ KVM_HC_SCHED_YIELD, yield },
	{ QUIRE_CALL_MODULE, name_module },
};

static int64_t serve(struct vcpu *vcpu, struct call *c)
{
	if (SEG_ATTR_DPL(vcpu->hv->segment[SEG_SS].attributes))
		return -GUEST_EPERM;
	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++)
		if (calls[i].number == c->number)
			return calls[i].serve(vcpu, c);
	return -KVM_ENOSYS;
}

enum exit_action exit_hypercall(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;
	bool wide;
	uint64_t mask;
	struct call c = { .action = ACTION_ENTER };

	hv_need(h, REGS_CONTROL | REGS_CODE);
	if (vcpu->machine->config->test_ports && test_call(vcpu, &c.action))
		return c.action;
	if (!vcpu->machine->config->pv || h != vcpu->l1)
		return vcpu_inject_ud(vcpu);
	if (!vcpu_skip(vcpu))
		return ACTION_ENTER;
	wide = hv_in_64_bit(h);
	mask = wide ? UINT64_MAX : UINT32_MAX;
	c.bits = wide ? 64 : 32;
	c.number = h->gpr[GPR_RAX] & mask;
	c.argument[0] = h->gpr[GPR_RBX] & mask;
	c.argument[1] = h->gpr[GPR_RCX] & mask;
	c.argument[2] = h->gpr[GPR_RDX] & mask;
	c.argument[3] = h->gpr[GPR_RSI] & mask;
	h->gpr[GPR_RAX] = (uint64_t)serve(vcpu, &c) & mask;
	return c.action;
}
