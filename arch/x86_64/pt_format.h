/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page-table formats as data. A radix table of any kind is described by one constant
 * struct pt_format: its levels, the meaning of its bits, what must be zero. One walker
 * (pgm/walk.c) reads every guest format, one mapper (pgm/slat/slat.c) writes the second-level ones.
 *
 * Levels count from the leaf: 0 is the table of 4 KiB entries, 1 of 2 MiB (4 MiB in 32-bit
 * paging), 2 of 1 GiB, 3 of 512 GiB, 4 of 256 TiB.
 *
 * Manual: Intel SDM vol. 3 chapter 4 and section 29.3; AMD APM vol. 2 chapter 5 and section 15.25.
 */
#pragma once

#include "lib/bits.h"

#define PT_MAX_LEVELS 5u

struct pt_format {
	const char *name;
	uint8_t levels;
	uint8_t entry_size; /* 4 or 8 bytes */
	uint8_t index_bits; /* of every level but the top one */
	uint8_t top_index_bits;
	uint8_t large_levels; /* bit n: an entry of level n may be a leaf by its large bit */
	uint8_t linear_bits;  /* width of the input address; canonical above it if the next is set */
	bool canonical;

	uint64_t present;              /* an entry with none of these is not present */
	uint64_t read, write, execute; /* set: allowed; 0: this format can't forbid it by a positive bit */
	uint64_t no_execute;           /* set: forbidden */
	uint64_t user;
	uint64_t accessed, dirty; /* 0: none */
	uint64_t large, global;
	uint64_t address; /* of a table or 4 KiB leaf, before MAXPHYADDR is applied */
	/* Must be zero whatever the processor: in a leaf of level n, in a table pointer of level n. */
	uint64_t reserved_leaf[PT_MAX_LEVELS];
	uint64_t reserved_table[PT_MAX_LEVELS];

	/* Writing (second-level formats only). */
	uint64_t rights_bits[8]; /* indexed by ACCESS_* */
	uint64_t type_bits[8];   /* indexed by MEMORY_TYPE_*: in a leaf */
	uint64_t type_mask;      /* what tells of it in a leaf */
	uint64_t table_bits;     /* with which a table is linked */
	/* Never valid: bit n of the first if n stands in bits 2:0 of an entry, of the second if n stands in bits 5:3 of a leaf. */
	uint8_t invalid_rights, invalid_types;
	uint64_t misconfigured; /* not a valid leaf, not absent: exits at once as a misconfiguration; 0: none */
};

/* Shift of an entry's reach at `level`: 12, 21, 30, 39, 48 (22 for a 4 MiB entry). */
static inline unsigned pt_shift(const struct pt_format *format, unsigned level)
{
	return 12 + level * format->index_bits;
}

static inline unsigned pt_index(const struct pt_format *format, unsigned level, uint64_t address)
{
	unsigned bits = level + 1u == format->levels ? format->top_index_bits : format->index_bits;

	return (unsigned)(address >> pt_shift(format, level)) & ((1u << bits) - 1);
}

/* Is this entry of level `level` a leaf? (It must be present.) */
static inline bool pt_is_leaf(const struct pt_format *format, unsigned level, uint64_t entry)
{
	return level == 0 || ((format->large_levels >> level & 1) && (entry & format->large));
}

/* Guest formats. */
extern const struct pt_format pt_32bit, pt_pae, pt_4level, pt_5level;
/* Second level: written by PGM, and read when they are an L1's. */
extern const struct pt_format pt_ept4, pt_npt4;
