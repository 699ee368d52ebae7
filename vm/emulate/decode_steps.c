/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder's steps: prefixes, opcode (legacy, or VEX/EVEX/XOP payload), sizes, ModRM with SIB and displacement,
 * immediates. A cursor holds the place; each step either advances it or ends the decoding with a status. Nothing
 * reads beyond `count`. Every field is set exactly once on the way: no clearing of the whole structure, since
 * this runs at each MMIO exit.
 */
#include "vm/emulate/decode_cursor.h"

/* size 1, 2, 4, 8, sign-extended; the bytes are there. */
static int64_t take(struct cursor *c, unsigned size)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)c->bytes[c->at++] << (8 * i);
	return (int64_t)sign_extend(value, 8 * size);
}

static void take_prefix(struct instruction *i, uint8_t byte, enum decode_mode mode)
{
	switch (byte) {
	case 0x66: i->prefixes |= PREFIX_OPERAND; return;
	case 0x67: i->prefixes |= PREFIX_ADDRESS; return;
	case 0xf0: i->prefixes |= PREFIX_LOCK; return;
	case 0xf2: i->prefixes = (i->prefixes & ~PREFIX_REP) | PREFIX_REPNE; return;
	case 0xf3: i->prefixes = (i->prefixes & ~PREFIX_REP) | PREFIX_REPE; return;
	case 0x64:
	case 0x65: i->segment = byte - 0x64 + SEG_FS; break;
	default: /* 26, 2e, 36, 3e: nothing in 64-bit mode */
		if (mode == DECODE_64)
			return;
		i->segment = (byte >> 3) & 3;
	}
	i->prefixes |= PREFIX_SEGMENT;
}

static inline enum status prefixes(struct cursor *c, struct instruction *i)
{
	i->prefixes = 0;
	i->rex = 0;
	i->rex_given = false;
	for (;;) {
		uint8_t byte;

		NEED(c, 1);
		byte = c->bytes[c->at];
		if (c->mode == DECODE_64 && (byte & 0xf0) == 0x40) {
			i->rex = byte & 0x0f;
			i->rex_given = true;
		} else if (decode_one_byte[byte] & OPCODE_PREFIX) {
			take_prefix(i, byte, c->mode);
			i->rex = 0; /* a REX that is not the last prefix is ignored */
			i->rex_given = false;
		} else {
			return OK;
		}
		c->at++;
	}
}

/* Behind 0F. */
static enum status escaped_opcode(struct cursor *c, struct instruction *i, uint16_t *kind)
{
	NEED(c, 1);
	i->opcode = c->bytes[c->at++];
	i->map = MAP_0F;
	*kind = decode_0f[i->opcode];
	if (i->opcode != 0x38 && i->opcode != 0x3a)
		return OK;
	i->map = i->opcode == 0x38 ? MAP_0F38 : MAP_0F3A;
	*kind = i->opcode == 0x38 ? OPCODE_MODRM : OPCODE_MODRM | IMMEDIATE_8;
	NEED(c, 1);
	i->opcode = c->bytes[c->at++];
	return OK;
}

/* Apart, and on a copy: the cursor's address must not escape, so that it lives in registers on the common path. */
static __attribute__((noinline)) enum status newer_encoding(struct cursor copy, struct instruction *i, unsigned *at,
							    uint16_t *kind)
{
	enum status status;

	if (copy.at + 2 > copy.count)
		return out_of_bytes(&copy);
	i->encoding = vector_encoding(&copy, copy.bytes[copy.at], copy.bytes[copy.at + 1]);
	if (i->encoding == ENCODING_LEGACY)
		return OK;
	status = vector_opcode(&copy, i, kind);
	*at = copy.at;
	return status;
}

static inline enum status opcode(struct cursor *c, struct instruction *i, uint16_t *kind)
{
	uint8_t byte = c->bytes[c->at];

	i->encoding = ENCODING_LEGACY;
	*kind = decode_one_byte[byte];
	if (unlikely(*kind & OPCODE_ENCODING)) {
		unsigned at = 0;
		uint16_t vector_kind = 0;
		enum status status = newer_encoding(*c, i, &at, &vector_kind);

		if (status != OK || i->encoding != ENCODING_LEGACY) {
			c->at = at;
			*kind = vector_kind;
			return status;
		}
	}
	c->at++;
	if (byte == 0x0f)
		return escaped_opcode(c, i, kind);
	i->map = MAP_ONE_BYTE;
	i->opcode = byte;
	return OK;
}

static void sizes(const struct cursor *c, struct instruction *i, uint16_t kind)
{
	bool operand = i->prefixes & PREFIX_OPERAND && i->encoding == ENCODING_LEGACY;
	bool address = i->prefixes & PREFIX_ADDRESS;

	if (c->mode == DECODE_64) {
		bool wide = (kind & OPCODE_FORCE64) || (i->rex & REX_W);

		i->address_size = address ? 4 : 8;
		i->operand_size = wide ? 8 : operand ? 2 : (kind & OPCODE_DEFAULT64) ? 8 : 4;
		return;
	}
	i->address_size = address == (c->mode == DECODE_32) ? 2 : 4;
	i->operand_size = operand == (c->mode == DECODE_32) ? 2 : 4;
}

/* 16-bit addressing. Intel SDM vol. 2 table 2-1. */
static enum status modrm_16(struct cursor *c, struct instruction *i, unsigned mod)
{
	static const uint8_t bases[8] = { GPR_RBX, GPR_RBX, GPR_RBP, GPR_RBP, GPR_RSI, GPR_RDI, GPR_RBP, GPR_RBX };
	static const uint8_t indexes[8] = { GPR_RSI,      GPR_RDI,      GPR_RSI,      GPR_RDI,
					    OPERAND_NONE, OPERAND_NONE, OPERAND_NONE, OPERAND_NONE };
	unsigned rm = i->modrm & 7, size = mod;

	i->base = bases[rm];
	i->index = indexes[rm];
	i->scale = 0;
	if (mod == 0 && rm == 6) {
		i->base = OPERAND_NONE;
		size = 2;
	}
	if (!(i->prefixes & PREFIX_SEGMENT))
		i->segment = i->base == GPR_RBP ? SEG_SS : SEG_DS;
	NEED(c, size);
	i->displacement = size ? take(c, size) : 0;
	return OK;
}

static enum status sib(struct cursor *c, struct instruction *i, unsigned mod, unsigned *size)
{
	uint8_t byte;

	NEED(c, 1);
	byte = c->bytes[c->at++];
	i->scale = byte >> 6;
	i->index = ((byte >> 3) & 7) | (i->rex & REX_X) << 2;
	if (i->index == GPR_RSP)
		i->index = OPERAND_NONE;
	i->base = (byte & 7) | (i->rex & REX_B) << 3;
	if ((byte & 7) == 5 && mod == 0) {
		i->base = OPERAND_NONE;
		*size = 4;
	}
	return OK;
}

/* 32- and 64-bit addressing. Intel SDM vol. 2 tables 2-2, 2-3, section 2.2.1.6. */
static enum status modrm_32(struct cursor *c, struct instruction *i, unsigned mod)
{
	static const uint8_t displacement_size[3] = { 0, 1, 4 };
	unsigned rm = i->modrm & 7, size = displacement_size[mod];

	if (rm == 4) {
		TRY(sib(c, i, mod, &size));
	} else {
		i->base = rm | (i->rex & REX_B) << 3;
		i->index = OPERAND_NONE;
		i->scale = 0;
		if (mod == 0 && rm == 5) {
			i->base = c->mode == DECODE_64 ? OPERAND_RIP : OPERAND_NONE;
			size = 4;
		}
	}
	if (!(i->prefixes & PREFIX_SEGMENT))
		i->segment = i->base == GPR_RSP || i->base == GPR_RBP ? SEG_SS : SEG_DS;
	NEED(c, size);
	i->displacement = size ? take(c, size) : 0;
	return OK;
}

static enum status modrm(struct cursor *c, struct instruction *i, uint16_t kind)
{
	unsigned mod;

	i->memory = false;
	i->has_modrm = kind & OPCODE_MODRM;
	if (!i->has_modrm) {
		if (!(i->prefixes & PREFIX_SEGMENT))
			i->segment = SEG_DS;
		return OK;
	}
	NEED(c, 1);
	i->modrm = c->bytes[c->at++];
	mod = i->modrm >> 6;
	i->reg = ((i->modrm >> 3) & 7) | (i->rex & REX_R) << 1;
	if (i->encoding != ENCODING_LEGACY)
		i->vector_reg |= i->reg;
	if (mod == 3 || (kind & OPCODE_REGISTER)) {
		i->rm = (i->modrm & 7) | (i->rex & REX_B) << 3;
		return OK;
	}
	i->memory = true;
	return i->address_size == 2 ? modrm_16(c, i, mod) : modrm_32(c, i, mod);
}

static unsigned immediate_size(const struct cursor *c, const struct instruction *i, uint16_t kind)
{
	unsigned z = i->operand_size == 2 ? 2 : 4;

	switch (kind & OPCODE_IMMEDIATE) {
	case IMMEDIATE_8: return 1;
	case IMMEDIATE_16:
	case IMMEDIATE_16_8: return 2;
	case IMMEDIATE_Z:
	case IMMEDIATE_FAR: return z;
	case IMMEDIATE_V: return i->operand_size;
	case IMMEDIATE_OFFSET: return i->address_size;
	case IMMEDIATE_BRANCH: return c->mode == DECODE_64 ? 4 : z;
	case IMMEDIATE_TEST_8: return instruction_group(i) < 2 ? 1 : 0;
	case IMMEDIATE_TEST_Z: return instruction_group(i) < 2 ? z : 0;
	case IMMEDIATE_EXTRQ: return i->prefixes & (PREFIX_OPERAND | PREFIX_REPNE) ? 1 : 0;
	case IMMEDIATE_32: return 4;
	default: return 0;
	}
}

static enum status immediate(struct cursor *c, struct instruction *i, uint16_t kind)
{
	unsigned form = kind & OPCODE_IMMEDIATE, size = immediate_size(c, i, kind);
	unsigned size2 = form == IMMEDIATE_FAR ? 2 : form == IMMEDIATE_16_8 ? 1 : form == IMMEDIATE_EXTRQ ? size : 0;

	NEED(c, size + size2);
	i->immediate = size ? (uint64_t)take(c, size) : 0;
	if (size2)
		i->immediate2 = (uint16_t)take(c, size2) & (size2 == 1 ? 0xff : 0xffff);
	if (form == IMMEDIATE_OFFSET) {
		i->memory = true;
		i->base = i->index = OPERAND_NONE;
		i->displacement = (int64_t)i->immediate;
	}
	return OK;
}

enum status decode_any(const uint8_t *bytes, unsigned count, enum decode_mode mode, struct instruction *instruction)
{
	struct cursor c = { bytes, 0, count < INSTRUCTION_MAX ? count : INSTRUCTION_MAX, mode };
	enum status status;
	uint16_t kind = 0;

	TRY(prefixes(&c, instruction));
	TRY(opcode(&c, instruction, &kind));
	if (unlikely(kind & (OPCODE_UNDEFINED | OPCODE_NOT64)) && ((kind & OPCODE_UNDEFINED) || mode == DECODE_64))
		return BAD_FORMAT;
	sizes(&c, instruction, kind);
	status = modrm(&c, instruction, kind);
	if (status == OK && (kind & OPCODE_IMMEDIATE))
		status = immediate(&c, instruction, kind);
	instruction->length = (uint8_t)c.at;
	return status;
}
