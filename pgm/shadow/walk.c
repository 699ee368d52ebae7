/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk of a guest hypervisor's second-level tables, as a processor does it. Rights are judged at the leaf, where those
 * of all levels are known; a misconfigured entry counts where it is met, before that (Intel SDM vol. 3 section 29.3.3.3). Then
 * accessed and dirty bits are set in place by compare-and-exchange; if an entry changed under it the walk starts again.
 *
 * Nothing here is ours to grant: addresses are L1's. Everything about the formats is data (slat/judge.h).
 */
#include "pgm/shadow/shadow.h"

#include "arch/x86_64/host.h"
#include "pgm/slat/judge.h"
#include "pgm/slat/slat.h"

#define RETRIES 8u
#define RWX (ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE)

struct descent {
	struct pgm *pgm;
	const struct hv_nested_slat *slat;
	struct slat_limits limits;
	gpa_t where;
	unsigned access, needed;
	const struct shadow_start *start;
	struct shadow_path *path;
	struct hv_nested_fault *fault;
};

/* No device is asked for a table. */
static uint64_t read_entry(struct pgm *pgm, gpa_t where, unsigned size)
{
	uint64_t entry = 0;

	if (likely(size == sizeof(entry)) && likely(pgm_read_entry(pgm, where, &entry)))
		return entry;
	if (pgm_read_simple(pgm, where, &entry, size) != OK)
		entry = UINT64_MAX >> (64 - 8 * size);
	return entry;
}

/* A PDPTE of PAE paging has no rights and no accessed bit. */
static bool bare(const struct pt_format *f, unsigned level)
{
	return f->levels == 3 && level == 2;
}

static enum status refuse(const struct descent *d, bool misconfigured, bool present)
{
	*d->fault = (struct hv_nested_fault){ .where = d->where,
					      .guest_table = (d->access & WALK_TABLE) != 0,
					      .access = (uint8_t)d->needed,
					      .rights = d->path->rights,
					      .user = d->path->user,
					      .misconfigured = misconfigured,
					      .present = present,
					      .level = d->path->level };
	return OUTER_FAULT;
}

/*
 * Accesses to L2's own tables count as writes on AMD (APM vol. 2 section 15.25.5), and on Intel where accessed and dirty bits are
 * kept (SDM vol. 3 section 29.3.3.2).
 */
static unsigned needed_rights(const struct hv_nested_slat *slat, unsigned access)
{
	bool as_write = (access & WALK_TABLE) && (slat->format->user || slat->accessed_dirty);

	return access & WALK_PEEK ? 0 : (access & RWX) | (as_write ? ACCESS_READ | ACCESS_WRITE : 0);
}

/* Sets `bits` in an entry; it stands in step->entry afterwards as in memory. BUSY: it has changed meanwhile. */
static enum status set_bits(struct pgm *pgm, struct walk_step *step, uint64_t bits, unsigned size)
{
	uint64_t seen = 0;
	enum status status;

	if ((step->entry & bits) == bits)
		return OK;
	status = pgm_compare_exchange(pgm, step->where, step->entry, step->entry | bits, size, &seen);
	if (status == HANDLER || status == BAD_ADDRESS)
		return OK; /* a table in ROM or in nothing keeps its bits */
	if (status == OK && seen != step->entry)
		return BUSY;
	if (status == OK)
		step->entry |= bits;
	return status;
}

static enum status at_leaf(struct descent *d, uint64_t entry)
{
	const struct pt_format *f = d->slat->format;
	struct shadow_path *p = d->path;
	uint64_t offset = BIT(pt_shift(f, p->level)) - 1;
	enum status status = OK;

	p->target = gpa((entry & f->address & ~offset) | (d->where.v & offset));
	if (f->entry_size == 4 && p->level) /* PSE-36 */
		p->target.v |= (entry & BITS(20, 13)) << (32 - 13);
	if ((d->needed & ~p->rights) || (!p->user && !(d->access & WALK_PEEK)))
		return refuse(d, false, true);
	if (!d->slat->accessed_dirty || (d->access & (WALK_PEEK | WALK_TRY)))
		return OK;
	for (unsigned i = 0; i < p->steps && status == OK; i++) {
		bool dirty = i + 1u == p->steps && (d->needed & ACCESS_WRITE);

		if (!bare(f, p->step[i].level))
			status = set_bits(d->pgm, &p->step[i], f->accessed | (dirty ? f->dirty : 0), f->entry_size);
	}
	return status;
}

/* Without tables of L1's: as its own processor has it. */
static enum status identity(const struct descent *d)
{
	const struct pt_format *f = d->slat->format;
	struct shadow_path *p = d->path;

	p->target = d->where;
	p->rights = RWX;
	p->user = true;
	p->level = 0;
	p->steps = 1;
	p->step[0] = (struct walk_step){ .entry = f->type_bits[MEMORY_TYPE_WB] | f->accessed | f->dirty };
	return OK;
}

static enum status descend(struct descent *d)
{
	const struct pt_format *f = d->slat->format;
	uint64_t table = d->start->table.v;
	struct shadow_path *p = d->path;

	p->steps = 0;
	p->rights = d->start->rights;
	p->user = d->start->user;
	for (p->level = d->start->level;; p->level--) {
		struct walk_step *step = &p->step[p->steps++];

		step->level = p->level;
		step->where = gpa(table + pt_index(f, p->level, d->where.v) * (uint64_t)f->entry_size);
		/* Wider than the tables reach: nothing is there (SDM vol. 3 section 29.3.2). */
		step->entry = d->where.v >> f->linear_bits ? 0 : read_entry(d->pgm, step->where, f->entry_size);
		if (!(step->entry & f->present)) {
			p->rights = 0;
			return refuse(d, false, false);
		}
		if (slat_misconfigured(f, &d->limits, p->level, step->entry))
			return refuse(d, true, false);
		if (!bare(f, p->level)) {
			p->rights &= (uint8_t)slat_entry_rights(f, step->entry);
			p->user &= !f->user || (step->entry & f->user);
		}
		if (pt_is_leaf(f, p->level, step->entry))
			return at_leaf(d, step->entry);
		table = step->entry & f->address;
	}
}

enum status shadow_path(struct pgm *pgm, const struct hv_nested_slat *slat, const struct shadow_start *start,
			gpa_t where, unsigned access, struct shadow_path *path, struct hv_nested_fault *fault)
{
	const struct shadow_start root = {
		.table = slat->root, .level = slat->format->levels - 1u, .rights = RWX, .user = true
	};
	const struct pt_format *f = slat->format;
	struct descent d = { .pgm = pgm,
			     .slat = slat,
			     .limits = { .physical_bits = slat->physical_bits,
					 .execute_only = true, /* as far as the format doesn't call it invalid */
					 .leaf_2m = f->large_levels >> 1 & 1,
					 .leaf_1g = slat->large_1g,
					 .reserved = slat->no_execute ? 0 : f->no_execute },
			     .where = where,
			     .access = access,
			     .needed = needed_rights(slat, access),
			     .start = start ? start : &root,
			     .path = path,
			     .fault = fault };
	enum status status = BUSY;

	path->needed = (uint8_t)d.needed;
	path->below = start != NULL;
	for (unsigned i = 0; status == BUSY && i < RETRIES; i++)
		status = slat->on ? descend(&d) : identity(&d);
	if (status == OK && slat->traps && !((path->target.v ^ slat->trapped.v) >> PAGE_SHIFT) &&
	    !(access & WALK_PEEK)) {
		status = refuse(&d, false, true);
		fault->trapped = true;
	}
	return status;
}

enum status shadow_walk(struct pgm *pgm, const struct hv_nested_slat *slat, gpa_t where, unsigned access, gpa_t *to,
			struct hv_nested_fault *fault)
{
	struct shadow_path path;
	enum status status;

	*to = where;
	if (!hv_nested_composed(slat))
		return OK;
	status = shadow_path(pgm, slat, NULL, where, access, &path, fault);
	if (status == OK)
		*to = path.target;
	return status;
}
