/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instruction decoder: bytes in, fields out. It knows no registers' contents and no memory.
 *
 * Every instruction's length comes out right, including x87, SSE, VEX, EVEX and XOP forms; the fields are
 * meant for integer instructions and for what a vector instruction needs beside (vvvv to vector_plain).
 * What the decoder calls BAD_FORMAT raises #UD on every processor; that it accepts an instruction does
 * not mean that a processor does. Near branches follow Intel: 66h does not shorten them in 64-bit mode.
 *
 * Intel SDM vol. 2 chapter 2 and appendix A; AMD APM vol. 3 chapter 1 and appendix A.
 */
#pragma once

#include "arch/x86_64/hv.h"

#define INSTRUCTION_MAX 15

enum decode_mode {
	DECODE_REAL, /* real and virtual-8086: 16-bit, no VEX, no EVEX */
	DECODE_16,
	DECODE_32,
	DECODE_64,
};

enum opcode_map {
	MAP_ONE_BYTE,
	MAP_0F,
	MAP_0F38,
	MAP_0F3A,
	MAP_EVEX5 = 5,
	MAP_EVEX6 = 6,
	MAP_XOP8 = 8,
	MAP_XOP9 = 9,
	MAP_XOPA = 10,
};

enum encoding { ENCODING_LEGACY, ENCODING_VEX, ENCODING_EVEX, ENCODING_XOP };

#define PREFIX_OPERAND 0x01u /* 66 */
#define PREFIX_ADDRESS 0x02u /* 67 */
#define PREFIX_LOCK 0x04u    /* F0 */
#define PREFIX_REPE 0x08u    /* F3; of F2 and F3 the last one counts */
#define PREFIX_REPNE 0x10u   /* F2 */
#define PREFIX_SEGMENT 0x20u
#define PREFIX_REP (PREFIX_REPE | PREFIX_REPNE)

#define REX_B 1u
#define REX_X 2u
#define REX_R 4u
#define REX_W 8u

/* Values of base and index beside enum gpr. */
#define OPERAND_NONE 0xffu
#define OPERAND_RIP 0xfeu /* base only */

struct instruction {
	uint8_t map, opcode; /* enum opcode_map, and the byte in it */
	uint8_t encoding;    /* enum encoding */
	uint8_t length;      /* bytes, 1 to 15 */
	uint8_t prefixes;    /* PREFIX_*; for VEX, EVEX and XOP those that it implies */
	uint8_t rex;         /* REX_*, true sense also when it comes from VEX */
	bool rex_given;      /* a REX prefix stands before the opcode: SPL..DIL, not AH..BH */
	bool has_modrm;
	bool memory; /* r/m, or moffs, is in memory: segment to displacement are set */
	uint8_t modrm;
	uint8_t reg, rm;      /* with REX; reg also without memory, rm only when it is a register */
	uint8_t operand_size; /* 2, 4, 8: what the instruction's non-byte form works on */
	uint8_t address_size; /* 2, 4, 8 */
	uint8_t segment;      /* enum segment_name, of the memory operand or of a string's source */
	uint8_t base, index;  /* enum gpr, OPERAND_NONE, OPERAND_RIP */
	uint8_t scale;        /* shift count, 0 to 3 */
	int64_t displacement;
	uint64_t immediate;  /* sign-extended */
	uint16_t immediate2; /* ENTER's level, a far pointer's selector, EXTRQ's second byte */
	/* Only with VEX, EVEX and XOP; EVEX's 8-bit displacement is in units of the operand, which the decoder doesn't know. */
	uint8_t vvvv, vector_reg; /* 0 to 31: the register in the prefix; ModRM.reg with R' */
	uint8_t vector_size;      /* bytes: 16, 32, 64 */
	bool vector_plain;        /* no mask, broadcast or rounding */
};

/* The opcode extension in ModRM.reg. */
static inline unsigned instruction_group(const struct instruction *instruction)
{
	return (instruction->modrm >> 3) & 7u;
}

/*
 * Decodes the instruction at bytes[0]; count, 1 to 15, is how many there are. OK; TRUNCATED: more bytes are needed;
 * BAD_FORMAT: #UD; LIMIT: longer than 15 bytes, #GP(0). *instruction is complete only with OK.
 */
enum status decode(const uint8_t *bytes, unsigned count, enum decode_mode mode,
		   struct instruction *instruction) must_check;

/* Offset of the memory operand within its segment, cut to the address size. next_rip: behind this instruction. */
uint64_t effective_address(const struct instruction *instruction, const uint64_t gpr[GPR_COUNT], uint64_t next_rip);
