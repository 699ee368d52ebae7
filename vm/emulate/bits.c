/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handlers of shifts, rotates, bit tests, bit scans, and of single flags.
 */
#include "vm/emulate/internal.h"

#define READ_WRITE (ACCESS_READ | ACCESS_WRITE)

/* Group 2: C0, C1 by an immediate; D0, D1 by one; D2, D3 by CL. */
enum emulate_result emulate_shift_rm(struct emulation *e)
{
	uint8_t opcode = e->instruction.opcode;
	unsigned count = opcode < 0xd0   ? e->instruction.immediate & 0xff
			 : opcode < 0xd2 ? 1
					 : e->vcpu->gpr[GPR_RCX] & 0xff;
	uint64_t value;

	TRY(read_rm(e, READ_WRITE, &value));
	return write_rm(e, e->size, alu_shift(instruction_group(&e->instruction), e->size, value, count, &e->flags));
}

/* SHLD A4, A5; SHRD AC, AD: by an immediate if even, by CL if odd. */
enum emulate_result emulate_double_shift(struct emulation *e)
{
	uint8_t opcode = e->instruction.opcode;
	unsigned count = (opcode & 1 ? e->vcpu->gpr[GPR_RCX] : e->instruction.immediate) & 0xff;
	uint64_t value, source = read_gpr(e, e->instruction.reg, e->size);

	TRY(read_rm(e, READ_WRITE, &value));
	return write_rm(e, e->size, alu_double_shift(opcode & 8, e->size, value, source, count, &e->flags));
}

enum bit_operation { BIT_TEST, BIT_SET, BIT_RESET, BIT_COMPLEMENT };

/* number: of the bit within the operand at `offset` from the memory operand's address. */
static enum emulate_result change_bit(struct emulation *e, enum bit_operation operation, int64_t offset,
				      unsigned number)
{
	uint64_t value, bit = BIT(number);

	TRY(read_rm_at(e, offset, e->size, operation == BIT_TEST ? ACCESS_READ : READ_WRITE, &value));
	e->flags = (e->flags & ~RFLAGS_CF) | (value & bit ? RFLAGS_CF : 0);
	switch (operation) {
	case BIT_TEST: return EMULATE_DONE;
	case BIT_SET: value |= bit; break;
	case BIT_RESET: value &= ~bit; break;
	case BIT_COMPLEMENT: value ^= bit; break;
	}
	return write_rm(e, e->size, value);
}

/* A3, AB, B3, BB. In memory the register's signed value reaches beyond the operand. */
enum emulate_result emulate_bit_reg(struct emulation *e)
{
	enum bit_operation operation = (e->instruction.opcode >> 3) & 3;
	int64_t position = signed_value(read_gpr(e, e->instruction.reg, e->size), e->size);
	unsigned bits = 8 * e->size;
	int64_t operands = position >> (e->size == 2 ? 4 : e->size == 4 ? 5 : 6);

	return change_bit(e, operation, operands * e->size, (uint64_t)position & (bits - 1));
}
_Static_assert(((0xa3 >> 3) & 3) == BIT_TEST + 0 && ((0xab >> 3) & 3) == BIT_SET, "BT and BTS by opcode");
_Static_assert(((0xb3 >> 3) & 3) == BIT_RESET && ((0xbb >> 3) & 3) == BIT_COMPLEMENT, "BTR and BTC by opcode");

/* Group 8: BA. */
enum emulate_result emulate_bit_immediate(struct emulation *e)
{
	unsigned group = instruction_group(&e->instruction);

	if (group < 4)
		return raise_undefined(e);
	return change_bit(e, group & 3, 0, e->instruction.immediate & (8 * e->size - 1));
}

/* BSF, BSR. Of zero they leave the destination alone, as processors do. With F3 they are TZCNT and LZCNT if the guest has them. */
enum emulate_result emulate_bit_scan(struct emulation *e)
{
	uint64_t value;

	if (e->instruction.prefixes & PREFIX_REPE)
		return EMULATE_UNHANDLED;
	TRY(read_rm(e, ACCESS_READ, &value));
	e->flags = (e->flags & ~RFLAGS_ZF) | (value ? 0 : RFLAGS_ZF);
	if (value)
		write_gpr(e, e->instruction.reg, e->size,
			  (uint64_t)(e->instruction.opcode & 1 ? 63 - __builtin_clzll(value) : __builtin_ctzll(value)));
	return EMULATE_DONE;
}

/* POPCNT; without F3 the opcode is undefined. */
enum emulate_result emulate_count_bits(struct emulation *e)
{
	uint64_t value;
	unsigned count = 0;

	if (!(e->instruction.prefixes & PREFIX_REPE))
		return raise_undefined(e);
	TRY(read_rm(e, ACCESS_READ, &value));
	e->flags = (e->flags & ~ARITHMETIC_FLAGS) | (value ? 0 : RFLAGS_ZF);
	for (; value; value &= value - 1)
		count++;
	write_gpr(e, e->instruction.reg, e->size, count);
	return EMULATE_DONE;
}

/* CMC, CLC, STC, CLI, STI, CLD, STD. */
enum emulate_result emulate_set_flag(struct emulation *e)
{
	unsigned iopl = (e->vcpu->rflags >> RFLAGS_IOPL_SHIFT) & 3;

	switch (e->instruction.opcode) {
	case 0xf5: e->flags ^= RFLAGS_CF; return EMULATE_DONE;
	case 0xf8: e->flags &= ~RFLAGS_CF; return EMULATE_DONE;
	case 0xf9: e->flags |= RFLAGS_CF; return EMULATE_DONE;
	case 0xfc: e->flags &= ~RFLAGS_DF; return EMULATE_DONE;
	case 0xfd: e->flags |= RFLAGS_DF; return EMULATE_DONE;
	}
	if (privilege_level(e) > iopl) /* with VME or PVI there would be a virtual IF */
		return e->vcpu->cr4 & (CR4_VME | CR4_PVI) ? EMULATE_UNHANDLED : raise_fault(e, VECTOR_GP, 0);
	if (e->instruction.opcode == 0xfa) {
		e->flags &= ~RFLAGS_IF;
		return EMULATE_DONE;
	}
	e->shadow = !(e->flags & RFLAGS_IF);
	e->flags |= RFLAGS_IF;
	return EMULATE_DONE;
}

#define FLAGS_IN_AH (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF)

/* LAHF */
enum emulate_result emulate_load_flags(struct emulation *e)
{
	uint64_t *rax = &e->vcpu->gpr[GPR_RAX];

	*rax = (*rax & ~UINT64_C(0xff00)) | ((e->flags & FLAGS_IN_AH) | 2) << 8;
	return EMULATE_DONE;
}

/* SAHF */
enum emulate_result emulate_store_flags(struct emulation *e)
{
	e->flags = (e->flags & ~FLAGS_IN_AH) | ((e->vcpu->gpr[GPR_RAX] >> 8) & FLAGS_IN_AH);
	return EMULATE_DONE;
}
