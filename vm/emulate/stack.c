/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stack and the instruction pointer, as the instructions that push, pop and branch see them: the width that SS
 * gives RSP, the limit and form that CS asks of a target. Intel SDM vol. 1 section 6.2; vol. 2 JMP, CALL, RET.
 */
#include "vm/emulate/internal.h"

uint64_t stack_mask(const struct emulation *e)
{
	if (e->mode == DECODE_64)
		return ~UINT64_C(0);
	return e->vcpu->segment[SEG_SS].attributes & SEG_ATTR_DB ? 0xffffffffu : 0xffffu;
}

uint64_t stack_after(const struct emulation *e, int64_t bytes)
{
	uint64_t mask = stack_mask(e), rsp = e->vcpu->gpr[GPR_RSP];

	return (rsp & ~mask) | ((rsp + (uint64_t)bytes) & mask);
}

enum emulate_result push_value(struct emulation *e, uint64_t value, unsigned size)
{
	uint64_t rsp = stack_after(e, -(int64_t)size);
	gva_t linear;

	TRY(linear_address(e, SEG_SS, rsp & stack_mask(e), size, ACCESS_WRITE, &linear));
	TRY(write_linear(e, linear, &value, size));
	set_stack(e, rsp);
	return EMULATE_DONE;
}

enum emulate_result peek_stack(struct emulation *e, uint64_t *value, unsigned size)
{
	gva_t linear;

	*value = 0;
	TRY(linear_address(e, SEG_SS, e->vcpu->gpr[GPR_RSP] & stack_mask(e), size, ACCESS_READ, &linear));
	return read_linear(e, linear, value, size, ACCESS_READ);
}

enum emulate_result branch(struct emulation *e, uint64_t target, unsigned size)
{
	target &= byte_mask(size);
	if (e->mode == DECODE_64) {
		if (!is_canonical(e, target))
			return raise_fault(e, VECTOR_GP, 0);
	} else if (target > e->vcpu->segment[SEG_CS].limit) {
		return raise_fault(e, VECTOR_GP, 0);
	}
	e->next_rip = target;
	return EMULATE_DONE;
}
