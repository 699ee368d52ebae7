/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a backend asks of L1's machine while it plays L1's processor (struct hv_nested_env): memory by physical and by linear address, MSRs,
 * the interrupt that is pending, CPUID. L1's memory is reached as L1 itself would reach it, and devices not at all.
 */
#include "pgm/shadow/shadow.h"
#include "vm/vcpu/nested.h"

/* Reads to `to`, or writes from `from`, whichever is there, page by page: the rare case. */
static enum status __attribute__((noinline))
plain_memory(struct vcpu *vcpu, gpa_t where, uint8_t *to, const uint8_t *from, size_t size)
{
	struct pgm *pgm = vcpu->machine->pgm;
	enum status status = OK;

	for (size_t at = 0, piece; at < size && status == OK; at += piece) {
		gpa_t here = gpa(where.v + at);

		piece = min_u64(PAGE_SIZE - (here.v & (PAGE_SIZE - 1)), size - at);
		status =
			to ? pgm_read_simple(pgm, here, to + at, piece) : pgm_write_simple(pgm, here, from + at, piece);
	}
	return status;
}

static enum status env_read(void *context, gpa_t from, void *to, size_t size)
{
	const struct vcpu *vcpu = context;
	enum status status = pgm_read_simple(vcpu->machine->pgm, from, to, size);

	return likely(status != BAD_VALUE) ? status : plain_memory(context, from, to, NULL, size);
}

static enum status env_write(void *context, gpa_t to, const void *from, size_t size)
{
	const struct vcpu *vcpu = context;
	enum status status = pgm_write_simple(vcpu->machine->pgm, to, from, size);

	return likely(status != BAD_VALUE) ? status : plain_memory(context, to, NULL, from, size);
}

static enum status env_parts(void *context, gpa_t page, void *copy, const struct hv_nested_part *parts, unsigned count,
			     bool write)
{
	const struct vcpu *vcpu = context;

	return pgm_parts(vcpu->machine->pgm, page, copy, parts, count, write);
}

static enum status linear_fault(struct vcpu *vcpu, enum status status, uint64_t address)
{
	if (status == GUEST_FAULT && vcpu->nested->state->fault.vector == VECTOR_PF)
		vcpu->hv->cr2 = address;
	return status;
}

static enum status env_read_linear(void *context, gva_t from, void *to, unsigned size)
{
	struct vcpu *vcpu = context;
	struct emulate_env env;
	uint64_t address = 0;

	vcpu_emulate_env(vcpu, &env);
	return linear_fault(vcpu,
			    env.read(vcpu, from, to, size, ACCESS_READ, false, &vcpu->nested->state->fault, &address),
			    address);
}

static enum status env_write_linear(void *context, gva_t to, const void *from, unsigned size)
{
	struct vcpu *vcpu = context;
	struct emulate_env env;
	uint64_t address = 0;

	vcpu_emulate_env(vcpu, &env);
	return linear_fault(vcpu, env.write(vcpu, to, from, size, false, &vcpu->nested->state->fault, &address),
			    address);
}

static void env_invalidate(void *context, const struct hv_nested_slat *slat)
{
	struct vcpu *vcpu = context;

	shadow_invalidate(vcpu->machine->pgm, slat);
}

static enum status env_msr(void *context, struct hv_vcpu *level, uint32_t msr, bool write, uint64_t *value)
{
	struct vcpu *vcpu = context;
	struct hv_vcpu *runs = vcpu->hv;
	enum status status;

	vcpu->hv = level;
	status = vcpu_msr(vcpu, msr, write, value);
	vcpu->hv = runs;
	return status;
}

static int env_acknowledge(void *context)
{
	struct vcpu *vcpu = context;

	return board_take_interrupt(vcpu->machine->board, vcpu->lapic);
}

static void env_cpuid(void *context, uint32_t leaf, uint32_t subleaf, struct cpuid_result *out)
{
	*out = vcpu_cpuid(context, leaf, subleaf);
}

void vcpu_nested_env(const struct vcpu *vcpu, struct hv_nested_env *env)
{
	const struct cpuid_policy *cpuid = vcpu->machine->cpuid;

	*env = (struct hv_nested_env){ .read = env_read,
				       .write = env_write,
				       .parts = env_parts,
				       .read_linear = env_read_linear,
				       .write_linear = env_write_linear,
				       .invalidate = env_invalidate,
				       .msr = env_msr,
				       .acknowledge = env_acknowledge,
				       .cpuid = env_cpuid,
				       .cr4_valid = cpuid_limit(cpuid, CPUID_CR4),
				       .efer_valid = cpuid_limit(cpuid, CPUID_EFER),
				       .physical_bits = cpuid_physical_bits(cpuid) };
}

/* ---- and what vm asks of it ---- */

bool vcpu_nested_allows(struct vcpu *vcpu, uint64_t cr0, uint64_t cr4)
{
	return !vcpu->nested || hv->nested->control(vcpu->nested->state, cr0, cr4, vcpu->hv->efer);
}

uint64_t vcpu_nested_control(struct vcpu *vcpu, unsigned number, uint64_t value)
{
	return vcpu->nested && vcpu_in_l2(vcpu) ? hv->nested->control_value(vcpu->nested->state, number, value) : value;
}

enum status vcpu_nested_msr(struct vcpu *vcpu, uint32_t msr, bool write, uint64_t *value)
{
	return vcpu->nested ? hv->nested->msr(vcpu->nested->state, msr, write, value) : NOT_FOUND;
}
