/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves between memory and a vector or MMX register: MOVUPS and its family in their SSE, VEX and (unmasked) EVEX forms, as
 * drivers and C libraries copy from and to a device's memory. Bytes only: the registers come and go through the
 * environment, nothing here touches the processor's. That the instruction exists and is allowed (CR0.TS, CR4.OSFXSR,
 * XCR0) the processor has checked before it came to the memory access.
 * Intel SDM vol. 2 chapter 4, MOVAPS to MOVUPD, MOVNT*, LDDQU, VMOVDQU; section 2.7.5 (EVEX's displacement).
 */
#include "vm/emulate/internal.h"

/* Which mandatory prefixes a line is for. */
#define NONE 1u
#define P66 2u
#define PF3 4u
#define PF2 8u

#define STORE 1u
#define ALIGNED 2u
#define LOW 4u  /* only the low half of the low 16 bytes */
#define HIGH 8u /* only their high half */
#define MMX 16u
#define WORD 32u /* 4 bytes, with REX.W 8 */
#define EVEX 64u /* only in that form */

struct vector_move {
	uint8_t map, opcode, prefixes, size /* 0: the whole register */, flags;
};

static const struct vector_move moves[] = {
	{ MAP_0F, 0x10, NONE | P66, 0, 0 },
	{ MAP_0F, 0x10, PF3, 4, 0 },
	{ MAP_0F, 0x10, PF2, 8, 0 },
	{ MAP_0F, 0x11, NONE | P66, 0, STORE },
	{ MAP_0F, 0x11, PF3, 4, STORE },
	{ MAP_0F, 0x11, PF2, 8, STORE },
	{ MAP_0F, 0x12, NONE | P66, 8, LOW },
	{ MAP_0F, 0x13, NONE | P66, 8, LOW | STORE },
	{ MAP_0F, 0x16, NONE | P66, 8, HIGH },
	{ MAP_0F, 0x17, NONE | P66, 8, HIGH | STORE },
	{ MAP_0F, 0x28, NONE | P66, 0, ALIGNED },
	{ MAP_0F, 0x29, NONE | P66, 0, ALIGNED | STORE },
	{ MAP_0F, 0x2b, NONE | P66, 0, ALIGNED | STORE },
	{ MAP_0F, 0x6e, NONE, 0, WORD | MMX },
	{ MAP_0F, 0x6e, P66, 0, WORD },
	{ MAP_0F, 0x7e, NONE, 0, WORD | MMX | STORE },
	{ MAP_0F, 0x7e, P66, 0, WORD | STORE },
	{ MAP_0F, 0x7e, PF3, 8, 0 },
	{ MAP_0F, 0x6f, NONE, 8, MMX },
	{ MAP_0F, 0x6f, P66, 0, ALIGNED },
	{ MAP_0F, 0x6f, PF3, 0, 0 },
	{ MAP_0F, 0x6f, PF2, 0, EVEX },
	{ MAP_0F, 0x7f, NONE, 8, MMX | STORE },
	{ MAP_0F, 0x7f, P66, 0, ALIGNED | STORE },
	{ MAP_0F, 0x7f, PF3, 0, STORE },
	{ MAP_0F, 0x7f, PF2, 0, EVEX | STORE },
	{ MAP_0F, 0xd6, P66, 8, STORE },
	{ MAP_0F, 0xe7, NONE, 8, MMX | STORE },
	{ MAP_0F, 0xe7, P66, 0, ALIGNED | STORE },
	{ MAP_0F, 0xf0, PF2, 0, 0 },
	{ MAP_0F38, 0x2a, P66, 0, ALIGNED },
};

static const struct vector_move *find_move(const struct instruction *i)
{
	unsigned prefix = i->prefixes & PREFIX_REPNE     ? PF2
			  : i->prefixes & PREFIX_REPE    ? PF3
			  : i->prefixes & PREFIX_OPERAND ? P66
							 : NONE;

	for (unsigned n = 0; n < ARRAY_SIZE(moves); n++) {
		const struct vector_move *m = &moves[n];

		if (m->map == i->map && m->opcode == i->opcode && (m->prefixes & prefix) &&
		    (i->encoding == ENCODING_EVEX || !(m->flags & EVEX)) &&
		    (i->encoding == ENCODING_LEGACY || !(m->flags & MMX)))
			return m;
	}
	return NULL;
}

static void vector(struct emulation *e, unsigned number, bool write, uint8_t *value)
{
	e->env->vector(e->env->context, number, write, value);
}

/* What the register becomes: SSE forms leave all above 16 bytes, the newer ones clear it and take the other half from vvvv. */
static void load_register(struct emulation *e, const struct vector_move *m, unsigned number, const uint8_t *from,
			  unsigned size)
{
	bool legacy = e->instruction.encoding == ENCODING_LEGACY;
	uint8_t value[VECTOR_MAX];

	vector(e, legacy ? number : e->instruction.vvvv, false, value);
	if (!legacy)
		__builtin_memset(value + 16, 0, sizeof(value) - 16);
	if (!(m->flags & (LOW | HIGH)))
		__builtin_memset(value, 0, 16);
	__builtin_memcpy(value + (m->flags & HIGH ? 8 : 0), from, size);
	vector(e, number, true, value);
}

enum emulate_result emulate_move_vector(struct emulation *e)
{
	struct instruction *i = &e->instruction;
	const struct vector_move *m = find_move(i);
	bool legacy = i->encoding == ENCODING_LEGACY;
	uint8_t value[VECTOR_MAX] = { 0 };
	unsigned size, number;

	if (!m || !i->memory || !e->env->vector || !(legacy || i->vector_plain))
		return EMULATE_UNHANDLED;
	number = m->flags & MMX ? VECTOR_MMX + (i->reg & 7u) : legacy ? i->reg : i->vector_reg;
	size = m->size ? m->size : m->flags & WORD ? (i->rex & REX_W ? 8 : 4) : legacy ? 16 : i->vector_size;
	if (i->encoding == ENCODING_EVEX && i->modrm >> 6 == 1)
		i->displacement *= size;
	TRY(rm_address(e, 0, size, m->flags & STORE ? ACCESS_WRITE : ACCESS_READ));
	if ((m->flags & ALIGNED) && (e->linear.v & (size - 1)))
		return raise_fault(e, VECTOR_GP, 0);
	if (m->flags & STORE) {
		vector(e, number, false, value);
		return write_linear(e, e->linear, value + (m->flags & HIGH ? 8 : 0), size);
	}
	TRY(read_linear(e, e->linear, value, size, ACCESS_READ));
	load_register(e, m, number, value, size);
	return EMULATE_DONE;
}
