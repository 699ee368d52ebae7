/* SPDX-License-Identifier: Apache-2.0 */
/*
 * struct pgm: all that PGM keeps of one machine, with its counters and the dirty log's question that everyone asks who gives a
 * page a frame or an entry. Nothing outside pgm/ includes this; inside, internal.h does it for all.
 *
 * What the faults of two vcpus write in different blocks has no cache line in common: each vcpu takes and counts in its struct
 * pgm_local, and what all faults read stands in no line that is written often. What they share is touched once for HANDY_REFILL
 * frames, or once for a table: the accounts, the common stock, and mm behind them. A flush is everybody's.
 */
#pragma once

#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "lib/memory.h"
#include "pgm/shadow/a20.h"
#include "pgm/shadow/reverse.h"
#include "pgm/shadow/shadow.h"
#include "pgm/dirty/internal.h"
#include "pgm/fusion.h"
#include "pgm/handler/handler.h"
#include "pgm/modules.h"
#include "pgm/page/large.h"
#include "pgm/slat/misconfig.h"
#include "pgm/range/mmio2.h"
#include "pgm/reset.h"
#include "pgm/range/rom.h"
#include "pgm/slat/slat.h"

/*
 * The directory: one page of 128 descriptors per 256 MiB of guest-physical space. Two descriptors share a cache line; so neighbours, and
 * blocks at any power of two from each other, stand apart: two that share one are 45 or 83 blocks from each other (45 * 37 = 1 modulo 128).
 */
#define DIRECTORY_SHIFT 28
#define DIRECTORY_BLOCKS 128u
#define DIRECTORY_STRIDE 37u
_Static_assert(DIRECTORY_BLOCKS * sizeof(struct block) == PAGE_SIZE, "a directory page is one page");
_Static_assert(BLOCK_SHIFT + 7 == DIRECTORY_SHIFT, "128 blocks are 256 MiB");

#define HANDY_SIZE 128u
#define HANDY_LOW 32u
#define HANDY_REFILL 32u
#define FAULT_AROUND 16u
#define CACHE_LINE 64u
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
	unsigned mark;        /* fewer are low */
	unsigned count;       /* atomic */
	bool low;             /* atomic: taken from since the last refill, and below the mark */
	uint8_t skew; /* the stock's; atomic: so many frames the last batch ended beyond a line of their records */
	hpa_t frame[HANDY_SIZE];
};

/* One vcpu's own; and the machine's, for whoever is no vcpu, with the stock from which the vcpus' are filled. */
struct pgm_local {
	struct handy handy; /* lasts for HANDY_REFILL first writes */
	struct pgm_counters counters;
	struct pgm *pgm;
	struct pgm_local *next; /* atomic: the list begins with the machine's own; none leaves it before the end */
} __attribute__((aligned(PAGE_SIZE)));

struct pgm {
	struct pgm_local common;
	struct spinlock lock; /* RANK_PGM */
	struct account account __attribute__((aligned(CACHE_LINE)));
	struct flush_domain flush __attribute__((aligned(CACHE_LINE)));
	struct pgm_config config __attribute__((aligned(CACHE_LINE)));
	struct slat slat;
	struct block **directory;
	uint64_t directory_count;
	struct dirty_log dirty;
	struct range_table ranges;
	struct handler_table handlers;
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
	struct fusion fusion, named; /* named: at a module */
	struct modules modules;
	struct pins pins;
	struct removal removal;
	struct preallocation preallocation;
};

_Static_assert(sizeof(struct pgm_local) == PAGE_SIZE, "a vcpu's own is a frame of the heap's");

static inline struct pgm_local *local_next(const struct pgm_local *l)
{
	return __atomic_load_n(&l->next, __ATOMIC_ACQUIRE);
}

/* Where the calling CPU takes and counts. */
static inline struct pgm_local *local_of(struct pgm *pgm)
{
	const struct pgm_vcpu_counters *c = pgm_counting[cpu_index()];

	return c && c->local && c->local->pgm == pgm ? c->local : &pgm->common;
}

/* Atomic even so: the machine's is for several CPUs. */
#define LOCAL_COUNT(local, name, by) ((void)__atomic_fetch_add(&(local)->counters.name, by, __ATOMIC_RELAXED))
#define COUNT_BY(pgm, name, by) LOCAL_COUNT(local_of(pgm), name, by)
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
	if (unlikely(__atomic_load_n(&pgm->shadow.passes, __ATOMIC_RELAXED)))
		shadow_written(pgm, where);
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
static inline void dirty_caught(struct pgm *pgm, struct pgm_local *l, gpa_t where)
{
	LOCAL_COUNT(l, dirty_faults, 1);
	pgm_dirty_note(pgm, where);
}

/* The host's 2 MiB of zeros; its first page serves as the zero page. */
extern hpa_t pgm_zero_block;
