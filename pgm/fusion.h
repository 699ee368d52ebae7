/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page fusion: the scan for pages that are zero or equal, of machines of one group. One CPU at a time calls any of this: the idle
 * worker, or who has its turn.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"

struct pgm;

/* One machine's part of it. */
struct fusion {
	uint64_t cursor; /* guest-physical address of the page to be looked at next */
	uint64_t end;    /* what is looked at ends there */
	unsigned pass;   /* through this memory, from 1 on; 0: the only one */
	unsigned worth;  /* pages of this large block that are zero or known to be elsewhere, so far */
	bool eager;      /* this block has just been split: its pages are taken as they are */
	bool missed;     /* in this step: a page's like was a machine's that somebody else was at work on */
	/* Of a module: */
	bool fresh; /* just named: others that have something of this name are looked at as well */
	unsigned region;
	uint64_t name;
};

/*
 * Room for what is remembered of so many pages of the host, 2 bytes for each; once. NO_MEMORY: only zeros will be found.
 */
enum status pgm_fusion_start(uint64_t pages) must_check;
/*
 * Looks at up to FUSION_STEP pages, and shares those of which it knows an equal one; *looked: at how many. now: as well those that have
 * changed since the last look. BUSY: there is more to look at; OK: that was the end of the machine's memory, the next step begins anew.
 */
#define FUSION_STEP 16u
enum status pgm_fusion_step(struct pgm *pgm, bool now, unsigned *looked) must_check;
/* The same of modules that its guest has named, as they are now; asked first: are there any to be looked at? */
bool pgm_fusion_is_named(const struct pgm *pgm);
void pgm_fusion_named_step(struct pgm *pgm, unsigned *looked);
/* From now on none of its pages is looked at for another's sake. */
void pgm_fusion_leave(struct pgm *pgm);
