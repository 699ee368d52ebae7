/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which bytes follow which opcode, for the one-byte and the 0F map; the other maps are regular and need no table
 * (0F38: ModRM; 0F3A: ModRM and a byte). Intel SDM vol. 2 appendix A, AMD APM vol. 3 appendix A.
 */
#include "vm/emulate/decode_cursor.h"

#define IMM(kind) IMMEDIATE_##kind

#define N IMM(NONE)
#define B IMM(8)
#define W IMM(16)
#define Z IMM(Z)
#define V IMM(V)
#define O IMM(OFFSET)
#define M OPCODE_MODRM
#define MB (M | B)
#define MZ (M | Z)
#define P OPCODE_PREFIX
#define U OPCODE_UNDEFINED
#define X OPCODE_NOT64
#define XB (X | B)
#define XM (X | M)
#define Y OPCODE_ENCODING
#define XY (XM | Y)
#define DY (DM | Y)
#define XF (X | IMM(FAR))
#define D OPCODE_DEFAULT64
#define DB (D | B)
#define DZ (D | Z)
#define DM (D | M)
#define E (D | IMM(16_8))
#define F OPCODE_FORCE64
#define FB (F | B)
#define FW (F | W)
#define FR (F | IMM(BRANCH))
#define T8 (M | IMM(TEST_8))
#define TZ (M | IMM(TEST_Z))
#define MR (M | F | OPCODE_REGISTER)
#define Q (M | IMM(EXTRQ))

const uint16_t decode_one_byte[256] = {
	/*         0   1   2   3   4   5   6   7   8   9   a   b   c   d   e   f */
	/* 0 */ M,  M,  M,      M,  B,  Z,  X,  X,  M,  M,  M,  M,  B,  Z,  X,  N,
	/* 1 */ M,  M,  M,      M,  B,  Z,  X,  X,  M,  M,  M,  M,  B,  Z,  X,  X,
	/* 2 */ M,  M,  M,      M,  B,  Z,  P,  X,  M,  M,  M,  M,  B,  Z,  P,  X,
	/* 3 */ M,  M,  M,      M,  B,  Z,  P,  X,  M,  M,  M,  M,  B,  Z,  P,  X,
	/* 4 */ N,  N,  N,      N,  N,  N,  N,  N,  N,  N,  N,  N,  N,  N,  N,  N,
	/* 5 */ D,  D,  D,      D,  D,  D,  D,  D,  D,  D,  D,  D,  D,  D,  D,  D,
	/* 6 */ X,  X,  XY,     M,  P,  P,  P,  P,  DZ, MZ, DB, MB, N,  N,  N,  N,
	/* 7 */ FB, FB, FB,     FB, FB, FB, FB, FB, FB, FB, FB, FB, FB, FB, FB, FB,
	/* 8 */ MB, MZ, XM | B, MB, M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  DY,
	/* 9 */ N,  N,  N,      N,  N,  N,  N,  N,  N,  N,  XF, N,  D,  D,  N,  N,
	/* a */ O,  O,  O,      O,  N,  N,  N,  N,  B,  Z,  N,  N,  N,  N,  N,  N,
	/* b */ B,  B,  B,      B,  B,  B,  B,  B,  V,  V,  V,  V,  V,  V,  V,  V,
	/* c */ MB, MB, FW,     F,  XY, XY, MB, MZ, E,  D,  W,  N,  N,  B,  X,  N,
	/* d */ M,  M,  M,      M,  XB, XB, X,  N,  M,  M,  M,  M,  M,  M,  M,  M,
	/* e */ FB, FB, FB,     FB, B,  B,  B,  B,  FR, FR, XF, FB, N,  N,  N,  N,
	/* f */ P,  N,  P,      P,  N,  N,  T8, TZ, N,  N,  N,  N,  N,  N,  M,  M,
};

const uint16_t decode_0f[256] = {
	/*         0   1   2   3   4   5   6   7   8   9   a   b   c   d   e   f */
	/* 0 */ M,  M,  M,  M,  U,  N,  N,  N,  N,  N,  U,  N,  U,  M,  N,  MB,
	/* 1 */ M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,
	/* 2 */ MR, MR, MR, MR, U,  U,  U,  U,  M,  M,  M,  M,  M,  M,  M,  M,
	/* 3 */ N,  N,  N,  N,  N,  N,  U,  N,  N,  U,  N,  U,  U,  U,  U,  U,
	/* 4 */ M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,
	/* 5 */ M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,
	/* 6 */ M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,
	/* 7 */ MB, MB, MB, MB, M,  M,  M,  N,  Q,  M,  U,  U,  M,  M,  M,  M,
	/* 8 */ FR, FR, FR, FR, FR, FR, FR, FR, FR, FR, FR, FR, FR, FR, FR, FR,
	/* 9 */ M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,
	/* a */ D,  D,  N,  M,  MB, M,  M,  M,  D,  D,  N,  M,  MB, M,  M,  M,
	/* b */ M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  MB, M,  M,  M,  M,  M,
	/* c */ M,  M,  MB, M,  MB, MB, MB, M,  N,  N,  N,  N,  N,  N,  N,  N,
	/* d */ M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,
	/* e */ M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,
	/* f */ M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,  M,
};

_Static_assert(IMMEDIATE_32 <= OPCODE_IMMEDIATE, "the immediate kinds fit their field");
_Static_assert(!(OPCODE_IMMEDIATE & (OPCODE_MODRM | OPCODE_PREFIX | OPCODE_DEFAULT64 | OPCODE_FORCE64)),
	       "fields are apart");
