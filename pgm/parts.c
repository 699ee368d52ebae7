/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of one page of plain memory, copied under one lock of its block: what a guest hypervisor's processor reads and writes of its
 * structures at each entry and exit. All else goes by the ordinary way, part by part (phys.c).
 */
#include <string.h>

#include "pgm/internal.h"
#include "pgm/walk.h"

/* False: it isn't that plain, and nothing was done. */
static bool at_once(struct pgm *pgm, gpa_t page, uint8_t *copy, const struct hv_nested_part *parts, unsigned count,
		    bool write)
{
	struct block *b = block_find(pgm, page);
	struct pgm_local *local = local_of(pgm);
	uint64_t bytes = 0;

	if (!b)
		return false;
	HOLD_BLOCK(b);
	page_record r = block_record(b, page);
	/* One without a frame reads as zeros. A write calls a collapse off, which may begin at any time but now (phys.c). */
	if ((b->flags & BLOCK_COLLAPSING) || !page_is_plain(r) || block_kind(b) < BLOCK_LARGE ||
	    (write && page_get_state(r) != PAGE_ALLOCATED))
		return false;
	uint8_t *guest = frame_map(page_has_frame(r) ? page_frame(r) : pgm_zero_block);
	for (const struct hv_nested_part *p = parts; p < parts + count; p++) {
		memcpy((write ? guest : copy) + p->at, (write ? copy : guest) + p->at, p->size);
		bytes += p->size;
	}
	frame_unmap(guest);
	if (write)
		dirty_written(pgm, page);
	LOCAL_COUNT(local, simple_reads, write ? 0 : count);
	LOCAL_COUNT(local, simple_read_bytes, write ? 0 : bytes);
	LOCAL_COUNT(local, simple_writes, write ? count : 0);
	LOCAL_COUNT(local, simple_write_bytes, write ? bytes : 0);
	return true;
}

enum status pgm_parts(struct pgm *pgm, gpa_t page, void *copy, const struct hv_nested_part *parts, unsigned count,
		      bool write)
{
	if (likely(at_once(pgm, page, copy, parts, count, write)))
		return OK;
	for (const struct hv_nested_part *p = parts; p < parts + count; p++) {
		uint8_t *at = (uint8_t *)copy + p->at;
		gpa_t where = gpa(page.v + p->at);

		TRY(write ? pgm_write_simple(pgm, where, at, p->size) : pgm_read_simple(pgm, where, at, p->size));
	}
	return OK;
}
