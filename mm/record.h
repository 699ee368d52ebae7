/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 8-byte record of one frame, kept only while its chunk is cut into frames.
 *
 *   bits 2..0    state
 *   bit  3       the frame is known to be zero
 *   bits 19..4   owner              (private, table), group (shared)
 *   bits 59..20  guest page number  (private), all ones: not given to a page yet
 *   bits 51..20  references         (shared)
 *   bits 29..20  next, bits 39..30 previous free frame of the chunk (free)
 *   bits 61..60  account kind       (private, table)
 *
 * Who holds a frame may write its record without a lock; records of free frames belong to the
 * chunk lock. Each access is one atomic 8-byte access, so a reader never sees half a record.
 * HELD is mm's own: off the chunk's free list, but not in use (being cleared, or just taken);
 * outside mm it is told as free.
 */
#pragma once

#include "arch/x86_64/log.h"
#include "mm/frame.h"
#include "mm/map.h"

typedef uint64_t frame_record;

#define RECORD_HELD ((enum frame_state)6)
#define RECORD_STATE BITS(2, 0)
#define RECORD_ZERO BIT(3)
#define RECORD_OWNER BITS(19, 4)
#define RECORD_PAGE BITS(59, 20)
#define RECORD_REFERENCES BITS(51, 20)
#define RECORD_REFERENCE BIT(20) /* one */
#define RECORD_NEXT BITS(29, 20)
#define RECORD_PREVIOUS BITS(39, 30)
#define RECORD_KIND BITS(61, 60)

#define RECORD_OWNER_SHIFT 4
#define RECORD_PAGE_SHIFT 20
#define RECORD_PREVIOUS_SHIFT 30
#define RECORD_KIND_SHIFT 60

/* End of a chunk's list of free frames. */
#define NO_FRAME 0x3ffu
/* The page of a frame that stands in a reserve. */
#define PAGE_UNASSIGNED gpa(BITS(51, 12))
/* No further sharing from here on, long before the count could overflow. */
#define REFERENCES_TOP 0xffff0000u

_Static_assert(sizeof(frame_record) * PAGES_PER_BLOCK == PAGE_SIZE, "a chunk's records are one frame");
_Static_assert((RECORD_STATE & RECORD_ZERO) == 0 && ((RECORD_STATE | RECORD_ZERO) & RECORD_OWNER) == 0 &&
		       (RECORD_OWNER & RECORD_PAGE) == 0 && (RECORD_PAGE & RECORD_KIND) == 0,
	       "fields don't overlap");
_Static_assert((RECORD_NEXT & RECORD_PREVIOUS) == 0 && ((RECORD_NEXT | RECORD_PREVIOUS) & ~RECORD_PAGE) == 0,
	       "the links of a free frame lie in the page field");
_Static_assert((RECORD_REFERENCES & ~RECORD_PAGE) == 0, "references lie in the page field");
_Static_assert(FRAME_ABSENT < 6 && FRAME_RETIRED <= RECORD_STATE, "states fit");
_Static_assert(MAX_OWNERS - 1 <= RECORD_OWNER >> RECORD_OWNER_SHIFT, "owners fit");
_Static_assert(ACCOUNT_KINDS - 1 <= RECORD_KIND >> RECORD_KIND_SHIFT, "kinds fit");
_Static_assert(NO_FRAME >= PAGES_PER_BLOCK && NO_FRAME <= RECORD_NEXT >> RECORD_PAGE_SHIFT, "links fit");

static inline frame_record record_load(const frame_record *slot)
{
	return __atomic_load_n(slot, __ATOMIC_RELAXED);
}

static inline void record_store(frame_record *slot, frame_record record)
{
	__atomic_store_n(slot, record, __ATOMIC_RELAXED);
}

static inline enum frame_state record_state(frame_record record)
{
	return (enum frame_state)(record & RECORD_STATE);
}

static inline owner_t record_owner(frame_record record)
{
	return (owner_t)((record & RECORD_OWNER) >> RECORD_OWNER_SHIFT);
}

static inline enum account_kind record_kind(frame_record record)
{
	return (enum account_kind)((record & RECORD_KIND) >> RECORD_KIND_SHIFT);
}

static inline gpa_t record_page(frame_record record)
{
	return gpa((record & RECORD_PAGE) >> RECORD_PAGE_SHIFT << PAGE_SHIFT);
}

static inline uint32_t record_references(frame_record record)
{
	return (uint32_t)((record & RECORD_REFERENCES) >> RECORD_PAGE_SHIFT);
}

static inline unsigned record_next(frame_record record)
{
	return (unsigned)((record & RECORD_NEXT) >> RECORD_PAGE_SHIFT);
}

static inline unsigned record_previous(frame_record record)
{
	return (unsigned)((record & RECORD_PREVIOUS) >> RECORD_PREVIOUS_SHIFT);
}

static inline frame_record record_private(owner_t owner, enum account_kind kind, gpa_t page)
{
	return FRAME_PRIVATE | (uint64_t)owner << RECORD_OWNER_SHIFT | (uint64_t)kind << RECORD_KIND_SHIFT |
	       ((page.v >> PAGE_SHIFT << RECORD_PAGE_SHIFT) & RECORD_PAGE);
}

static inline frame_record record_shared(uint32_t references)
{
	return FRAME_SHARED | (uint64_t)references << RECORD_PAGE_SHIFT;
}

static inline frame_record record_table(owner_t owner)
{
	return FRAME_TABLE | (uint64_t)owner << RECORD_OWNER_SHIFT | (uint64_t)ACCOUNT_TABLE << RECORD_KIND_SHIFT;
}

/* A kernel frame; run tells how many frames the heap's run has that starts here, 0 elsewhere. */
static inline frame_record record_kernel(unsigned run)
{
	return FRAME_KERNEL | (uint64_t)run << RECORD_PAGE_SHIFT;
}

static inline frame_record record_free(bool zero, unsigned next, unsigned previous)
{
	return FRAME_FREE | (zero ? RECORD_ZERO : 0) | (uint64_t)next << RECORD_PAGE_SHIFT |
	       (uint64_t)previous << RECORD_PREVIOUS_SHIFT;
}

static inline frame_record record_held(bool zero)
{
	return (frame_record)RECORD_HELD | (zero ? RECORD_ZERO : 0);
}
