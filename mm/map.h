/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the kernel reaches a frame's bytes.
 *
 * Kernel and table frames always stand in the direct map: direct_pointer().
 * Guest frames, and free ones, are reached only between frame_map() and frame_unmap(): in host mode
 * "direct" that costs an addition, in mode "secret-free" it goes through the calling CPU's bounded
 * chunk map (chunk_map.h). Mappings nest and may be held across other mm calls, not across an entry
 * into a guest. direct_map is 0 while the loader's identity map is in use, later
 * DIRECT_BASE; in unit tests it is the base of a fake memory.
 */
#pragma once

#include "arch/x86_64/address.h"
#include "mm/chunk_map.h"

extern uint8_t *direct_map;
/* The host mode: set once, by secret_free_start(), before any guest or other CPU runs. */
extern bool secret_free;

static inline void *direct_pointer(hpa_t where)
{
	return direct_map + where.v;
}

static inline hpa_t direct_address(const void *pointer)
{
	return hpa((uint64_t)((const uint8_t *)pointer - direct_map));
}

/* The byte at `where`; valid to the end of its 2 MiB chunk. Never fails; one CPU holds at most CHUNK_MAP_LEAST chunks at a time. */
static inline void *frame_map(hpa_t where)
{
	return unlikely(secret_free) ? chunk_map_take(where) : direct_pointer(where);
}

/* The pointer may have moved on within its chunk. On the CPU that mapped it. */
static inline void frame_unmap(const void *pointer)
{
	if (unlikely(secret_free))
		chunk_map_give(pointer);
}

/* The calling CPU turns to another machine: nothing of what it saw stays mapped, but what is in use. */
static inline void frame_maps_forget(void)
{
	if (unlikely(secret_free))
		chunk_map_forget();
}
