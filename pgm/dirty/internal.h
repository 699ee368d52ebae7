/* SPDX-License-Identifier: Apache-2.0 */
/* The dirty log's inside: what struct pgm keeps for it, and what its files and their hooks share. Private to pgm/. */
#pragma once

#include "pgm/dirty/dirty.h"

/* A frame of the bitmap. */
#define DIRTY_FRAME_SHIFT 27
#define DIRTY_WORD_PAGES 64u
/* Instead of a frame: none could be had, so every page counts as dirty. */
#define DIRTY_ALL UINT64_C(1)

_Static_assert(PAGE_SIZE * 8 * PAGE_SIZE == UINT64_C(1) << DIRTY_FRAME_SHIFT,
	       "a frame has a bit for each of its pages");

enum { DIRTY_IDLE, DIRTY_ARMING, DIRTY_ARMED, DIRTY_DISARMING };

struct dirty_log {
	/* enum dirty_mode; changed under pgm->lock, so that whoever locks a block afterwards sees it. Atomic. */
	uint32_t mode;
	uint32_t busy;   /* atomic: someone starts, stops or reads; it guards the next three */
	uint32_t phase;  /* DIRTY_IDLE.. */
	uint32_t was;    /* enum dirty_mode: what is being disarmed */
	uint64_t cursor; /* the next block to be armed or disarmed */
	uint32_t armed;  /* atomic: the invariant of dirty/block.c holds for every block whose lock is free */
	uint64_t *frame; /* atomic, and so each slot: 0, DIRTY_ALL or the host-physical address of the frame */
	void (*collect)(void *context);
	void *context;
	uint64_t frames_used; /* atomic */
	uint64_t starts, reads, splits;
};

struct block;
struct pgm;

/* dirty.c: the log of a machine at its end. */
void dirty_abandon(struct pgm *pgm);

/* dirty/block.c: all with the block locked */
/* Clears what would let a write go unseen. */
void dirty_arm_block(struct pgm *pgm, struct block *b, gpa_t base, struct gather *gather);
/* Lifts the log's protection again; mode: the one that it was armed for. */
void dirty_disarm_block(struct pgm *pgm, struct block *b, gpa_t base, enum dirty_mode mode, struct gather *gather);
/* Reads and clears `words` words from `word` of the block's eight; mask: of the last word. b may be NULL: nothing was ever there. */
void dirty_take_block(struct pgm *pgm, struct block *b, gpa_t base, unsigned word, unsigned words, uint64_t mask,
		      uint64_t *out, struct gather *gather);
/*
 * A large block is going to be written under the log: it is mapped by 4 KiB leaves until that ends (BLOCK_FINE), and stays large.
 * NO_MEMORY, OVER_QUOTA: all is as it was.
 */
enum status dirty_refine(struct pgm *pgm, struct block *b, gpa_t where, struct gather *gather) must_check;
/* What 4 KiB leaves under the log get beside what their large one had. */
uint64_t dirty_split_bits(const struct pgm *pgm);
/* All pages of a block that is cleared. */
void dirty_note_block(struct pgm *pgm, gpa_t base);
/* What a table may grant for a large block. */
unsigned dirty_large_rights(const struct pgm *pgm);
/* A leaf that leaves the tables takes its dirty bit along: struct slat's `leaving`. */
void dirty_harvest(void *pgm, hpa_t frame);
/* NULL, or what is wrong with this page's log. entry: of `level`, 0 when nothing is mapped. */
const char *dirty_check_page(struct pgm *pgm, gpa_t where, uint64_t entry, unsigned level);

/* dirty/bitmap.c */
/* Slots of the array, one per 128 MiB. */
uint64_t dirty_slots(const struct pgm *pgm);
/* Parts of these pages that had no frame get one, all dirty, if there is one now. */
void dirty_replace_missing(struct pgm *pgm, uint64_t first, uint64_t count);
/* No one can reach it any more. */
void dirty_bitmap_free(struct pgm *pgm, uint64_t *frames);
/* The word for 64 pages, or NULL when none of them was ever noted; *all: they all count as dirty. */
uint64_t *dirty_word(struct pgm *pgm, gpa_t where, bool *all);
/* Which of the 64 pages around `where` are noted, a bit for each. */
uint64_t dirty_noted(struct pgm *pgm, gpa_t where);
