/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty log: which 4 KiB pages of a machine have been written since they were last asked for. Three mechanisms
 * below, one behaviour above: by the processor's own list of writes (PML), by the dirty bits of the second-level
 * tables, or by write protection and a fault for the first write to each page.
 *
 * What holds, whichever it is: a write that was complete when pgm_dirty_read_and_clear() was called, and that no earlier
 * call reported, is reported by it. A page may be reported once more than needed, never once too few. Writes by the
 * hypervisor and its devices count like the guest's; memory that the machine gets while the log is on is dirty from the
 * start. The log is by 4 KiB page also under large pages: a large block becomes write-protected when the log
 * starts; from its first write on (one table frame, one fault) it is mapped by 4 KiB leaves, and by one again when the log is off.
 * No block becomes large while the log is on.
 *
 * Memory: one bit per page, taken in frames that cover 128 MiB, for parts of memory that were written; all of it only
 * while the log is on. If such a frame can't be had, its 128 MiB count as dirty until one can.
 */
#pragma once

#include "pgm/pgm.h"

enum dirty_mode {
	DIRTY_OFF,
	DIRTY_AUTO,           /* the best that the machine has: in this order */
	DIRTY_PML,            /* page-modification logging (Intel SDM vol. 3 section 29.3.6) */
	DIRTY_ACCESSED_DIRTY, /* dirty bits: EPT section 29.3.5; nested paging, AMD APM vol. 2 section 15.25 */
	DIRTY_WRITE_PROTECT,
	DIRTY_MODES
};

/*
 * All three take no lock of the caller's, from any CPU, with the machine running or not; BUSY while another CPU is in
 * one of them. Start and stop go in bounded steps: BUSY as well while there is more to do, call again; a stop ends a start
 * that isn't done. The reading's work is proportional to the touched memory within the range asked for.
 *
 * start: every write that begins after it returned OK will be reported. BAD_STATE: on already; NOT_SUPPORTED: the
 * machine doesn't have this mode; NO_MEMORY.
 */
enum status pgm_dirty_start(struct pgm *pgm, enum dirty_mode mode) must_check;
/* BAD_STATE: off already. */
enum status pgm_dirty_stop(struct pgm *pgm) must_check;
/*
 * Sets bit i of bitmap when page first + i is dirty, else clears it, and makes those pages clean. On return no CPU holds a
 * translation that lets a write to them go unseen: what the caller reads of a page from now on has at least
 * what was written before. first and count are in pages, first a multiple of 64; bitmap has count bits in whole words,
 * bits beyond count come out clear. BAD_STATE: the log is off; BAD_VALUE: beyond pgm_dirty_extent().
 */
enum status pgm_dirty_read_and_clear(struct pgm *pgm, uint64_t first, uint64_t count, uint64_t *bitmap) must_check;
/* Pages that a bitmap of the whole machine has. Constant. */
uint64_t pgm_dirty_extent(const struct pgm *pgm);

/*
 * PML's side. collect(context) makes each of the machine's vcpus hand the pages that its processor has logged
 * to pgm_dirty_note(), wherever the vcpu runs. Set once, before the machine runs.
 */
void pgm_dirty_set_source(struct pgm *pgm, void (*collect)(void *context), void *context);
/* This page has been written. Any CPU, no lock of RANK_ACCOUNT or deeper held. */
void pgm_dirty_note(void *pgm, gpa_t where);

struct pgm_dirty_info {
	enum dirty_mode mode;
	uint64_t bitmap_bytes;
	uint64_t starts, reads;
	uint64_t faults; /* writes that the log's protection caught */
	uint64_t splits; /* large blocks that were mapped by 4 KiB leaves for the log */
};
void pgm_dirty_describe(const struct pgm *pgm, struct pgm_dirty_info *info);
const char *dirty_mode_name(enum dirty_mode mode);
