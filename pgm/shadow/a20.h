/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The A20 gate. While it is closed for a vcpu, bit 20 of every guest-physical address it emits reads as zero:
 * odd MiB alias the even MiB below. The processor has no such bit, so the vcpu runs on a second set of second-level tables,
 * in which each odd MiB shows the frames of the even one below.
 */
#pragma once

#include "pgm/pgm.h"
#include "pgm/slat/slat.h"

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

/* ---- PGM's own ---- */
struct a20_tables {
	struct spinlock lock; /* RANK_RESERVE: below a block's, above mm's; guards all tables below the root */
	struct slat slat;
	bool made;      /* the root exists; atomic */
	uint64_t drops; /* how often all below the root was dropped */
};

void a20_init_tables(struct pgm *pgm);
/*
 * Stands before the machine's own flush_domain.sync: every change of a translation ends in a flush, and each flush drops
 * what was derived for the closed gate.
 */
void a20_sync(struct flush_domain *domain, uint64_t generation);
/* The entry derived for `where`, 0 if there is none. For checks. */
uint64_t a20_entry(struct pgm *pgm, gpa_t where);
void a20_destroy(struct pgm *pgm);
