/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linear-address translation once more, written from the manual (Intel SDM vol. 3 sections 4.3 to 4.8), plainly and
 * mode by mode, with numbers instead of format data: what pgm/walk.c is held against.
 */
#pragma once

#include <stdlib.h>

#include "pgm/walk.h"

enum reference_outcome { REFERENCE_OK, REFERENCE_FAULT, REFERENCE_NOT_CANONICAL };

struct reference {
	enum reference_outcome outcome;
	uint64_t gpa;
	uint32_t code;
	unsigned count; /* entries in memory that were used */
	struct {
		uint64_t where, before, after;
		unsigned size;
	} used[5];
};

/* Reads guest-physical memory: the test's. */
static uint64_t reference_read(uint64_t where, unsigned size);

struct reference_walk {
	const struct walk_context *c;
	struct reference *r;
	bool fetch, write, user, implicit;
	bool all_write, all_user, any_nx;
};

static bool bit_of(uint64_t value, unsigned bit)
{
	return value >> bit & 1;
}

static bool any_bit(uint64_t value, unsigned high, unsigned low)
{
	for (unsigned i = low; i <= high && i < 64; i++)
		if (bit_of(value, i))
			return true;
	return false;
}

static void reference_fault(struct reference_walk *w, bool present, bool reserved, bool key)
{
	bool nx_mode = bit_of(w->c->cr4, 5) && bit_of(w->c->efer, 11);

	w->r->outcome = REFERENCE_FAULT;
	w->r->code = (present ? 1 : 0) | (w->write ? 2 : 0) | (w->user ? 4 : 0) | (reserved ? 8 : 0) |
		     (w->fetch && (bit_of(w->c->cr4, 20) || nx_mode) ? 16 : 0) | (key ? 32 : 0);
}

static uint64_t reference_entry(struct reference_walk *w, uint64_t where, unsigned size)
{
	uint64_t value = reference_read(where, size);

	w->r->used[w->r->count].where = where;
	w->r->used[w->r->count].before = value;
	w->r->used[w->r->count].size = size;
	w->r->count++;
	return value;
}

static void collect(struct reference_walk *w, uint64_t entry)
{
	w->all_write = w->all_write && bit_of(entry, 1);
	w->all_user = w->all_user && bit_of(entry, 2);
	w->any_nx = w->any_nx || bit_of(entry, 63);
}

/* Section 4.6.1. */
static bool reference_allowed(const struct reference_walk *w)
{
	bool wp = bit_of(w->c->cr0, 16), smep = bit_of(w->c->cr4, 20), smap = bit_of(w->c->cr4, 21);
	bool ac = bit_of(w->c->rflags, 18), nx = bit_of(w->c->efer, 11) && w->any_nx;

	if (!w->user) {
		if (!w->all_user)
			return w->fetch ? !nx : w->write ? w->all_write || !wp : true;
		if (w->fetch)
			return !nx && !smep;
		if (smap && (w->implicit || !ac))
			return false;
		return w->write ? w->all_write || !wp : true;
	}
	if (!w->all_user)
		return false;
	return w->fetch ? !nx : w->write ? w->all_write : true;
}

/* Section 4.6.2. */
static bool reference_key(const struct reference_walk *w, uint64_t leaf)
{
	unsigned key = leaf >> 59 & 15;
	bool ad = bit_of(w->c->pkru, 2 * key), wd = bit_of(w->c->pkru, 2 * key + 1);

	if (!bit_of(w->c->efer, 10) || !bit_of(w->c->cr4, 22) || w->fetch || !w->all_user)
		return false;
	return ad || (wd && w->write && (w->user || bit_of(w->c->cr0, 16)));
}

static void reference_leaf(struct reference_walk *w, uint64_t leaf, uint64_t gpa)
{
	bool key = reference_key(w, leaf);

	if (!reference_allowed(w) || key) {
		reference_fault(w, true, false, key);
		return;
	}
	w->r->outcome = REFERENCE_OK;
	w->r->gpa = gpa;
	for (unsigned i = 0; i < w->r->count; i++) {
		w->r->used[i].after |= 1 << 5;
		if (i + 1 == w->r->count && w->write)
			w->r->used[i].after |= 1 << 6;
	}
}

/* Table 4-4: a 4 MiB page's entry, PSE-36. */
static bool reserved_4m(uint64_t entry, unsigned width)
{
	if (width > 40)
		width = 40;
	if (width < 32)
		width = 32;
	return any_bit(entry, 21, width - 32 + 13);
}

static void reference_32(struct reference_walk *w, uint64_t la)
{
	uint64_t entry = reference_entry(w, (w->c->cr3 & 0xfffff000) + (la >> 22) * 4, 4);

	if (!bit_of(entry, 0)) {
		reference_fault(w, false, false, false);
		return;
	}
	collect(w, entry);
	if (bit_of(w->c->cr4, 4) && bit_of(entry, 7)) {
		if (reserved_4m(entry, w->c->physical_bits))
			reference_fault(w, true, true, false);
		else
			reference_leaf(w, entry, (entry & 0xffc00000) | (entry >> 13 & 0xff) << 32 | (la & 0x3fffff));
		return;
	}
	entry = reference_entry(w, (entry & 0xfffff000) + (la >> 12 & 0x3ff) * 4, 4);
	if (!bit_of(entry, 0)) {
		reference_fault(w, false, false, false);
		return;
	}
	collect(w, entry);
	reference_leaf(w, entry, (entry & 0xfffff000) | (la & 0xfff));
}

/* The levels that PAE and 64-bit paging share: tables of 512 entries of eight bytes. level: 0 PT, 1 PD, 2, 3, 4. */
static void reference_64(struct reference_walk *w, uint64_t table, unsigned level, uint64_t la, bool pae)
{
	for (;; level--) {
		unsigned shift = 12 + 9 * level;
		uint64_t entry = reference_entry(w, table + (la >> shift & 511) * 8, 8);
		bool large = bit_of(entry, 7) && (level == 1 || (level == 2 && w->c->page_1g));
		bool reserved = any_bit(entry, 51, w->c->physical_bits);

		if (!bit_of(entry, 0)) {
			reference_fault(w, false, false, false);
			return;
		}
		if (bit_of(entry, 63) && !bit_of(w->c->efer, 11))
			reserved = true;
		if (pae && any_bit(entry, 62, 52))
			reserved = true;
		if (bit_of(entry, 7) && level >= 2 && !large)
			reserved = true;
		/* AMD's figures of non-leaf PDPEs, PML4Es and PML5Es: MBZ. */
		if (w->c->bit8_reserved && bit_of(entry, 8) && level >= 2 && !large)
			reserved = true;
		if (large && any_bit(entry, level == 1 ? 20 : 29, 13))
			reserved = true;
		if (reserved) {
			reference_fault(w, true, true, false);
			return;
		}
		collect(w, entry);
		table = entry & 0xffffffffff000;
		if (large || level == 0) {
			uint64_t offset = (UINT64_C(1) << shift) - 1;

			reference_leaf(w, entry, (table & ~offset) | (la & offset));
			return;
		}
	}
}

static struct reference reference_translate(const struct walk_context *c, uint64_t la, unsigned access)
{
	struct reference r = { 0 };
	struct reference_walk w = { .c = c,
				    .r = &r,
				    .fetch = access & ACCESS_EXECUTE,
				    .write = access & ACCESS_WRITE,
				    .implicit = access & WALK_SYSTEM,
				    .all_write = true,
				    .all_user = true };

	w.user = c->cpl == 3 && !w.implicit;
	if (!bit_of(c->cr0, 31)) {
		r.gpa = la & 0xffffffff;
	} else if (bit_of(c->efer, 10)) {
		unsigned width = bit_of(c->cr4, 12) ? 57 : 48;
		bool top = bit_of(la, width - 1);

		for (unsigned i = width; i < 64; i++)
			if (bit_of(la, i) != top)
				r.outcome = REFERENCE_NOT_CANONICAL;
		if (r.outcome == REFERENCE_OK)
			reference_64(&w, c->cr3 & 0xffffffffff000, width == 57 ? 4 : 3, la, false);
	} else if (bit_of(c->cr4, 5)) {
		uint64_t pdpte = c->pdpte[la >> 30];

		if (bit_of(pdpte, 0))
			reference_64(&w, pdpte & 0xffffffffff000, 1, la, true);
		else
			reference_fault(&w, false, false, false);
	} else {
		reference_32(&w, la);
	}
	for (unsigned i = 0; i < r.count; i++)
		r.used[i].after |= r.used[i].before;
	return r;
}
