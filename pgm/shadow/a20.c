/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables for a closed A20 gate: a cache of a cache. Each 4 KiB leaf is derived, under the block's lock,
 * from what the first tables grant at the address without bit 20. Bit 20 lies within a 2 MiB block, so
 * alias and target have the same lock, and large leaves can't be used.
 *
 * Nobody needs to find the aliases of a changed page: each change of a present translation asks for a flush, each
 * flush passes a20_sync(), and that drops everything below the second root, before the machine's vcpus are made to
 * flush and before anything is freed. What is derived between the change and the flush comes from the changed record.
 */
#include "pgm/shadow/a20.h"

#include "arch/x86_64/host.h"
#include "pgm/internal.h"

#define TOP_ENTRIES (PGM_MAX_GPA >> 39) /* of the root, that guest memory can use */
#define TABLES_MAX 160u                 /* then all are dropped: the gate is no way to eat up the table account */

_Static_assert(A20_BIT < BLOCK_SIZE && A20_BIT >= PAGE_SIZE, "an alias lies in the block of its target");

void a20_init_tables(struct pgm *pgm)
{
	lock_init(&pgm->a20.lock, RANK_RESERVE, "a20");
}

enum status pgm_a20_root(struct pgm *pgm, hpa_t *root)
{
	struct a20_tables *t = &pgm->a20;
	enum status status = OK;

	lock_acquire(&pgm->lock);
	if (!t->made) {
		status = account_adjust(&pgm->account, ACCOUNT_TABLE, TABLES_MAX + PT_MAX_LEVELS);
		if (status == OK) {
			status = slat_create(&t->slat, pgm->config.slat, &pgm->account);
			if (status != OK)
				quota_return(pgm, ACCOUNT_TABLE, TABLES_MAX + PT_MAX_LEVELS);
		}
		__atomic_store_n(&t->made, status == OK, __ATOMIC_RELEASE);
	}
	lock_release(&pgm->lock);
	*root = t->slat.root;
	return status;
}

/* Takes all tables off the root; returns how many stand in `taken`. */
static unsigned detach(struct a20_tables *t, hpa_t taken[TOP_ENTRIES])
{
	uint64_t *root = direct_pointer(t->slat.root);
	unsigned count = 0;

	lock_acquire(&t->lock);
	for (unsigned i = 0; i < TOP_ENTRIES; i++) {
		uint64_t entry = __atomic_exchange_n(&root[i], 0, __ATOMIC_ACQ_REL);

		if (slat_present(&t->slat, entry))
			taken[count++] = hpa(entry & t->slat.format->address);
	}
	t->drops += count != 0;
	lock_release(&t->lock);
	return count;
}

void a20_sync(struct flush_domain *domain, uint64_t generation)
{
	struct pgm *pgm = (struct pgm *)((uint8_t *)domain - offsetof(struct pgm, flush));
	struct a20_tables *t = &pgm->a20;
	hpa_t taken[TOP_ENTRIES];
	struct gather gather;
	unsigned count = 0;

	if (unlikely(__atomic_load_n(&t->made, __ATOMIC_ACQUIRE)))
		count = detach(t, taken);
	shadow_sync(pgm, domain, generation);
	if (likely(!count))
		return;
	gather_begin(&gather, NULL, &pgm->account);
	for (unsigned i = 0; i < count; i++)
		slat_free_tables(&t->slat, taken[i], t->slat.format->levels - 2u, &gather);
	gather_finish(&gather);
}

/* What the first tables grant at `target`; false: nothing, or less than `access`. Locked. */
static bool derive(struct pgm *pgm, gpa_t target, unsigned access, uint64_t *leaf)
{
	const struct slat *first = &pgm->slat;
	unsigned level, rights;
	uint64_t *entry = slat_find(first, target, &level), value = *entry;
	uint64_t offset = target.v & (BIT(pt_shift(first->format, level)) - 1) & ~(PAGE_SIZE - 1);

	rights = slat_rights(first, value);
	if (misconfig_is_mark(pgm, value) || (rights & access) != access)
		return false;
	/* Whoever reads dirty bits reads them in the first tables: what may be written through the second is dirty there. */
	if (access & ACCESS_WRITE) {
		__atomic_fetch_or(entry, first->format->dirty, __ATOMIC_RELAXED);
		dirty_written(pgm, target); /* a processor's own list would have the alias */
	} else {
		rights &= ~ACCESS_WRITE;
	}
	*leaf = slat_leaf(first, 0, hpa(slat_frame(first, level, value).v + offset), rights, MEMORY_TYPE_WB);
	return true;
}

static enum status install(struct pgm *pgm, gpa_t where, uint64_t leaf, struct gather *gather)
{
	struct a20_tables *t = &pgm->a20;
	enum status status = LIMIT;
	uint64_t *entry;

	lock_acquire(&t->lock);
	if (t->slat.tables < TABLES_MAX)
		status = slat_entry(&t->slat, where, 0, &entry);
	/* A fresh right or a first translation: never narrower than what was there, so nothing is to be flushed. */
	if (status == OK)
		__atomic_store_n(entry, leaf, __ATOMIC_RELEASE);
	else
		gather_flush(gather); /* drops all tables of the second root: after LIMIT the next fault finds room */
	lock_release(&t->lock);
	return status;
}

enum pgm_verdict pgm_a20_fault(struct pgm *pgm, gpa_t where, unsigned access)
{
	gpa_t target = gpa(where.v & ~A20_BIT);
	enum pgm_verdict verdict = pgm_fault(pgm, target, access);
	struct block *b = block_find(pgm, target);
	enum status status = OK;
	struct gather gather;
	uint64_t leaf;

	if (verdict != PGM_RESUME || !b)
		return verdict;
	gather_begin(&gather, &pgm->flush, &pgm->account);
	block_lock(b);
	if (derive(pgm, target, access, &leaf))
		status = install(pgm, where, leaf, &gather);
	block_unlock(b);
	if (gather.flush)
		gather_finish(&gather);
	return status == OK || status == LIMIT ? PGM_RESUME : PGM_NO_MEMORY;
}

uint64_t a20_entry(struct pgm *pgm, gpa_t where)
{
	struct a20_tables *t = &pgm->a20;
	uint64_t entry = 0;
	unsigned level;

	if (!__atomic_load_n(&t->made, __ATOMIC_ACQUIRE))
		return 0;
	lock_acquire(&t->lock);
	entry = *slat_find(&t->slat, where, &level);
	lock_release(&t->lock);
	return level ? 0 : entry;
}

/* At most TABLES_MAX tables: no need for slices. */
void a20_destroy(struct pgm *pgm)
{
	while (slat_destroy_step(&pgm->a20.slat) == BUSY)
		;
	pgm->a20.made = false;
}
