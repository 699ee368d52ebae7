/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operands in memory: segmentation, alignment, the calls into the environment, the stack, and the faults they end in.
 * Paging is the environment's. Intel SDM vol. 3 sections 5.3 to 5.5 (limit, type), 3.3.7.1 (canonical form),
 * 6.15 (#AC, #GP, #SS); vol. 1 section 6.2 (stack).
 */
#include "vm/emulate/internal.h"

#define TYPE_CODE 0x8u
#define TYPE_EXPAND_DOWN 0x4u /* data segments */
#define TYPE_READ_WRITE 0x2u  /* data: writable, code: readable */

enum emulate_result raise_fault(struct emulation *e, unsigned vector, uint32_t error_code)
{
	hv_inject_fault(e->vcpu, hv_exception((uint8_t)vector, true, error_code));
	return EMULATE_FAULT;
}

enum emulate_result raise_undefined(struct emulation *e)
{
	hv_inject_fault(e->vcpu, hv_exception(VECTOR_UD, false, 0));
	return EMULATE_FAULT;
}

/* Within one page, and canonical for 48 bits: then also for 57. The quick answer for nearly every address. */
static bool surely_canonical(uint64_t address, unsigned size)
{
	return (uint64_t)((int64_t)address >> 47) + 1 <= 1 && (address & (PAGE_SIZE - 1)) + size <= PAGE_SIZE;
}

/* Present, and of a type that allows the access; in protected mode. */
static bool type_allows(const struct segment *segment, unsigned access)
{
	unsigned type = segment->attributes & 0xf;

	if (!(segment->attributes & SEG_ATTR_PRESENT))
		return false;
	if (type & TYPE_CODE)
		return !(access & ACCESS_WRITE) && ((type & TYPE_READ_WRITE) || access == ACCESS_EXECUTE);
	return !(access & ACCESS_WRITE) || (type & TYPE_READ_WRITE);
}

static bool limit_allows(const struct emulation *e, const struct segment *segment, uint64_t offset, unsigned size)
{
	uint64_t last = offset + size - 1;

	if (e->typed_segments && (segment->attributes & (TYPE_CODE | TYPE_EXPAND_DOWN)) == TYPE_EXPAND_DOWN)
		return offset > segment->limit && last <= (segment->attributes & SEG_ATTR_DB ? 0xffffffffu : 0xffffu);
	return last <= segment->limit;
}

static enum emulate_result segment_fault(struct emulation *e, unsigned segment)
{
	return raise_fault(e, segment == SEG_SS ? VECTOR_SS : VECTOR_GP, 0);
}

static bool misaligned(const struct emulation *e, uint64_t linear, unsigned size)
{
	return (linear & (size - 1)) && (e->vcpu->rflags & RFLAGS_AC) && (e->vcpu->cr0 & CR0_AM) &&
	       privilege_level(e) == 3;
}

enum emulate_result linear_address(struct emulation *e, unsigned segment, uint64_t offset, unsigned size,
				   unsigned access, gva_t *linear)
{
	const struct segment *s = &e->vcpu->segment[segment];

	if (e->mode != DECODE_64 || segment == SEG_FS || segment == SEG_GS)
		hv_need(e->vcpu, REGS_OF_SEGMENT(segment));
	if (likely(e->mode == DECODE_64)) {
		linear->v = segment == SEG_FS || segment == SEG_GS ? offset + s->base : offset;
		if (!surely_canonical(linear->v, size) &&
		    (!is_canonical(e, linear->v) || !is_canonical(e, linear->v + size - 1)))
			return segment_fault(e, segment);
	} else {
		if (e->typed_segments && !type_allows(s, access))
			return segment_fault(e, segment);
		if (!limit_allows(e, s, offset, size))
			return segment_fault(e, segment);
		linear->v = (uint32_t)(s->base + offset);
	}
	if (unlikely(misaligned(e, linear->v, size)))
		return raise_fault(e, VECTOR_AC, 0);
	return EMULATE_DONE;
}

/* The fault, if it is one, stands in e->fault. */
static enum emulate_result refused(struct emulation *e, enum status status)
{
	if (status != GUEST_FAULT)
		return EMULATE_STOP;
	hv_inject_fault(e->vcpu, e->fault);
	if (e->fault.kind == EVENT_EXCEPTION && e->fault.vector == VECTOR_PF)
		e->vcpu->cr2 = e->fault_address;
	return EMULATE_FAULT;
}

static enum emulate_result outcome(struct emulation *e, enum status status)
{
	return likely(status == OK) ? EMULATE_DONE : refused(e, status);
}

static enum status env_read(struct emulation *e, uint64_t linear, void *to, unsigned size, unsigned access, bool system)
{
	return e->env->read(e->env->context, gva(linear), to, size, access, system, &e->fault, &e->fault_address);
}

static enum status env_write(struct emulation *e, uint64_t linear, const void *from, unsigned size)
{
	return e->env->write(e->env->context, gva(linear), from, size, false, &e->fault, &e->fault_address);
}

/* Outside 64-bit mode the linear address space ends at 4 GiB, and begins again. */
static bool wraps(const struct emulation *e, gva_t linear, unsigned size)
{
	return unlikely(e->mode != DECODE_64) && linear.v + size > BIT(32);
}

enum emulate_result read_linear(struct emulation *e, gva_t linear, void *to, unsigned size, unsigned access)
{
	unsigned part = size;
	enum status status;

	if (wraps(e, linear, size))
		part = (unsigned)(BIT(32) - linear.v);
	status = env_read(e, linear.v, to, part, access, false);
	if (unlikely(part < size) && status == OK)
		status = env_read(e, 0, (uint8_t *)to + part, size - part, access, false);
	return outcome(e, status);
}

static enum emulate_result write_wrapping(struct emulation *e, gva_t linear, const void *from, unsigned size)
{
	uint8_t old[VECTOR_MAX];
	unsigned part = (unsigned)(BIT(32) - linear.v);
	/* The second part must not fault once the first is written. */
	enum status status;

	TRY(read_linear(e, linear, old, size, ACCESS_READ | ACCESS_WRITE));
	status = env_write(e, linear.v, from, part);
	if (status == OK)
		status = env_write(e, 0, (const uint8_t *)from + part, size - part);
	return outcome(e, status);
}

enum emulate_result write_linear(struct emulation *e, gva_t linear, const void *from, unsigned size)
{
	if (wraps(e, linear, size))
		return write_wrapping(e, linear, from, size);
	return outcome(e, env_write(e, linear.v, from, size));
}

enum emulate_result read_system(struct emulation *e, uint64_t linear, void *to, unsigned size)
{
	return outcome(e,
		       env_read(e, e->vcpu->efer & EFER_LMA ? linear : (uint32_t)linear, to, size, ACCESS_READ, true));
}

enum emulate_result rm_address(struct emulation *e, int64_t offset, unsigned size, unsigned access)
{
	const struct instruction *i = &e->instruction;
	uint64_t effective = effective_address(i, e->vcpu->gpr, e->next_rip);

	if (offset)
		effective = (effective + (uint64_t)offset) & byte_mask(i->address_size);
	return linear_address(e, i->segment, effective, size, access, &e->linear);
}

enum emulate_result read_rm_at(struct emulation *e, int64_t offset, unsigned size, unsigned access, uint64_t *value)
{
	if (!e->instruction.memory) {
		*value = read_gpr(e, e->instruction.rm, size);
		return EMULATE_DONE;
	}
	*value = 0;
	TRY(rm_address(e, offset, size, access));
	TRY(read_linear(e, e->linear, value, size, access));
	e->seen = *value;
	return EMULATE_DONE;
}

enum emulate_result exchange_linear(struct emulation *e, const uint64_t expected[2], const uint64_t desired[2],
				    unsigned size)
{
	uint64_t seen[2] = { 0, 0 };
	enum status status = NOT_SUPPORTED;

	if (e->locked && e->env->compare_exchange && !wraps(e, e->linear, size))
		status = e->env->compare_exchange(e->env->context, e->linear, expected, desired, seen, size, &e->fault,
						  &e->fault_address);
	if (status == NOT_SUPPORTED)
		return write_linear(e, e->linear, desired, size);
	if (status == OK && (seen[0] != expected[0] || seen[1] != expected[1]))
		return EMULATE_RETRY;
	return outcome(e, status);
}

enum emulate_result write_rm(struct emulation *e, unsigned size, uint64_t value)
{
	if (!e->instruction.memory) {
		write_gpr(e, e->instruction.rm, size, value);
		return EMULATE_DONE;
	}
	if (e->locked)
		return exchange_linear(e, (uint64_t[2]){ e->seen, 0 }, (uint64_t[2]){ value, 0 }, size);
	return write_linear(e, e->linear, &value, size);
}

enum emulate_result store_rm(struct emulation *e, unsigned size, uint64_t value)
{
	if (!e->instruction.memory) {
		write_gpr(e, e->instruction.rm, size, value);
		return EMULATE_DONE;
	}
	TRY(rm_address(e, 0, size, ACCESS_WRITE));
	return write_linear(e, e->linear, &value, size);
}
