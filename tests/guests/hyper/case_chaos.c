/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random changes of L1's tables under L2s in turn, held against the model and against the pages' contents; "seed=" on the command line.
 * chaos: single accesses, "rounds=" of changes. soak: L2 goes over all that it may reach, thousands of times between two changes, until it
 * has executed "millions=" of instructions, while the host does with L1's memory what it likes.
 */
#include "hyper.h"

#define PAGES 64u
#define TABLES 8u
#define ROOTS 3u
#define WORDS (PAGE / 8u)
#define SPAN 16u /* window pages in use */

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

static void flush_once(unsigned who)
{
	if (unflushed[who])
		hyper.vendor->flush(l2s[who], true);
	unflushed[who] = false;
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

	flush_once(who);
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

/* A change, and a way to the window's last tables for every L2. */
static void change_all(void)
{
	change();
	for (unsigned n = 0; n < ROOTS; n++)
		if (window_path_lost(l2s[n]))
			mend(l2s[n]);
}

static void make_world(void)
{
	unsigned seed = option_number("seed=", 1);
	uint8_t *block = (uint8_t *)(34 * MIB);

	for (unsigned i = 0; i < seed; i++)
		random64();
	for (unsigned i = 0; i < PAGES; i++) {
		pages[i] = (uint64_t *)(block + i * PAGE);
		for (unsigned word = 0; word < WORDS; word++)
			pages[i][word] = 1000 + i;
		expected[i] = 1000 + i;
	}
	for (unsigned i = 0; i < TABLES; i++)
		tables[i] = page_take();
	for (unsigned i = 0; i < ROOTS; i++) {
		l2s[i] = l2_new(true);
		*slat_entry(l2s[i]->root, TARGET, 1) = slat_table(tables[i], ACCESS_ALL);
	}
}

void case_chaos(void)
{
	unsigned rounds = option_number("rounds=", 4000);

	make_world();
	for (unsigned i = 0; i < rounds; i++) {
		change_all();
		for (unsigned n = pick(6); n; n--)
			access();
	}
	print("chaos: %u rounds\n", rounds);
}

/* ---- soak ---- */
#define PER_PAGE 6u /* instructions of l2_sweep, of l2_survey as well, for a page, and for a round */
#define PER_ROUND 4u

static uint64_t list[SPAN];                /* linear addresses of the pages' first words */
static unsigned list_page[SPAN], list_len; /* which page each shows */

/* What L2 may reach in this way. */
static void make_list(struct l2 *l2, unsigned access)
{
	list_len = 0;
	for (unsigned i = 0; i < SPAN; i++) {
		struct model m = model_walk(l2->root, TARGET + i * PAGE, access);

		if (m.verdict != MODEL_FINE)
			continue;
		list_page[list_len] = (unsigned)((m.to - address_of(pages[0])) / PAGE);
		list[list_len++] = WINDOW + i * PAGE;
	}
}

/* Every leaf is clean; where there is no dirty bit, 0. */
static uint64_t clean_leaves(void)
{
	uint64_t dirty = hyper.vendor->svm ? 64 : hyper.accessed_dirty ? 1 << 9 : 0;

	for (unsigned i = 0; i < TABLES; i++)
		for (unsigned n = 0; n < SPAN; n++)
			tables[i][n] &= ~dirty;
	for (unsigned i = 0; i < ROOTS; i++)
		*slat_entry(l2s[i]->root, TARGET, 1) &= ~dirty;
	shrunk();
	return dirty;
}

/* Dirty are those leaves through which L2 wrote. A large one is so by any page. */
static void judge_dirty(struct l2 *l2, uint64_t dirty, bool wrote)
{
	for (unsigned i = 0, next = 0; i < SPAN; i++) {
		struct model m = model_walk(l2->root, TARGET + i * PAGE, ACCESS_READ);
		bool listed = next < list_len && list[next] == WINDOW + i * PAGE,
		     want = wrote && (m.level ? list_len : listed);

		next += listed;
		if (!m.present && m.verdict != MODEL_FINE)
			continue;
		if (!!(*slat_entry(l2->root, TARGET + i * PAGE, m.level) & dirty) != want && ++failures < 30)
			print("FAILED: window page %u by level %u is %sdirty\n", i, m.level, want ? "not " : "");
	}
}

/* Each round adds to every page; aliases meet each other's sums. The sum of all that L2 read is known beforehand. */
static uint64_t expect_sum(unsigned rounds, uint64_t add)
{
	uint64_t sum = 0, times[PAGES] = { 0 };

	for (unsigned i = 0; i < list_len; i++)
		times[list_page[i]] += rounds;
	for (unsigned i = 0; i < PAGES; i++) {
		uint64_t pairs = times[i] ? times[i] * (times[i] - 1) / 2 : 0;

		sum += times[i] * expected[i] + pairs * add;
		expected[i] += times[i] * add;
	}
	return sum;
}

static void judge_pages(unsigned words)
{
	for (unsigned i = 0; i < PAGES; i++) {
		unsigned word = 1;

		while (word < words && pages[i][word] == 1000 + i)
			word++;
		if (pages[i][0] == expected[i] && word == words)
			continue;
		if (++failures < 30)
			print("FAILED: page %u is 0x%llx, not 0x%llx; %u words hold\n", i,
			      (unsigned long long)pages[i][0], (unsigned long long)expected[i], word);
		expected[i] = pages[i][0];
	}
}

/* L2 goes over what it may reach. Returns the instructions that it executed. */
static uint64_t burst(unsigned who, unsigned number)
{
	struct l2 *l2 = l2s[who];
	bool write = pick(4);
	uint64_t add = write ? random64() : 0, sum, dirty = number % 8 ? 0 : clean_leaves();
	unsigned rounds = 1 + pick(1024);

	flush_once(who);
	make_list(l2, write ? ACCESS_READ | ACCESS_WRITE : ACCESS_READ);
	if (!list_len)
		return 0;
	l2->regs.rcx = list_len;
	l2->regs.rdx = rounds;
	l2->regs.rbx = 0;
	sum = expect_sum(rounds, add);
	l2_do(l2, write ? l2_sweep : l2_survey, address_of(list), add);
	expect_exit("soak", l2, GOT_HLT);
	if (l2->regs.rbx != sum && ++failures < 30)
		print("FAILED: the sum of burst %u is 0x%llx, not 0x%llx\n", number, (unsigned long long)l2->regs.rbx,
		      (unsigned long long)sum);
	judge_pages(number % 256 ? 2 : WORDS);
	if (dirty)
		judge_dirty(l2, dirty, write);
	return (list_len * PER_PAGE + PER_ROUND) * (uint64_t)rounds + 1;
}

void case_soak(void)
{
	uint64_t end = option_number("millions=", 10) * 1000000ull, done = 0;
	unsigned bursts = 0;

	make_world();
	for (; done < end && !failures; bursts++) {
		for (unsigned n = pick(4); n; n--)
			change_all();
		done += burst(bursts % ROOTS, bursts);
		if (bursts % 1024 == 1023)
			print("soak: burst %u\n", bursts + 1);
	}
	judge_pages(WORDS);
	print("soak: %u million instructions of L2, %u bursts\n", (unsigned)(done / 1000000), bursts);
}
