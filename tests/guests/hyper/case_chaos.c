/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random changes of L1's tables, random accesses of L2, each held against the model and against the pages' contents. "seed=" and
 * "rounds=" on the command line.
 */
#include "hyper.h"

#define PAGES 64u
#define TABLES 8u
#define ROOTS 2u
#define SPAN 16u /* window pages in use, in each of two 2 MiB */

static struct l2 *l2s[ROOTS];
static uint64_t *pages[PAGES], expected[PAGES];
static uint64_t *tables[TABLES];
static bool unflushed[ROOTS]; /* something shrank since the last flush */

static unsigned pick(unsigned limit)
{
	return (unsigned)((random64() >> 20) % limit);
}

static unsigned random_rights(void)
{
	static const unsigned often[] = { ACCESS_ALL, ACCESS_ALL, 3, 1, 5, 0, ACCESS_ALL, 3 };

	return often[pick(8)];
}

static uint64_t place(void)
{
	return pick(SPAN) * (uint64_t)PAGE;
}

static void shrunk(void)
{
	for (unsigned i = 0; i < ROOTS; i++)
		unflushed[i] = true;
}

static void change(void)
{
	struct l2 *l2 = l2s[pick(ROOTS)];
	uint64_t *entry;

	switch (pick(8)) {
	case 0: /* a table for another, shared by all who point there */
		entry = slat_entry(l2->root, TARGET, 1);
		*entry = slat_table(tables[pick(TABLES)], random_rights());
		break;
	case 1: /* rights above */
		entry = slat_entry(l2->root, TARGET, 1 + pick(hyper.top_level));
		if (*entry)
			*entry = (*entry & ~(slat_rights(ACCESS_ALL) | 1ull << 63)) | slat_rights(random_rights());
		break;
	case 2: /* a large page over pages' frames: all of a block */
		entry = slat_entry(l2->root, TARGET, 1);
		*entry = slat_leaf(address_of(pages[0]), 1, random_rights());
		break;
	default: {
		uint64_t *table = tables[pick(TABLES)];
		unsigned rights = random_rights();

		table[pick(SPAN)] = rights ? slat_leaf(address_of(pages[pick(PAGES)]), 0, rights) : 0;
	}
	}
	shrunk();
}

static void access(void)
{
	static const unsigned accesses[] = { ACCESS_READ, ACCESS_WRITE, ACCESS_READ | ACCESS_WRITE };
	static const void *const pieces[] = { l2_read, l2_write, l2_add };
	unsigned who = pick(ROOTS), what = pick(2);
	struct l2 *l2 = l2s[who];
	uint64_t at = place(), value = random64();
	struct model m;
	unsigned page;

	if (unflushed[who]) {
		hyper.vendor->flush(l2, true);
		unflushed[who] = false;
	}
	m = model_walk(l2->root, TARGET + at, accesses[what]);
	l2_do(l2, pieces[what], WINDOW + at, value);
	if (!model_agrees(l2, &m, TARGET + at, accesses[what]) || m.verdict != MODEL_FINE)
		return;
	page = (unsigned)((m.to - address_of(pages[0])) / PAGE);
	if (what)
		expected[page] = value;
	if (pages[page][0] != expected[page] || l2->regs.rax != expected[page]) {
		if (++failures < 30)
			print("FAILED: page %u is 0x%llx, L2 has 0x%llx, expected 0x%llx\n", page,
			      (unsigned long long)pages[page][0], (unsigned long long)l2->regs.rax,
			      (unsigned long long)expected[page]);
		expected[page] = pages[page][0];
	}
}

static bool window_path_lost(struct l2 *l2)
{
	for (unsigned level = hyper.top_level; level > 1; level--)
		if (!(*slat_entry(l2->root, TARGET, level) & slat_rights(ACCESS_ALL)))
			return true;
	return false;
}

/* A change above may have taken the presence from a table pointer: give all rights back. */
static void mend(struct l2 *l2)
{
	for (unsigned level = hyper.top_level; level > 1; level--)
		*slat_entry(l2->root, TARGET, level) |= slat_rights(ACCESS_ALL) & ~(1ull << 63);
}

void case_chaos(void)
{
	unsigned rounds = option_number("rounds=", 4000), seed = option_number("seed=", 1);
	uint8_t *block = (uint8_t *)(34 * MIB);

	for (unsigned i = 0; i < seed; i++)
		random64();
	for (unsigned i = 0; i < PAGES; i++) {
		pages[i] = (uint64_t *)(block + i * PAGE);
		pages[i][0] = expected[i] = 1000 + i;
	}
	for (unsigned i = 0; i < TABLES; i++)
		tables[i] = page_take();
	for (unsigned i = 0; i < ROOTS; i++) {
		l2s[i] = l2_new(true);
		*slat_entry(l2s[i]->root, TARGET, 1) = slat_table(tables[i], ACCESS_ALL);
	}
	for (unsigned i = 0; i < rounds; i++) {
		change();
		for (unsigned n = 0; n < ROOTS; n++)
			if (window_path_lost(l2s[n]))
				mend(l2s[n]);
		for (unsigned n = pick(6); n; n--)
			access();
	}
	print("chaos: %u rounds\n", rounds);
}
