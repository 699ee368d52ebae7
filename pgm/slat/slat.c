/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Second-level tables, written from format data. Each store is one aligned 64-bit write
 * and each state between two stores translates to the old or to the new mapping: a table is
 * filled before it is linked.
 */
#include "pgm/slat/slat.h"

#include "arch/x86_64/log.h"

#include "arch/x86_64/hv.h"

#define ENTRIES 512u
#define INDEX_BITS 9u
_Static_assert(ENTRIES * sizeof(uint64_t) == PAGE_SIZE, "a table is one frame");

_Static_assert(ENTRIES == 1u << INDEX_BITS, "an index chooses one of a table's entries");

/* Second-level formats have one geometry (slat_create looks), and this is on the way of each fault. */
static inline unsigned index_of(unsigned level, gpa_t where)
{
	return (unsigned)(where.v >> (PAGE_SHIFT + INDEX_BITS * level)) & (ENTRIES - 1);
}

static inline uint64_t *table_of(uint64_t entry, const struct pt_format *format)
{
	return direct_pointer(hpa(entry & format->address));
}

enum status slat_create(struct slat *slat, const struct pt_format *format, struct account *account)
{
	enum status status;

	panic_unless(format->index_bits == INDEX_BITS && format->top_index_bits == INDEX_BITS);
	*slat = (struct slat){ .format = format,
			       .account = account,
			       .leaf_extra = format->accessed | format->dirty,
			       .large_access = ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE };
	status = table_alloc(account, &slat->root);
	if (status == OK)
		slat->tables = 1;
	return status;
}

/* No translation ever led to this table: it needs no flush. */
void slat_free_unused(struct slat *slat, hpa_t table)
{
	GATHER(unused, NULL, slat->account);
	gather_frame(&unused, table, ACCOUNT_TABLE);
}

/* Links a fresh table at *slot, or finds that another CPU was first: its table is the one then. */
enum status slat_make_table(struct slat *slat, uint64_t *slot, uint64_t *entry)
{
	hpa_t table;
	uint64_t none = 0;

	TRY(table_alloc(slat->account, &table));
	if (__atomic_compare_exchange_n(slot, &none, table.v | slat->format->table_bits, false, __ATOMIC_RELEASE,
					__ATOMIC_ACQUIRE)) {
		__atomic_fetch_add(&slat->tables, 1, __ATOMIC_RELAXED);
		*entry = table.v | slat->format->table_bits;
		return OK;
	}
	slat_free_unused(slat, table);
	*entry = none;
	return OK;
}

enum status slat_entry(struct slat *slat, gpa_t where, unsigned level, uint64_t **entry)
{
	/* Loads of entries are acquires, over which the compiler carries nothing but locals. */
	const uint64_t present = slat->format->present, large = slat->format->large, address = slat->format->address;
	uint64_t *table = direct_pointer(slat->root);

	for (unsigned l = slat->format->levels - 1; l > level; l--) {
		uint64_t *slot = &table[index_of(l, where)];
		uint64_t value = __atomic_load_n(slot, __ATOMIC_ACQUIRE);

		if (unlikely(!(value & present)))
			TRY(slat_make_table(slat, slot, &value));
		if (unlikely(value & large))
			return CONFLICT;
		table = direct_pointer(hpa(value & address));
	}
	*entry = &table[index_of(level, where)];
	return OK;
}

/* The lowest entry for `where` that there is, but none below `stop`. */
static inline uint64_t *find(const struct slat *slat, gpa_t where, unsigned stop, unsigned *level)
{
	const struct pt_format *f = slat->format;
	const uint64_t present = f->present, large = f->large, address = f->address;
	uint64_t *table = direct_pointer(slat->root);

	for (unsigned l = f->levels - 1;; l--) {
		uint64_t *slot = &table[index_of(l, where)];
		uint64_t value = __atomic_load_n(slot, __ATOMIC_ACQUIRE);

		if (l == stop || !(value & present) || (unlikely(value & large) && pt_is_leaf(f, l, value))) {
			*level = l;
			return slot;
		}
		table = direct_pointer(hpa(value & address));
	}
}

uint64_t *slat_find(const struct slat *slat, gpa_t where, unsigned *level)
{
	return find(slat, where, 0, level);
}

/* The entry of this level if its table is there. */
static uint64_t *entry_at(const struct slat *slat, gpa_t where, unsigned level)
{
	unsigned reached;
	uint64_t *entry = find(slat, where, level, &reached);

	return reached == level ? entry : NULL;
}

uint64_t *slat_block_entry(const struct slat *slat, gpa_t where)
{
	return entry_at(slat, where, 1);
}

unsigned slat_entry_rights(const struct pt_format *f, uint64_t entry)
{
	unsigned rights = 0;

	if (!(entry & f->present))
		return 0;
	if (!f->read || (entry & f->read))
		rights |= ACCESS_READ;
	if (entry & f->write)
		rights |= ACCESS_WRITE;
	if (f->execute ? (entry & f->execute) != 0 : !(entry & f->no_execute))
		rights |= ACCESS_EXECUTE;
	return rights;
}

hpa_t slat_frame(const struct slat *slat, unsigned level, uint64_t entry)
{
	return hpa(entry & slat->format->address & ~(BIT(pt_shift(slat->format, level)) - 1));
}

/* A leaf has gone out of use, with one of the wanted bits: is that of interest? */
static void leaf_leaves(const struct slat *slat, uint64_t old, uint64_t wanted)
{
	void (*leaving)(void *, hpa_t) = __atomic_load_n(&slat->leaving, __ATOMIC_RELAXED);

	if (unlikely(leaving != NULL) && slat_present(slat, old) && (old & wanted))
		leaving(slat->leaving_context, slat_frame(slat, 0, old));
}

void slat_set(const struct slat *slat, uint64_t *entry, uint64_t value, struct gather *gather)
{
	const struct pt_format *f = slat->format;
	uint64_t old = __atomic_exchange_n(entry, value, __ATOMIC_ACQ_REL), lost;

	if (!(old & f->present))
		return;
	leaf_leaves(slat, old, f->dirty);
	lost = (old & ~value & (f->present | f->read | f->write | f->execute)) | (value & ~old & f->no_execute);
	if (lost)
		gather_flush(gather);
	/* Break before make (gather.h). A mark of MMIO translates nothing. */
	panic_unless(!((old ^ value) & f->address) || !(value & f->present) || old == f->misconfigured);
}

/* A 1 GiB leaf goes whole, unless another block's owner has split it meanwhile: the other blocks come back from faults. */
static void huge_drop(uint64_t *slot, uint64_t leaf, struct gather *gather)
{
	gather_flush(gather); /* first: the other blocks' owners don't wait for our lock */
	(void)__atomic_compare_exchange_n(slot, &leaf, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

void slat_drop_page(struct slat *slat, uint64_t *slot, gpa_t where, struct gather *gather)
{
	unsigned level;
	uint64_t *entry = slat_find_in(slat, slot, where, &level), value = __atomic_load_n(entry, __ATOMIC_ACQUIRE);

	/* Above level 1 another block's owner may just link a table here, or split a 1 GiB leaf: that isn't ours to drop. */
	if (!slat_present(slat, value) || !pt_is_leaf(slat->format, level, value))
		return;
	if (level < 2)
		slat_set(slat, entry, 0, gather);
	else
		huge_drop(entry, value, gather);
}

bool slat_huge_leaf(const struct slat *slat, gpa_t where, uint64_t **slot, uint64_t *leaf)
{
	*slot = entry_at(slat, where, 2);
	*leaf = *slot ? __atomic_load_n(*slot, __ATOMIC_ACQUIRE) : 0;
	return slat_present(slat, *leaf) && pt_is_leaf(slat->format, 2, *leaf);
}

uint64_t *slat_table(const struct slat *slat, uint64_t *slot, gpa_t where)
{
	uint64_t *entry = slot ? slot : slat_block_entry(slat, where);

	if (!entry || !slat_present(slat, *entry) || pt_is_leaf(slat->format, 1, *entry))
		return NULL;
	return table_of(*entry, slat->format);
}

static void table_unlink(struct slat *slat, uint64_t entry, struct gather *gather)
{
	const uint64_t *table = table_of(entry, slat->format);

	/* Until the flush a processor may still find the table, and set dirty bits in it: all that it may write counts. */
	for (unsigned i = 0; __atomic_load_n(&slat->leaving, __ATOMIC_RELAXED) && i < ENTRIES; i++)
		leaf_leaves(slat, table[i], slat->format->write);
	gather_flush(gather);
	gather_frame(gather, hpa(entry & slat->format->address), ACCOUNT_TABLE);
	__atomic_fetch_sub(&slat->tables, 1, __ATOMIC_RELAXED);
}

void slat_drop_block(struct slat *slat, uint64_t *slot, gpa_t where, struct gather *gather)
{
	uint64_t *huge, old;

	if (unlikely(!slot)) {
		if (slat_huge_leaf(slat, where, &huge, &old))
			huge_drop(huge, old, gather);
		slot = slat_block_entry(slat, where);
	}
	if (!slot || !__atomic_load_n(slot, __ATOMIC_RELAXED))
		return;
	old = __atomic_exchange_n(slot, 0, __ATOMIC_ACQ_REL);
	if (!slat_present(slat, old))
		return;
	if (pt_is_leaf(slat->format, 1, old))
		gather_flush(gather);
	else
		table_unlink(slat, old, gather);
}
