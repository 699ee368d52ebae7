/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Free after flush. Whoever takes a table page or a frame out of a mapping puts it into a
 * gather; gather_finish() flushes every CPU that could still use the old translation, and
 * only then gives the memory back. mm has no other way to free.
 *
 * A flush domain is one machine's second-level translations. generation counts flushes; a
 * vcpu that enters with an older generation flushes first. sync() must return only when no
 * CPU runs in this machine with a generation below the given one (it kicks them).
 *
 * Break before make. Whoever gives a page another frame takes the old translation away, settles, and only then puts the new one
 * in. That no entry is there doesn't say that nobody uses it: another CPU's gather may have taken it away and not flushed yet.
 * So a domain counts the gathers that owe a flush, and settling flushes for them too.
 */
#pragma once

#include "mm/frame.h"

struct flush_domain {
	uint64_t generation; /* atomic */
	uint32_t
		pending; /* atomic: gathers that have taken translations away, or just will, and haven't flushed since */
	void (*sync)(struct flush_domain *domain, uint64_t generation);
	void *context;
};

#define GATHER_ITEMS 64u

struct gather {
	struct flush_domain *domain;
	struct account *account;
	bool flush; /* a translation was removed or narrowed: counted in domain->pending */
	unsigned count;
	struct {
		hpa_t frame;
		uint8_t what; /* mm's own */
	} items[GATHER_ITEMS];
};

/* domain may be NULL for memory that was never mapped anywhere (a destroyed machine, a reserve that wasn't used). */
static inline void gather_begin(struct gather *gather, struct flush_domain *domain, struct account *account)
{
	gather->domain = domain;
	gather->account = account;
	gather->flush = false;
	gather->count = 0;
}
/* A declaration: a gather that begins here and is finished at the end of the block of code; after a HOLD() that comes later is released. */
#define GATHER(name, domain, account)                                                                                  \
	struct gather name __attribute__((cleanup(gather_finish)));                                                    \
	gather_begin(&name, domain, account)

/*
 * A translation was removed or narrowed, with or without memory to free; or is relied on to be gone. Called before the
 * lock is released under which that was done: who looks for the translation afterwards finds the flush pending.
 */
static inline void gather_flush(struct gather *gather)
{
	if (!gather->flush && gather->domain)
		__atomic_fetch_add(&gather->domain->pending, 1, __ATOMIC_SEQ_CST);
	gather->flush = true;
}
/* The flush alone, now, and under the caller's locks (none of RANK_RESERVE or deeper). The gather goes on. */
void gather_flush_now(struct gather *gather);
/* On return nobody uses a translation that this gather, or any other one until now, has taken away. Frees nothing. */
static inline void gather_settle(struct gather *gather)
{
	if (gather->domain && (gather->flush || __atomic_load_n(&gather->domain->pending, __ATOMIC_SEQ_CST)))
		gather_flush_now(gather);
}
/* Takes over one frame (BASE, FIXED or TABLE: the frame record knows), or one reference of a shared frame. */
void gather_frame(struct gather *gather, hpa_t frame, enum account_kind kind);
/* Takes over a whole chunk out of block_alloc. */
void gather_block(struct gather *gather, hpa_t block);
/* Flushes if needed, then frees all. The gather is empty afterwards and may be used again. A full gather does this by itself. */
void gather_finish(struct gather *gather);
