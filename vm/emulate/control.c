/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handlers of the stack and of near control transfers. Far ones, interrupts and returns from them are not in the subset.
 */
#include "vm/emulate/internal.h"

/* Operand size of pushes, pops and near branches: 64-bit mode has no 32-bit ones; the decoder gives 2 or 8 there. */
static unsigned width(const struct emulation *e)
{
	return e->instruction.operand_size;
}

enum emulate_result emulate_push_reg(struct emulation *e)
{
	return push_value(e, read_gpr(e, opcode_register(e), width(e)), width(e));
}

enum emulate_result emulate_pop_reg(struct emulation *e)
{
	uint64_t value;

	TRY(peek_stack(e, &value, width(e)));
	set_stack(e, stack_after(e, width(e)));
	write_gpr(e, opcode_register(e), width(e), value);
	return EMULATE_DONE;
}

enum emulate_result emulate_push_immediate(struct emulation *e)
{
	return push_value(e, e->instruction.immediate & byte_mask(width(e)), width(e));
}

/* The address of the destination is taken with RSP already raised. */
enum emulate_result emulate_pop_rm(struct emulation *e)
{
	uint64_t value, before = e->vcpu->gpr[GPR_RSP];
	enum emulate_result result;

	if (instruction_group(&e->instruction) != 0)
		return raise_undefined(e);
	TRY(peek_stack(e, &value, width(e)));
	set_stack(e, stack_after(e, width(e)));
	result = store_rm(e, width(e), value);
	if (result != EMULATE_DONE)
		set_stack(e, before);
	return result;
}

enum emulate_result emulate_push_flags(struct emulation *e)
{
	if (in_v86(e) && ((e->vcpu->rflags >> RFLAGS_IOPL_SHIFT) & 3) < 3)
		return e->vcpu->cr4 & CR4_VME ? EMULATE_UNHANDLED : raise_fault(e, VECTOR_GP, 0);
	return push_value(e, e->flags & ~(RFLAGS_VM | RFLAGS_RF) & byte_mask(width(e)), width(e));
}

/* Intel SDM vol. 2, POPF: which flags change depends on CPL and IOPL. */
enum emulate_result emulate_pop_flags(struct emulation *e)
{
	uint64_t change = ARITHMETIC_FLAGS | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT | RFLAGS_AC | BIT(21), value;
	unsigned iopl = (e->vcpu->rflags >> RFLAGS_IOPL_SHIFT) & 3, cpl = privilege_level(e);

	if (in_v86(e) && iopl < 3)
		return e->vcpu->cr4 & CR4_VME ? EMULATE_UNHANDLED : raise_fault(e, VECTOR_GP, 0);
	TRY(peek_stack(e, &value, width(e)));
	if (cpl <= iopl)
		change |= RFLAGS_IF;
	if (cpl == 0)
		change |= UINT64_C(3) << RFLAGS_IOPL_SHIFT;
	change &= byte_mask(width(e));
	e->flags = (e->flags & ~change) | (value & change);
	set_stack(e, stack_after(e, width(e)));
	return EMULATE_DONE;
}

/* 06, 0E, 16, 1E, 0F A0, 0F A8. A 32-bit push of a selector writes only its 16 bits on newer processors; so here. */
enum emulate_result emulate_push_segment(struct emulation *e)
{
	unsigned name = (e->instruction.opcode >> 3) & 7, size = width(e);
	uint64_t selector;
	gva_t linear;

	if (e->instruction.map == MAP_0F)
		name = e->instruction.opcode & 8 ? SEG_GS : SEG_FS;
	hv_need(e->vcpu, REGS_SEGMENTS);
	selector = e->vcpu->segment[name].selector;
	if (size != 4)
		return push_value(e, selector, size);
	TRY(linear_address(e, SEG_SS, stack_after(e, -4) & stack_mask(e), 4, ACCESS_WRITE, &linear));
	TRY(write_linear(e, linear, &selector, 2));
	set_stack(e, stack_after(e, -4));
	return EMULATE_DONE;
}

static enum emulate_result relative(struct emulation *e)
{
	return branch(e, e->next_rip + e->instruction.immediate, width(e));
}

enum emulate_result emulate_jump_relative(struct emulation *e)
{
	return relative(e);
}

enum emulate_result emulate_jump_if(struct emulation *e)
{
	return alu_condition(e->instruction.opcode, e->flags) ? relative(e) : EMULATE_DONE;
}

enum emulate_result emulate_call_relative(struct emulation *e)
{
	uint64_t behind = e->next_rip;
	enum emulate_result result = relative(e);

	return result == EMULATE_DONE ? push_value(e, behind, width(e)) : result;
}

enum emulate_result emulate_return_near(struct emulation *e)
{
	uint64_t target;

	TRY(peek_stack(e, &target, width(e)));
	TRY(branch(e, target, width(e)));
	set_stack(e, stack_after(e, width(e) + (e->instruction.opcode & 1
							? 0
							: (int64_t)(e->instruction.immediate & 0xffff))));
	return EMULATE_DONE;
}

/* LOOPNE, LOOPE, LOOP, JCXZ: E0 to E3. */
enum emulate_result emulate_loop(struct emulation *e)
{
	unsigned size = e->instruction.address_size, opcode = e->instruction.opcode;
	uint64_t count = read_gpr(e, GPR_RCX, size);
	bool zero = e->flags & RFLAGS_ZF, taken;
	enum emulate_result result = EMULATE_DONE;

	if (opcode == 0xe3)
		return count == 0 ? relative(e) : EMULATE_DONE;
	count = (count - 1) & byte_mask(size);
	taken = count != 0 && (opcode == 0xe2 || zero == (opcode == 0xe1));
	if (taken)
		result = relative(e);
	if (result == EMULATE_DONE)
		write_gpr(e, GPR_RCX, size, count);
	return result;
}

enum emulate_result emulate_leave(struct emulation *e)
{
	uint64_t before = e->vcpu->gpr[GPR_RSP], value;
	enum emulate_result result;

	/* RSP takes RBP in the stack's width, the rest of it stays. */
	set_stack(e, (before & ~stack_mask(e)) | (e->vcpu->gpr[GPR_RBP] & stack_mask(e)));
	result = peek_stack(e, &value, width(e));
	if (result != EMULATE_DONE) {
		set_stack(e, before);
		return result;
	}
	set_stack(e, stack_after(e, width(e)));
	write_gpr(e, GPR_RBP, width(e), value);
	return EMULATE_DONE;
}

enum emulate_result emulate_no_operation(struct emulation *e)
{
	return EMULATE_DONE;
}

/* CLFLUSH, CLFLUSHOPT, CLWB: there's no cache before a device. */
enum emulate_result emulate_group_ae(struct emulation *e)
{
	const struct instruction *i = &e->instruction;
	unsigned group = instruction_group(i);

	if (!i->memory || (i->prefixes & PREFIX_REP) || !(group == 7 || (group == 6 && (i->prefixes & PREFIX_OPERAND))))
		return EMULATE_UNHANDLED;
	return rm_address(e, 0, 1, ACCESS_READ);
}

/* PUSHA: all is checked by one write, so that nothing is written before a fault. */
enum emulate_result emulate_push_all(struct emulation *e)
{
	unsigned size = width(e);
	uint8_t values[8 * 4];
	uint64_t rsp = stack_after(e, -8 * (int64_t)size);
	gva_t linear;

	for (unsigned n = 0; n < 8; n++)
		__builtin_memcpy(values + n * size, &e->vcpu->gpr[GPR_RDI - n], size);
	TRY(linear_address(e, SEG_SS, rsp & stack_mask(e), 8 * size, ACCESS_WRITE, &linear));
	TRY(write_linear(e, linear, values, 8 * size));
	set_stack(e, rsp);
	return EMULATE_DONE;
}

/* ENTER with level 0, as compilers give it; the other levels copy frame pointers that nobody has. */
enum emulate_result emulate_enter(struct emulation *e)
{
	uint64_t frame;

	if (e->instruction.immediate2 & 31)
		return EMULATE_UNHANDLED;
	TRY(push_value(e, read_gpr(e, GPR_RBP, width(e)), width(e)));
	frame = e->vcpu->gpr[GPR_RSP];
	set_stack(e, stack_after(e, -(int64_t)(e->instruction.immediate & 0xffff)));
	write_gpr(e, GPR_RBP, width(e), frame);
	return EMULATE_DONE;
}
