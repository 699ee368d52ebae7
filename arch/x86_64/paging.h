/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's own page tables: 4 levels, kernel image W^X, all memory at DIRECT_BASE, devices
 * in a window of their own, nothing in the lower half. Only this room writes them; the guests' tables are pgm's.
 *
 * Kernel address space (top half, each line one or more 512 GiB slots):
 *   0xffff800000000000  DIRECT_BASE: host-physical memory, 64 TiB, never executable
 *   0xffffc00000000000  WINDOW_BASE: each CPU's own (window.h), for mm's chunk map
 *   0xffffe00000000000  CPU_AREA_BASE: stacks and records of application processors
 *   0xfffff00000000000  DEVICE_BASE: host_map_device()
 *   0xffffffff80000000  KERNEL_BASE: the image
 */
#pragma once

#include "arch/x86_64/address.h"
#include "lib/status.h"

#define DIRECT_BASE UINT64_C(0xffff800000000000)
#define DIRECT_SIZE (UINT64_C(64) << 40)
#define WINDOW_BASE UINT64_C(0xffffc00000000000)
#define CPU_AREA_BASE UINT64_C(0xffffe00000000000)
#define DEVICE_BASE UINT64_C(0xfffff00000000000)
#define DEVICE_END (DEVICE_BASE + (UINT64_C(1) << 39))
#define KERNEL_BASE UINT64_C(0xffffffff80000000)
_Static_assert(DIRECT_BASE + DIRECT_SIZE <= WINDOW_BASE && WINDOW_BASE < CPU_AREA_BASE && CPU_AREA_BASE < DEVICE_BASE &&
		       DEVICE_END <= KERNEL_BASE,
	       "the regions are disjoint and in order");

/*
 * One zeroed 4 KiB page for a table, that stands in the direct map (or is identity-mapped still); HPA_NONE. No
 * lock is held.
 */
typedef hpa_t (*page_source)(void *context);
void paging_set_source(page_source source, void *context);
/* A page from the source. */
hpa_t paging_take_page(void);

#define MAP_WRITE 1u
#define MAP_EXECUTE 2u

/*
 * Maps [where, where + size) to `to`, with the largest pages that alignment allows. type is MEMORY_TYPE_UC, WC or WB.
 * Replaces nothing: CONFLICT when something is mapped there already (what came before stays mapped), NO_MEMORY,
 * BAD_VALUE (not whole pages). Takes a leaf lock piecewise; the page source is called without it.
 */
enum status paging_map(uint64_t where, hpa_t to, uint64_t size, unsigned rights, unsigned type) must_check;
/*
 * Large pages that the range cuts are split. Flushes the calling CPU's TLB only: the caller sees to the others.
 * NOT_FOUND when a page in the range isn't mapped, NO_MEMORY.
 */
enum status paging_unmap(uint64_t where, uint64_t size) must_check;
enum status paging_protect(uint64_t where, uint64_t size, unsigned rights) must_check;

/*
 * Looks in the tables that are in use; false for anything not mapped. On success with to != NULL: the host-
 * physical address.
 */
bool paging_translate(uint64_t where, hpa_t *to);
bool paging_is_mapped(uint64_t where);

/*
 * A device's registers or a firmware table: a pointer to hpa, NULL when there is no room. Not undone, never
 * executable.
 */
void *host_map_device(hpa_t where, uint64_t size, unsigned type);
/* A byte range that may be memory: through the direct map where that has all of it, else by host_map_device WB. */
const void *paging_view(hpa_t where, uint64_t size);

/* Host-physical address of a byte of the kernel image. */
hpa_t paging_kernel_address(const void *symbol);

/* ---- start ---- */
struct boot_info;
/*
 * Builds the tables (paging_set_source() first) while the loader's identity map is in use.
 * BAD_FORMAT: a memory map that doesn't cover the kernel; NO_MEMORY. What lies beyond DIRECT_SIZE is left out.
 */
enum status paging_build(const struct boot_info *info) must_check;
/* Loads CR3 on the boot CPU: from here on physical memory is reached at DIRECT_BASE. */
void paging_switch(void);
/* Root table, for the other CPUs. */
hpa_t paging_root(void);
/* Base that turns an hpa into a pointer now: 0 before the switch, DIRECT_BASE afterwards. */
uint64_t paging_direct_base(void);

static inline void *paging_pointer(hpa_t where)
{
	return (void *)(paging_direct_base() + where.v);
}
