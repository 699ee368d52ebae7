/* SPDX-License-Identifier: Apache-2.0 */
/* The copy of a machine's RAM: see the header. 512 pointers to pages for each block that has any page; NULL: zeros. */
#include "monitor/command/dirty_copy.h"

#include <string.h>

#include "lib/hash.h"
#include "pgm/dirty/dirty.h"
#include "vm/machine.h"

#define STEP_PAGES 256u
#define STEP_DROPS 4096u

static struct {
	struct machine *machine; /* NULL: none */
	uint64_t start;          /* of the machine's life that it belongs to */
	bool complete;
	uint64_t blocks, left; /* left: not dropped yet */
	uint8_t ***block;
	unsigned range; /* where a step stands: the range, and the page in it */
	uint64_t page;
} copy;
static uint8_t live[PAGE_SIZE] __attribute__((aligned(8)));

const struct machine *dirty_copy_machine(void)
{
	return copy.machine;
}

bool dirty_copy_is_of(const struct machine *m)
{
	return copy.machine == m && copy.start == m->starts && copy.complete;
}

bool dirty_copy_drop_step(void)
{
	copy.complete = false; /* what is left isn't the whole */
	for (unsigned weight = 0; copy.left && weight < STEP_DROPS; copy.left--) {
		uint8_t **pages = copy.block[copy.left - 1];

		for (unsigned i = 0; pages && i < PAGES_PER_BLOCK; i++)
			heap_free(pages[i], PAGE_SIZE);
		heap_free(pages, PAGES_PER_BLOCK * sizeof(pages[0]));
		weight += pages ? PAGES_PER_BLOCK : 1;
	}
	if (copy.left)
		return true;
	heap_free(copy.block, copy.blocks * sizeof(copy.block[0]));
	memset(&copy, 0, sizeof(copy));
	return false;
}

/* Where the page's pointer is; NULL when there's none, and none is to be made or can be. */
static uint8_t **slot_of(uint64_t page, bool make)
{
	uint8_t ***block = &copy.block[page / PAGES_PER_BLOCK];

	if (!*block && make)
		*block = heap_alloc(PAGES_PER_BLOCK * sizeof((*block)[0]));
	return *block ? &(*block)[page % PAGES_PER_BLOCK] : NULL;
}

static enum status update(struct machine *m, uint64_t page)
{
	uint8_t **slot;
	bool zero;

	TRY(pgm_read(m->pgm, gpa(page << PAGE_SHIFT), live, PAGE_SIZE, ORIGIN_SAVE, NULL));
	zero = hash_is_zero(live, PAGE_SIZE);
	slot = slot_of(page, !zero);
	if (slot && !*slot && !zero)
		*slot = heap_alloc(PAGE_SIZE);
	if (!slot || !*slot)
		return zero ? OK : NO_MEMORY;
	memcpy(*slot, live, PAGE_SIZE);
	return OK;
}

enum status dirty_copy_update(struct machine *m, uint64_t page)
{
	struct pgm_range range;
	bool ram = pgm_range_find(m->pgm, gpa(page << PAGE_SHIFT), &range) && range.type == PAGE_RAM;

	return ram && dirty_copy_is_of(m) ? update(m, page) : OK;
}

/* The next page of RAM from where the step stands; false: that was the last. */
static bool next_page(struct machine *m, uint64_t *page)
{
	struct pgm_range range;

	for (; pgm_range_get(m->pgm, copy.range, &range); copy.range++, copy.page = 0) {
		if (range.type != PAGE_RAM || copy.page >= range.size >> PAGE_SHIFT)
			continue;
		*page = (range.base >> PAGE_SHIFT) + copy.page++;
		return true;
	}
	return false;
}

enum status dirty_copy_make_step(struct machine *m)
{
	enum status status = OK;
	uint64_t page;

	if (dirty_copy_is_of(m))
		return OK;
	if (!copy.machine) {
		uint64_t blocks = pgm_dirty_extent(m->pgm) / PAGES_PER_BLOCK;

		copy.block = heap_alloc(blocks * sizeof(copy.block[0]));
		if (!copy.block)
			return NO_MEMORY;
		copy.blocks = copy.left = blocks;
		copy.machine = m;
		copy.start = m->starts;
	}
	for (unsigned i = 0; i < STEP_PAGES && status == OK; i++) {
		if (!next_page(m, &page)) {
			copy.complete = true;
			return OK;
		}
		status = update(m, page);
	}
	return status == OK ? BUSY : status;
}

static bool equal(struct machine *m, uint64_t page)
{
	uint8_t **slot = slot_of(page, false);

	if (pgm_read(m->pgm, gpa(page << PAGE_SHIFT), live, PAGE_SIZE, ORIGIN_SAVE, NULL) != OK)
		return false;
	return slot && *slot ? !memcmp(live, *slot, PAGE_SIZE) : hash_is_zero(live, PAGE_SIZE);
}

enum status dirty_copy_compare_step(struct machine *m, struct dirty_difference *d)
{
	uint64_t page;

	if (!d->pages) {
		copy.range = 0;
		copy.page = 0;
	}
	for (unsigned i = 0; i < STEP_PAGES; i++) {
		if (!next_page(m, &page))
			return OK;
		d->pages++;
		if (!equal(m, page) && !d->different++)
			d->first = page << PAGE_SHIFT;
	}
	return BUSY;
}
