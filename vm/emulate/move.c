/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handlers that move data and change no flags: MOV in its forms, MOVZX, MOVSX, MOVBE, LEA, XCHG, BSWAP, XLAT, CMOVcc, SETcc,
 * conversions of the accumulator. Loads of a segment register are done in real and virtual-8086 mode only.
 */
#include "vm/emulate/internal.h"

/* Without ModRM (the forms with an offset) it is the accumulator. */
#define R (e->instruction.has_modrm ? e->instruction.reg : GPR_RAX)

enum emulate_result emulate_store(struct emulation *e)
{
	return store_rm(e, e->size, read_gpr(e, R, e->size));
}

enum emulate_result emulate_load(struct emulation *e)
{
	uint64_t value;

	TRY(read_rm(e, ACCESS_READ, &value));
	write_gpr(e, R, e->size, value);
	return EMULATE_DONE;
}

enum emulate_result emulate_store_immediate(struct emulation *e)
{
	if (instruction_group(&e->instruction) != 0)
		return EMULATE_UNHANDLED; /* XABORT, XBEGIN */
	return store_rm(e, e->size, e->instruction.immediate & byte_mask(e->size));
}

enum emulate_result emulate_load_immediate(struct emulation *e)
{
	unsigned size = e->instruction.opcode & 8 ? e->instruction.operand_size : 1;

	write_gpr(e, opcode_register(e), size, e->instruction.immediate);
	return EMULATE_DONE;
}

/* MOVZX, MOVSX: an even opcode takes a byte, an odd one a word; bit 3 says signed. */
enum emulate_result emulate_load_extended(struct emulation *e)
{
	unsigned from = e->instruction.opcode & 1 ? 2 : 1;
	uint64_t value;

	TRY(read_rm_at(e, 0, from, ACCESS_READ, &value));
	if (e->instruction.opcode & 8)
		value = (uint64_t)signed_value(value, from);
	write_gpr(e, R, e->instruction.operand_size, value);
	return EMULATE_DONE;
}

enum emulate_result emulate_load_movsxd(struct emulation *e)
{
	unsigned from = e->instruction.operand_size == 2 ? 2 : 4;
	uint64_t value;

	if (e->mode != DECODE_64)
		return EMULATE_UNHANDLED; /* ARPL */
	TRY(read_rm_at(e, 0, from, ACCESS_READ, &value));
	write_gpr(e, R, e->size, (uint64_t)signed_value(value, from));
	return EMULATE_DONE;
}

enum emulate_result emulate_load_address(struct emulation *e)
{
	if (!e->instruction.memory)
		return raise_undefined(e);
	write_gpr(e, R, e->size, effective_address(&e->instruction, e->vcpu->gpr, e->next_rip));
	return EMULATE_DONE;
}

/* Always locked when it touches memory. */
enum emulate_result emulate_exchange(struct emulation *e)
{
	uint64_t old, new = read_gpr(e, R, e->size);

	TRY(read_rm(e, ACCESS_READ | ACCESS_WRITE, &old));
	e->locked = true;
	TRY(write_rm(e, e->size, new));
	write_gpr(e, R, e->size, old);
	return EMULATE_DONE;
}

enum emulate_result emulate_exchange_accumulator(struct emulation *e)
{
	unsigned other = opcode_register(e);
	uint64_t value = read_gpr(e, other, e->size);

	if (other == GPR_RAX)
		return EMULATE_DONE; /* NOP: EAX keeps its upper half */
	write_gpr(e, other, e->size, read_gpr(e, GPR_RAX, e->size));
	write_gpr(e, GPR_RAX, e->size, value);
	return EMULATE_DONE;
}

static uint64_t swapped(uint64_t value, unsigned size)
{
	return __builtin_bswap64(value) >> (64 - 8 * size);
}

enum emulate_result emulate_byte_swap(struct emulation *e)
{
	unsigned number = opcode_register(e);

	/* With 16-bit operands it is undefined; processors clear the word. */
	write_gpr(e, number, e->size, e->size == 2 ? 0 : swapped(read_gpr(e, number, e->size), e->size));
	return EMULATE_DONE;
}

/* MOVBE: F0 loads, F1 stores; with F2 it is CRC32. */
enum emulate_result emulate_move_swapped(struct emulation *e)
{
	uint64_t value;

	if (e->instruction.prefixes & PREFIX_REP)
		return EMULATE_UNHANDLED;
	if (!e->instruction.memory)
		return raise_undefined(e);
	if (e->instruction.opcode & 1)
		return store_rm(e, e->size, swapped(read_gpr(e, R, e->size), e->size));
	TRY(read_rm(e, ACCESS_READ, &value));
	write_gpr(e, R, e->size, swapped(value, e->size));
	return EMULATE_DONE;
}

enum emulate_result emulate_translate(struct emulation *e)
{
	unsigned width = e->instruction.address_size;
	uint64_t offset = e->vcpu->gpr[GPR_RBX] + (e->vcpu->gpr[GPR_RAX] & 0xff);
	uint8_t value;
	gva_t linear;

	TRY(linear_address(e, e->instruction.segment, offset & byte_mask(width), 1, ACCESS_READ, &linear));
	TRY(read_linear(e, linear, &value, 1, ACCESS_READ));
	write_gpr(e, GPR_RAX, 1, value);
	return EMULATE_DONE;
}

enum emulate_result emulate_store_segment(struct emulation *e)
{
	unsigned name = instruction_group(&e->instruction);

	if (name > SEG_GS)
		return raise_undefined(e);
	hv_need(e->vcpu, REGS_SEGMENTS);
	return store_rm(e, e->instruction.memory ? 2 : e->instruction.operand_size, e->vcpu->segment[name].selector);
}

enum emulate_result emulate_load_segment(struct emulation *e)
{
	unsigned name = instruction_group(&e->instruction);
	uint64_t selector;

	if (name > SEG_GS || name == SEG_CS)
		return raise_undefined(e);
	if (e->typed_segments)
		return EMULATE_UNHANDLED;
	TRY(read_rm_at(e, 0, 2, ACCESS_READ, &selector));
	hv_need(e->vcpu, REGS_SEGMENTS);
	e->vcpu->segment[name].selector = (uint16_t)selector;
	e->vcpu->segment[name].base = (selector & 0xffff) << 4;
	hv_changed(e->vcpu, REGS_SEGMENTS);
	e->shadow = name == SEG_SS;
	return EMULATE_DONE;
}

/* The source is read, and a 32-bit destination's upper half cleared, whether the condition holds or not. */
enum emulate_result emulate_move_if(struct emulation *e)
{
	uint64_t value;

	TRY(read_rm(e, ACCESS_READ, &value));
	write_gpr(e, R, e->size, alu_condition(e->instruction.opcode, e->flags) ? value : read_gpr(e, R, e->size));
	return EMULATE_DONE;
}

enum emulate_result emulate_set_if(struct emulation *e)
{
	return store_rm(e, 1, alu_condition(e->instruction.opcode, e->flags));
}

/* CBW, CWDE, CDQE */
enum emulate_result emulate_convert_accumulator(struct emulation *e)
{
	unsigned half = e->size / 2;

	write_gpr(e, GPR_RAX, e->size, (uint64_t)signed_value(e->vcpu->gpr[GPR_RAX], half));
	return EMULATE_DONE;
}

/* CWD, CDQ, CQO */
enum emulate_result emulate_convert_to_rdx(struct emulation *e)
{
	write_gpr(e, GPR_RDX, e->size, signed_value(e->vcpu->gpr[GPR_RAX], e->size) < 0 ? ~UINT64_C(0) : 0);
	return EMULATE_DONE;
}
