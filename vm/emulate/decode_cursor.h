/* SPDX-License-Identifier: Apache-2.0 */
/* Private to decode*.c: the cursor, the opcode tables, and the step for VEX, EVEX and XOP. */
#pragma once

#include "vm/emulate/decode.h"

enum immediate_kind {
	IMMEDIATE_NONE,
	IMMEDIATE_8,
	IMMEDIATE_16,
	IMMEDIATE_Z, /* operand size, at most 4 bytes */
	IMMEDIATE_V, /* operand size */
	IMMEDIATE_16_8,
	IMMEDIATE_FAR,
	IMMEDIATE_OFFSET, /* moffs */
	IMMEDIATE_BRANCH, /* Z, but 4 bytes in 64-bit mode */
	IMMEDIATE_TEST_8, /* group 3: only with /0 and /1 */
	IMMEDIATE_TEST_Z,
	IMMEDIATE_EXTRQ, /* two bytes, only with 66 or F2 */
	IMMEDIATE_32,
};

#define OPCODE_IMMEDIATE 0x0fu
#define OPCODE_MODRM 0x10u
#define OPCODE_PREFIX 0x20u
#define OPCODE_DEFAULT64 0x40u /* 64-bit operands in 64-bit mode, or 16-bit ones with 66 */
#define OPCODE_FORCE64 0x80u   /* 64-bit operands in 64-bit mode, come what may */
#define OPCODE_UNDEFINED 0x100u
#define OPCODE_NOT64 0x200u    /* undefined in 64-bit mode */
#define OPCODE_REGISTER 0x400u /* r/m is a register whatever mod says */
#define OPCODE_ENCODING 0x800u /* may begin VEX, EVEX or XOP */

extern const uint16_t decode_one_byte[256];
extern const uint16_t decode_0f[256];

struct cursor {
	const uint8_t *bytes;
	unsigned at, count;
	enum decode_mode mode;
};

/* The status when the bytes end early. */
static inline enum status out_of_bytes(const struct cursor *c)
{
	return c->count >= INSTRUCTION_MAX ? LIMIT : TRUNCATED;
}

#define NEED(c, n)                                                                                                     \
	do {                                                                                                           \
		if (unlikely((c)->at + (n) > (c)->count))                                                              \
			return out_of_bytes(c);                                                                        \
	} while (0)

/* decode() without its short way: any instruction in any mode. */
enum status decode_any(const uint8_t *bytes, unsigned count, enum decode_mode mode,
		       struct instruction *instruction) must_check;
/* The byte behind c4, c5, 62 or 8f tells the newer encodings from LES, LDS, BOUND and POP. */
enum encoding vector_encoding(const struct cursor *c, uint8_t byte, uint8_t next);
/* Takes payload and opcode; instruction->encoding is set, the cursor stands at c4, c5, 62 or 8f. */
enum status vector_opcode(struct cursor *c, struct instruction *instruction, uint16_t *kind) must_check;
