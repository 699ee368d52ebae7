/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's access to a device's registers, the short way: emulate/quick.h with this machine's memory and devices behind
 * it. Nothing here decides anything new: addresses are translated by the same walks as for the emulator, memory is
 * read and devices are called by PGM; what isn't plainly a device's page is left to the emulator.
 */
#include "pgm/handlers.h"
#include "vm/emulate/quick.h"
#include "vm/vcpu/enter.h"

struct quick_context {
	struct vcpu *vcpu;
	unsigned code; /* HV_CODE_* */
};

static inline unsigned code(void *context)
{
	struct quick_context *c = context;

	c->code = hv->code(c->vcpu->hv);
	return c->code;
}

static inline enum status translate(const struct quick_context *c, gva_t where, unsigned access, gpa_t *to)
{
	struct hv_event fault;
	uint64_t address;

	if (c->code & HV_CODE_PAGED)
		return vcpu_walk(c->vcpu, where, access, to, &fault, &address);
	*to = gpa(where.v & BITS(31, 0) & ~__atomic_load_n(&c->vcpu->a20_mask, __ATOMIC_RELAXED));
	return OK;
}

static inline enum status fetch(void *context, gva_t where, uint8_t *bytes)
{
	const struct quick_context *c = context;
	struct vcpu *vcpu = c->vcpu;
	gpa_t from;
	bool done;

	TRY(translate(c, where, ACCESS_EXECUTE, &from));
	count_as_inside(vcpu);
	done = pgm_fetch_again(&vcpu->fetch, from, bytes, INSTRUCTION_MAX);
	count_as_outside(vcpu);
	return likely(done) ? OK : pgm_fetch(vcpu->machine->pgm, &vcpu->fetch, from, bytes, INSTRUCTION_MAX);
}

static inline enum status access(void *context, gva_t where, unsigned size, bool write, uint64_t *value)
{
	struct pgm_access a = { .size = size, .write = write, .origin = ORIGIN_GUEST, .value = *value };
	const struct quick_context *c = context;
	enum status status = translate(c, where, write ? ACCESS_WRITE : ACCESS_READ, &a.where);

	if (status == OK)
		status = pgm_device_access(c->vcpu->machine->pgm, &a);
	if (!write)
		*value = a.value & byte_mask(size);
	return status;
}

static const struct quick_env env = { code, fetch, access };

bool vcpu_mmio(struct vcpu *vcpu)
{
	struct quick_context c = { .vcpu = vcpu };

	if (unlikely(vcpu->hv->exit.interrupted.kind != EVENT_NONE || vcpu->hv != vcpu->l1) ||
	    !emulate_quick(vcpu->hv, &env, &c, &vcpu->decoded))
		return false;
	vcpu->quick_accesses++;
	return true;
}
