/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ROM. A plain ROM has one copy of its pages, which the guest reads and can't write. A shadowed
 * one has a RAM copy behind each page as well, as a chipset's shadow RAM; per page a mode says which
 * of the two is read and whether writes reach the RAM copy.
 */
#pragma once

#include "pgm/pgm.h"

enum rom_mode {
	ROM_READ_ROM_WRITE_IGNORED, /* the default, and what a reset restores */
	ROM_READ_ROM_WRITE_RAM,
	ROM_READ_RAM_WRITE_IGNORED,
	ROM_READ_RAM_WRITE_RAM,
	ROM_MODES
};

/*
 * As pgm_add_rom, with a RAM copy that reads as zero until it's written. Both copies are charged to the base
 * account, which is raised for them: NO_MEMORY when the host hasn't got it.
 */
enum status pgm_add_shadowed_rom(struct pgm *pgm, gpa_t base, uint64_t size, const char *name) must_check;
/*
 * Sets the mode of whole pages; the second-level tables follow at once. BAD_VALUE: not page-aligned, no such mode;
 * BAD_ADDRESS: not within one ROM; NOT_SUPPORTED: a mode with RAM on a plain ROM. Vcpus may run.
 */
enum status pgm_rom_protect(struct pgm *pgm, gpa_t first, uint64_t size, enum rom_mode mode) must_check;

/* ---- PGM's own ---- */
struct block;
/*
 * A write to a ROM page, its block locked and detailed. *frame: where it goes, HPA_NONE if it is ignored. The
 * debugger writes what is read. NO_MEMORY, OVER_QUOTA.
 */
enum status rom_write_frame(struct pgm *pgm, struct block *b, gpa_t where, bool debugger, hpa_t *frame,
			    struct gather *gather) must_check;
/* What is beside the record of a shadowed ROM's page, guarded by its block's lock. */
struct rom_page {
	hpa_t other;        /* the copy that isn't read; HPA_NONE: none yet, it reads as zero */
	enum rom_mode mode; /* atomic */
};
/* Of the page around `where`; NULL: no shadowed ROM is there. */
struct rom_page *rom_page_at(struct pgm *pgm, gpa_t where);
/* Every page in the default mode again, the RAM copies dropped. */
void rom_reset(struct pgm *pgm);
/* At the machine's end: frames and records back. */
void rom_destroy(struct pgm *pgm);
