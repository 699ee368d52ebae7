/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's access to a device's registers, the short way: emulate/quick.h with this machine's memory and devices behind
 * it. Nothing here decides anything new: addresses are translated by the same walks as for the emulator, memory is
 * read and devices are called by PGM; what isn't plainly a device's page is left to the emulator.
 */
#include "arch/x86_64/registers.h"
#include "vm/emulate/quick.h"
#include "vm/vcpu/vcpu.h"

static inline enum status translate(struct vcpu *vcpu, gva_t where, unsigned access, gpa_t *to)
{
	struct hv_event fault;
	uint64_t address;

	return vcpu_translate(vcpu, where, access, to, &fault, &address);
}

static inline enum status fetch(void *context, gva_t where, uint8_t *bytes)
{
	struct vcpu *vcpu = context;
	enum status status;
	gpa_t from;

	status = translate(vcpu, where, ACCESS_EXECUTE, &from);
	return status == OK ? pgm_read_simple(vcpu->machine->pgm, from, bytes, INSTRUCTION_MAX) : status;
}

static inline enum status access(void *context, gva_t where, unsigned size, bool write, uint64_t *value)
{
	struct pgm_access a = { .size = size, .write = write, .origin = ORIGIN_GUEST, .value = *value };
	struct vcpu *vcpu = context;
	enum status status = translate(vcpu, where, write ? ACCESS_WRITE : ACCESS_READ, &a.where);

	if (status == OK)
		status = pgm_device_access(vcpu->machine->pgm, &a);
	if (!write)
		*value = a.value & byte_mask(size);
	return status;
}

static const struct quick_env env = { fetch, access };

bool vcpu_mmio(struct vcpu *vcpu)
{
	if (unlikely(vcpu->hv->exit.interrupted.kind != EVENT_NONE) ||
	    !emulate_quick(vcpu->hv, &env, vcpu, &vcpu->decoded))
		return false;
	vcpu->quick_accesses++;
	return true;
}
