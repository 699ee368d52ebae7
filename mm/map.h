/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the kernel reaches a frame's bytes.
 *
 * Kernel and table frames always stand in the direct map: direct_pointer().
 * Guest frames are reached only between frame_map() and frame_unmap(): in host mode
 * "direct" that costs an addition, in mode "secret-free" it goes through the bounded
 * chunk map. Mappings nest and may be held across other mm calls, not across an entry
 * into a guest. direct_map is 0 while the loader's identity map is in use, later
 * DIRECT_BASE; in unit tests it is the base of a fake memory.
 */
#ifndef MM_MAP_H
#define MM_MAP_H

#include "arch/x86_64/address.h"

extern uint8_t *direct_map;

static inline void *direct_pointer(hpa_t where)
{
	return direct_map + where.v;
}

static inline hpa_t direct_address(const void *pointer)
{
	return hpa((uint64_t)((const uint8_t *)pointer - direct_map));
}

/* The byte at `where`; valid to the end of its 2 MiB chunk. Never fails: a free slot of the chunk map is always kept. */
void *frame_map(hpa_t where);
void frame_unmap(void *pointer);

#endif
