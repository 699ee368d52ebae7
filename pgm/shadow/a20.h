/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The A20 gate. While it is closed for a vcpu, bit 20 of every guest-physical address it emits reads as zero:
 * odd MiB alias the even MiB below. The processor has no such bit, so the vcpu runs on composed tables (shadow/shadow.h), in which
 * each odd MiB shows the frames of the even one below. Bit 20 lies within a 2 MiB block: there are no large leaves.
 */
#pragma once

#include "pgm/pgm.h"

#define A20_BIT BIT(20)

/* What the gate takes out of an address: in walk_context.a20_mask, and before pgm_read and pgm_write. */
static inline uint64_t a20_mask(bool open)
{
	return open ? 0 : A20_BIT;
}

/* The root for vcpus with the gate closed; made at the first call. NO_MEMORY, OVER_QUOTA. It stays till the machine ends. */
enum status pgm_a20_root(struct pgm *pgm, hpa_t *root) must_check;
/* A second-level fault of a vcpu on that root; `where` as the processor gave it. No lock held. */
enum pgm_verdict pgm_a20_fault(struct pgm *pgm, gpa_t where, unsigned access);
