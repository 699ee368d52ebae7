/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handlers of two-operand arithmetic and its groups: ADD..CMP, TEST, INC, DEC, NEG, NOT, MUL, DIV, XADD, CMPXCHG.
 * The values and flags come from emulate/alu.c.
 */
#include "vm/emulate/internal.h"

#define READ_WRITE (ACCESS_READ | ACCESS_WRITE)

/* r/m op= operand; CMP only reads. */
static enum emulate_result modify_rm(struct emulation *e, enum alu_operation operation, uint64_t operand)
{
	bool writes = operation != ALU_CMP;
	uint64_t value;

	TRY(read_rm(e, writes ? READ_WRITE : ACCESS_READ, &value));
	value = alu_binary(operation, e->size, value, operand, &e->flags);
	return writes ? write_rm(e, e->size, value) : EMULATE_DONE;
}

enum emulate_result emulate_alu_to_rm(struct emulation *e)
{
	return modify_rm(e, e->operation->detail, read_gpr(e, e->instruction.reg, e->size));
}

enum emulate_result emulate_alu_to_reg(struct emulation *e)
{
	enum alu_operation operation = e->operation->detail;
	unsigned reg = e->instruction.reg;
	uint64_t value;

	TRY(read_rm(e, ACCESS_READ, &value));
	value = alu_binary(operation, e->size, read_gpr(e, reg, e->size), value, &e->flags);
	if (operation != ALU_CMP)
		write_gpr(e, reg, e->size, value);
	return EMULATE_DONE;
}

static uint64_t immediate_operand(const struct emulation *e)
{
	return e->instruction.immediate & byte_mask(e->size);
}

enum emulate_result emulate_alu_to_accumulator(struct emulation *e)
{
	enum alu_operation operation = e->operation->detail;
	uint64_t value = alu_binary(operation, e->size, read_gpr(e, GPR_RAX, e->size), immediate_operand(e), &e->flags);

	if (operation != ALU_CMP)
		write_gpr(e, GPR_RAX, e->size, value);
	return EMULATE_DONE;
}

enum emulate_result emulate_alu_immediate(struct emulation *e)
{
	return modify_rm(e, instruction_group(&e->instruction), immediate_operand(e));
}

static enum emulate_result test_with(struct emulation *e, uint64_t operand)
{
	uint64_t value;

	TRY(read_rm(e, ACCESS_READ, &value));
	(void)alu_binary(ALU_AND, e->size, value, operand, &e->flags);
	return EMULATE_DONE;
}

enum emulate_result emulate_test_rm(struct emulation *e)
{
	return test_with(e, read_gpr(e, e->instruction.reg, e->size));
}

enum emulate_result emulate_test_accumulator(struct emulation *e)
{
	(void)alu_binary(ALU_AND, e->size, read_gpr(e, GPR_RAX, e->size), immediate_operand(e), &e->flags);
	return EMULATE_DONE;
}

/* INC and DEC of a register in the opcode: 40..4F outside 64-bit mode. */
enum emulate_result emulate_increment_reg(struct emulation *e)
{
	unsigned reg = e->instruction.opcode & 7;

	write_gpr(e, reg, e->size,
		  alu_increment(e->instruction.opcode & 8, e->size, read_gpr(e, reg, e->size), &e->flags));
	return EMULATE_DONE;
}

static enum emulate_result call_rm(struct emulation *e)
{
	unsigned size = e->instruction.operand_size;
	uint64_t target, old_next = e->next_rip;

	if (e->mode == DECODE_64)
		size = 8;
	TRY(read_rm_at(e, 0, size, ACCESS_READ, &target));
	TRY(branch(e, target, size));
	return instruction_group(&e->instruction) == 2 ? push_value(e, old_next, size) : EMULATE_DONE;
}

static enum emulate_result push_rm(struct emulation *e)
{
	unsigned size = e->instruction.operand_size;
	uint64_t value;

	if (e->mode == DECODE_64 && size == 4)
		size = 8;
	TRY(read_rm_at(e, 0, size, ACCESS_READ, &value));
	return push_value(e, value, size);
}

/* Groups 4 and 5: FE, FF. */
enum emulate_result emulate_group_fe(struct emulation *e)
{
	unsigned group = instruction_group(&e->instruction);
	uint64_t value;

	if (group >= 2 && e->size == 1)
		return raise_undefined(e);
	switch (group) {
	case 0:
	case 1:
		TRY(read_rm(e, READ_WRITE, &value));
		return write_rm(e, e->size, alu_increment(group, e->size, value, &e->flags));
	case 2:
	case 4: return call_rm(e);
	case 6: return push_rm(e);
	case 7: return raise_undefined(e);
	default: return EMULATE_UNHANDLED; /* far CALL, JMP */
	}
}

/* RDX:RAX, or AX for bytes, gets or gives both halves. */
static void write_wide(struct emulation *e, uint64_t high, uint64_t low)
{
	if (e->size == 1) {
		write_gpr(e, GPR_RAX, 2, high << 8 | low);
		return;
	}
	write_gpr(e, GPR_RAX, e->size, low);
	write_gpr(e, GPR_RDX, e->size, high);
}

static enum emulate_result multiply_or_divide(struct emulation *e, unsigned group, uint64_t value)
{
	bool is_signed = group & 1;
	uint64_t low = read_gpr(e, GPR_RAX, e->size), high, quotient, remainder;

	if (group < 6) {
		low = alu_multiply(is_signed, e->size, low, value, &high, &e->flags);
		write_wide(e, high, low);
		return EMULATE_DONE;
	}
	high = e->size == 1 ? (e->vcpu->gpr[GPR_RAX] >> 8) & 0xff : read_gpr(e, GPR_RDX, e->size);
	if (!alu_divide(is_signed, e->size, high, low, value, &quotient, &remainder)) {
		hv_inject_fault(e->vcpu, hv_exception(VECTOR_DE, false, 0));
		return EMULATE_FAULT;
	}
	write_wide(e, remainder, quotient);
	return EMULATE_DONE;
}

/* Group 3: F6, F7. */
enum emulate_result emulate_group_f6(struct emulation *e)
{
	unsigned group = instruction_group(&e->instruction);
	uint64_t value;

	if (group < 2)
		return test_with(e, immediate_operand(e));
	TRY(read_rm(e, group < 4 ? READ_WRITE : ACCESS_READ, &value));
	if (group == 2)
		return write_rm(e, e->size, ~value & byte_mask(e->size));
	if (group == 3)
		return write_rm(e, e->size, alu_binary(ALU_SUB, e->size, 0, value, &e->flags));
	return multiply_or_divide(e, group, value);
}

static enum emulate_result multiply_into_reg(struct emulation *e, bool immediate)
{
	uint64_t value, high;
	uint64_t other = immediate ? immediate_operand(e) : read_gpr(e, e->instruction.reg, e->size);

	TRY(read_rm(e, ACCESS_READ, &value));
	write_gpr(e, e->instruction.reg, e->size, alu_multiply(true, e->size, value, other, &high, &e->flags));
	return EMULATE_DONE;
}

enum emulate_result emulate_multiply_reg(struct emulation *e)
{
	return multiply_into_reg(e, false);
}

/* 69 and 6B: the operand is never a byte. */
enum emulate_result emulate_multiply_immediate(struct emulation *e)
{
	return multiply_into_reg(e, true);
}

enum emulate_result emulate_exchange_add(struct emulation *e)
{
	uint64_t old;
	uint64_t addend = read_gpr(e, e->instruction.reg, e->size), sum;

	TRY(read_rm(e, READ_WRITE, &old));
	sum = alu_binary(ALU_ADD, e->size, old, addend, &e->flags);
	if (!e->instruction.memory) { /* of one register with itself, the sum stays */
		write_gpr(e, e->instruction.reg, e->size, old);
		return write_rm(e, e->size, sum);
	}
	TRY(write_rm(e, e->size, sum));
	write_gpr(e, e->instruction.reg, e->size, old);
	return EMULATE_DONE;
}

enum emulate_result emulate_compare_exchange(struct emulation *e)
{
	uint64_t old, accumulator = read_gpr(e, GPR_RAX, e->size);

	TRY(read_rm(e, READ_WRITE, &old));
	(void)alu_binary(ALU_CMP, e->size, accumulator, old, &e->flags);
	if (old == accumulator)
		return write_rm(e, e->size, read_gpr(e, e->instruction.reg, e->size));
	write_gpr(e, GPR_RAX, e->size, old);
	return EMULATE_DONE;
}

/* high:low of two registers as memory holds them: one word of 8 bytes, or two. */
static void join(uint64_t words[2], unsigned half, uint64_t low, uint64_t high)
{
	words[0] = half == 8 ? low : (uint32_t)low | high << 32;
	words[1] = half == 8 ? high : 0;
}

/* CMPXCHG8B, CMPXCHG16B; the rest of group 9 works on registers or VMX. */
enum emulate_result emulate_group_c7(struct emulation *e)
{
	unsigned half = e->instruction.operand_size == 8 ? 8 : 4, size = 2 * half;
	uint64_t old[2] = { 0, 0 }, new[2], expected[2], *gpr = e->vcpu->gpr;

	if (!e->instruction.memory || instruction_group(&e->instruction) != 1)
		return EMULATE_UNHANDLED;
	join(expected, half, gpr[GPR_RAX], gpr[GPR_RDX]);
	join(new, half, gpr[GPR_RBX], gpr[GPR_RCX]);
	TRY(rm_address(e, 0, size, READ_WRITE));
	if (size == 16 && (e->linear.v & 15))
		return raise_fault(e, VECTOR_GP, 0);
	TRY(read_linear(e, e->linear, old, size, READ_WRITE));
	if (old[0] == expected[0] && old[1] == expected[1]) {
		e->flags |= RFLAGS_ZF;
		return exchange_linear(e, old, new, size);
	}
	e->flags &= ~RFLAGS_ZF;
	write_gpr(e, GPR_RAX, half, old[0]);
	write_gpr(e, GPR_RDX, half, half == 8 ? old[1] : old[0] >> 32);
	return EMULATE_DONE;
}
