/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c tests/unit/common/host.c tests/unit/common/host_memory.c
/*
 * libFuzzer: the reverse map of one block against a model of it, an array: entries that come and go, pages and the block dropped, with
 * room for extents and without. Steps of three bytes; pages are few, so that lists grow to their limit.
 */
#include "fuzz_world.h"

#define ENTRIES 1024u
#define PAGES 6u
#define WHERE UINT64_C(0x400000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	bool used, large;
	unsigned page;
} model[ENTRIES];
static uint64_t *entry[2]; /* two tables of 512 */
static struct pgm *pgm;
static struct block *block;
static struct gather gather;

static uint64_t *at(unsigned i)
{
	return &entry[i / 512][i % 512];
}

static gpa_t page_at(unsigned page)
{
	static const unsigned where[PAGES] = { 0, 1, 2, 17, 255, 511 };

	return gpa(WHERE + where[page] * PAGE_SIZE);
}

/* Those in one list: a page's, or page 0's with all large ones. */
static bool same_list(unsigned i, unsigned page, bool large)
{
	return model[i].used && (model[i].large ? 0 : model[i].page) == (large ? 0 : page);
}

static void add(unsigned i, unsigned page, bool large)
{
	uint64_t overflows = pgm->common.counters.shadow_overflows;
	enum status status;

	if (model[i].used)
		return;
	status = reverse_add(pgm, block, page_at(page), at(i), large, &gather);
	for (unsigned j = 0; pgm->common.counters.shadow_overflows != overflows && j < ENTRIES; j++)
		model[j].used &= !same_list(j, page, large);
	must(status == OK || status == LIMIT);
	if (status != OK)
		return;
	*at(i) = i + 1;
	model[i].used = true;
	model[i].large = large;
	model[i].page = page;
}

static void take(unsigned i)
{
	bool was = model[i].used;

	*at(i) = 0;
	must(reverse_remove(pgm, block, page_at(model[i].page), at(i), model[i].large) == was);
	model[i].used = false;
}

static void drop(unsigned page, bool all)
{
	if (all)
		reverse_drop_block(pgm, block, &gather);
	else
		reverse_drop_page(pgm, block, page_at(page), &gather);
	for (unsigned i = 0; i < ENTRIES; i++)
		model[i].used &= !all && !model[i].large && model[i].page != page;
}

static unsigned seen[ENTRIES];

static void visit(void *context, uint64_t *e, bool large)
{
	unsigned i = e >= entry[0] && e < entry[0] + 512 ? (unsigned)(e - entry[0]) : 512 + (unsigned)(e - entry[1]);

	must(i < ENTRIES && *e == i + 1 && model[i].used && model[i].large == large);
	must(large || model[i].page == *(unsigned *)context);
	seen[i]++;
}

static void check(void)
{
	for (unsigned page = 0; page < PAGES; page++) {
		memset(seen, 0, sizeof(seen));
		reverse_for_page(block, page_at(page), visit, &page);
		for (unsigned i = 0; i < ENTRIES; i++)
			must(seen[i] == (model[i].used && (model[i].large || model[i].page == page)));
	}
	for (unsigned i = 0; i < ENTRIES; i++)
		must((*at(i) != 0) == model[i].used);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t frames;

	if (!pgm) {
		pgm = fuzz_pgm(32 * MIB);
		must(block_get(pgm, gpa(WHERE), &block) == OK && shadow_promise(pgm, 200) == OK);
		must(shadow_frame(pgm, (void **)&entry[0]) == OK && shadow_frame(pgm, (void **)&entry[1]) == OK);
	}
	gather_begin(&gather, &pgm->flush, &pgm->account);
	block_lock(block);
	frames = pgm->shadow.limit;
	for (; size >= 3; data += 3, size -= 3) {
		unsigned i = data[1] | (data[2] & 3u) << 8, page = (data[2] >> 2 & 15) % PAGES;

		switch (data[0] % 16) {
		case 0: drop(page, false); break;
		case 1: drop(0, data[1] < 32); break;
		case 2:
		case 3: take(i); break;
		case 4: pgm->shadow.limit = data[1] & 1 ? frames : pgm->shadow.frames + data[2] % 4; break;
		case 5: /* many of one page */
			for (unsigned n = 0; n < data[1]; n++)
				add((i + n) % ENTRIES, page, false);
			break;
		default: add(i, page, data[2] > 200);
		}
		if (size % 16 < 3) /* each check is thousands of looks, a step a few */
			check();
	}
	drop(0, true);
	check();
	must(!block->shadows);
	pgm->shadow.limit = frames;
	block_unlock(block);
	gather_finish(&gather);
	return 0;
}
