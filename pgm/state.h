/* SPDX-License-Identifier: Apache-2.0 */
/*
 * struct pgm: all that PGM keeps of one machine, with its counters and the dirty log's question that everyone asks who gives a
 * page a frame or an entry. Nothing outside pgm/ includes this; inside, internal.h does it for all.
 */
#pragma once

#include "arch/x86_64/log.h"
#include "lib/memory.h"
#include "mm/frame.h"
#include "mm/map.h"
#include "pgm/shadow/a20.h"
#include "pgm/shadow/reverse.h"
#include "pgm/shadow/shadow.h"
#include "pgm/dirty/internal.h"
#include "pgm/handler/handler.h"
#include "pgm/page/large.h"
#include "pgm/slat/misconfig.h"
#include "pgm/range/mmio2.h"
#include "pgm/pgm.h"
#include "pgm/reset.h"
#include "pgm/range/rom.h"
#include "pgm/slat/slat.h"

/* The directory: one page of 128 descriptors per 256 MiB of guest-physical space. */
#define DIRECTORY_SHIFT 28
#define DIRECTORY_BLOCKS 128u
_Static_assert(DIRECTORY_BLOCKS * sizeof(struct block) == PAGE_SIZE, "a directory page is one page");
_Static_assert(BLOCK_SHIFT + 7 == DIRECTORY_SHIFT, "128 blocks are 256 MiB");

#define HANDY_SIZE 128u
#define HANDY_LOW 32u
#define HANDY_REFILL 32u
#define FAULT_AROUND 16u
#define ALL_RIGHTS (ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE)
#define RAM_TYPE MEMORY_TYPE_WB /* intake takes in only memory that the MTRRs call WB */
#define PGM_ROM_PAGES 64u       /* every machine is promised so many beside its RAM */

struct range_table {
	uint64_t generation; /* atomic; odd while it changes */
	unsigned count;
	struct pgm_range range[PGM_MAX_RANGES]; /* sorted by base, disjoint */
};

struct handy {
	struct spinlock lock; /* RANK_RESERVE */
	unsigned count;
	bool low; /* atomic: taken from since the last refill, and below HANDY_LOW */
	hpa_t frame[HANDY_SIZE];
};

struct pgm {
	struct spinlock lock; /* RANK_PGM */
	struct account account;
	struct flush_domain flush;
	struct pgm_config config;
	struct slat slat;
	struct block **directory;
	uint64_t directory_count;
	struct range_table ranges;
	struct handy handy;
	struct handler_table handlers;
	struct dirty_log dirty;
	struct pgm_counters counters;
	struct rom *roms;      /* the shadowed ones; rom.c */
	uint64_t rom_pages;    /* that pgm_add_rom and pgm_add_shadowed_rom have promised */
	int64_t beside_blocks; /* BASE pages that no block holds, less pages in blocks that are not BASE; atomic */
	struct mmio2 *mmio2;   /* under the machine's lock; mmio2.c */
	struct shadow_pool shadow;
	uint32_t aliases;     /* pages that show one of MMIO2 beside it, or are about to; atomic */
	uint32_t mark_tables; /* tables made for misconfig.c's marks; atomic */
	struct reset_state reset;
	unsigned end_phase; /* end.c */
	uint64_t end_cursor;
	bool built; /* what is added now is beyond what the accounts were opened for */
	struct collapse collapse;
	struct pins pins;
	struct removal removal;
	struct preallocation preallocation;
};

#define COUNT_BY(pgm, name, by) ((void)__atomic_fetch_add(&(pgm)->counters.name, by, __ATOMIC_RELAXED))
#define COUNT(pgm, name) COUNT_BY(pgm, name, 1)

static inline enum dirty_mode dirty_mode(const struct pgm *pgm)
{
	return (enum dirty_mode)__atomic_load_n(&pgm->dirty.mode, __ATOMIC_RELAXED);
}

/* The hypervisor writes this page, or gives it a frame. The block is locked. */
static inline void dirty_written(struct pgm *pgm, gpa_t where)
{
	if (unlikely(dirty_mode(pgm) != DIRTY_OFF))
		pgm_dirty_note(pgm, where);
}

/*
 * Which of the 64 pages around `where` the log lets a guest write: all; by write protection those that it has noted. The records
 * know nothing of it. The block is locked.
 */
static inline uint64_t dirty_open(struct pgm *pgm, gpa_t where)
{
	return likely(dirty_mode(pgm) != DIRTY_WRITE_PROTECT) ? ~UINT64_C(0) : dirty_noted(pgm, where);
}
static inline bool dirty_is_open(struct pgm *pgm, gpa_t where)
{
	return dirty_open(pgm, where) >> (where.v >> PAGE_SHIFT & (DIRTY_WORD_PAGES - 1)) & 1;
}

/* The guest's write to a page for which only dirty_open() refuses it: noted. */
static inline void dirty_caught(struct pgm *pgm, gpa_t where)
{
	__atomic_fetch_add(&pgm->dirty.faults, 1, __ATOMIC_RELAXED);
	pgm_dirty_note(pgm, where);
}

/* The host's 2 MiB of zeros; its first page serves as the zero page. */
extern hpa_t pgm_zero_block;
