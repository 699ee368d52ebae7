/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bounded chunk map of host mode "secret-free": a cache of 2 MiB chunks in each CPU's window (arch/x86_64/window.h).
 * What isn't in it, and isn't the kernel's own, no load of the hypervisor can reach, not even a speculative one.
 *
 * Each CPU maps chunks in its own window only, and never sees what another one has mapped. Used through mm/map.h. But what is
 * in it may be taken out by any CPU: a chunk that gets another owner is in no window at that time (chunk_map_drop).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "arch/x86_64/address.h"
#include "lib/status.h"

/* Slots that each CPU has however small the bound is: as many chunks can be in use there at a time. */
#define CHUNK_MAP_LEAST 8u
#define CHUNK_MAP_MOST 65536u

struct chunk_map_totals {
	uint64_t mapped, most;           /* chunks mapped now; the bound of all CPUs together */
	uint64_t maps, unmaps;           /* chunks mapped and unmapped so far */
	uint64_t hits, misses;           /* of the first look, in the chunk's own slot */
	uint64_t aging;                  /* chunks in use that were spared when room was made */
	uint64_t finds;                  /* chunks that were mapped, and found in another slot than their own */
	uint64_t map_ticks, unmap_ticks; /* of the time stamp counter, spent on `maps` and `unmaps` */
};

/*
 * The bound of all CPUs' maps together, shared evenly among so many CPUs (rounded down to a power of two), with
 * CHUNK_MAP_LEAST for each. Once, before the first chunk_map_open().
 */
void chunk_map_bound(unsigned chunks, unsigned cpus);
/* The calling CPU's map. It comes before the first use there. NO_MEMORY. */
enum status chunk_map_open(void) must_check;

/*
 * For tests: of the times that a chunk is no longer used, each so many-th it's unmapped at once, so that a use after frame_unmap()
 * faults. 0: never, as in the kernel.
 */
extern unsigned chunk_map_strict;

void *chunk_map_take(hpa_t where);
void chunk_map_give(const void *pointer);
void chunk_map_forget(void);

/*
 * The chunk of `block` goes out of every CPU's window; on return no CPU can reach it there. Nobody may be using it: so it's for chunks
 * that are wholly free, or being taken. Any lock but a leaf's may be held. Costs one load where no window has it.
 */
void chunk_map_drop(hpa_t block);

/* Sums over all CPUs; any CPU, any time. */
void chunk_map_totals(struct chunk_map_totals *totals);
