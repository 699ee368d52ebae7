/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several processors of L1's ("cpus=", up to 4), each with an L2 that goes over all pages of the window, on two roots with one table for
 * the pages. The first one changes that table meanwhile, as hypervisors do: an entry goes, all others flush, the page moves; a page
 * becomes read-only and must hold still; another table takes the table's place. Until all together have executed "millions=" of
 * instructions. Each has a word of its own in every page: what it adds must be there, and the sum of what it read.
 */
#include "smp.h"
#include "svm.h"
#include "vmx.h"

#define CPUS HYPER_CPUS
#define PAGES 64u
#define SPAN 16u
#define WORDS (PAGE / 8u)
#define TABLES 4u
#define PER_PAGE 6u /* instructions of l2_sweep */
#define POISON 0xdeadbeefdeadbeefull

static unsigned cpus;
static struct l2 *l2s[CPUS];
static uint64_t *pages[PAGES], *tables[TABLES];
static unsigned shows[SPAN], table; /* which page and table are used */
static uint64_t list[CPUS][SPAN], expected[CPUS][SPAN];
static volatile uint64_t wanted, seen[CPUS]; /* flushes */
static volatile uint64_t done[CPUS];         /* instructions */
static volatile uint32_t starting, over, left;

static unsigned pick(unsigned limit)
{
	return (unsigned)((random64() >> 20) % limit);
}

static void look(unsigned cpu)
{
	uint64_t now = __atomic_load_n(&wanted, __ATOMIC_SEQ_CST);

	if (seen[cpu] == now)
		return;
	hyper.vendor->flush(l2s[cpu], false);
	__atomic_store_n(&seen[cpu], now, __ATOMIC_SEQ_CST);
}

static void fail_at(const char *what, unsigned cpu, unsigned page, uint64_t have, uint64_t want)
{
	if (__atomic_add_fetch(&failures, 1, __ATOMIC_SEQ_CST) < 30)
		print("FAILED: %s of processor %u, window page %u: 0x%llx, not 0x%llx\n", what, cpu, page,
		      (unsigned long long)have, (unsigned long long)want);
}

/* Through what the other takes away meanwhile: then it comes back. */
static void go(unsigned cpu, uint64_t add, unsigned rounds)
{
	struct l2 *l2 = l2s[cpu];
	enum exit_kind kind;

	l2->regs.rcx = SPAN;
	l2->regs.rdx = rounds;
	l2->regs.rbx = 0;
	kind = l2_do(l2, l2_sweep, address_of(list[cpu]), add);
	while (kind == GOT_VIOLATION) {
		look(cpu);
		relax();
		kind = l2_resume(l2);
	}
	if (kind != GOT_HLT)
		say_exit("crowd", l2);
}

static void burst(unsigned cpu, unsigned number)
{
	uint64_t add = number * 0x9e3779b97f4a7c15ull, sum = 0;
	unsigned rounds = 1 + number % 61;

	look(cpu);
	go(cpu, add, rounds);
	for (unsigned i = 0; i < SPAN; i++) {
		sum += rounds * expected[cpu][i] + rounds * (rounds - 1ull) / 2 * add;
		expected[cpu][i] += rounds * add;
	}
	if (l2s[cpu]->regs.rbx != sum)
		fail_at("the sum", cpu, number, l2s[cpu]->regs.rbx, sum);
	done[cpu] += rounds * SPAN * PER_PAGE;
}

static void judge(unsigned cpu)
{
	for (unsigned i = 0; i < SPAN; i++)
		if (pages[shows[i]][cpu * 8] != expected[cpu][i])
			fail_at("a word", cpu, i, pages[shows[i]][cpu * 8], expected[cpu][i]);
}

static void other(unsigned cpu)
{
	spin_lock(&starting);
	if (!hyper.vendor->start())
		failures++;
	spin_unlock(&starting);
	for (unsigned i = 1; !over; i++)
		burst(cpu, i);
	while (over != 2) /* the first waits for flushes still */
		look(cpu);
	hyper.vendor->stop();
	__atomic_fetch_add(&left, 1, __ATOMIC_SEQ_CST);
}

/* On return nobody uses what was taken away before. */
static void shoot(void)
{
	__atomic_add_fetch(&wanted, 1, __ATOMIC_SEQ_CST);
	for (unsigned cpu = 0; cpu < cpus; cpu++)
		while (cpu ? seen[cpu] != wanted : (look(0), false))
			relax();
}

static void put(unsigned i, uint64_t entry)
{
	*(volatile uint64_t *)&tables[table][i] = entry;
}

static unsigned unused_page(void)
{
	for (;;) {
		unsigned page = pick(PAGES), i = 0;

		while (i < SPAN && shows[i] != page)
			i++;
		if (i == SPAN)
			return page;
	}
}

static void move(unsigned i)
{
	unsigned from = shows[i], to = unused_page();

	put(i, 0);
	shoot();
	for (unsigned word = 0; word < WORDS; word++) {
		pages[to][word] = pages[from][word];
		pages[from][word] = POISON;
	}
	shows[i] = to;
	put(i, slat_leaf(address_of(pages[to]), 0, ACCESS_ALL));
}

static void hold_still(unsigned i)
{
	uint64_t before[CPUS];

	put(i, slat_leaf(address_of(pages[shows[i]]), 0, ACCESS_READ | ACCESS_EXECUTE));
	shoot();
	for (unsigned cpu = 0; cpu < cpus; cpu++)
		before[cpu] = pages[shows[i]][cpu * 8];
	for (unsigned n = 0; n < 2000; n++)
		relax();
	for (unsigned cpu = 0; cpu < cpus; cpu++)
		if (((volatile uint64_t *)pages[shows[i]])[cpu * 8] != before[cpu])
			fail_at("a read-only word", cpu, i, pages[shows[i]][cpu * 8], before[cpu]);
	put(i, slat_leaf(address_of(pages[shows[i]]), 0, ACCESS_ALL));
}

static void link_table(void)
{
	for (unsigned cpu = 0; cpu < cpus && cpu < 2; cpu++)
		*(volatile uint64_t *)slat_entry(l2s[cpu]->root, TARGET, 1) = slat_table(tables[table], ACCESS_ALL);
}

/* What isn't used any more is cleared; who still reads it has violations for ever. */
static void exchange_tables(void)
{
	unsigned old = table;

	table = (table + 1) % TABLES;
	memcpy(tables[table], tables[old], PAGE);
	link_table();
	shoot();
	memset(tables[old], 0, PAGE);
}

static void make_world(void)
{
	for (unsigned i = 0; i < PAGES; i++) {
		pages[i] = (uint64_t *)(34 * MIB + (uintptr_t)i * PAGE);
		memset(pages[i], 0, PAGE);
	}
	for (unsigned i = 0; i < TABLES; i++)
		tables[i] = page_take();
	for (unsigned i = 0; i < SPAN; i++) {
		shows[i] = i;
		put(i, slat_leaf(address_of(pages[i]), 0, ACCESS_ALL));
	}
	for (unsigned cpu = 0; cpu < cpus; cpu++) {
		l2s[cpu] = l2_new(true);
		if (cpu >= 2)
			hyper.vendor->set_root(l2s[cpu], l2s[cpu % 2]->root);
		for (unsigned i = 0; i < SPAN; i++)
			list[cpu][i] = WINDOW + i * PAGE + cpu * 64;
		if (hyper.vendor->svm)
			continue;
		vmx_current(l2s[cpu]);
		check(vmclear(address_of(l2s[cpu]->control)) == VMX_OK);
		vmx_forget_current();
	}
	link_table();
}

static uint64_t millions(void)
{
	uint64_t sum = 0;

	for (unsigned cpu = 0; cpu < cpus; cpu++)
		sum += done[cpu];
	return sum / 1000000;
}

void case_crowd(void)
{
	static void (*const changes[])(unsigned) = { move, hold_still };
	uint64_t end = option_number("millions=", 10);
	unsigned bursts = 0;

	cpus = option_number("cpus=", 1);
	if (cpus < 2 || cpus > CPUS)
		return;
	make_world();
	if (!check(start_cpus(cpus, other)))
		return;
	for (; millions() < end && !failures; bursts++) {
		burst(0, bursts);
		if (pick(8))
			changes[pick(2)](pick(SPAN));
		else
			exchange_tables();
		if (bursts % 256 == 255)
			print("soak: burst %u\n", bursts + 1);
	}
	over = 1;
	shoot();
	over = 2;
	while (left != cpus - 1)
		relax();
	for (unsigned cpu = 0; cpu < cpus; cpu++)
		judge(cpu);
	print("soak: %u million instructions of L2, %u bursts\n", (unsigned)millions(), bursts);
}
