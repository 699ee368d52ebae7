/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves that become smaller: 1 GiB into 512 of 2 MiB, and 2 MiB into 512 of 4 KiB, each to translate exactly as before. The table is
 * filled before it is linked, so no processor sees less at any time; the old leaf is flushed by the caller's gather.
 */
#include "arch/x86_64/log.h"
#include "pgm/slat/slat.h"

enum status slat_map_huge(struct slat *slat, gpa_t where, uint64_t leaf)
{
	uint64_t *entry, none = 0;

	TRY(slat_entry(slat, where, 2, &entry));
	return __atomic_compare_exchange_n(entry, &none, leaf, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED) ? OK
													  : CONFLICT;
}

enum status slat_split_huge(struct slat *slat, gpa_t where, struct gather *gather)
{
	const struct pt_format *f = slat->format;
	uint64_t *slot, *table, leaf;
	hpa_t frame;

	if (!slat_huge_leaf(slat, where, &slot, &leaf))
		return OK;
	TRY(table_alloc_raw(slat->account, &frame));
	table = direct_pointer(frame);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		table[i] = leaf + i * BLOCK_SIZE;
	/* Another block's owner may have been first: then there's no such leaf any more, which is as good. */
	if (!__atomic_compare_exchange_n(slot, &leaf, frame.v | f->table_bits, false, __ATOMIC_RELEASE,
					 __ATOMIC_RELAXED)) {
		slat_free_unused(slat, frame);
		return slat_split_huge(slat, where, gather);
	}
	__atomic_fetch_add(&slat->tables, 1, __ATOMIC_RELAXED);
	gather_flush(gather);
	return OK;
}

enum status slat_split_prepare(struct slat *slat, gpa_t where, struct gather *gather, hpa_t *table)
{
	uint64_t *entry;
	enum status status = slat_split_huge(slat, where, gather);

	*table = HPA_NONE;
	if (status != OK)
		return status;
	entry = slat_block_entry(slat, where);
	if (!entry || !slat_present(slat, *entry) || !pt_is_leaf(slat->format, 1, *entry))
		return OK;
	return table_alloc_raw(slat->account, table);
}

void slat_split_commit(struct slat *slat, gpa_t where, hpa_t frame, uint64_t extra, struct gather *gather)
{
	const struct pt_format *f = slat->format;
	uint64_t *entry, *table, old, leaf;

	if (hpa_is_none(frame))
		return;
	/* The block is locked since prepare saw its leaf: nobody else can have taken that away. */
	entry = slat_block_entry(slat, where);
	panic_unless(entry != NULL);
	old = *entry;
	panic_unless(slat_present(slat, old) && pt_is_leaf(f, 1, old));
	table = direct_pointer(frame);
	leaf = (old & ~f->large) | extra;
#pragma GCC unroll 16 /* a guest's write waits for it */
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		table[i] = leaf + i * PAGE_SIZE;
	__atomic_store_n(entry, frame.v | f->table_bits, __ATOMIC_RELEASE);
	__atomic_fetch_add(&slat->tables, 1, __ATOMIC_RELAXED);
	gather_flush(gather);
}

enum status slat_split_block(struct slat *slat, gpa_t where, uint64_t extra, struct gather *gather)
{
	hpa_t table;
	enum status status = slat_split_prepare(slat, where, gather, &table);

	if (status == OK)
		slat_split_commit(slat, where, table, extra, gather);
	return status;
}
