/* SPDX-License-Identifier: Apache-2.0 */
/*
 * L1 changes its tables: what must be seen at once, what after a flush, and what another root is told. Each page holds a number of its
 * own, by which L2 says which page it met.
 */
#include "hyper.h"

static struct l2 *l2;
static uint64_t *pages[4];

static uint64_t leaf(unsigned page, unsigned rights)
{
	return slat_leaf(address_of(pages[page]), 0, rights);
}

static void flush(void)
{
	hyper.vendor->flush(l2, false);
}

/* L2 reads page n's number through the window's page `at`. */
static void reads(const char *what, struct l2 *who, unsigned at, uint64_t number)
{
	l2_do(who, l2_read, WINDOW + at * PAGE, 0);
	if (expect_exit(what, who, GOT_HLT) && who->regs.rax != number) {
		failures++;
		print("FAILED: %s: L2 read %llu, not %llu\n", what, (unsigned long long)who->regs.rax,
		      (unsigned long long)number);
	}
}

static void writes(const char *what, unsigned at, enum exit_kind kind)
{
	l2_do(l2, l2_write, WINDOW + at * PAGE, 99);
	expect_exit(what, l2, kind);
}

/* Rights and presence that grow need no flush; those that shrink bite after one. */
static void leaves(void)
{
	uint64_t *entry = slat_entry(l2->root, TARGET, 0);

	l2_do(l2, l2_read, WINDOW, 0);
	expect_exit("absent", l2, GOT_VIOLATION);
	*entry = leaf(0, ACCESS_READ);
	reads("absent to present without a flush", l2, 0, 100);
	writes("read-only", 0, GOT_VIOLATION);
	*entry = leaf(0, ACCESS_READ | ACCESS_WRITE);
	writes("read-only to writable without a flush", 0, GOT_HLT);
	check(pages[0][0] == 99);
	pages[0][0] = 100;
	*entry = leaf(0, ACCESS_READ);
	flush();
	writes("writable to read-only with a flush", 0, GOT_VIOLATION);
	check(pages[0][0] == 100);
	*entry = leaf(1, ACCESS_READ);
	flush();
	reads("another page with a flush", l2, 0, 101);
	*entry = 0;
	flush();
	l2_do(l2, l2_read, WINDOW, 0);
	expect_exit("present to absent with a flush", l2, GOT_VIOLATION);
	*entry = leaf(2, ACCESS_ALL);
	l2_resume(l2); /* the broken access itself goes on */
	check(l2->exit.kind == GOT_HLT && l2->regs.rax == 102);
}

/* A table pointer that changes takes all below it along; so does one that only loses a right, or gets it back. */
static void upper_pointers(void)
{
	for (unsigned level = 1; level <= hyper.top_level; level++) {
		uint64_t *entry = slat_entry(l2->root, TARGET, level), old, *other;

		*slat_entry(l2->root, TARGET, 0) = leaf(0, ACCESS_ALL);
		flush();
		reads("before its pointer changes", l2, 0, 100);
		old = *entry;
		*entry = 0;
		other = slat_entry(l2->root, TARGET, 0);
		*other = leaf(3, ACCESS_ALL);
		flush();
		reads("a table pointer that has changed", l2, 0, 103);
		*other = leaf(1, ACCESS_ALL);
		flush();
		reads("a leaf below it", l2, 0, 101);
		*entry = old;
		flush();
		reads("the old pointer again", l2, 0, 100);
		*entry = (old & ~slat_rights(ACCESS_ALL)) | slat_rights(ACCESS_READ);
		flush();
		writes("a table pointer that is read-only", 0, GOT_VIOLATION);
		*entry = old;
		writes("and writable again without a flush", 0, GOT_HLT);
		pages[0][0] = 100;
		*entry = 0;
		flush();
		l2_do(l2, l2_read, WINDOW, 0);
		expect_exit("a table pointer that is absent", l2, GOT_VIOLATION);
		*entry = old;
		reads("and present again without a flush", l2, 0, 100);
	}
}

/* One page at several addresses; a change of one entry touches that one alone. */
static void aliases(void)
{
	for (unsigned i = 0; i < 8; i++)
		*slat_entry(l2->root, TARGET + i * PAGE, 0) = leaf(0, i % 2 ? ACCESS_READ : ACCESS_ALL);
	flush();
	for (unsigned i = 0; i < 8; i++)
		reads("an alias", l2, i, 100);
	for (unsigned i = 0; i < 8; i++)
		writes("an alias", i, i % 2 ? GOT_VIOLATION : GOT_HLT);
	pages[0][0] = 100;
	*slat_entry(l2->root, TARGET + 4 * PAGE, 0) = leaf(1, ACCESS_ALL);
	flush();
	for (unsigned i = 0; i < 8; i++)
		reads("aliases, one of them changed", l2, i, i == 4 ? 101 : 100);
}

/* 2 MiB: mapped, split by L1, joined again. */
static void large(void)
{
	uint64_t *entry = slat_entry(l2->root, TARGET, 1), small, *block = (uint64_t *)(32 * MIB);

	for (unsigned i = 0; i < 512; i++)
		block[i * 512] = 200 + i;
	*entry = slat_leaf(32 * MIB, 1, ACCESS_READ | ACCESS_WRITE);
	flush();
	for (unsigned i = 0; i < 512; i += 73)
		reads("a large page", l2, i, 200 + i);
	l2_do(l2, l2_execute, WINDOW, 0);
	expect_exit("executing a large page without the right", l2, GOT_VIOLATION);
	*entry = 0;
	for (unsigned i = 0; i < 512; i++)
		*slat_entry(l2->root, TARGET + i * PAGE, 0) =
			slat_leaf(32 * MIB + i * PAGE, 0, i % 3 ? ACCESS_ALL : ACCESS_READ);
	small = *entry;
	flush();
	for (unsigned i = 0; i < 512; i += 73) {
		reads("a split page", l2, i, 200 + i);
		writes("a split page", i, i % 3 ? GOT_HLT : GOT_VIOLATION);
		block[i * 512] = 200 + i;
	}
	*entry = slat_leaf(32 * MIB, 1, ACCESS_ALL);
	flush();
	writes("a joined page", 3, GOT_HLT);
	check(block[3 * 512] == 99);
	*entry = small;
	flush();
	writes("split again", 3, GOT_VIOLATION);
	*entry = 0;
	flush();
}

/* Two roots over the same tables below; a flush of the one leaves no stale entry in the other when its turn comes after its own. */
static void two_roots(void)
{
	struct l2 *other = l2_new(true);
	uint64_t *mine = slat_entry(l2->root, TARGET, 0), *its = slat_entry(other->root, TARGET, 0);

	*mine = leaf(0, ACCESS_ALL);
	*its = leaf(1, ACCESS_ALL);
	flush();
	hyper.vendor->flush(other, false);
	for (unsigned i = 0; i < 4; i++) {
		reads("the first root", l2, 0, 100);
		reads("the second root", other, 0, 101);
	}
	*its = leaf(2, ACCESS_READ);
	hyper.vendor->flush(other, false);
	reads("the first root again", l2, 0, 100);
	reads("the second root, changed", other, 0, 102);
	/* A table of both. */
	*slat_entry(other->root, TARGET, hyper.top_level) = *slat_entry(l2->root, TARGET, hyper.top_level);
	hyper.vendor->flush(other, true);
	reads("a table of both, the second root", other, 0, 100);
	*mine = leaf(3, ACCESS_ALL);
	hyper.vendor->flush(other, true);
	reads("a table of both changed, the second root", other, 0, 103);
	reads("a table of both changed, the first root", l2, 0, 103);
	/* One L2 goes over to the other's root. */
	*slat_entry(other->root, TARGET, hyper.top_level) = 0;
	*slat_entry(other->root, TARGET, 0) = leaf(1, ACCESS_ALL);
	hyper.vendor->flush(other, true);
	hyper.vendor->set_root(l2, other->root);
	flush();
	reads("the other root", l2, 0, 101);
}

/* L1 reuses a page that was a table of its as data of L2, and the other way round. */
static void reused_table(void)
{
	uint64_t *entry = slat_entry(l2->root, TARGET, 1), *old;

	*slat_entry(l2->root, TARGET, 0) = leaf(0, ACCESS_ALL);
	flush();
	reads("through a table", l2, 0, 100);
	old = (uint64_t *)(uintptr_t)(*entry & 0xffffffffff000ull);
	*entry = 0;
	*slat_entry(l2->root, TARGET + PAGE, 0) = slat_leaf(address_of(old), 0, ACCESS_ALL);
	flush();
	for (unsigned i = 0; i < 512; i += 8) {
		l2_do(l2, l2_write, WINDOW + PAGE + i * 8, leaf(2, ACCESS_ALL));
		expect_exit("a former table as a page", l2, GOT_HLT);
	}
	*entry = slat_table(old, ACCESS_ALL); /* what L2 wrote is the table now */
	flush();
	for (unsigned i = 0; i < 512; i += 64)
		reads("a table that L2 wrote", l2, i, 102);
}

/* The table itself mapped in L2, which changes it: as the processor has it, after a flush. */
static void table_in_l2(void)
{
	uint64_t *entry = slat_entry(l2->root, TARGET, 1), table = *entry & 0xffffffffff000ull;

	*slat_entry(l2->root, TARGET + 5 * PAGE, 0) = slat_leaf(table, 0, ACCESS_ALL);
	flush();
	l2_do(l2, l2_write, WINDOW + 5 * PAGE, leaf(3, ACCESS_ALL));
	expect_exit("L2 writes the table that maps it", l2, GOT_HLT);
	flush();
	reads("what L2 mapped", l2, 0, 103);
}

/* Where nothing is in L1's memory: no failure of L1, and never somebody else's bytes. */
static void nowhere(void)
{
	uint64_t *entry = slat_entry(l2->root, TARGET, 0);

	*entry = slat_leaf((1ull << (hyper.physical_bits - 1)) - BLOCK, 0, ACCESS_ALL);
	flush();
	l2_do(l2, l2_read, WINDOW, 0);
	print("nowhere: ");
	say_exit("read", l2);
	*entry = 0;
	flush();
}

void case_stale(void)
{
	l2 = l2_new(true);
	for (unsigned i = 0; i < 4; i++) {
		pages[i] = page_take();
		pages[i][0] = 100 + i;
	}
	leaves();
	upper_pointers();
	aliases();
	large();
	two_roots();
	reused_table();
	table_in_l2();
	nowhere();
}
