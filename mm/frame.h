/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host frames: who has which. Allocation of single frames (4 KiB), blocks (2 MiB) and
 * huge blocks (1 GiB), always charged to an account first. There is no frame_free here:
 * what was mapped goes through mm/gather.h, which frees after the flush.
 *
 * No function here needs a lock held by the caller; none may be called with a lock of
 * RANK_ACCOUNT or deeper held.
 */
#pragma once

#include "mm/account.h"

/*
 * One zeroed frame for `page` of the account's machine (the page number is remembered in the frame record,
 * so that a moved or shared frame finds its page). kind BASE or FIXED: guest frames, reached by frame_map().
 * OVER_QUOTA, NO_MEMORY.
 */
enum status frame_alloc(struct account *account, enum account_kind kind, gpa_t page, hpa_t *frame) must_check;

/*
 * Up to count zeroed frames of kind BASE or FIXED not yet given to a page; *got tells how many came.
 * OK when at least one came.
 */
enum status frame_alloc_many(struct account *account, enum account_kind kind, unsigned count, hpa_t *frames,
			     unsigned *got) must_check;
/* A frame out of frame_alloc_many is now behind this page. */
void frame_assign(hpa_t frame, gpa_t page);

/*
 * share.c: a frame to be shared by machines of one group (1..65535), with the first reference, and with anything in it: the caller writes all of it
 * before anybody sees it. NO_MEMORY, OVER_QUOTA.
 */
enum status frame_share_new(struct account *account, unsigned group, hpa_t *frame) must_check;
/*
 * A reference more, to whatever may be there by now: NOT_FOUND: no shared frame of this group. LIMIT: it has as many as there may be;
 * OVER_QUOTA. A reference goes by gather_frame(), as ACCOUNT_BASE.
 */
enum status frame_share_more(struct account *account, unsigned group, hpa_t frame) must_check;

/*
 * Is `other`, a frame of the same content, in a fuller chunk than this shared one; or for HPA_NONE: is this one's chunk nearly empty, and
 * will the next new one lie in a fuller chunk? A hint, and of any frames whatever.
 */
bool frame_share_worse(hpa_t frame, hpa_t other) must_check;

/* One zeroed frame for a table or for records, always in the direct map (direct_pointer). Charged to ACCOUNT_TABLE. */
enum status table_alloc(struct account *account, hpa_t *frame) must_check;
/* The same, with anything in it: for who writes all of it before anybody sees it. */
enum status table_alloc_raw(struct account *account, hpa_t *frame) must_check;

/*
 * One whole chunk (512 BASE pages) behind the 2 MiB block at `block`. *zero tells whether it is known to be
 * zero; if not the caller clears it with block_zero() before anyone else can see it.
 * NO_MEMORY when no whole chunk is free, OVER_QUOTA.
 */
enum status block_alloc(struct account *account, gpa_t block, hpa_t *frame, bool *zero) must_check;
void block_zero(hpa_t block);
/*
 * Is a cleared chunk there for block_alloc? If not, clears BLOCK_SLICE frames of a free one and says no: who can come again,
 * as a guest's fault does, asks first and is spared the clearing of 2 MiB in one stretch. True, too, when nothing is left to clear.
 */
#define BLOCK_SLICE 128u
bool block_ready(void);
/* 512 adjacent chunks, not cleared: the caller calls block_clear_dirty() for each of the 512 before anyone else can see it. */
enum status huge_take(struct account *account, gpa_t where, hpa_t *frame) must_check;
/* block_zero() for a chunk just taken, unless it is known to be zero. */
void block_clear_dirty(hpa_t block);

/* A large block's chunk becomes 512 single private frames of the same owner, page by page; no memory moves. NO_MEMORY. */
enum status block_split(struct account *account, hpa_t block) must_check;

/*
 * Back from 512 single frames to a whole chunk: `frame` starts a chunk all of whose frames are this account's, behind
 * the pages of `block` in order. CONFLICT: they aren't; nothing has changed.
 */
enum status block_join(struct account *account, hpa_t frame, gpa_t block) must_check;

/*
 * retire.c: this frame's memory is broken: once it is free, which may be now, nobody gets it any more; nor its chunk, if that is whole then.
 * LIMIT: too many are known. BAD_ADDRESS: not one of mm's. Any CPU.
 */
enum status frame_retire(hpa_t frame) must_check;

/* Work for an idle CPU: clears one free frame or part of a free chunk; false when nothing is left to clear. */
bool frame_prezero_step(void);

/* What is behind a frame, for `check`, `page` and the statistics. */
enum frame_state {
	FRAME_FREE,
	FRAME_PRIVATE,
	FRAME_SHARED,
	FRAME_TABLE,
	FRAME_KERNEL,
	FRAME_ABSENT,
	FRAME_RETIRED = 7
};
struct frame_info {
	enum frame_state state;
	owner_t owner;
	gpa_t page;
	uint32_t references;
	bool large; /* part of a whole chunk given out by block_alloc */
	bool zero;
};
void frame_describe(hpa_t frame, struct frame_info *info);

struct frame_totals {
	uint64_t pages;      /* all that mm owns */
	uint64_t free_pages; /* in free chunks and split chunks */
	uint64_t private_pages, shared_pages, table_pages, kernel_pages, retired_pages;
	uint64_t chunks, free_chunks, large_chunks, split_chunks, kernel_chunks, partial_chunks;
	uint64_t zero_chunks;     /* of the free ones, known to be zero */
	uint64_t reserved_pages;  /* promised to machines */
	uint64_t promise_percent; /* so much of what there is may be promised */
	uint64_t guest_pages;     /* of the free ones, those not promised for tables: what high priority can get */
	uint64_t ballooned_pages; /* that machines have given back */
	uint64_t duplicate_pages; /* of machines' pages that share a frame, those that would need another */
	uint64_t record_bytes;    /* chunk records and frame records */
};
void frame_totals(struct frame_totals *totals);

/*
 * Integrity of chunk lists, frame records and accounts. Calls report for each finding (a finished line);
 * returns how many there were. Stops no one: takes the chunk lock piecewise.
 */
unsigned frame_check(void (*report)(void *context, const char *line), void *context);
