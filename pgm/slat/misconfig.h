/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fast way to an MMIO handler: a second-level entry that is neither a translation nor absent. The processor
 * exits on it with a reason of its own, and the exit goes straight to emulation, without a look at ranges and records.
 * Only where the processor has such a pattern (pgm_config.misconfig_exit: EPT).
 */
#pragma once

#include "pgm/pgm.h"

/*
 * For the statistics: a misconfiguration exit went to emulation. That needs no look at the mark: should it be out of date
 * just now, the emulated access finds what is there by itself.
 */
void pgm_count_misconfig(struct pgm *pgm);

/* ---- PGM's own ---- */
bool misconfig_is_mark(const struct pgm *pgm, uint64_t entry);
/* After a fault that went to emulation: marks the page if it is an MMIO handler's alone. No lock held. */
void misconfig_install(struct pgm *pgm, gpa_t where);
/* A handler has gone from first..last, or a range came there: takes the marks away. No block locked. */
void misconfig_remove(struct pgm *pgm, uint64_t first, uint64_t last);
/* A mark at `where` and nothing that entitles to it? For checks; block locked. */
bool misconfig_wrong(struct pgm *pgm, gpa_t where, page_record record);
