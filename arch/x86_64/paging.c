/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host mapper: map, unmap and protect over one walk that goes down to the entry of a
 * wanted level, makes missing tables and splits larger pages on the way. Intel SDM vol. 3 section 4.5.
 *
 * Table pages come from the caller's page source, which may take locks of its own: so a small
 * reserve is filled before the leaf lock is taken, and each step of a walk uses only that.
 * Tables are never freed: the host's mappings only grow, in bounded regions.
 */

#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/paging_entry.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/spinlock.h"

#define RESERVE_WANTED 3u                        /* tables that one step can need: PDPT, PD, PT */
#define RESERVE_ROOM (RESERVE_WANTED + MAX_CPUS) /* each CPU may be just fetching one, having seen too few */

static struct spinlock lock = SPINLOCK(RANK_LEAF, "host page tables");
static hpa_t reserve[RESERVE_ROOM];
static unsigned reserve_count;
static page_source source;
static void *source_context;

static hpa_t root = { ~UINT64_C(0) };
static uint64_t direct_base;

void paging_set_source(page_source new_source, void *context)
{
	source = new_source;
	source_context = context;
}

hpa_t paging_take_page(void)
{
	return source ? source(source_context) : HPA_NONE;
}

hpa_t paging_root(void)
{
	return root;
}

uint64_t paging_direct_base(void)
{
	return direct_base;
}

void paging_use(hpa_t new_root, uint64_t new_direct_base)
{
	root = new_root;
	direct_base = new_direct_base;
}

/*
 * Enters with the lock free, leaves with it held and at least RESERVE_WANTED pages in reserve; or NO_MEMORY, lock
 * free.
 */
static enum status lock_with_reserve(void)
{
	for (;;) {
		hpa_t page;

		lock_acquire(&lock);
		if (reserve_count >= RESERVE_WANTED)
			return OK;
		lock_release(&lock);
		page = paging_take_page();
		if (hpa_is_none(page))
			return NO_MEMORY;
		HOLD(&lock);
		panic_unless(reserve_count < RESERVE_ROOM);
		reserve[reserve_count++] = page;
	}
}

static uint64_t *table_at(uint64_t entry)
{
	return paging_pointer(hpa(entry & ENTRY_ADDRESS));
}

static unsigned index_at(uint64_t where, unsigned level)
{
	return where >> level_shift(level) & 511;
}

/* The PAT bit of a leaf is bit 7 in a 4 KiB entry, where larger ones have PS, and bit 12 in those. */
static uint64_t leaf_for_level(uint64_t small, unsigned level)
{
	if (level == LEVEL_4K)
		return small;
	return (small & ~ENTRY_PAT_4K) | ENTRY_LARGE | (small & ENTRY_PAT_4K ? ENTRY_PAT_LARGE : 0);
}

static uint64_t leaf_as_small(uint64_t entry, unsigned level)
{
	if (level == LEVEL_4K)
		return entry;
	return (entry & ~(ENTRY_LARGE | ENTRY_PAT_LARGE)) | (entry & ENTRY_PAT_LARGE ? ENTRY_PAT_4K : 0);
}

/* Replaces a large leaf by a table of 512 that say the same. The old entry may stay cached: both translate alike. */
static void split(uint64_t *entry, unsigned level)
{
	hpa_t page = reserve[--reserve_count];
	uint64_t small = leaf_as_small(*entry, level);
	uint64_t *table = paging_pointer(page);

	for (unsigned i = 0; i < 512; i++)
		table[i] = leaf_for_level(small, level - 1) + ((uint64_t)i << level_shift(level - 1));
	*entry = page.v | ENTRY_TABLE;
}

/* Entry of `level` for `where`, with tables made and leaves split on the way. Lock held, reserve filled. */
static uint64_t *entry_make(uint64_t where, unsigned level)
{
	uint64_t *table = paging_pointer(root);

	for (unsigned at = LEVEL_TOP;; at--) {
		uint64_t *entry = &table[index_at(where, at)];

		if (at == level)
			return entry;
		if (!(*entry & ENTRY_PRESENT))
			*entry = reserve[--reserve_count].v | ENTRY_TABLE;
		else if (*entry & ENTRY_LARGE)
			split(entry, at);
		table = table_at(*entry);
	}
}

/* The entry that ends the walk, leaf or absent, and its level. No lock needed: tables never go away. */
static uint64_t *entry_find(hpa_t from, uint64_t where, unsigned *level)
{
	uint64_t *table = paging_pointer(from);

	for (unsigned at = LEVEL_TOP;; at--) {
		uint64_t *entry = &table[index_at(where, at)];

		if (at == LEVEL_4K || !(*entry & ENTRY_PRESENT) || (at < LEVEL_TOP && *entry & ENTRY_LARGE)) {
			*level = at;
			return entry;
		}
		table = table_at(*entry);
	}
}

uint64_t *paging_find(uint64_t where, unsigned *level)
{
	return entry_find(root, where, level);
}

enum status paging_make_table(uint64_t where, unsigned level)
{
	TRY(lock_with_reserve());
	(void)entry_make(where, level);
	lock_release(&lock);
	return OK;
}

/* The largest page that starts at `where`, fits into size, and for which `also` is aligned too. */
static unsigned largest_level(uint64_t where, uint64_t also, uint64_t size)
{
	for (unsigned level = features.gigabyte_pages ? LEVEL_1G : LEVEL_2M; level > LEVEL_4K; level--)
		if (is_aligned(where | also, level_size(level)) && size >= level_size(level))
			return level;
	return LEVEL_4K;
}

static uint64_t leaf_bits(unsigned rights, unsigned type)
{
	uint64_t bits = ENTRY_PRESENT | ENTRY_ACCESSED | ENTRY_DIRTY | ENTRY_GLOBAL;

	bits |= rights & MAP_WRITE ? ENTRY_WRITE : 0;
	bits |= rights & MAP_EXECUTE ? 0 : ENTRY_NX;
	/* Entries 0, 3 and 5 of HOST_PAT. */
	if (type == MEMORY_TYPE_UC)
		bits |= ENTRY_PCD | ENTRY_PWT;
	if (type == MEMORY_TYPE_WC)
		bits |= ENTRY_PAT_4K | ENTRY_PWT;
	return bits;
}

enum status paging_map(uint64_t where, hpa_t to, uint64_t size, unsigned rights, unsigned type)
{
	uint64_t bits = leaf_bits(rights, type);

	if (!is_aligned(where | to.v | size, PAGE_SIZE))
		return BAD_VALUE;
	while (size) {
		unsigned level = largest_level(where, to.v, size), found;
		uint64_t *entry;

		TRY(lock_with_reserve());
		entry = entry_find(root, where, &found);
		if (*entry & ENTRY_PRESENT) {
			lock_release(&lock);
			return CONFLICT;
		}
		/* A table of smaller pages may stand there already, with room for the one. */
		level = found < level ? found : level;
		*entry_make(where, level) = to.v | leaf_for_level(bits, level);
		lock_release(&lock);
		where += level_size(level);
		to.v += level_size(level);
		size -= level_size(level);
	}
	return OK;
}

/* For each leaf in the range: entry = (entry & keep) | set, or nothing at all when keep is 0. */
static enum status change(uint64_t where, uint64_t size, uint64_t keep, uint64_t set)
{
	if (!is_aligned(where | size, PAGE_SIZE))
		return BAD_VALUE;
	while (size) {
		unsigned level;
		uint64_t *entry;

		TRY(lock_with_reserve());
		entry = entry_find(root, where, &level);
		if (!(*entry & ENTRY_PRESENT)) {
			lock_release(&lock);
			return NOT_FOUND;
		}
		if (!is_aligned(where, level_size(level)) || size < level_size(level)) {
			bool block = is_aligned(where, BLOCK_SIZE) && size >= BLOCK_SIZE;

			level = level == LEVEL_1G && block ? LEVEL_2M : LEVEL_4K;
			entry = entry_make(where, level);
		}
		*entry = (*entry & keep) | set;
		invlpg(where);
		lock_release(&lock);
		where += level_size(level);
		size -= level_size(level);
	}
	return OK;
}

enum status paging_unmap(uint64_t where, uint64_t size)
{
	return change(where, size, 0, 0);
}

enum status paging_protect(uint64_t where, uint64_t size, unsigned rights)
{
	const uint64_t permissions = ENTRY_WRITE | ENTRY_NX;

	return change(where, size, ~permissions, leaf_bits(rights, MEMORY_TYPE_WB) & permissions);
}

bool paging_translate(uint64_t where, hpa_t *to)
{
	unsigned level;
	uint64_t entry, mask;

	if (sign_extend(where, 48) != where || read_cr4() & CR4_LA57)
		return false;
	entry = *entry_find(hpa(read_cr3() & ENTRY_ADDRESS), where, &level);
	if (!(entry & ENTRY_PRESENT))
		return false;
	mask = level_size(level) - 1;
	if (to)
		*to = hpa((entry & ENTRY_ADDRESS & ~mask) | (where & mask));
	return true;
}

bool paging_is_mapped(uint64_t where)
{
	return paging_translate(where, NULL);
}
