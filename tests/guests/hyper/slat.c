/* SPDX-License-Identifier: Apache-2.0 */
/*
 * L1's second-level tables, EPT or NPT, and what the manual says of an access through them.
 * Manual: SDM vol. 3 sections 29.3.2 and 29.3.3; APM vol. 2 section 15.25.
 */
#include "hyper.h"

#define ADDRESS 0x000ffffffffff000ull
#define LARGE 0x80ull
#define EPT_WB (6ull << 3)
#define NX (1ull << 63)

static bool svm(void)
{
	return hyper.vendor->svm;
}

static unsigned index_of(uint64_t gpa, unsigned level)
{
	return (unsigned)(gpa >> (12 + 9 * level)) & 511;
}

static uint64_t *table_at(uint64_t entry)
{
	return (uint64_t *)(uintptr_t)(entry & ADDRESS);
}

/* NPT can't forbid reading but by absence; U is needed, for all of a guest's accesses count as a user's. */
uint64_t slat_rights(unsigned rights)
{
	if (!svm())
		return rights;
	if (!rights)
		return 0;
	return 5 | (rights & ACCESS_WRITE ? 2 : 0) | (rights & ACCESS_EXECUTE ? 0 : NX);
}

uint64_t slat_leaf(uint64_t to, unsigned level, unsigned rights)
{
	return to | slat_rights(rights) | (level ? LARGE : 0) | (svm() ? 0 : EPT_WB);
}

uint64_t slat_table(const void *table, unsigned rights)
{
	return address_of(table) | slat_rights(rights);
}

uint64_t *slat_entry(uint64_t root, uint64_t gpa, unsigned level)
{
	uint64_t *table = (uint64_t *)(uintptr_t)root;

	for (unsigned at = 3; at > level; at--) {
		uint64_t *entry = &table[index_of(gpa, at)];

		if (!*entry)
			*entry = slat_table(page_take(), ACCESS_ALL);
		table = table_at(*entry);
	}
	return &table[index_of(gpa, level)];
}

uint64_t slat_new(void)
{
	uint64_t root = address_of(page_take());

	for (uint64_t at = 0; at < memory_end; at += BLOCK)
		*slat_entry(root, at, 1) = slat_leaf(at, 1, ACCESS_ALL);
	return root;
}

void slat_clear(uint64_t root, uint64_t gpa)
{
	*slat_entry(root, gpa, hyper.top_level) = 0;
}

static bool entry_present(uint64_t entry)
{
	return entry & (svm() ? 1 : 7);
}

static bool entry_is_leaf(uint64_t entry, unsigned level)
{
	return !level || ((entry & LARGE) && (level == 1 || (level == 2 && hyper.large_1g)));
}

static bool reserved_bits(uint64_t entry, unsigned level, bool leaf)
{
	uint64_t high = ADDRESS & ~((1ull << hyper.physical_bits) - 1);
	uint64_t within = leaf && level ? (1ull << (12 + 9 * level)) - 1 : 0;

	if (entry & high)
		return true;
	if (svm())
		return (within & entry & 0x1fe000) || (within & entry & 0x3fe00000) ||
		       (!leaf && level >= 2 && (entry & (level == 3 ? 0x180 : 0x80)));
	return (entry & within & ADDRESS) || (!leaf && (entry & (level == 3 ? 0xf8 : 0x78))) ||
	       (!leaf && level == 2 && (entry & 0x80));
}

static bool misconfigured(uint64_t entry, unsigned level, bool leaf)
{
	unsigned type = (unsigned)(entry >> 3) & 7;

	if (reserved_bits(entry, level, leaf))
		return true;
	if (svm())
		return false;
	if ((entry & 3) == 2 || ((entry & 7) == 4 && !hyper.execute_only))
		return true;
	return leaf && (type == 2 || type == 3 || type == 7);
}

static unsigned entry_rights(uint64_t entry)
{
	if (!svm())
		return entry & 7;
	return (entry & 4 ? ACCESS_READ | (entry & 2 ? ACCESS_WRITE : 0) | (entry & NX ? 0 : ACCESS_EXECUTE) : 0);
}

struct model model_walk(uint64_t root, uint64_t gpa, unsigned access)
{
	struct model m = { .verdict = MODEL_VIOLATION, .rights = ACCESS_ALL, .level = 3 };
	const uint64_t *table = (uint64_t *)(uintptr_t)root;

	for (;; m.level--) {
		uint64_t entry = table[index_of(gpa, m.level)];
		bool leaf = entry_is_leaf(entry, m.level);
		uint64_t within = (1ull << (12 + 9 * m.level)) - 1;

		if (!entry_present(entry)) {
			m.rights = 0;
			return m;
		}
		if (misconfigured(entry, m.level, leaf)) {
			m.verdict = MODEL_MISCONFIG;
			return m;
		}
		m.rights &= entry_rights(entry);
		if (!leaf) {
			table = table_at(entry);
			continue;
		}
		m.present = true;
		m.to = (entry & ADDRESS & ~within) | (gpa & within);
		if ((m.rights & access) == access)
			m.verdict = MODEL_FINE;
		return m;
	}
}

/* Qualification of a violation: SDM vol. 3 table 28-7. A right-hand bit 0 or 1 of a read-modify-write may both be set. */
static bool ept_agrees(const struct l2_exit *e, const struct model *m, unsigned access)
{
	uint64_t want = access | m->rights << 3 | 1 << 7 | 1 << 8;

	return (e->info1 & 0x1bf) == (want & 0x1bf);
}

/* APM vol. 2 section 15.25.6. QEMU: reserved bits make a fault with P clear. */
static bool npt_agrees(const struct l2_exit *e, const struct model *m, unsigned access)
{
	uint64_t want = 4 | 1ull << 32 | (access & ACCESS_WRITE ? 2 : 0) | (access & ACCESS_EXECUTE ? 16 : 0);

	if (m->verdict == MODEL_MISCONFIG)
		want |= 9;
	else
		want |= m->present;
	if (hyper.qemu && (want & 8))
		return (e->info1 | 1) == want;
	return e->info1 == want;
}

static bool kind_agrees(const struct l2 *l2, const struct model *m)
{
	switch (m->verdict) {
	case MODEL_FINE: return l2->exit.kind == GOT_HLT && !l2_seen[0];
	case MODEL_MISCONFIG: return l2->exit.kind == (svm() ? GOT_VIOLATION : GOT_MISCONFIG);
	default: return l2->exit.kind == GOT_VIOLATION;
	}
}

bool model_agrees(const struct l2 *l2, const struct model *m, uint64_t gpa, unsigned access)
{
	static const char *const verdicts[] = { "fine", "violation", "misconfiguration" };
	bool good = kind_agrees(l2, m);

	if (good && m->verdict != MODEL_FINE)
		good = l2->exit.info2 == gpa;
	if (good && m->verdict != MODEL_FINE && svm())
		good = npt_agrees(&l2->exit, m, access);
	if (good && m->verdict == MODEL_VIOLATION && !svm())
		good = ept_agrees(&l2->exit, m, access);
	if (good)
		return true;
	if (++failures < 30) {
		print("FAILED: access %u of 0x%llx, level %u, rights %u, should be %s, ", access,
		      (unsigned long long)gpa, m->level, m->rights, verdicts[m->verdict]);
		say_exit("is", l2);
	}
	return false;
}
