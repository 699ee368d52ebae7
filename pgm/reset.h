/* SPDX-License-Identifier: Apache-2.0 */
/* Reset of a machine's memory, in bounded steps, with no vcpu in the guest. */
#pragma once

#include "pgm/pgm.h"

/*
 * Second-level tables dropped, ROMs reset, then all of RAM: with zero_ram every page reads as zero afterwards (large blocks
 * keep their chunk and are cleared, other pages give their frames back); without it RAM keeps its content. Balloons
 * are empty in both cases. Handlers and MMIO2 stay: they are the devices'. BUSY: call again; each step is a few ms at most.
 * No vcpu may run, no device may access memory, till it returns OK.
 */
enum status pgm_reset_step(struct pgm *pgm, bool zero_ram) must_check;

/* ---- PGM's own ---- */
struct reset_state {
	bool started;
	bool detached;   /* no block knows its entry of the tables any more */
	bool unmapped;   /* all tables are gone */
	uint64_t cursor; /* the next block */
};

/* reset.c: what a reset leaves in place is zero. */
void reset_clear_frame(hpa_t frame);
