/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mmu guest's cases, as mmu.asm and mmu.c share them, and its paging modes as numbers: written from the manual
 * (Intel SDM vol. 3 sections 4.3 to 4.5), not from the hypervisor's format data.
 */
#pragma once

#include "guest.h"
#include "../../vm/vcpu/test_call.h"

#define READ 1u
#define WRITE 2u
#define EXECUTE 4u
#define SYSTEM TEST_ACCESS_SYSTEM
#define MAX_LEVELS 5u

/* Offsets up to `seed` are mmu.asm's. */
struct mmu_case {
	struct test_walk walk;
	uint32_t value, pkru;
	uint32_t vector, error;
	uint64_t cr2;
	uint32_t result;
	uint32_t loaded;  /* MOV to CR3 went well */
	uint32_t skipped; /* it would have done harm */
	uint32_t seed;
	uint32_t levels;
	uint32_t entry[MAX_LEVELS]; /* where each is, leaf first */
	uint64_t before[MAX_LEVELS];
	uint64_t ldt[2]; /* a descriptor of a table that begins at the address */
} __attribute__((aligned(256)));
_Static_assert(sizeof(struct mmu_case) == 256 && offsetof(struct mmu_case, value) == 128 &&
		       offsetof(struct mmu_case, cr2) == 144 && offsetof(struct mmu_case, skipped) == 160 &&
		       offsetof(struct mmu_case, ldt) == 232,
	       "as mmu.asm has it");
_Static_assert(offsetof(struct test_walk, verdict) == 28 && offsetof(struct test_walk, gpa) == 40, "as mmu.asm has it");

struct mmu_trip {
	uint32_t cr0, cr4, efer, root, flags, count;
	struct mmu_case *cases;
};
#define TRIP_LONG 1u
#define TRIP_KEYS 2u
#define TRIP_AMD 4u

#define P 0x1u
#define W 0x2u
#define U 0x4u
#define A 0x20u
#define LARGE 0x80u
#define CR0_WP (1u << 16)
#define CR0_PG (1u << 31)
#define CR4_PSE (1u << 4)
#define CR4_PAE (1u << 5)
#define CR4_PGE (1u << 7)
#define CR4_LA57 (1u << 12)
#define CR4_SMEP (1u << 20)
#define CR4_SMAP (1u << 21)
#define CR4_PKE (1u << 22)
#define EFER_LME (1u << 8)
#define EFER_NXE (1u << 11)
#define EFLAGS_AC (1u << 18)
#define ERROR_RESERVED 8u

struct mode {
	const char *name;
	uint32_t cr4, efer;
	uint8_t levels, entry_bytes, index_bits;
	uint8_t large; /* bit n: level n may be a large page */
};

static const struct mode modes[] = {
	{ "32-bit", 0, 0, 2, 4, 10, 0 },
	{ "32-bit PSE", CR4_PSE, 0, 2, 4, 10, 2 },
	{ "PAE", CR4_PAE, 0, 3, 8, 9, 2 },
	{ "PAE NX", CR4_PAE, EFER_NXE, 3, 8, 9, 2 },
	{ "AMD64", CR4_PAE, EFER_LME, 4, 8, 9, 6 },
	{ "AMD64 NX", CR4_PAE, EFER_LME | EFER_NXE, 4, 8, 9, 6 },
	{ "LA57", CR4_PAE | CR4_LA57, EFER_LME, 5, 8, 9, 6 },
	{ "LA57 NX", CR4_PAE | CR4_LA57, EFER_LME | EFER_NXE, 5, 8, 9, 6 },
};

static inline uint32_t shift_of(const struct mode *m, uint32_t level)
{
	return 12 + level * m->index_bits;
}
