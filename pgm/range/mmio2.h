/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MMIO2: device memory with frames of its own (video memory, say), which the guest reads, writes and
 * executes without exits. A region exists by itself; it can be mapped at a guest-physical address, moved and
 * unmapped again, as a BAR. Its frames stay the same all the time and are charged to the account FIXED.
 *
 * All functions here are the device's: one caller at a time per machine (the machine's lock). Vcpus may run.
 */
#pragma once

#include "pgm/pgm.h"

#define MMIO2_MAX_SIZE GIB

struct mmio2;

/* Whole pages up to MMIO2_MAX_SIZE, zeroed. NO_MEMORY, BAD_VALUE. */
enum status pgm_mmio2_register(struct pgm *pgm, uint64_t size, const char *name, struct mmio2 **out) must_check;
/* Unmaps it and gives all back. */
void pgm_mmio2_deregister(struct pgm *pgm, struct mmio2 *region);
/*
 * Maps it at `base`, or moves it there from where it is. CONFLICT: RAM, ROM, another region or an access handler is
 * there; BAD_ADDRESS: beyond the machine's address space; BAD_VALUE: not page-aligned; NO_MEMORY: for the
 * records. On an error it stays where it was (and only if others take
 * both places meanwhile is it unmapped).
 */
enum status pgm_mmio2_map(struct pgm *pgm, struct mmio2 *region, gpa_t base) must_check;
void pgm_mmio2_unmap(struct pgm *pgm, struct mmio2 *region);
bool pgm_mmio2_mapped(const struct mmio2 *region, gpa_t *base);
uint64_t pgm_mmio2_size(const struct mmio2 *region);

/* Dirty tracking, off at first. Switched on, every page counts as clean. */
void pgm_mmio2_track(struct pgm *pgm, struct mmio2 *region, bool on);
/*
 * Which pages were written since the last query: bit n of the bitmap for page n, `bits` of them at least the region's
 * pages (BAD_VALUE). Without tracking all are dirty; with it, those at each query that a pin or an alias may write. Afterwards all are clean, and no vcpu holds an older right to write.
 */
enum status pgm_mmio2_query_dirty(struct pgm *pgm, struct mmio2 *region, uint64_t *bitmap, uint64_t bits) must_check;

/* The device's own access, mapped or not; within the region (BAD_ADDRESS). A write makes its pages dirty. */
enum status pgm_mmio2_read(struct pgm *pgm, struct mmio2 *region, uint64_t offset, void *to, size_t length) must_check;
enum status pgm_mmio2_write(struct pgm *pgm, struct mmio2 *region, uint64_t offset, const void *from,
			    size_t length) must_check;

/* ---- PGM's own: mmio2.c and mmio2_access.c ---- */
/*
 * The page at `where` is going to be shown elsewhere too, where it can be written: its frame. *fresh: that wasn't known of it until
 * now. BAD_ADDRESS: no MMIO2 is there.
 */
enum status mmio2_alias(struct pgm *pgm, gpa_t where, hpa_t *frame, bool *fresh) must_check;
/* It wasn't shown after all, and that was fresh; the alias that failed is still counted. */
void mmio2_unalias(struct pgm *pgm, gpa_t where);
struct mmio2 {
	struct mmio2 *next;
	char name[PGM_NAME];
	uint64_t pages;
	bool mapped, tracked;
	gpa_t base;
	page_record *page;
};

/* What the region's own tracking knows of a page; the machine's dirty log has a bitmap for itself. */
static inline bool mmio2_is_dirty(page_record r)
{
	return page_get_state(r) != PAGE_MONITORED;
}
/* A write to a mapped page, its block locked: it's dirty now. */
static inline void mmio2_written(page_record *r)
{
	if (page_get_state(*r) == PAGE_MONITORED)
		page_set(r, PAGE_ALLOCATED, page_frame(*r));
}
