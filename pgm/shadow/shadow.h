/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables composed of two: what a guest hypervisor (L1) has made for its guest (L2), over what PGM has made for L1. A processor that
 * runs L2 uses these. L1's tables are walked as a processor would, with their rights, reserved bits, accessed and
 * dirty bits; what they have against an access is L1's to hear. What they allow is derived from the first tables, never more.
 *
 * Manual: Intel SDM vol. 3 sections 29.3.2 to 29.3.5; AMD APM vol. 2 section 15.25.
 */
#ifndef PGM_SHADOW_SHADOW_H
#define PGM_SHADOW_SHADOW_H

#include "arch/x86_64/hv_nested.h"
#include "pgm/pgm.h"
#include "pgm/slat/slat.h"
#include "pgm/walk.h"

struct shadow_root;

/*
 * The root for these tables of L1's, the same for every vcpu that asks with the same. It is kept until it is put as often, and
 * cached after that. LIMIT: more are in use than there may be; NO_MEMORY, OVER_QUOTA. No lock of PGM's held.
 */
enum status shadow_root_get(struct pgm *pgm, const struct hv_nested_slat *slat, struct shadow_root **out) must_check;
void shadow_root_put(struct pgm *pgm, struct shadow_root *root);
hpa_t shadow_root_address(const struct shadow_root *root);

enum shadow_verdict {
	SHADOW_RESUME,    /* the tables are right now, or as good: enter again */
	SHADOW_EMULATE,   /* L1's tables allow it, and a device, ROM or a handler answers at L1's address */
	SHADOW_NO_MEMORY, /* no frame or table to be had: park the vcpu */
	SHADOW_REFLECT,   /* L1 gets an exit: *fault, but for its linear address */
};
/* A fault of L2 at `where` with ACCESS_* bits; guest_table: of the processor's walk of L2's own tables. No lock held. */
enum shadow_verdict shadow_fault(struct pgm *pgm, struct shadow_root *root, gpa_t where, unsigned access,
				 bool guest_table, struct hv_nested_fault *fault);
/*
 * L2's address → L1's, by L1's tables alone. access: ACCESS_* and WALK_*. OUTER_FAULT: they refuse, *fault is filled but for the
 * linear address. BUSY: an entry changed again and again. NO_MEMORY, OVER_QUOTA: an accessed bit found no frame to be set in.
 * A table where L1 has no plain memory reads as all ones, as on a bus where nobody answers. Without tables (!slat->on): *to = where.
 */
enum status shadow_walk(struct pgm *pgm, const struct hv_nested_slat *slat, gpa_t where, unsigned access, gpa_t *to,
			struct hv_nested_fault *fault) must_check;
/*
 * L1 has flushed: what was derived from its tables at slat->root (NULL: from any) and isn't as they are now goes. On return no other
 * vcpu uses it; the caller sees to what its own processor has cached. No lock held.
 */
void shadow_invalidate(struct pgm *pgm, const struct hv_nested_slat *slat);

/* ---- PGM's own ---- */

/* What a walk of L1's tables found. */
struct shadow_path {
	gpa_t target;
	uint8_t level, rights; /* of the leaf, or where the walk ended; ACCESS_* of all levels together */
	bool user;             /* all levels have U set, or there's no such bit */
	uint8_t steps;
	struct walk_step step[PT_MAX_LEVELS]; /* top first; entries as they stand with accessed and dirty set */
};
enum status shadow_path(struct pgm *pgm, const struct hv_nested_slat *slat, gpa_t where, unsigned access,
			struct shadow_path *path, struct hv_nested_fault *fault) must_check;

#define SHADOW_ROOTS 8u

struct shadow_root {
	struct hv_nested_slat key;
	struct slat slat;
	bool made;
	uint32_t users; /* vcpus that have got it */
	uint64_t used;  /* the pool's clock when it was last got */
};

struct shadow_pool {
	struct spinlock lock; /* RANK_RESERVE: below a block's, above mm's; guards all tables below the roots */
	uint64_t clock;
	bool made; /* some root is there; atomic */
	struct shadow_root root[SHADOW_ROOTS];
};

void shadow_init(struct pgm *pgm);
void shadow_sync(struct pgm *pgm, struct flush_domain *domain, uint64_t generation);
void shadow_destroy(struct pgm *pgm);

#endif
