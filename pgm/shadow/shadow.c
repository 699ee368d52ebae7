/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Composed tables: each leaf is 4 KiB and derived, under the block's lock, from what L1's tables allow and the first tables
 * grant at L1's address. A cache of a cache: each flush of the machine's translations drops everything below the
 * roots, before the vcpus are made to flush and before anything is freed.
 */
#include "pgm/shadow/shadow.h"

#include "arch/x86_64/host.h"
#include "pgm/internal.h"

#define TOP_ENTRIES (PGM_MAX_GPA >> 39)
#define TABLES_MAX 1024u /* of all roots together; then all are dropped */

void shadow_init(struct pgm *pgm)
{
	lock_init(&pgm->shadow.lock, RANK_RESERVE, "shadow");
}

static bool same_key(const struct hv_nested_slat *a, const struct hv_nested_slat *b)
{
	return a->root.v == b->root.v && a->format == b->format && a->physical_bits == b->physical_bits &&
	       a->large_1g == b->large_1g && a->accessed_dirty == b->accessed_dirty && a->no_execute == b->no_execute;
}

/* The one with this key; else one that nobody uses, the longest unused first. */
static struct shadow_root *choose(struct shadow_pool *pool, const struct hv_nested_slat *slat)
{
	struct shadow_root *best = NULL;

	for (unsigned i = 0; i < SHADOW_ROOTS; i++) {
		struct shadow_root *r = &pool->root[i];

		if (r->made && same_key(&r->key, slat))
			return r;
		if (!r->users && (!best || r->used < best->used))
			best = r;
	}
	return best;
}

/* Takes all tables off the root; their number stands in *count. */
static void detach(struct shadow_root *r, hpa_t taken[TOP_ENTRIES], unsigned *count)
{
	uint64_t *root = direct_pointer(r->slat.root);

	*count = 0;
	for (unsigned i = 0; i < TOP_ENTRIES; i++) {
		uint64_t entry = __atomic_exchange_n(&root[i], 0, __ATOMIC_ACQ_REL);

		if (slat_present(&r->slat, entry))
			taken[(*count)++] = hpa(entry & r->slat.format->address);
	}
}

static void drop(struct pgm *pgm, struct shadow_root *r, struct gather *gather)
{
	hpa_t taken[TOP_ENTRIES];
	unsigned count;

	lock_acquire(&pgm->shadow.lock);
	detach(r, taken, &count);
	lock_release(&pgm->shadow.lock);
	for (unsigned i = 0; i < count; i++)
		slat_free_tables(&r->slat, taken[i], r->slat.format->levels - 2u, gather);
}

static void drop_flushed(struct pgm *pgm, struct shadow_root *r)
{
	struct gather gather;

	gather_begin(&gather, &pgm->flush, &pgm->account);
	drop(pgm, r, &gather);
	gather_flush(&gather);
	gather_finish(&gather);
}

enum status shadow_root_get(struct pgm *pgm, const struct hv_nested_slat *slat, struct shadow_root **out)
{
	struct shadow_root *r;
	enum status status = OK;
	bool other;

	lock_acquire(&pgm->lock);
	r = choose(&pgm->shadow, slat);
	if (r && !r->made) {
		status = account_adjust(&pgm->account, ACCOUNT_TABLE, TABLES_MAX / SHADOW_ROOTS);
		if (status == OK)
			status = slat_create(&r->slat, pgm->config.slat, &pgm->account);
		r->made = status == OK;
	}
	other = status == OK && r && !same_key(&r->key, slat);
	if (r && status == OK) {
		r->key = *slat;
		r->users++;
		r->used = ++pgm->shadow.clock;
		__atomic_store_n(&pgm->shadow.made, true, __ATOMIC_RELEASE);
	}
	lock_release(&pgm->lock);
	if (other)
		drop_flushed(pgm, r);
	*out = r;
	return r ? status : LIMIT;
}

void shadow_root_put(struct pgm *pgm, struct shadow_root *root)
{
	lock_acquire(&pgm->lock);
	root->users--;
	lock_release(&pgm->lock);
}

hpa_t shadow_root_address(const struct shadow_root *root)
{
	return root->slat.root;
}

void shadow_sync(struct pgm *pgm, struct flush_domain *domain, uint64_t generation)
{
	struct gather gather;

	gather_begin(&gather, NULL, &pgm->account);
	if (unlikely(__atomic_load_n(&pgm->shadow.made, __ATOMIC_ACQUIRE)))
		for (unsigned i = 0; i < SHADOW_ROOTS; i++)
			if (pgm->shadow.root[i].made) {
				hpa_t taken[TOP_ENTRIES];
				struct shadow_root *r = &pgm->shadow.root[i];
				unsigned count;

				lock_acquire(&pgm->shadow.lock);
				detach(r, taken, &count);
				lock_release(&pgm->shadow.lock);
				if (!count)
					continue;
				pgm->sync(domain, generation);
				for (unsigned n = 0; n < count; n++)
					slat_free_tables(&r->slat, taken[n], r->slat.format->levels - 2u, &gather);
			}
	pgm->sync(domain, generation);
	gather_finish(&gather);
}

/* What both sides grant; false: nothing, or less than `access`. The block is locked. */
static bool derive(struct pgm *pgm, const struct shadow_path *p, unsigned access, uint64_t *leaf)
{
	const struct slat *first = &pgm->slat;
	unsigned level, rights;
	uint64_t *entry = slat_find(first, p->target, &level), value = *entry;
	uint64_t offset = p->target.v & (BIT(pt_shift(first->format, level)) - 1) & ~(PAGE_SIZE - 1);

	rights = slat_rights(first, value) & p->rights;
	if (misconfig_is_mark(pgm, value) || (rights & access) != access)
		return false;
	/* Whoever reads dirty bits reads them in the first tables: what may be written through the second is dirty there. */
	if (access & ACCESS_WRITE) {
		__atomic_fetch_or(entry, first->format->dirty, __ATOMIC_RELAXED);
		dirty_written(pgm, p->target);
	} else {
		rights &= ~ACCESS_WRITE;
	}
	*leaf = slat_leaf(first, 0, hpa(slat_frame(first, level, value).v + offset), rights, MEMORY_TYPE_WB);
	return true;
}

static enum status install(struct pgm *pgm, struct shadow_root *r, gpa_t where, uint64_t leaf)
{
	enum status status = LIMIT;
	uint64_t *entry, old;

	lock_acquire(&pgm->shadow.lock);
	if (r->slat.tables < TABLES_MAX / SHADOW_ROOTS)
		status = slat_entry(&r->slat, where, 0, &entry);
	if (status == OK) {
		old = __atomic_exchange_n(entry, leaf, __ATOMIC_ACQ_REL);
		if (old && ((old ^ leaf) & r->slat.format->address))
			status = CONFLICT; /* L1 has changed its entry: the old frame is flushed */
	}
	lock_release(&pgm->shadow.lock);
	return status;
}

static enum status fill(struct pgm *pgm, struct shadow_root *r, gpa_t where, const struct shadow_path *path,
			unsigned access)
{
	struct block *b = block_find(pgm, path->target);
	enum status status = OK;
	uint64_t leaf;

	if (!b)
		return OK;
	block_lock(b);
	if (derive(pgm, path, access, &leaf))
		status = install(pgm, r, where, leaf);
	block_unlock(b);
	return status;
}

enum shadow_verdict shadow_fault(struct pgm *pgm, struct shadow_root *root, gpa_t where, unsigned access,
				 bool guest_table, struct hv_nested_fault *fault)
{
	struct shadow_path path;
	enum pgm_verdict verdict;
	enum status status = shadow_path(pgm, &root->key, where, access | (guest_table ? WALK_TABLE : 0), &path, fault);

	if (status == OUTER_FAULT)
		return SHADOW_REFLECT;
	if (status != OK)
		return status == BUSY ? SHADOW_RESUME : SHADOW_NO_MEMORY;
	verdict = pgm_guest_fault(pgm, path.target, access);
	if (verdict != PGM_RESUME)
		return verdict == PGM_EMULATE ? SHADOW_EMULATE : SHADOW_NO_MEMORY;
	status = fill(pgm, root, where, &path, access);
	if (status == LIMIT || status == CONFLICT)
		drop_flushed(pgm, root);
	return status == NO_MEMORY || status == OVER_QUOTA ? SHADOW_NO_MEMORY : SHADOW_RESUME;
}

void shadow_invalidate(struct pgm *pgm, const struct hv_nested_slat *slat)
{
	for (unsigned i = 0; i < SHADOW_ROOTS; i++) {
		struct shadow_root *r = &pgm->shadow.root[i];

		if (r->made && (!slat || r->key.root.v == slat->root.v))
			drop_flushed(pgm, r);
	}
}

void shadow_destroy(struct pgm *pgm)
{
	for (unsigned i = 0; i < SHADOW_ROOTS; i++)
		while (slat_destroy_step(&pgm->shadow.root[i].slat) == BUSY)
			;
}
