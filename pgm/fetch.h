/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page that a vcpu's instructions come from, remembered as the vcpu's own processor would: a translation out of the
 * second-level tables, good until the next flush.
 *
 * Whoever uses one counts as being in the guest meanwhile: each flush moves the domain's generation on before it waits for
 * those, and frames are freed after that. So where the generation is still the one of the look at the tables, the frame is
 * still there, and no lock is needed.
 */
#pragma once

#include "pgm/pgm.h"

struct pgm_fetch {
	uint64_t page, generation; /* generation 0: nothing is remembered */
	const uint8_t *bytes;
	const struct flush_domain *domain;
};

/* The memory of one vcpu of this machine. */
void pgm_fetch_init(struct pgm_fetch *fetch, struct pgm *pgm);

/* length bytes at `from`, within one page, if it is the remembered one; false: it isn't. Counted as in the guest. */
static inline bool pgm_fetch_again(const struct pgm_fetch *fetch, gpa_t from, void *to, size_t length)
{
	if (unlikely((from.v ^ fetch->page) >> PAGE_SHIFT ||
		     __atomic_load_n(&fetch->domain->generation, __ATOMIC_ACQUIRE) + 1 != fetch->generation))
		return false;
	__builtin_memcpy(to, fetch->bytes + (from.v & (PAGE_SIZE - 1)), length);
	return true;
}

/* pgm_read_simple(), and what it found is remembered if the tables let a guest execute it. Not counted as in the guest. */
enum status pgm_fetch(struct pgm *pgm, struct pgm_fetch *fetch, gpa_t from, void *to, size_t length) must_check;
