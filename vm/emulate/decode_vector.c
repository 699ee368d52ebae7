/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VEX, EVEX and XOP prefixes: what is needed for the length, the REX bits they carry, and the registers beside ModRM.
 * Intel SDM vol. 2 sections 2.3 and 2.7; AMD APM vol. 3 section 1.2.
 */
#include "vm/emulate/decode_cursor.h"

static const uint8_t implied_prefix[4] = { 0, PREFIX_OPERAND, PREFIX_REPE, PREFIX_REPNE };

/* Maps 1 of VEX and EVEX: as 0F, but for the branches and moves to control registers that aren't there. */
static uint16_t vector_0f(uint8_t opcode, uint8_t encoding)
{
	if (encoding == ENCODING_VEX && opcode == 0x77)
		return IMMEDIATE_NONE;
	if ((opcode >= 0x70 && opcode <= 0x73) || opcode == 0xc2 || (opcode >= 0xc4 && opcode <= 0xc6))
		return OPCODE_MODRM | IMMEDIATE_8;
	return OPCODE_MODRM;
}

enum encoding vector_encoding(const struct cursor *c, uint8_t byte, uint8_t next)
{
	if (byte == 0x8f)
		return (next & 0x1f) >= 8 && c->mode != DECODE_REAL ? ENCODING_XOP : ENCODING_LEGACY;
	if (c->mode != DECODE_64 && (c->mode == DECODE_REAL || next < 0xc0))
		return ENCODING_LEGACY;
	return byte == 0x62 ? ENCODING_EVEX : ENCODING_VEX;
}

/* last: the byte with vvvv. Intel SDM vol. 2 figures 2-9 and 2-11: all register bits are inverted, but 32-bit code has 8. */
static void vector_fields(struct instruction *i, enum decode_mode mode, uint8_t first, uint8_t last, uint8_t evex)
{
	bool wide = i->encoding == ENCODING_EVEX;

	i->vvvv = (~last >> 3 & 15) | (wide && !(evex & 8) ? 16 : 0);
	i->vector_reg = wide ? ~first & 16 : 0;
	i->vector_size = 16 << (wide ? evex >> 5 & 3 : last >> 2 & 1);
	i->vector_plain = !wide || !(evex & 0x97);
	if (mode == DECODE_64)
		return;
	i->vvvv &= 7;
	i->vector_reg = 0;
}

/* The cursor stands at c4, c5, 62 or 8f, which begins a VEX, EVEX or XOP prefix. */
enum status vector_opcode(struct cursor *c, struct instruction *i, uint16_t *kind)
{
	static const uint8_t payload_size[] = { [ENCODING_VEX] = 2, [ENCODING_EVEX] = 3, [ENCODING_XOP] = 2 };
	bool two_byte_vex = c->bytes[c->at] == 0xc5;
	unsigned size = two_byte_vex ? 1 : payload_size[i->encoding];
	const uint8_t *payload = c->bytes + c->at + 1;
	uint8_t last;

	NEED(c, size + 2);
	if (i->rex_given || (i->prefixes & (PREFIX_OPERAND | PREFIX_LOCK | PREFIX_REP)))
		return BAD_FORMAT;
	last = payload[two_byte_vex ? 0 : 1];
	i->rex = c->mode != DECODE_64 ? 0 : (uint8_t)~payload[0] >> 5;
	if (two_byte_vex)
		i->rex &= REX_R;
	else if (c->mode == DECODE_64 && (last & 0x80))
		i->rex |= REX_W;
	i->prefixes |= implied_prefix[last & 3];
	vector_fields(i, c->mode, payload[0], last, payload[size - 1]);
	i->map = two_byte_vex ? MAP_0F : payload[0] & (i->encoding == ENCODING_EVEX ? 7 : 0x1f);
	c->at += size + 1;
	i->opcode = c->bytes[c->at++];
	switch (i->map) {
	case MAP_0F: *kind = vector_0f(i->opcode, i->encoding); return OK;
	case MAP_0F38:
	case MAP_XOP9: *kind = OPCODE_MODRM; return OK;
	case MAP_0F3A:
	case MAP_XOP8: *kind = OPCODE_MODRM | IMMEDIATE_8; return OK;
	case MAP_EVEX5:
	case MAP_EVEX6: *kind = OPCODE_MODRM; return i->encoding == ENCODING_EVEX ? OK : BAD_FORMAT;
	case MAP_XOPA: *kind = OPCODE_MODRM | IMMEDIATE_32; return OK;
	default: return BAD_FORMAT;
	}
}
