/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The formats. Every constant stands once, and the overlaps that would be fatal are
 * excluded at compile time.
 */
#include "arch/x86_64/pt_format.h"

#include "arch/x86_64/hv.h"

#define X86_P BIT(0)
#define X86_W BIT(1)
#define X86_U BIT(2)
#define X86_PWT BIT(3)
#define X86_PCD BIT(4)
#define X86_A BIT(5)
#define X86_D BIT(6)
#define X86_PS BIT(7)
#define X86_G BIT(8)
#define X86_NX BIT(63)

#define EPT_R BIT(0)
#define EPT_W BIT(1)
#define EPT_X BIT(2)
#define EPT_TYPE(t) ((uint64_t)(t) << 3)
#define EPT_IGNORE_PAT BIT(6)
#define EPT_LARGE BIT(7)
#define EPT_A BIT(8)
#define EPT_D BIT(9)

_Static_assert((EPT_TYPE(7) & (EPT_R | EPT_W | EPT_X | EPT_IGNORE_PAT | EPT_LARGE)) == 0, "EPT type overlaps");
_Static_assert((EPT_A & EPT_D) == 0 && (EPT_LARGE & EPT_IGNORE_PAT) == 0, "EPT bits overlap");
_Static_assert((X86_NX & BITS(51, 12)) == 0, "NX overlaps the address");

/* What the formats share; levels are counted from the lowest, 0. */
#define GEOMETRY_64 .entry_size = 8, .index_bits = 9, .top_index_bits = 9, .large_levels = 1u << 1 | 1u << 2
#define X86_BITS .present = X86_P, .write = X86_W, .user = X86_U, .accessed = X86_A, .dirty = X86_D, .large = X86_PS
#define X86_WIDE_BITS X86_BITS, .no_execute = X86_NX, .address = BITS(51, 12)

const struct pt_format pt_32bit = {
	.name = "32-bit",
	.levels = 2,
	.entry_size = 4,
	.index_bits = 10,
	.top_index_bits = 10,
	.large_levels = 1u << 1,
	.linear_bits = 32,
	X86_BITS,
	.global = X86_G,
	.address = BITS(31, 12),
	.reserved_leaf = { [1] = BIT(21) }, /* 20:13 are PSE-36 address bits, checked against the width */
};

const struct pt_format pt_pae = {
	.name = "PAE",
	.levels = 3,
	.entry_size = 8,
	.index_bits = 9,
	.top_index_bits = 2,
	.large_levels = 1u << 1,
	.linear_bits = 32,
	X86_WIDE_BITS,
	.global = X86_G,
	.reserved_leaf = { [0] = BITS(62, 52), [1] = BITS(62, 52) | BITS(20, 13) },
	.reserved_table = { [1] = BITS(62, 52), [2] = BITS(63, 52) | BITS(8, 5) | BITS(2, 1) },
};

const struct pt_format pt_4level = {
	.name = "4-level",
	.levels = 4,
	GEOMETRY_64,
	.linear_bits = 48,
	.canonical = true,
	X86_WIDE_BITS,
	.global = X86_G,
	.reserved_leaf = { [1] = BITS(20, 13), [2] = BITS(29, 13) },
	.reserved_table = { [3] = X86_PS, [4] = X86_PS },
};

const struct pt_format pt_5level = {
	.name = "5-level",
	.levels = 5,
	GEOMETRY_64,
	.linear_bits = 57,
	.canonical = true,
	X86_WIDE_BITS,
	.global = X86_G,
	.reserved_leaf = { [1] = BITS(20, 13), [2] = BITS(29, 13) },
	.reserved_table = { [3] = X86_PS, [4] = X86_PS },
};

/* By ACCESS_*, summed: an entry that may be written or executed can be read, too. */
#define RIGHTS(r, w, x, no_x)                                                                                          \
	{                                                                                                              \
		0, r | no_x, r | w | no_x, r | w | no_x, r | x, r | x, r | w | x, r | w | x                            \
	}
_Static_assert(ACCESS_READ == 1 && ACCESS_WRITE == 2 && ACCESS_EXECUTE == 4, "RIGHTS is in this order");

/* A guest's own PAT decides within WB; other types are forced by the entry (Intel SDM vol. 3 section 29.3.7). */
const struct pt_format pt_ept4 = {
	.name = "EPT",
	.levels = 4,
	GEOMETRY_64,
	.linear_bits = 48,
	.present = EPT_R | EPT_W | EPT_X,
	.read = EPT_R,
	.write = EPT_W,
	.execute = EPT_X,
	.accessed = EPT_A,
	.dirty = EPT_D,
	.large = EPT_LARGE,
	.address = BITS(51, 12),
	.reserved_leaf = { [1] = BITS(20, 12), [2] = BITS(29, 12) },
	.reserved_table = { [1] = BITS(7, 3), [2] = BITS(7, 3), [3] = BITS(7, 3) },
	/* Write without read is a misconfiguration: never made. Execute-only is made readable, since not all offer it. */
	.rights_bits = RIGHTS(EPT_R, EPT_W, EPT_X, 0),
	.type_bits = { [0] = EPT_TYPE(0), [1] = EPT_TYPE(1), [4] = EPT_TYPE(4), [5] = EPT_TYPE(5), [6] = EPT_TYPE(6) },
	.type_mask = EPT_TYPE(7) | EPT_IGNORE_PAT,
	.table_bits = EPT_R | EPT_W | EPT_X,
	.invalid_rights = 1u << EPT_W | 1u << (EPT_W | EPT_X),
	.invalid_types = 1u << 2 | 1u << 3 | 1u << 7,
	/* Readable with a reserved type: never valid (section 29.3.3.1), and without the bits that the dirty log looks for. */
	.misconfigured = EPT_R | EPT_TYPE(7),
};

/* Types by the host's PAT at its power-on layout: 0 WB, 1 WT (PWT), 2 UC- (PCD), 3 UC. U must be set: all walks count as user's. */
const struct pt_format pt_npt4 = {
	.name = "NPT",
	.levels = 4,
	GEOMETRY_64,
	.linear_bits = 48,
	X86_WIDE_BITS,
	.reserved_leaf = { [1] = BITS(20, 13), [2] = BITS(29, 13) },
	/* APM vol. 2 section 5.3.3: bit 8 too, which is G in a leaf. */
	.reserved_table = { [2] = X86_G, [3] = X86_PS | X86_G, [4] = X86_PS | X86_G },
	.rights_bits = RIGHTS(X86_P | X86_U, X86_W, 0, X86_NX),
	.type_bits = { [0] = X86_PCD | X86_PWT, [1] = X86_PCD, [4] = X86_PWT, [5] = X86_PWT, [6] = 0 },
	.type_mask = X86_PWT | X86_PCD,
	.table_bits = X86_P | X86_W | X86_U,
	.misconfigured =
		X86_P | X86_U | BITS(51, 51), /* above any MAXPHYADDR up to 51: used only where that is reserved */
};
