/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I/O ports: the devices' table under the machine's lock, for the emulator, for the backend's short way, and for the exits that
 * this leaves over.
 */
#include "vm/vcpu/enter.h"

uint32_t vcpu_port_in(void *context, uint16_t port, unsigned size)
{
	struct machine *m = ((struct vcpu *)context)->machine;

	HOLD(&m->lock);
	uint32_t value = port_read(&m->bus, port, size);
	machine_look_at_timers(m);
	return value;
}

static inline __attribute__((always_inline)) void out(struct machine *m, uint16_t port, unsigned size, uint32_t value)
{
	HOLD(&m->lock);
	port_write(&m->bus, port, size, value);
	machine_look_at_timers(m);
}

void vcpu_port_out(void *context, uint16_t port, unsigned size, uint32_t value)
{
	out(((struct vcpu *)context)->machine, port, size, value);
}

/* A write of 32 bits to a register clears the upper half. */
static __attribute__((noinline)) void in_rax(struct vcpu *vcpu, uint16_t port, unsigned size)
{
	uint64_t *rax = &vcpu->hv->gpr[GPR_RAX];
	uint32_t value = vcpu_port_in(vcpu, port, size);

	*rax = size == 4 ? value : (*rax & ~byte_mask(size)) | value;
}

static inline void access_by_rax(struct vcpu *vcpu, uint16_t port, unsigned size, bool in)
{
	if (in)
		in_rax(vcpu, port, size);
	else
		out(vcpu->machine, port, size, (uint32_t)vcpu->hv->gpr[GPR_RAX]);
}

bool vcpu_port(struct hv_vcpu *h, uint16_t port, unsigned size, bool in)
{
	struct vcpu *vcpu = h->owner;

	come_back(vcpu, EXIT_IO);
	access_by_rax(vcpu, port, size, in);
	return go_on(vcpu);
}

enum exit_action exit_io(struct vcpu *vcpu)
{
	const struct hv_exit *exit = &vcpu->hv->exit;

	if (exit->io.string)
		return exit_emulate(vcpu);
	if (vcpu_skip(vcpu))
		access_by_rax(vcpu, exit->io.port, exit->io.size, exit->io.in);
	return ACTION_ENTER;
}
