/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What PGM counts: for one virtual CPU, the tree /PGM/CPU<n>/, and for a machine. Each host CPU has at most one record of a vcpu
 * in use, that of the vcpu which it runs, so counting there needs no atomic operation. What is done for no vcpu (a device's
 * timer, the monitor) counts for none. A machine's are kept in parts, one for each vcpu: see struct pgm_local.
 */
#pragma once

#include <stdint.h>

#include "arch/x86_64/percpu.h"

/* What settled a second-level fault; the first that applies. */
enum fault_cause {
	FAULT_BALLOONED,     /* a page that the guest gave back was touched */
	FAULT_PAGE_ZEROING,  /* a first write: a frame or a chunk of zeros */
	FAULT_MAKE_WRITABLE, /* a write to a page that was write-protected for a log */
	FAULT_HANDLER,       /* a device's page, or one that a handler watches */
	FAULT_UNHANDLED,     /* a write to ROM */
	FAULT_SYNC,          /* the record was right, and the table had no entry */
	FAULT_MISC,          /* the entry was right already; or no memory was to be had */
	FAULT_CAUSES
};

/* What the access was, and whether the entry was present. A fetch from an absent page counts as a read. */
enum fault_error { FAULT_ABSENT_READ, FAULT_ABSENT_WRITE, FAULT_WRITE, FAULT_EXECUTE, FAULT_READ, FAULT_ERRORS };

struct pgm_counters {
	uint64_t zero_mapped, allocated, large_alloc, large_alloc_failed, large_refused, split, detailed;
	uint64_t handy_refills, handy_allocs, handy_fills;
	uint64_t reads, read_bytes, writes, write_bytes, handler_hits, handler_misses;
	uint64_t simple_reads, simple_read_bytes, simple_writes, simple_write_bytes;
	uint64_t handler_resets, handler_inserts, handler_removals, handler_max, handler_rebalances;
	uint64_t handler_alloc_errors;
	uint64_t balloon_in, balloon_back, balloon_refused, discarded; /* pages; balloon.c */
	uint64_t misconfig_marks, mmio2_queries, tables_dropped;
	/* Large pages; each is described in collapse.c. */
	uint64_t large_collapsed, large_setup, large_overflow, large_flush, large_zero_evict, large_reused;
	uint64_t large_recheck, large_valid, huge_mapped;
	uint64_t fusion_looks, fusion_shared, fusion_zeroed, fusion_broken, fusion_splits,
		fusion_regions; /* fusion.c */
	uint64_t moved;         /* pages that got another frame; move.c */
	uint64_t dirty_faults;  /* writes that the dirty log's protection caught */
	/* Composed tables (shadow/). */
	uint64_t shadow_faults, shadow_tables, shadow_tables_dropped, shadow_resyncs;
	uint64_t shadow_entries, shadow_removals, shadow_aliases, shadow_overflows, shadow_page_drops,
		shadow_block_drops;
};

struct pgm_local;

struct pgm_vcpu_counters {
	uint64_t faults, resumed, emulated, spurious, no_memory, around;
	uint64_t cause[FAULT_CAUSES];
	uint64_t cause_ticks[FAULT_CAUSES]; /* vm's, while it measures */
	uint64_t handlers_all, handlers_write, handlers_unhandled, invalid_phys;
	uint64_t misconfig, rom_write_handled, rom_write_unhandled;
	uint64_t error[FAULT_ERRORS]; /* by vm, from the exit */
	uint64_t last_cause;          /* enum fault_cause of the last fault */
	struct pgm_local *local;      /* its place in its machine's PGM; NULL: none */
} __attribute__((aligned(64)));

extern struct pgm_vcpu_counters pgm_uncounted[MAX_CPUS]; /* what is done for nobody */
extern struct pgm_vcpu_counters *pgm_counting[MAX_CPUS]; /* NULL: nobody's */

/* Of the calling CPU. Never NULL. */
static inline struct pgm_vcpu_counters *vcpu_counters(void)
{
	struct pgm_vcpu_counters *c = pgm_counting[cpu_index()];

	return c ? c : &pgm_uncounted[cpu_index()];
}

#define COUNT_VCPU(name) ((void)vcpu_counters()->name++)

/* From now on the calling CPU counts for this vcpu; NULL: for none. */
static inline void pgm_count_for(struct pgm_vcpu_counters *counters)
{
	pgm_counting[cpu_index()] = counters;
}
