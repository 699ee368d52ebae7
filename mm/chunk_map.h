/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bounded chunk map of host mode "secret-free": a cache of 2 MiB chunks in each CPU's window (arch/x86_64/window.h).
 * What isn't in it, and isn't the kernel's own, no load of the hypervisor can reach, not even a speculative one.
 *
 * Each CPU has its own, touched by itself alone: so there is no lock and no flush on other CPUs, and a CPU never sees what another
 * one has mapped. Used through mm/map.h.
 */
#ifndef MM_CHUNK_MAP_H
#define MM_CHUNK_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/x86_64/address.h"
#include "lib/status.h"

/* Slots that each CPU has however small the bound is: as many chunks can be in use there at a time. */
#define CHUNK_MAP_LEAST 4u
#define CHUNK_MAP_MOST 65536u

struct chunk_map_totals {
	uint64_t mapped, most;           /* chunks mapped now; the bound of all CPUs together */
	uint64_t maps, unmaps;           /* chunks mapped and unmapped so far */
	uint64_t hits, misses;           /* of the lookaside tables */
	uint64_t aging;                  /* chunks that were oldest, but in use or used since: spared */
	uint64_t finds;                  /* chunks that were mapped, and found behind the lookaside table */
	uint64_t map_ticks, unmap_ticks; /* of the time stamp counter, spent on `maps` and `unmaps` */
};

/*
 * The bound of all CPUs' maps together, shared evenly among the CPUs that are up, with CHUNK_MAP_LEAST for each. Once,
 * before the first chunk_map_open().
 */
void chunk_map_bound(unsigned chunks);
/* The calling CPU's map. It comes before the first use there. NO_MEMORY. */
enum status chunk_map_open(void) must_check;

/* For tests: a chunk is unmapped as soon as nobody uses it, so that a use after frame_unmap() faults. */
extern bool chunk_map_strict;

void *chunk_map_take(hpa_t where);
void chunk_map_give(const void *pointer);
void chunk_map_forget(void);

/* Sums over all CPUs; any CPU, any time. */
void chunk_map_totals(struct chunk_map_totals *totals);

#endif
