/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mmu guest's random cases: destination, linear address, tables, registers. Most are nearly right, so that
 * each single fault is often the only one. Part of mmu.c.
 */
#pragma once

#include "mmu.h"

#define BATCH 16u
#define TARGET 0x1234000u /* eight pages whose words tell where they are; see mmu.asm */
#define TARGET_PAGES 8u
#define NEVER_TOUCHED (40 * MIB)
#define NEVER_TOUCHED_PAGES 1024u
#define LAPIC_VERSION 0xfee00030u
#define ROM 0xe0000u

static uint8_t tables[BATCH][MAX_LEVELS][PAGE] __attribute__((aligned(4096)));
static uint32_t state; /* of the random numbers */
static bool in_memory; /* this case's tables and destination: no instruction emulator may be needed */
static bool qemu, bochs, amd, large_1g, keys;

/* xorshift (Marsaglia). */
static uint32_t random32(void)
{
	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state;
}

static uint64_t random64(void)
{
	return (uint64_t)random32() << 32 | random32();
}

static bool one_in(uint32_t n)
{
	return random32() % n == 0;
}

/* Where a leaf leads: the two places that can be written, what reads as zero, as a device, as nothing. */
static uint64_t random_destination(void)
{
	switch (in_memory ? random32() % 2 * 9 : random32() % 10) {
	case 0: return NEVER_TOUCHED + random32() % NEVER_TOUCHED_PAGES * PAGE;
	case 1: return (uint64_t)(1 + random32() % 255) << 32 | (random32() & 0xfffff000); /* up to 40 bits: nothing */
	case 2: return one_in(2) ? ROM : one_in(2) ? 0x60000000u : LAPIC_VERSION & 0xfffff000;
	default: return TARGET + random32() % TARGET_PAGES * PAGE;
	}
}

static uint64_t random_table(uint32_t own)
{
	static const uint32_t odd[] = { 0x60000000u, ROM, NEVER_TOUCHED, 0xfffff000u };

	return !in_memory && one_in(40) ? odd[random32() % 4] : own;
}

/* One bit that is reserved somewhere, or a high one of the address. */
static uint64_t random_flip(const struct mode *m, uint32_t level, bool large)
{
	if (large && one_in(2))
		return 1ull << (13 + random32() % (m->entry_bytes == 4 ? 9 : level == 1 ? 8 : 17));
	if (m->entry_bytes == 4)
		return large ? 1u << 21 : 0;
	if (m->levels == 3 && level == 2 && !qemu && one_in(2))
		return random32() & 0x1e6;
	return level >= 3 && one_in(3) ? LARGE : 1ull << (40 + random32() % 24);
}

static uint64_t random_entry(const struct mode *m, uint32_t level, uint64_t address, bool large)
{
	uint64_t e = address | (one_in(24) ? 0 : P) | (random32() & 0xe18); /* write-through, no cache, free bits */

	if (m->levels != 3 || level != 2) {
		e |= (one_in(5) ? 0 : W) | (one_in(4) ? 0 : U) | (random32() & 0x160); /* accessed, dirty, global */
		if (large || (!level && one_in(2)) || (m->entry_bytes == 4 && !m->large && one_in(2)))
			e |= LARGE;
		if (m->entry_bytes == 8 && one_in(m->efer & EFER_NXE ? 6 : 40))
			e |= 1ull << 63;
		if (m->levels > 3)
			e |= random64() & 0x7ff0000000000000ull; /* free bits, and the protection key */
	}
	if (amd && level >= 2 && !large) /* reserved, and no emulator knows it */
		e &= ~0x100ull;
	if (one_in(14))
		e ^= random_flip(m, level, large);
	return e;
}

static uint64_t canonical(const struct mode *m, uint64_t address)
{
	uint32_t unused = 64 - shift_of(m, m->levels);

	return (uint64_t)((int64_t)(address << unused) >> unused);
}

static uint64_t random_address(const struct mode *m, uint32_t slot, uint64_t low, uint32_t shift)
{
	uint64_t address, mask = (1ull << shift) - 1;

	do {
		address = random64() & ~0xfc00000ull;
		address |= slot << 22 | 1u << 26; /* its own 4 MiB, never the guest's */
		address = (address & ~mask) | (low & mask);
		if (m->levels < 4)
			address = (uint32_t)address;
		else
			address = canonical(m, address);
	} while (m->levels > 2 && !(address >> shift_of(m, m->levels - 1) & 511));
	if (m->levels >= 4 && !in_memory && one_in(32))
		address ^= 1ull << (shift_of(m, m->levels) + random32() % (64 - shift_of(m, m->levels)));
	return address;
}

static void put_entry(struct mmu_case *c, const struct mode *m, uint32_t level, uint32_t where, uint64_t entry)
{
	c->entry[level] = where;
	c->before[level] = entry;
	if (m->entry_bytes == 4)
		*(uint32_t *)where = (uint32_t)entry;
	else
		*(uint64_t *)where = entry;
}

static uint32_t entry_place(const struct mode *m, uint32_t table, uint32_t level, uint64_t address)
{
	uint32_t index = (uint32_t)(address >> shift_of(m, level)) & ((1u << m->index_bits) - 1);

	return table + (m->levels == 3 && level == 2 ? index & 3 : index) * m->entry_bytes;
}

/* `own`: the root's first entry, for the guest's own memory. */
static void make_case(struct mmu_case *c, const struct mode *m, uint32_t slot, uint64_t own)
{
	uint32_t root = (uint32_t)tables[slot][m->levels - 1], leaf = 0;
	uint64_t to;

	c->seed = state;
	c->levels = m->levels;
	c->walk.access = one_in(6) ? SYSTEM : 1u << random32() % 3;
	in_memory = c->walk.access == SYSTEM;
	to = random_destination();
	if (m->large && one_in(3))
		leaf = (m->large & 4) && large_1g && one_in(3) ? 2 : 1;
	to |= to == (LAPIC_VERSION & 0xfffff000) ? LAPIC_VERSION & 0xfff
						 : (random32() & 0xfc0) | (slot * 4 & (in_memory ? ~7u : ~0u));
	c->walk.gva = random_address(m, slot, to, shift_of(m, leaf));
	if (m->levels == 3)
		root += (random32() & 127) * 32;
	put_entry(c, m, 0, root, own);
	for (uint32_t level = m->levels - 1; level + 1 > 0; level--) {
		uint32_t table = level + 1 == m->levels ? root : (uint32_t)tables[slot][level];
		uint64_t address = level > leaf ? random_table((uint32_t)tables[slot][level - 1]) : 0;

		if (level == leaf)
			address = to & ~((1ull << shift_of(m, level)) - 1);
		if (level == leaf && m->entry_bytes == 4)
			address = (uint32_t)address | (leaf ? (to >> 32) << 13 : 0);
		put_entry(c, m, level, entry_place(m, table, level, c->walk.gva),
			  level < leaf ? 0 : random_entry(m, level, address, level == leaf && leaf));
	}
	c->walk.cr3 = root | (m->levels == 3 ? random32() & 0x1f : random32() & 0x18);
	if (m->levels > 3 && !amd && one_in(64))
		c->walk.cr3 |= 1ull << (40 + random32() % 23);
	c->walk.cpl = one_in(2) ? 3 : 0;
	c->walk.rflags = 2 | (one_in(2) ? EFLAGS_AC : 0);
	if (c->walk.access == SYSTEM && (bochs || (qemu && !c->walk.cpl)))
		c->walk.rflags &= ~EFLAGS_AC;
	c->ldt[0] = 7 | (c->walk.gva & 0xffffff) << 16 | 0x82ull << 40 | (c->walk.gva >> 24 & 0xff) << 56;
	c->ldt[1] = c->walk.gva >> 32;
	c->value = random32();
	c->pkru = random32() & random32() & (bochs ? ~2u : ~0u);
	c->vector = c->error = c->loaded = c->skipped = c->result = 0;
	c->cr2 = 0;
}
