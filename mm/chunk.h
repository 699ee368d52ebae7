/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunks: the 2 MiB pieces that host memory is cut in, one record each. Private to mm.
 *
 * The table has one record for each chunk below the top of memory, found by hpa >> 21. A chunk is
 *   absent   no usable frame in it
 *   free     whole and unused; `cleared` frames at its start are known to be zero
 *   large    given out whole, to one owner, behind one guest block
 *   split    cut into frames for guests; has frame records, in a frame of a kernel chunk
 *   kernel   cut into frames for the kernel and for tables, always in the direct map; its frame
 *            records lie in its own first present frame. Ragged chunks (frames missing) are this kind for ever.
 *   retired  whole, with broken memory in it: for nobody any more
 *
 * Every chunk that has something to give stands in one set, in the bucket of its fullness; a split
 * chunk with an owner stands on that account's list instead. All of it under chunk_lock, except
 * that who holds a frame may reach and write that frame's record without it: the chunk can't go away.
 */
#pragma once

#include "mm/record.h"

enum chunk_kind { CHUNK_ABSENT, CHUNK_FREE, CHUNK_LARGE, CHUNK_SPLIT, CHUNK_KERNEL, CHUNK_RETIRED, CHUNK_KINDS };

enum chunk_set {
	SET_NONE,
	SET_ZERO,   /* free, known to be zero */
	SET_DIRTY,  /* free, not (wholly) cleared */
	SET_OWNED,  /* split, with an affinity to a machine */
	SET_ORPHAN, /* split, whose machine is gone, or the spare */
	SET_KERNEL,
	CHUNK_SETS
};

#define BUCKET_SHIFT 4
#define BUCKETS (PAGES_PER_BLOCK / (1u << BUCKET_SHIFT) + 1)

struct chunk {
	struct chunk *next, *previous; /* in the bucket; SET_OWNED: on the account's list */
	union {
		frame_record *records; /* split, kernel */
		uint64_t block;        /* large: guest page number of the first page */
	};
	owner_t owner;    /* large: whose; split: affinity, 0 none */
	uint16_t free;    /* frames in the ring below; free chunks: 512 */
	uint16_t present; /* frames that exist */
	uint16_t cleared; /* free chunks */
	uint16_t head;    /* of the ring of free frames, those known to be zero first; NO_FRAME: none */
	uint16_t dirty;   /* how many of them aren't known to be zero; split, kernel */
	uint8_t kind, set, bucket;
	uint8_t node;     /* NUMA node; 0 until SRAT is read */
	uint16_t windows; /* atomic: CPUs whose window has it (chunk_map.c) */
	bool busy;        /* being set up or cleared by one CPU: stands in no set */
	bool closed;      /* being emptied (compact.c): so, too */
	bool broken;      /* has frames that are to be retired (retire.c), or are */
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct chunk) <= 64, "a chunk record is one cache line");
_Static_assert(BUCKETS == 33, "free counts 0..512 have a bucket");

/* The size of all records together is the only cost of memory that isn't split. */
_Static_assert(sizeof(struct chunk) * 10000 <= BLOCK_SIZE, "large and free memory costs at most 0.01 %");
_Static_assert((sizeof(struct chunk) + PAGE_SIZE) * 1000 <= BLOCK_SIZE * 2, "split memory costs at most 0.2 %");

struct chunk_state {
	struct chunk *table;
	uint64_t count;        /* records in the table */
	uint64_t pages;        /* present frames of all chunks */
	uint64_t ragged_pages; /* of these, in chunks that aren't whole */
	/* Here begins what changes: not in the line that each lookup reads. */
	uint64_t kinds[CHUNK_KINDS] __attribute__((aligned(64))); /* chunks of each kind; absent ones aren't counted */
	uint64_t ragged;                                          /* chunks with frames missing */
	uint64_t sets[CHUNK_SETS];                                /* chunks in each set */
	uint64_t clearing; /* atomic: free chunks that are off their set to be cleared */
	uint64_t held; /* who has seen one of these and waits for its return; none is taken to be cleared meanwhile */
	uint64_t dirty_frames;    /* free frames of split and kernel chunks that aren't known to be zero */
	uint64_t kernel_free;     /* free frames of kernel chunks */
	uint64_t kernel_present;  /* present frames of kernel chunks */
	uint64_t kernel_promised; /* table and record frames that admission promised to machines */
	uint64_t kernel_base;     /* kernel frames in use before the first machine was admitted */
	uint64_t kept; /* chunks that priority low leaves to others, and normal half of them; 0 without overcommit */
	uint64_t shared_frames, retired_frames;
	struct chunk *kernel_spare, *guest_spare; /* the one empty chunk kept of each kind, or NULL */
	struct chunk *bucket[CHUNK_SETS][BUCKETS];
	uint64_t filled[CHUNK_SETS]; /* bit n: bucket n has a chunk */
};

extern struct chunk_state chunks;
extern struct spinlock chunk_lock;
/* Who has which owner number; written under chunk_lock. */
extern struct account *accounts[MAX_OWNERS];

static inline struct chunk *chunk_of(hpa_t frame)
{
	return &chunks.table[frame.v >> BLOCK_SHIFT];
}

static inline unsigned frame_index(hpa_t frame)
{
	return (unsigned)(frame.v >> PAGE_SHIFT) % PAGES_PER_BLOCK;
}

static inline hpa_t chunk_frame(const struct chunk *chunk, unsigned index)
{
	return hpa((uint64_t)(chunk - chunks.table) << BLOCK_SHIFT | (uint64_t)index << PAGE_SHIFT);
}

/* The record of a frame that the caller holds. Two loads. */
static inline frame_record *frame_slot(hpa_t frame)
{
	return &chunk_of(frame)->records[frame_index(frame)];
}

/* ---- chunk.c: sets, kinds, fresh chunks. All under chunk_lock. ---- */

/* Where the list begins that a chunk of this set and bucket stands on: its account's, or the bucket. */
struct chunk **chunk_list(const struct chunk *chunk, enum chunk_set set, unsigned bucket);
/* Puts the chunk where its kind, fullness and owner say. Call after each change of `free`. */
void chunk_relist(struct chunk *chunk);
/* Takes it off its set; call before kind, owner or busy change, then chunk_relist(). */
void chunk_unlist(struct chunk *chunk);
/* The direct map follows in mode secret-free; `owner` must be the new one already when it becomes large. */
void chunk_set_kind(struct chunk *chunk, enum chunk_kind kind);
/* secret_free.c: may it stand in the direct map in mode secret-free? */
bool chunk_in_direct(const struct chunk *chunk);
/*
 * It gets another owner and nobody uses any of it: no CPU's window has it on return. Where someone cleared it, a CPU that serves
 * another machine may have had it.
 */
static inline void chunk_leave_windows(const struct chunk *chunk)
{
	if (unlikely(secret_free))
		chunk_map_drop(chunk_frame(chunk, 0));
}
/* Fullest chunk of a set, or NULL. */
struct chunk *chunk_fullest(enum chunk_set set);
/*
 * Any one free chunk for this owner (OWNER_HOST, or a machine that policy lets have it: see chunk_guest_may_take), of its new kind; split and
 * kernel ones busy until the caller has written their records; `block` for large ones. NULL: none may be had. No lock may be held.
 */
struct chunk *chunk_claim(owner_t owner, enum chunk_kind kind, gpa_t block);
/*
 * May this machine take so many free chunks (those being cleared among them), with what the kernel was promised for tables and
 * records left, and what is kept for machines of higher priority?
 */
bool chunk_guest_may_take(owner_t owner, uint64_t count);
/* Chunks that stay free for what the kernel was promised. */
uint64_t chunk_kernel_headroom(void);
/* Of a free chunk that stands in no set: see chunk_claim. */
void chunk_become(struct chunk *chunk, owner_t owner, enum chunk_kind kind, gpa_t block);
/* A chunk whose kind was changed by the caller to free: joins the free set. */
void chunk_give_back(struct chunk *chunk, unsigned cleared);
void chunk_drop_spares(void);
/* ---- free_list.c: frames within a chunk. Under chunk_lock unless said otherwise. ---- */

/* Fills the records of a chunk that only the caller knows (busy): no lock. The first `cleared` are known to be zero. */
void chunk_fill_records(struct chunk *chunk, frame_record *records, unsigned cleared);
/* A free frame that isn't known to be zero, of which the chunk must have one; its record becomes HELD. Caller relists. */
unsigned chunk_pop_dirty(struct chunk *chunk);
/* This very frame, which must be free. */
void chunk_take_frame(struct chunk *chunk, unsigned index);
/* Back onto the free list. Caller relists. */
void chunk_push(struct chunk *chunk, unsigned index, bool zero);
/*
 * Up to count frames of this chunk, whose records become `record`, with RECORD_ZERO where they are known to be zero; relists it.
 * Adds to *dirty how many aren't. Takes them in one go: for batches.
 */
unsigned chunk_pop_many(struct chunk *chunk, frame_record record, unsigned count, hpa_t *frames, unsigned *dirty);
/* Pushes one frame, relists, and lets the chunk go when it came empty. */
void chunk_return_frame(hpa_t frame, bool zero);

/* ---- kernel.c: frames of kernel chunks. No lock may be held. ---- */

/* One zeroed frame, with this record. False: none left. */
bool kernel_frame_take(frame_record record, hpa_t *frame);
void kernel_frame_put(hpa_t frame);
/* count adjacent zeroed frames within one chunk, count <= 511. */
bool kernel_run_take(unsigned count, hpa_t *frame);
void kernel_run_put(hpa_t frame, unsigned count);
/* ---- guest.c ---- */

/*
 * Up to count frames of chunks that are, or become, this account's: recorded, neither charged nor cleared; adds to *dirty how many aren't
 * known to be zero. No lock may be held.
 */
unsigned guest_take_own(struct account *account, frame_record record, unsigned count, hpa_t *frames, unsigned *dirty);
/* Under chunk_lock: this frame or this reference of the account's machine goes. */
void guest_frame_free(struct account *account, hpa_t frame, enum account_kind kind);
/* Under chunk_lock: a chunk out of block_alloc comes back. */
void block_free(struct account *account, hpa_t block);

/* ---- share.c ---- */
void share_start(void);

/* retire.c: is it to be retired? Then it is now. Under chunk_lock; the frame is in no free list, its chunk `broken`. */
bool frame_retires(hpa_t frame);

/* ---- account.c ---- */

/* Under the account's lock. charge: false when there is no room for n more. */
bool account_charge(struct account *account, enum account_kind kind, uint64_t pages);
void account_uncharge(struct account *account, enum account_kind kind, uint64_t pages);
/* Takes the lock itself. */
enum status account_charge_locked(struct account *account, enum account_kind kind, uint64_t pages) must_check;
void account_uncharge_locked(struct account *account, enum account_kind kind, uint64_t pages);
/*
 * Calls visit for each machine's account. An account stays while it is visited; no lock is held at that time,
 * and none may be held by the caller.
 */
void account_each(void (*visit)(struct account *account, void *context), void *context);

/* ---- admission.c. Take locks of RANK_ACCOUNT and deeper themselves. ---- */

/* No machine asks for more pages of one kind: keeps sums of promises far from overflow. */
#define REQUEST_MAX BIT(40)

/* Raises what is promised if it fits; else NO_MEMORY, and `why` tells what was short. guest: base and fixed pages. */
enum status admission_raise(uint64_t guest, uint64_t table, char *why, size_t size) must_check;
void admission_lower(uint64_t guest, uint64_t table);
uint64_t admission_promised(void);
/* How much of what there is may be. */
unsigned admission_percent(void);

/* ---- prezero.c. No lock of RANK_CHUNK or deeper may be held. ---- */

/* Waits until no free chunk is being cleared, and keeps it so up to chunk_clearing_resume(). Bounded by one slice of clearing. */
void chunk_clearing_hold(void);
void chunk_clearing_resume(void);

/* ---- zero ---- */

/* A constant size: the kernel's compiler makes one rep stosq of it. */
static inline void clear_page(void *page)
{
	__builtin_memset(page, 0, PAGE_SIZE);
}

/* Clears a frame that the caller holds. No lock may be held. */
void frame_clear(hpa_t frame);
