/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c tests/unit/common/host.c tests/unit/common/host_memory.c
/*
 * libFuzzer: guest-page tables and control registers as raw bytes, and the walk held against the plain reference of
 * tests/unit/common/walk_reference.h. The bytes: a struct header, then entries that are put where the walk passes.
 */
#include "fuzz_world.h"

#include "common/walk_reference.h"
#include "arch/x86_64/registers.h"

#define TABLES UINT64_C(0x100000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct pgm *pgm;

struct header {
	uint64_t where;
	uint32_t pkru;
	uint8_t mode, access, flags, more_flags, width;
	uint8_t pad[3];
};

static uint64_t reference_read(uint64_t where, unsigned size)
{
	uint64_t value = 0;

	must(pgm_read(pgm, gpa(where), &value, size, ORIGIN_GUEST, NULL) == OK);
	return value;
}

static struct walk_context context_of(const struct header *h, unsigned *levels)
{
	struct walk_context c = { .cr0 = CR0_PE | CR0_PG, .pkru = h->pkru, .cpl = h->flags & 3 };

	c.physical_bits = (uint8_t)(32 + h->width % 21);
	c.cr0 |= h->flags & 4 ? CR0_WP : 0;
	c.cr4 |= h->flags & 8 ? CR4_SMEP : 0;
	c.cr4 |= h->flags & 16 ? CR4_SMAP : 0;
	c.cr4 |= h->flags & 32 ? CR4_PKE : 0;
	c.cr4 |= h->flags & 64 ? CR4_PSE : 0;
	c.efer |= h->flags & 128 ? EFER_NXE : 0;
	c.rflags = h->more_flags & 1 ? RFLAGS_AC : 0;
	c.page_1g = h->more_flags & 2;
	*levels = 2;
	if (h->mode % 4) {
		c.cr4 |= CR4_PAE;
		*levels = h->mode % 4 + 2;
	}
	if (*levels > 3) {
		c.efer |= EFER_LMA | EFER_LME;
		c.cr4 |= *levels == 5 ? CR4_LA57 : 0;
	}
	return c;
}

/* Entry n of the input goes to table n, at the place that the walk reads there; its address is made to lead on. */
static void put_tables(struct walk_context *c, uint64_t la, unsigned levels, const uint8_t *data, size_t size)
{
	unsigned bytes = levels == 2 ? 4 : 8, bits = levels == 2 ? 10 : 9;

	c->cr3 = TABLES + (levels - 1) * PAGE_SIZE;
	for (unsigned level = levels; level--;) {
		uint64_t entry = 0, index = la >> (12 + level * bits) & ((1u << bits) - 1);

		if (size >= 8) {
			memcpy(&entry, data, 8);
			data += 8;
			size -= 8;
		}
		/* Bits 9 and 10 are free for software: they say whether the address is the input's own. */
		if (level && !(entry & BIT(9)))
			entry = (entry & ~BITS(51, 12)) | (TABLES + (level - 1) * PAGE_SIZE);
		if (levels == 3 && level == 2)
			for (unsigned i = 0; i < 4; i++)
				c->pdpte[i] = entry & ~(BITS(63, 52) | BITS(8, 5) | BITS(2, 1) |
							(BITS(51, 12) & ~(BIT(c->physical_bits) - 1)));
		else
			must(pgm_write(pgm, gpa(TABLES + level * PAGE_SIZE + index * bytes), &entry, bytes,
				       ORIGIN_GUEST, NULL) == OK);
	}
}

static unsigned access_of(const struct header *h)
{
	static const unsigned kinds[] = { ACCESS_READ,
					  ACCESS_WRITE,
					  ACCESS_EXECUTE,
					  ACCESS_READ | ACCESS_WRITE,
					  ACCESS_READ | WALK_SYSTEM,
					  ACCESS_WRITE | WALK_SYSTEM };

	return kinds[h->access % ARRAY_SIZE(kinds)];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum status statuses[] = { OK, GUEST_FAULT, BAD_VALUE };
	struct walk_result got = { 0 };
	struct walk_context c;
	struct reference want;
	struct header h;
	unsigned levels;
	enum status status;

	if (size < sizeof(h))
		return 0;
	memcpy(&h, data, sizeof(h));
	if (!pgm)
		pgm = fuzz_pgm(32 * MIB);
	c = context_of(&h, &levels);
	if (levels < 4)
		h.where &= UINT32_MAX;
	put_tables(&c, h.where, levels, data + sizeof(h), size - sizeof(h));
	want = reference_translate(&c, h.where, access_of(&h));
	status = guest_walk(pgm, &c, gva(h.where), access_of(&h), &got);
	must(status == statuses[want.outcome]);
	must(want.outcome != REFERENCE_OK || got.gpa.v == want.gpa);
	must(want.outcome != REFERENCE_FAULT || got.error_code == want.code);
	for (unsigned i = 0; i < want.count; i++) {
		/* One entry may serve two levels: then it has both levels' bits. */
		uint64_t now = reference_read(want.used[i].where, want.used[i].size);

		must((now & want.used[i].after) == want.used[i].after);
	}
	return 0;
}
