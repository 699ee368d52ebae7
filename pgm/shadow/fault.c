/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fault on composed tables: by L1's tables first, which may refuse; then by the first ones, as any access of L1's would; then
 * the entry comes. Most faults of an L2 find both done, and only the entry is missing.
 */
#include "pgm/internal.h"

/* Tables of another geometry than ours aren't followed entry by entry: each page stands for itself. */
static void loosen(const struct pt_format *f, struct shadow_path *p)
{
	const struct walk_step leaf = p->step[p->steps - 1u];

	p->level = 0;
	p->steps = f->levels;
	for (unsigned i = 0; i < p->steps; i++)
		p->step[i] = (struct walk_step){ .level = (uint8_t)(f->levels - 1u - i), .entry = f->table_bits };
	p->step[p->steps - 1u].entry =
		(p->target.v & ~(PAGE_SIZE - 1)) | f->present | (leaf.entry & (f->type_mask | f->accessed | f->dirty));
}

static bool lacks_room(enum status status)
{
	return status == LIMIT || status_is_shortage(status);
}

static enum pgm_verdict compose(struct pgm *pgm, struct shadow_root *root, gpa_t where, const struct shadow_path *path,
				unsigned access, uint64_t invalidations)
{
	struct pgm_vcpu_counters *count = vcpu_counters();
	enum pgm_verdict verdict;
	enum status status = shadow_fill(pgm, root, where, path, access, invalidations);

	if (status != NOT_FOUND) { /* else pgm_guest_fault() counts */
		count->faults++;
		count->resumed += status == OK;
		count->last_cause = status == OK ? FAULT_SYNC : status == HANDLER ? FAULT_HANDLER : FAULT_MISC;
		count->cause[count->last_cause]++;
		count->emulated += status == HANDLER;
	} else {
		verdict = pgm_guest_fault(pgm, path->target, access);
		if (verdict != PGM_RESUME)
			return verdict;
		status = shadow_fill(pgm, root, where, path, access, invalidations);
	}
	if (status == HANDLER)
		return PGM_EMULATE;
	if (status == CONFLICT)
		shadow_invalidate(pgm, &root->key);
	if (unlikely(__atomic_load_n(&pgm->shadow.buried, __ATOMIC_RELAXED)))
		(void)shadow_dig(pgm, 1);
	if (!lacks_room(status))
		return PGM_RESUME;
	if (!shadow_shrink(pgm, root))
		return PGM_NO_MEMORY;
	/* At once: what is dropped of its own may be just what it has made, and so for ever. */
	return lacks_room(shadow_fill(pgm, root, where, path, access, invalidations)) ? PGM_NO_MEMORY : PGM_RESUME;
}

/*
 * Where a walk may begin: at the table of L1's that leads to 2 MiB, if something was derived from it since the last flush. A processor
 * keeps upper entries, too, till it is told to flush; but none for an address that it has reported a fault for (Intel SDM vol. 3
 * section 29.4.3.1): then `trust` is taken away until a whole walk has come here. Locks the root's part.
 */
static bool begin_below(struct shadow_root *root, gpa_t where, bool trust, struct shadow_start *start)
{
	struct shadow_table *above, *t = NULL;

	shadow_lock(root, where);
	above = shadow_table_at(root, where, 1);
	if (above && above->entry[shadow_index(1, where)])
		t = above->below[shadow_index(1, where)];
	if (t) {
		t->begin &= trust;
		start->level = 0;
		start->rights = t->rights;
		start->user = t->user;
	}
	if (t && t->begin)
		start->table = gpa(above->source[shadow_index(1, where)] & root->key.format->address);
	else
		t = NULL;
	shadow_unlock(root, where);
	return t != NULL;
}

/* L1's way there. What the upper levels were at the last flush serves if it leads there; a refusal is found by a whole walk. */
static enum status find_path(struct pgm *pgm, struct shadow_root *root, gpa_t where, unsigned access,
			     struct shadow_path *path, struct hv_nested_fault *fault)
{
	struct shadow_start start;
	enum status status = OUTER_FAULT;

	if (!(where.v >> pgm->slat.format->linear_bits) && begin_below(root, where, true, &start))
		status = shadow_path(pgm, &root->key, &start, where, access, path, fault);
	if (status != OUTER_FAULT)
		return status;
	status = shadow_path(pgm, &root->key, NULL, where, access, path, fault);
	if (status == OUTER_FAULT && !(where.v >> pgm->slat.format->linear_bits))
		(void)begin_below(root, where, false, &start);
	return status;
}

enum shadow_verdict shadow_fault(struct pgm *pgm, struct shadow_root *root, gpa_t where, unsigned access,
				 bool guest_table, struct hv_nested_fault *fault)
{
	static const enum shadow_verdict verdicts[] = {
		[PGM_RESUME] = SHADOW_RESUME, [PGM_EMULATE] = SHADOW_EMULATE, [PGM_NO_MEMORY] = SHADOW_NO_MEMORY
	};
	uint64_t invalidations = __atomic_load_n(&root->invalidations, __ATOMIC_ACQUIRE);
	unsigned wanted = access | (guest_table ? WALK_TABLE : 0);
	struct shadow_path path;
	enum status status = find_path(pgm, root, where, wanted, &path, fault);

	COUNT(pgm, shadow_faults);
	if (status == OUTER_FAULT)
		return SHADOW_REFLECT;
	if (status != OK)
		return status == BUSY ? SHADOW_RESUME : SHADOW_NO_MEMORY;
	/* Wider than our tables reach: each access is carried out by emulation. */
	if (where.v >> pgm->slat.format->linear_bits)
		return SHADOW_EMULATE;
	if (root->loose)
		loosen(pgm->slat.format, &path);
	return verdicts[compose(pgm, root, where, &path, path.needed, invalidations)];
}

enum status pgm_a20_root(struct pgm *pgm, hpa_t *root)
{
	static const struct hv_nested_slat gate = { .on = false };
	struct shadow_root **at = &pgm->shadow.a20;
	enum status status;

	HOLD(&pgm->lock);
	*root = HPA_NONE;
	if (!*at) {
		TRY(shadow_promise(pgm, A20_FRAMES));
		status = shadow_root_make(pgm, &gate, at);
		if (status != OK) {
			shadow_unpromise(pgm, A20_FRAMES);
			return status;
		}
	}
	*root = shadow_root_address(*at);
	return OK;
}

enum pgm_verdict pgm_a20_fault(struct pgm *pgm, gpa_t where, unsigned access)
{
	struct shadow_path path = { .target = gpa(where.v & ~A20_BIT),
				    .rights = ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE };

	return compose(pgm, pgm->shadow.a20, where, &path, access, 0);
}
