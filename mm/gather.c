/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flush, then free: the order is in gather_finish() and nowhere else. What is in a gather still
 * belongs to the machine and stays charged to it until it is freed.
 */
#include "mm/gather.h"
#include "mm/chunk.h"
#include "mm/counters.h"
#include "mm/inject.h"

/* What an item is: a kind of account for one frame, or a whole chunk. */
#define WHAT_BLOCK ACCOUNT_KINDS

/* Memory that comes with a domain may still be in some CPU's translations: it always waits for a flush. */
static void add(struct gather *gather, hpa_t frame, unsigned what)
{
	if (gather->count == GATHER_ITEMS)
		gather_finish(gather);
	gather->items[gather->count].frame = frame;
	gather->items[gather->count].what = (uint8_t)what;
	gather->count++;
	gather_flush(gather);
}

void gather_frame(struct gather *gather, hpa_t frame, enum account_kind kind)
{
	add(gather, frame, kind);
}

void gather_block(struct gather *gather, hpa_t block)
{
	add(gather, block, WHAT_BLOCK);
}

/* The flush under which the translations are gone from every CPU: the last one, if some before it came too late. */
static void flush(struct gather *gather)
{
	struct flush_domain *domain = gather->domain;
	unsigned late = 0;

	while (gather->flush && domain) {
		uint64_t generation = __atomic_add_fetch(&domain->generation, 1, __ATOMIC_SEQ_CST);

		if (late < INJECT_FLUSH_ATTEMPTS && mm_fault_injected(MM_SITE_FLUSH, gather->account->owner)) {
			late++;
			mm_count(&mm_counters.gather_late, 1);
			continue;
		}
		domain->sync(domain, generation);
		mm_count(&mm_counters.gather_flushes, 1);
		break;
	}
	if (gather->flush && domain)
		__atomic_fetch_sub(&domain->pending, 1, __ATOMIC_SEQ_CST);
	gather->flush = false;
}

void gather_flush_now(struct gather *gather)
{
	gather_flush(gather);
	flush(gather);
}

/* Who put in what isn't a table of this account has broken the records already. */
static void free_tables(struct gather *gather)
{
	for (unsigned i = 0; i < gather->count; i++) {
		hpa_t frame = gather->items[i].frame;
		frame_record record;

		if (gather->items[i].what != ACCOUNT_TABLE)
			continue;
		record = record_load(frame_slot(frame));
		panic_unless(record_state(record) == FRAME_TABLE && record_owner(record) == gather->account->owner);
		kernel_frame_put(frame);
	}
}

/* At most GATHER_ITEMS small steps under the chunk lock. */
static void free_guest(struct gather *gather)
{
	HOLD(&chunk_lock);
	for (unsigned i = 0; i < gather->count; i++) {
		unsigned what = gather->items[i].what;

		if (what == WHAT_BLOCK)
			block_free(gather->account, gather->items[i].frame);
		else if (what != ACCOUNT_TABLE)
			guest_frame_free(gather->account, gather->items[i].frame, (enum account_kind)what);
	}
}

void gather_finish(struct gather *gather)
{
	uint64_t pages[ACCOUNT_KINDS] = { 0 };

	flush(gather);
	if (!gather->count)
		return;
	for (unsigned i = 0; i < gather->count; i++) {
		unsigned what = gather->items[i].what;

		pages[what == WHAT_BLOCK ? ACCOUNT_BASE : what] += what == WHAT_BLOCK ? PAGES_PER_BLOCK : 1;
	}
	if (pages[ACCOUNT_TABLE])
		free_tables(gather);
	if (pages[ACCOUNT_BASE] + pages[ACCOUNT_FIXED])
		free_guest(gather);
	for (unsigned kind = 0; kind < ACCOUNT_KINDS; kind++) {
		if (pages[kind])
			account_uncharge_locked(gather->account, (enum account_kind)kind, pages[kind]);
	}
	mm_count(&mm_counters.gather_frees, gather->count);
	gather->count = 0;
}
