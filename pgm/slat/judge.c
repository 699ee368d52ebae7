/* SPDX-License-Identifier: Apache-2.0 */
/* Second-level entries as the processor sees them; slat/judge.h tells what for. */
#include "pgm/slat/judge.h"

#include <string.h>

#include "pgm/internal.h"

#define RIGHTS(entry) ((entry)&7u)
#define TYPE(entry) ((entry) >> 3 & 7u)

static bool may_be_leaf(const struct pt_format *f, const struct slat_limits *limits, unsigned level)
{
	return !level || ((f->large_levels >> level & 1) && (level == 1 ? limits->leaf_2m : limits->leaf_1g));
}

static bool is_leaf(const struct pt_format *f, const struct slat_limits *limits, unsigned level, uint64_t entry)
{
	return !level || ((entry & f->large) && may_be_leaf(f, limits, level));
}

bool slat_misconfigured(const struct pt_format *f, const struct slat_limits *limits, unsigned level, uint64_t entry)
{
	bool leaf = is_leaf(f, limits, level, entry);
	uint64_t reserved = leaf ? f->reserved_leaf[level] : f->reserved_table[level] | f->large;

	reserved |= limits->reserved | (BITS(51, 12) & ~(BIT(limits->physical_bits) - 1));
	if ((entry & reserved) || (f->invalid_rights >> RIGHTS(entry) & 1) ||
	    (leaf && (f->invalid_types >> TYPE(entry) & 1)))
		return true;
	return f->execute && (entry & f->present) == f->execute && !limits->execute_only;
}

static unsigned rights_of(const struct pt_format *f, uint64_t entry)
{
	if (f->user && !(entry & f->user)) /* a guest's accesses count as a user's */
		return 0;
	return slat_entry_rights(f, entry);
}

enum slat_verdict slat_judge(const struct pt_format *f, const struct slat_limits *limits, const uint64_t *path,
			     unsigned access)
{
	unsigned rights = ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE;

	for (unsigned level = f->levels - 1u;; level--) {
		if (!(path[level] & f->present))
			return SLAT_VIOLATION;
		if (slat_misconfigured(f, limits, level, path[level]))
			return SLAT_MISCONFIGURED;
		rights &= rights_of(f, path[level]);
		if (is_leaf(f, limits, level, path[level]))
			return access & ~rights ? SLAT_VIOLATION : SLAT_FINE;
	}
}

/* Reserved address bits that are set lead nowhere: they are not followed. */
static void find_path(const struct pgm *pgm, const struct slat_limits *limits, gpa_t where,
		      uint64_t path[PT_MAX_LEVELS])
{
	const struct pt_format *f = pgm->slat.format;
	uint64_t *table = direct_pointer(pgm->slat.root);

	memset(path, 0, PT_MAX_LEVELS * sizeof(*path));
	for (unsigned level = f->levels - 1u;; level--) {
		path[level] = __atomic_load_n(&table[pt_index(f, level, where.v)], __ATOMIC_ACQUIRE);
		if (!(path[level] & f->present) || pt_is_leaf(f, level, path[level]))
			return;
		table = direct_pointer(hpa(path[level] & f->address & (BIT(limits->physical_bits) - 1)));
	}
}

enum slat_verdict pgm_slat_judge(const struct pgm *pgm, const struct slat_limits *limits, gpa_t where, unsigned access)
{
	uint64_t path[PT_MAX_LEVELS];

	find_path(pgm, limits, where, path);
	return slat_judge(pgm->slat.format, limits, path, access);
}

/* The entry of this level; NULL: a leaf or nothing stands above it. */
static uint64_t *slot_of(const struct pgm *pgm, const struct slat_limits *limits, gpa_t where, unsigned level)
{
	const struct pt_format *f = pgm->slat.format;
	uint64_t path[PT_MAX_LEVELS], *table = direct_pointer(pgm->slat.root);

	find_path(pgm, limits, where, path);
	for (unsigned l = f->levels - 1u; l > level; l--) {
		if (!(path[l] & f->present) || pt_is_leaf(f, l, path[l]))
			return NULL;
		table = direct_pointer(hpa(path[l] & f->address));
	}
	return &table[pt_index(f, level, where.v)];
}

/* Nothing that could lead elsewhere, or grant more; see slat/judge.h. */
static bool harmless(const struct pt_format *f, const struct slat_limits *limits, unsigned level, uint64_t old,
		     uint64_t value)
{
	uint64_t changed = old ^ value, address = f->address & (BIT(limits->physical_bits) - 1);
	bool leaf = pt_is_leaf(f, level, old);

	if (leaf && level)
		address &= ~(BIT(pt_shift(f, level)) - 1);
	if (changed & address)
		return false;
	if (level && (changed & f->large))
		return !leaf && (!may_be_leaf(f, limits, level) || (value & f->reserved_leaf[level]));
	return !(rights_of(f, value) & ~rights_of(f, old));
}

enum status pgm_slat_patch(struct pgm *pgm, const struct slat_limits *limits, gpa_t where, unsigned level,
			   uint64_t mask, uint64_t bits, struct slat_patch *patch)
{
	const struct pt_format *f = pgm->slat.format;
	uint64_t *slot, old;

	if (level >= f->levels)
		return BAD_VALUE;
	slot = slot_of(pgm, limits, where, level);
	if (!slot)
		return NOT_FOUND;
	old = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
	*patch = (struct slat_patch){ .slot = slot, .old = old, .value = (old & ~mask) | (bits & mask) };
	if (!(old & f->present))
		return NOT_FOUND;
	if (!harmless(f, limits, level, old, patch->value))
		return DENIED;
	return __atomic_compare_exchange_n(slot, &old, patch->value, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED) ? OK
														: BUSY;
}

void pgm_slat_restore(struct pgm *pgm, const struct slat_patch *patch)
{
	const uint64_t marks = pgm->slat.format->accessed | pgm->slat.format->dirty;
	uint64_t now = __atomic_load_n(patch->slot, __ATOMIC_ACQUIRE);

	while (!((now ^ patch->value) & ~marks) &&
	       !__atomic_compare_exchange_n(patch->slot, &now, patch->old | (now & ~patch->value & marks), false,
					    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		;
}
