/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy of one machine's RAM, for the proof of its dirty log. It costs as much host memory as the machine has pages that
 * aren't zero. Whatever goes over all of it goes in bounded steps.
 */
#pragma once

#include "pgm/pgm.h"

struct machine;

/* Of this machine, in the life that it has now, and complete? */
bool dirty_copy_is_of(const struct machine *m);
/* Whose copy there is, complete or not; NULL: there is none. */
const struct machine *dirty_copy_machine(void);
/* true: more to do. */
bool dirty_copy_drop_step(void);
/* BUSY: more to do; OK: there is one. NO_MEMORY: what was made is to be dropped. No other machine's may be there. */
enum status dirty_copy_make_step(struct machine *m) must_check;
/* A page of RAM that has been written; nothing without a copy. */
enum status dirty_copy_update(struct machine *m, uint64_t page) must_check;

struct dirty_difference {
	uint64_t pages, different, first; /* first: its address */
};
/* BUSY: more to do. All 0 at first. The machine stands still. */
enum status dirty_copy_compare_step(struct machine *m, struct dirty_difference *difference) must_check;
