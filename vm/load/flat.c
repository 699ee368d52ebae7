/* SPDX-License-Identifier: Apache-2.0 */
/* Flat binaries: bytes at an address, started there in real or in 64-bit mode. For tests. */
#include "vm/load/internal.h"

static bool overlaps(const struct loader *l, uint64_t from, uint64_t size)
{
	uint64_t at = l->config->load_address;

	return at < from ? from - at < l->kernel->size : at - from < size;
}

/* A 64-bit start gets a GDT and tables, which must not be laid over the image. */
static bool in_the_way(const struct loader *l)
{
	return l->config->flat_mode == FLAT_LONG &&
	       (overlaps(l, LOAD_GDT, PAGE_SIZE) || overlaps(l, LOAD_PAGE_TABLES, LOAD_PAGE_TABLES_SIZE));
}

enum status load_flat(struct loader *l)
{
	if (in_the_way(l))
		return loader_fail(l, BAD_ADDRESS,
				   "the flat image lies where a 64-bit start has its GDT (%#lx) or its page "
				   "tables (%#lx to %#lx)",
				   LOAD_GDT, LOAD_PAGE_TABLES, (LOAD_PAGE_TABLES + LOAD_PAGE_TABLES_SIZE - 1));
	TRY(loader_write(l, l->config->load_address, l->kernel->data, l->kernel->size, "flat image"));
	if (l->config->flat_mode == FLAT_LONG)
		return loader_long(l, l->config->entry);
	if (l->config->entry >= MIB)
		return loader_fail(l, BAD_VALUE, "entry %#lx is beyond the first MiB: flat_mode = long reaches it",
				   l->config->entry);
	loader_real(l, l->config->entry);
	return OK;
}
