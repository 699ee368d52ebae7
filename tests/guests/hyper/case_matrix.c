/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every entry: all of rights, types and the size bit together, and each single bit, at each level of L1's tables, read, written and
 * executed through by L2; against the model, and in print: one letter a case. So for what L2's own tables stand behind, with
 * accessed and dirty bits of L1's and without.
 */
#include "hyper.h"

#define NX (1ull << 63)
#define SIZE 0x80ull

static const unsigned accesses[] = { ACCESS_READ, ACCESS_WRITE, ACCESS_EXECUTE };
static const void *const pieces[] = { l2_read, l2_write, l2_execute };
static struct l2 *l2;
static uint64_t sum;           /* of all that L1 is told */
static volatile uint64_t zero; /* an address, of which the compiler has no opinion */

/* Bochs: bit 12 of a large leaf isn't reserved; SVM on both: nor is bit 8 above 2 MiB. QEMU, Bochs: more in docs/testing.md. */
static bool odd(uint64_t entry, uint64_t bits, unsigned level)
{
	if (hyper.vendor->svm && level >= 2 && bits == 0x100)
		return true;
	return !hyper.vendor->svm && hyper.bochs && level && (entry & SIZE) && bits == 0x1000;
}

static char letter(void)
{
	switch (l2->exit.kind) {
	case GOT_HLT: return l2_seen[0] ? 'x' : '.';
	case GOT_VIOLATION: return hyper.vendor->svm && (l2->exit.info1 & 8) ? 'r' : 'v';
	case GOT_MISCONFIG: return 'm';
	default: return '?';
	}
}

/* As the manual has it: QEMU leaves P clear with a reserved bit; Bochs tells of a write only where EPT's own marks make one of a walk's read. */
static uint64_t told(void)
{
	uint64_t info = l2->exit.info1;

	if (hyper.vendor->svm)
		return info & 8 ? info | 1 : info;
	return info & 0x100 ? info : info | 1;
}

static void one(uint64_t *entry, uint64_t value, unsigned level, unsigned access, bool allowed_for)
{
	uint64_t old = *entry;
	struct model m;

	*entry = value;
	hyper.vendor->flush(l2, false);
	m = model_walk(l2->root, TARGET, accesses[access]);
	l2_do(l2, pieces[access], WINDOW, 0xc3c3c3c3c3c3c3c3);
	if (allowed_for) {
		put_char('o');
	} else {
		put_char(letter());
		if (!model_agrees(l2, &m, TARGET, accesses[access]))
			print("<- level %u, 0x%llx\n", level, (unsigned long long)value);
		if (l2->exit.kind == GOT_VIOLATION)
			sum = sum * 31 + told();
	}
	*entry = old;
}

static void begin_line(unsigned level, bool leaf, unsigned access)
{
	static const char *const names[] = { "read", "write", "execute" };

	print("%u %s %s ", level, leaf ? "leaf" : "table", names[access]);
	sum = 0;
}

static void end_line(void)
{
	print(" %llx\n", (unsigned long long)sum);
}

/* Each set of rights, together with each type and the size bit. */
static void rights_of(uint64_t *entry, uint64_t good, unsigned level, bool leaf, unsigned access)
{
	uint64_t types = hyper.vendor->svm ? 0x18 : 0x38, all = (hyper.vendor->svm ? NX | 7 : 7) | types | SIZE;

	for (unsigned rights = 0; rights < (hyper.vendor->svm ? 16u : 8u); rights++) {
		begin_line(level, leaf, access);
		print("rights %x: ", rights);
		for (uint64_t i = 0; i <= (types | SIZE); i += 8)
			if (!(i & ~(types | SIZE)))
				one(entry, (good & ~all) | (rights & 7) | (rights & 8 ? NX : 0) | i, level, access,
				    false);
		end_line();
	}
}

static void level_of(unsigned level, bool leaf, uint64_t page)
{
	uint64_t *entry = slat_entry(l2->root, TARGET, level),
		 good = leaf ? slat_leaf(page, level, ACCESS_ALL) : *entry;

	*entry = good;
	for (unsigned access = 0; access < 3; access++) {
		rights_of(entry, good, level, leaf, access);
		begin_line(level, leaf, access);
		print("bits: ");
		for (unsigned bit = hyper.vendor->svm ? 5 : 6; bit < 64; bit++) {
			if (bit >= 12 + 9 * (leaf ? level : 0) && bit < hyper.physical_bits)
				continue; /* another place */
			one(entry, good ^ 1ull << bit, level, access, odd(good, 1ull << bit, level));
		}
		end_line();
	}
	*entry = good;
}

/* L2's own page tables behind L1's: what L1 is told when one of them can't be read or marked. */
static void guest_table(uint64_t *entry, uint64_t table, unsigned rights, bool marked)
{
	bool misconfig = !hyper.vendor->svm && ((rights & 3) == 2 || (rights == 4 && !hyper.execute_only));

	*entry = rights ? slat_leaf(table, 0, rights) : 0;
	window_table[0] = TARGET | (marked ? 0x67 : 7);
	hyper.vendor->flush(l2, false);
	l2_do(l2, l2_write, WINDOW, 1);
	print("a table with rights %u, %s: ", rights, marked ? "marked" : "fresh");
	if (l2->exit.kind == GOT_VIOLATION)
		l2->exit.info1 = told();
	say_exit("write", l2);
	if (misconfig)
		check(l2->exit.kind == GOT_MISCONFIG && l2->exit.info2 == table);
	else if (!(rights & 1))
		check(l2->exit.kind == GOT_VIOLATION && l2->exit.info2 == table);
}

static void guest_tables(void)
{
	uint64_t *entry, table = address_of(window_table), split = table & ~(uint64_t)(BLOCK - 1);
	uint64_t *block = slat_entry(l2->root, split, 1), old = *block;

	*block = 0;
	for (uint64_t at = 0; at < BLOCK; at += PAGE)
		*slat_entry(l2->root, split + at, 0) = slat_leaf(split + at, 0, ACCESS_ALL);
	entry = slat_entry(l2->root, table, 0);
	for (unsigned rights = 0; rights < 8; rights++)
		for (unsigned marked = 0; marked < 2; marked++)
			if (!hyper.vendor->svm || !rights || (rights & 1))
				guest_table(entry, table, rights, marked);
	window_table[0] = TARGET | 0x67;
	*block = old;
	hyper.vendor->flush(l2, false);
}

/* A leaf of 1 GiB shows page 0: nobody needs it. */
static void gigabyte(void)
{
	memset((void *)zero, 0xc3, PAGE);
	*slat_entry(l2->root, TARGET, 2) = slat_leaf(zero, 2, ACCESS_ALL);
	level_of(2, true, zero);
}

void case_matrix(void)
{
	bool marks = hyper.accessed_dirty;
	uint8_t *page;

	l2 = l2_new(true);
	page = page_take();
	memset(page, 0xc3, PAGE); /* RET */
	memset((void *)(32 * MIB), 0xc3, PAGE);
	*slat_entry(l2->root, TARGET, 0) = slat_leaf(address_of(page), 0, ACCESS_ALL);
	for (unsigned level = 0; level <= hyper.top_level; level++)
		level_of(level, !level, address_of(page));
	if (l2_do(l2, l2_read, WINDOW, 0) != GOT_HLT || l2->regs.rax != 0xc3c3c3c3c3c3c3c3)
		say_exit("the end of the matrix", l2), failures++;
	guest_tables();
	hyper.accessed_dirty = false;
	hyper.vendor->set_root(l2, l2->root);
	guest_tables();
	hyper.accessed_dirty = marks;
	hyper.vendor->set_root(l2, l2->root);
	*slat_entry(l2->root, TARGET, 1) = slat_leaf(32 * MIB, 1, ACCESS_ALL);
	level_of(1, true, 32 * MIB);
	if (hyper.large_1g)
		gigabyte();
}
