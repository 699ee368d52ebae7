/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder's entry: a short way for the shape that nearly every MMIO access has, all else by decode_steps.c. Also the
 * effective address of what was decoded.
 */
#include "vm/emulate/decode_cursor.h"

/* REX, opcode, ModRM, a displacement of 4 bytes: with so many there, the common shape can't end early. */
#define COMMON_SHAPE_MAX 7u

/*
 * What nearly every MMIO access looks like: 64-bit mode, at most a REX prefix, a one-byte opcode with ModRM and nothing
 * behind it, a base register, no SIB. A third of the work of decode_any, with the same outcome; false: not of that shape.
 */
static inline bool decode_common(const uint8_t *bytes, struct instruction *instruction)
{
	unsigned rex = (bytes[0] & 0xf0) == 0x40 ? bytes[0] : 0, at = rex != 0;
	unsigned byte = bytes[at], operand = bytes[at + 1], mod = operand >> 6, rm = operand & 7;
	int32_t displacement = 0;

	if (decode_one_byte[byte] != OPCODE_MODRM || mod == 3 || rm == 4 || (mod == 0 && rm == 5))
		return false;
	instruction->map = MAP_ONE_BYTE;
	instruction->encoding = ENCODING_LEGACY;
	instruction->prefixes = 0;
	instruction->has_modrm = true;
	instruction->memory = true;
	instruction->address_size = 8;
	instruction->index = OPERAND_NONE;
	if (mod == 1)
		displacement = (int8_t)bytes[at + 2];
	else if (mod == 2)
		__builtin_memcpy(&displacement, bytes + at + 2, 4);
	instruction->displacement = displacement;
	instruction->rex = rex & 0x0f;
	instruction->rex_given = at;
	instruction->opcode = (uint8_t)byte;
	instruction->modrm = (uint8_t)operand;
	instruction->reg = ((operand >> 3) & 7) | (rex & REX_R) << 1;
	instruction->base = rm | (rex & REX_B) << 3;
	instruction->segment = instruction->base == GPR_RBP ? SEG_SS : SEG_DS;
	instruction->operand_size = rex & REX_W ? 8 : 4;
	instruction->length = (uint8_t)(at + 2 + (mod == 2 ? 4 : mod));
	return true;
}

enum status decode(const uint8_t *bytes, unsigned count, enum decode_mode mode, struct instruction *instruction)
{
	if (likely(mode == DECODE_64 && count >= COMMON_SHAPE_MAX) && decode_common(bytes, instruction))
		return OK;
	return decode_any(bytes, count, mode, instruction);
}

uint64_t effective_address(const struct instruction *instruction, const uint64_t gpr[GPR_COUNT], uint64_t next_rip)
{
	uint64_t address = (uint64_t)instruction->displacement;

	if (instruction->base < GPR_COUNT)
		address += gpr[instruction->base];
	else if (instruction->base == OPERAND_RIP)
		address += next_rip;
	if (instruction->index < GPR_COUNT)
		address += gpr[instruction->index] << instruction->scale;
	if (likely(instruction->address_size == 8))
		return address;
	return address & (instruction->address_size == 4 ? 0xffffffffu : 0xffffu);
}
