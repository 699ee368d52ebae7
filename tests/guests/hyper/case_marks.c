/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accessed and dirty bits in L1's tables: set by L2's accesses as the processor sets them, kept as long as nothing clears them, and set again
 * after L1 has cleared them and flushed. SDM vol. 3 section 29.3.5; APM vol. 2 section 15.25.5.
 */
#include "hyper.h"

static struct l2 *l2;
static uint64_t accessed, dirty;

static void mark_is(const char *what, uint64_t entry, uint64_t want)
{
	uint64_t have = entry & (accessed | dirty);

	if (have == want)
		return;
	failures++;
	print("FAILED: %s: the entry has%s%s\n", what, have & accessed ? " accessed" : "",
	      have & dirty ? " dirty" : "");
}

/* A leaf of this level: fresh, read, read again, written, cleaned. */
static void leaf_of(unsigned level, uint64_t to)
{
	uint64_t *leaf = slat_entry(l2->root, TARGET, level), *above = slat_entry(l2->root, TARGET, level + 1);

	*leaf = slat_leaf(to, level, ACCESS_ALL);
	*above &= ~(accessed | dirty);
	hyper.vendor->flush(l2, false);
	l2_do(l2, l2_read, WINDOW, 0);
	expect_exit("read", l2, GOT_HLT);
	mark_is("read", *leaf, accessed);
	mark_is("above what was read", *above & ~dirty, accessed);
	l2_do(l2, l2_write, WINDOW, 1);
	expect_exit("write", l2, GOT_HLT);
	mark_is("written after reading", *leaf, accessed | dirty);
	*leaf &= ~dirty;
	hyper.vendor->flush(l2, false);
	l2_do(l2, l2_read, WINDOW, 0);
	mark_is("read after cleaning", *leaf, accessed);
	for (unsigned i = 0; i < 3; i++) {
		*leaf &= ~dirty;
		hyper.vendor->flush(l2, false);
		l2_do(l2, l2_write, WINDOW + 8, 1);
		mark_is("written after cleaning", *leaf, accessed | dirty);
	}
	*leaf &= ~(accessed | dirty);
	hyper.vendor->flush(l2, false);
	l2_do(l2, l2_execute, WINDOW + 2048, 0);
	expect_exit("execute", l2, GOT_HLT);
	mark_is("executed", *leaf, accessed);
	*leaf = 0;
	hyper.vendor->flush(l2, false);
}

/* A refused write sets no dirty bit; of a range only what was touched is marked. */
static void others(void)
{
	uint64_t *leaf = slat_entry(l2->root, TARGET, 0);

	for (unsigned i = 0; i < 8; i++)
		leaf[i] = slat_leaf(32 * MIB + i * PAGE, 0, i == 3 ? ACCESS_READ : ACCESS_ALL);
	hyper.vendor->flush(l2, false);
	l2_do(l2, l2_write, WINDOW + 5 * PAGE, 1);
	l2_do(l2, l2_write, WINDOW + 3 * PAGE, 1);
	expect_exit("read-only", l2, GOT_VIOLATION);
	check(!(leaf[3] & dirty));
	for (unsigned i = 0; i < 8; i++)
		if (i != 3)
			mark_is("a neighbour", leaf[i], i == 5 ? accessed | dirty : 0);
}

/* L2's own tables are written by the walk where it marks them; EPT counts every such access as a write while its own bits are on. */
static void guest_table(void)
{
	uint64_t table = address_of(window_table), block = table & ~(uint64_t)(BLOCK - 1);
	uint64_t *large = slat_entry(l2->root, block, 1), old = *large, *leaf;

	*large = 0;
	for (uint64_t at = 0; at < BLOCK; at += PAGE)
		*slat_entry(l2->root, block + at, 0) = slat_leaf(block + at, 0, ACCESS_ALL);
	leaf = slat_entry(l2->root, table, 0);
	window_table[0] = TARGET | 7;
	hyper.vendor->flush(l2, false);
	l2_do(l2, l2_read, WINDOW, 0);
	expect_exit("through a fresh table", l2, GOT_HLT);
	mark_is("a table of L2's", *leaf, accessed | dirty);
	check(window_table[0] & 32);
	*large = old;
	hyper.vendor->flush(l2, false);
}

void case_marks(void)
{
	bool svm = hyper.vendor->svm;

	if (!svm && !hyper.accessed_dirty) {
		print("no accessed and dirty bits\n");
		return;
	}
	accessed = svm ? 32 : 1 << 8;
	dirty = svm ? 64 : 1 << 9;
	memset((void *)(32 * MIB), 0xc3, BLOCK);
	l2 = l2_new(true);
	leaf_of(0, 32 * MIB);
	*slat_entry(l2->root, TARGET, 1) = 0;
	leaf_of(1, 32 * MIB);
	others();
	guest_table();
}
