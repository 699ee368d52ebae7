/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What struct pgm keeps for large pages, pins, preallocation and the removal of ranges. Private to pgm/.
 */
#pragma once

#include "mm/account.h"
#include "pgm/page/page.h"

struct pgm;

/* struct block's flags. Under the block's lock. */
#define BLOCK_COLLAPSING BIT(0) /* the worker copies it; whoever clears this calls the collapse off */
#define BLOCK_ALIASED BIT(3)    /* has pages that are PAGE_ALIASED */
#define BLOCK_FINE BIT(2)       /* large, and mapped by 4 KiB leaves while the dirty log is on */
#define BLOCK_FUSING BIT(5)     /* just split by fusion, which is at its pages: no collapse */
#define BLOCK_EQUAL BIT(4)      /* large, and at fusion's last look worth a split */
#define BLOCK_EXECUTED BIT(1)   /* split to be executed, where large leaves may not be: no collapse */

#define COLLAPSE_WORDS (PAGES_PER_BLOCK / 64)

enum collapse_phase { COLLAPSE_LOOK, COLLAPSE_PROTECT, COLLAPSE_COPY, COLLAPSE_UNMAP, COLLAPSE_SWITCH };

/* One collapse in progress: see collapse.c. clean and copied belong to the block's lock, the rest to the worker. */
struct collapse {
	uint32_t busy;  /* atomic: a CPU is in a step */
	uint32_t holds; /* atomic: how many forbid it just now */
	enum collapse_phase phase;
	uint64_t cursor; /* the block to be looked at next */
	struct block *block;
	gpa_t base;
	hpa_t chunk; /* HPA_NONE: the 512 frames are one chunk already */
	unsigned rounds;
	uint64_t clean[COLLAPSE_WORDS];  /* write-protected, and not written since */
	uint64_t copied[COLLAPSE_WORDS]; /* the chunk has what the page has */
};

struct pin {
	struct pin *next;
	gpa_t page;
	const char *owner;
	uint32_t reads, writes;
};

#define PIN_BUCKETS 256u
#define PIN_LIMIT 65536u

struct pins {
	struct spinlock lock; /* RANK_RESERVE */
	unsigned count;
	uint64_t read_pages, write_pages; /* (page, owner) pairs with a pin of that kind */
	struct pin *bucket[PIN_BUCKETS];
};

/* The range on its way out. Under pgm->lock, the cursor is the remover's. */
struct removal {
	bool active;
	uint64_t base, size, cursor;
};

struct preallocation {
	uint64_t cursor;  /* address to go on from */
	uint64_t pages;   /* done */
	uint64_t huge;    /* the GiB whose chunks are just being cleared */
	hpa_t chunks;     /* these; HPA_NONE: none */
	unsigned cleared; /* of them */
	uint64_t tried;   /* GiB number + 1 that no adjacent chunks were found for */
};

/* own.c: a page's content. */
void copy_frame(hpa_t to, hpa_t from);

/* What fusion sees of a page. */
struct page_sight {
	uint64_t hash;
	hpa_t shared; /* HPA_NONE: it has a frame of its own */
	bool zero, quiet, large;
};

/* collapse.c: the guest or the hypervisor may have written near `where`. Block locked, BLOCK_COLLAPSING set. */
void collapse_touched(struct pgm *pgm, gpa_t where);
/* candidate.c: looks for a block and takes it on; false: this was the end of memory. */
bool collapse_look(struct pgm *pgm);
/* candidate.c: are all its pages fit? *joined: their frames are one chunk in order. Locked and detailed. */
bool collapse_fit(struct block *b, bool *joined);
static inline bool page_fit(page_record r, enum page_state state)
{
	return page_get_type(r) == PAGE_RAM && page_get_state(r) == state && page_get_handler(r) == HANDLER_NONE &&
	       !(r.bits & (PAGE_PINNED | PAGE_SHADOWED));
}
static inline bool collapse_page_fit(page_record r)
{
	return page_fit(r, PAGE_ALLOCATED);
}
/* Gives up what is in progress; at the machine's end. */
void collapse_abandon(struct pgm *pgm);

/* pin.c */
void pins_destroy(struct pgm *pgm);
/* What is pinned for writing among these pages may have been written by now, and is noted in the dirty log. No lock. */
void pins_note(struct pgm *pgm, uint64_t first, uint64_t count);

/* remove.c: a detailed block of which nothing is left needs neither records nor tables. Locked; a block_visitor, always OK. */
enum status block_drop_records(struct pgm *pgm, struct block *b, uint64_t first, uint64_t end, void *gather) must_check;
/* remove.c: is this page's range on its way out, so that its record may still be what it was? */
bool removal_covers(const struct pgm *pgm, gpa_t where);
/*
 * remove.c: the accounts for memory that comes and goes while the machine exists, and for its tables. NO_MEMORY: admission refuses, nothing has changed.
 * What was just added and not used can always be returned; else the machine keeps it.
 */
enum status quota_grow(struct pgm *pgm, enum account_kind kind, uint64_t pages) must_check;
void quota_shrink(struct pgm *pgm, enum account_kind kind, uint64_t pages);
void quota_return(struct pgm *pgm, enum account_kind kind, uint64_t pages);

/* prealloc.c */
void preallocation_abandon(struct pgm *pgm);
