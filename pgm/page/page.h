/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records: what PGM knows of a 2 MiB block and of each 4 KiB page in it.
 *
 * A block is `untouched` (all its RAM reads as zero, nothing is held), `ballooned` (the guest gave all of it back; nothing is held
 * either), `large` (one whole private chunk) or `detailed` (512 page records in one table frame). The descriptor is 32
 * bytes, a page record 8; a machine that touches nothing costs 32 bytes per 2 MiB, and even
 * those come only when the 256 MiB around are first touched.
 *
 * Invariant: the records are the truth. A second-level table entry never grants more than
 * the record of its page allows, and both are changed under the block's lock (bit LOCK of word).
 */
#pragma once

#include "arch/x86_64/address.h"
#include "arch/x86_64/spinlock.h"

enum page_state {
	PAGE_ZERO,      /* reads as zero, holds no frame */
	PAGE_ALLOCATED, /* a private frame */
	PAGE_MONITORED, /* of MMIO2: private, write-protected until the next write */
	PAGE_SHARED,    /* of RAM: a frame shared with other pages, copy on write */
	PAGE_BALLOONED, /* given back by the guest; reads as zero */
	PAGE_STATES
};

enum page_type {
	PAGE_INVALID, /* no range here: unassigned MMIO */
	PAGE_RAM,
	PAGE_MMIO2,
	PAGE_MMIO2_ALIAS_MMIO,
	PAGE_SPECIAL_ALIAS_MMIO,
	PAGE_ROM_SHADOW,
	PAGE_ROM,
	PAGE_MMIO,
	PAGE_TYPES
};

/* Of a page, in order of severity: the highest of all handlers on it. */
enum page_handler { HANDLER_NONE, HANDLER_DISABLED, HANDLER_WRITE, HANDLER_ALL };

/* 39:0 frame number, 42:40 state, 45:43 type, 47:46 handler, 48 written to, 49 pinned, 50 shadowed, 51 aliased, 60:52 of the content as fusion
 * saw it last, 62 read-only, 63 software only. */
typedef struct {
	uint64_t bits;
} page_record;

#define PAGE_FRAME_BITS 40
#define PAGE_STATE_SHIFT 40
#define PAGE_TYPE_SHIFT 43
#define PAGE_HANDLER_SHIFT 46
#define PAGE_WRITTEN BIT(48)
#define PAGE_PINNED BIT(49)
#define PAGE_SHADOWED BIT(50)
#define PAGE_ALIASED BIT(51) /* of MMIO2: its frame is shown elsewhere too, and written there (mmio2_access.c) */
#define PAGE_SEEN BITS(60, 52)
#define PAGE_READ_ONLY BIT(62)        /* a ROM's RAM copy, shown read-only */
#define PAGE_HANDLER_SOFTWARE BIT(63) /* the handler is for our own accesses; the guest's hardware passes it by */
#define PAGE_RECORD_BITS (BITS(51, 0) | PAGE_SEEN | PAGE_READ_ONLY | PAGE_HANDLER_SOFTWARE)

_Static_assert(PAGE_FRAME_BITS + PAGE_SHIFT == 52, "a frame number covers every host-physical address");
_Static_assert(PAGE_STATES <= 8 && PAGE_TYPES <= 8, "state and type fit in three bits");
_Static_assert(sizeof(page_record) == 8, "a page record is 8 bytes");
_Static_assert(sizeof(page_record) * PAGES_PER_BLOCK == PAGE_SIZE, "a block's records fill one frame");

/* RAM that no handler watches and that may be written: what nearly every page is. Says nothing of its state. */
#define PAGE_PLAIN_MASK                                                                                                \
	(UINT64_C(7) << PAGE_TYPE_SHIFT | UINT64_C(3) << PAGE_HANDLER_SHIFT | PAGE_READ_ONLY | PAGE_HANDLER_SOFTWARE)
static inline bool page_is_plain(page_record r)
{
	return (r.bits & PAGE_PLAIN_MASK) == (uint64_t)PAGE_RAM << PAGE_TYPE_SHIFT;
}

static inline enum page_state page_get_state(page_record r)
{
	return (enum page_state)(r.bits >> PAGE_STATE_SHIFT & 7);
}

static inline enum page_type page_get_type(page_record r)
{
	return (enum page_type)(r.bits >> PAGE_TYPE_SHIFT & 7);
}

static inline enum page_handler page_get_handler(page_record r)
{
	return (enum page_handler)(r.bits >> PAGE_HANDLER_SHIFT & 3);
}

static inline hpa_t page_frame(page_record r)
{
	return hpa((r.bits & BITS(PAGE_FRAME_BITS - 1, 0)) << PAGE_SHIFT);
}

/* A frame that nobody else reads: a write needs no other one. */
static inline bool page_is_private(page_record r)
{
	enum page_state state = page_get_state(r);

	return state == PAGE_ALLOCATED || state == PAGE_MONITORED;
}

static inline bool page_has_frame(page_record r)
{
	return page_is_private(r) || page_get_state(r) == PAGE_SHARED;
}

/* Shows a frame that belongs to another page or to the host: not counted, not freed with this page. */
static inline bool page_is_alias(page_record r)
{
	enum page_type type = page_get_type(r);

	return type == PAGE_MMIO2_ALIAS_MMIO || type == PAGE_SPECIAL_ALIAS_MMIO;
}

static inline bool page_owns_frame(page_record r)
{
	return page_has_frame(r) && !page_is_alias(r);
}

/* Nothing of our own accesses reaches memory here: a handler answers, or nothing does. */
static inline bool page_is_device(page_record r)
{
	enum page_type type = page_get_type(r);

	return type == PAGE_INVALID || type == PAGE_MMIO || type == PAGE_SPECIAL_ALIAS_MMIO;
}

/* The handler as the second-level tables see it. */
static inline enum page_handler page_hardware_handler(page_record r)
{
	return r.bits & PAGE_HANDLER_SOFTWARE ? HANDLER_DISABLED : page_get_handler(r);
}

static inline void page_set(page_record *r, enum page_state state, hpa_t frame)
{
	r->bits = (r->bits & ~(BITS(PAGE_FRAME_BITS - 1, 0) | (UINT64_C(7) << PAGE_STATE_SHIFT))) |
		  (uint64_t)state << PAGE_STATE_SHIFT | frame.v >> PAGE_SHIFT;
}

static inline void page_set_type(page_record *r, enum page_type type)
{
	r->bits = (r->bits & ~(UINT64_C(7) << PAGE_TYPE_SHIFT)) | (uint64_t)type << PAGE_TYPE_SHIFT;
}

static inline void page_set_handler(page_record *r, enum page_handler handler)
{
	r->bits = (r->bits & ~(UINT64_C(3) << PAGE_HANDLER_SHIFT)) | (uint64_t)handler << PAGE_HANDLER_SHIFT;
}

/* Those below LARGE are bare: no chunk and no records. */
enum block_kind { BLOCK_UNTOUCHED, BLOCK_BALLOONED, BLOCK_LARGE, BLOCK_DETAILED };

/*
 * word: 1:0 kind, 2 lock, 51:12 the chunk or the records' frame.
 * slot: the block's own entry of level 1 in the machine's second-level tables, once a fault has looked for it: so that
 * no other walks the upper levels. It stands for as long as they do: till a reset or the machine's end. NULL: not known.
 */
struct block {
	uint64_t word;
	uint64_t *slot;
	uint64_t shadows;   /* of a nested guest's tables; none yet */
	uint16_t held;      /* detailed: pages that hold a frame */
	uint16_t ballooned; /* pages that are */
	uint32_t flags;
};

#define BLOCK_KIND_MASK BITS(1, 0)
#define BLOCK_LOCKED BIT(2)
#define BLOCK_ADDRESS BITS(51, 12)

_Static_assert(sizeof(struct block) == 32, "a block descriptor is 32 bytes");
_Static_assert(((BLOCK_KIND_MASK | BLOCK_LOCKED) & BLOCK_ADDRESS) == 0, "block word fields overlap");

static inline enum block_kind block_kind(const struct block *b)
{
	return (enum block_kind)(__atomic_load_n(&b->word, __ATOMIC_RELAXED) & BLOCK_KIND_MASK);
}

static inline hpa_t block_address(const struct block *b)
{
	return hpa(__atomic_load_n(&b->word, __ATOMIC_RELAXED) & BLOCK_ADDRESS);
}

static inline void block_set(struct block *b, enum block_kind kind, hpa_t where)
{
	uint64_t kept = __atomic_load_n(&b->word, __ATOMIC_RELAXED) & BLOCK_LOCKED;

	__atomic_store_n(&b->word, kept | (uint64_t)kind | where.v, __ATOMIC_RELAXED);
}

static inline void block_lock(struct block *b)
{
	if (QUIRE_DEBUG && __builtin_expect(lock_rank_debug, 0))
		lock_rank_enter(RANK_BLOCK, "block");
	while (__atomic_fetch_or(&b->word, BLOCK_LOCKED, __ATOMIC_ACQUIRE) & BLOCK_LOCKED)
		spin_pause();
}

static inline void block_unlock(struct block *b)
{
	__atomic_fetch_and(&b->word, ~BLOCK_LOCKED, __ATOMIC_RELEASE);
	if (QUIRE_DEBUG && __builtin_expect(lock_rank_debug, 0))
		lock_rank_leave(RANK_BLOCK);
}

static inline struct block *block_enter(struct block *b)
{
	if (b)
		block_lock(b);
	return b;
}

static inline void block_leave(struct block **b)
{
	if (*b)
		block_unlock(*b);
}

/* As HOLD(); nothing where there is no block (NULL). */
#define HOLD_BLOCK(b) __attribute__((cleanup(block_leave), unused)) struct block *held_block = block_enter(b)
