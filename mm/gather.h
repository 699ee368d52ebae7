/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Free after flush. Whoever takes a table page or a frame out of a mapping puts it into a
 * gather; gather_finish() flushes every CPU that could still use the old translation, and
 * only then gives the memory back. mm has no other way to free.
 *
 * A flush domain is one machine's second-level translations. generation counts flushes; a
 * vcpu that enters with an older generation flushes first. sync() must return only when no
 * CPU runs in this machine with a generation below the given one (it kicks them).
 */
#ifndef MM_GATHER_H
#define MM_GATHER_H

#include "mm/frame.h"

struct flush_domain {
	uint64_t generation; /* atomic */
	void (*sync)(struct flush_domain *domain, uint64_t generation);
	void *context;
};

#define GATHER_ITEMS 64u

struct gather {
	struct flush_domain *domain;
	struct account *account;
	bool flush; /* a translation was removed or narrowed */
	unsigned count;
	struct {
		hpa_t frame;
		uint8_t what; /* mm's own */
	} items[GATHER_ITEMS];
};

/* domain may be NULL for memory that was never mapped anywhere (a destroyed machine, a reserve that wasn't used). */
void gather_begin(struct gather *gather, struct flush_domain *domain, struct account *account);
/*
 * A translation was removed or narrowed, with or without memory to free; or is relied on to be gone: that no entry was
 * found doesn't say it, for another CPU may have taken the entry away and not flushed yet.
 */
static inline void gather_flush(struct gather *gather)
{
	gather->flush = true;
}
/* Takes over one frame (BASE, FIXED or TABLE: the frame record knows), or one reference of a shared frame. */
void gather_frame(struct gather *gather, hpa_t frame, enum account_kind kind);
/* Takes over a whole chunk out of block_alloc. */
void gather_block(struct gather *gather, hpa_t block);
/* Flushes if needed, then frees all. The gather is empty afterwards and may be used again. A full gather does this by itself. */
void gather_finish(struct gather *gather);

#endif
