/* SPDX-License-Identifier: Apache-2.0 */
/* What the mmu guest needs for itself in every mode: its 4 MiB mapped from 0 on, and descriptor tables. Part of mmu.c. */
#pragma once

#include "mmu.h"

extern char mmu_user_page[], mmu_stubs32[], mmu_stubs64[];
extern uint32_t mmu_tss32[], mmu_tss64[];
extern uint64_t mmu_gdt[14], mmu_idt32[32], mmu_idt64[64];

static uint32_t own32[1024] __attribute__((aligned(4096)));
static uint64_t own64[2][512] __attribute__((aligned(4096))), own_directory[512] __attribute__((aligned(4096)));
static uint64_t own_upper[2][512] __attribute__((aligned(4096))), own_root[512] __attribute__((aligned(4096)));
static uint32_t own_rights(uint32_t page)
{
	return P | W | A | (page == (uint32_t)mmu_user_page ? U : 0);
}

static void fill_own_tables(void)
{
	for (uint32_t i = 0; i < 1024; i++) {
		own32[i] = i * PAGE | own_rights(i * PAGE);
		own64[i / 512][i % 512] = own32[i];
	}
	own_directory[0] = (uint32_t)own64[0] | P | W | U | A;
	own_directory[1] = (uint32_t)own64[1] | P | W | U | A;
	own_upper[0][0] = (uint32_t)own_directory | P | W | U | A;
	own_upper[1][0] = (uint32_t)own_upper[0] | P | W | U | A;
}

/* What the first entry of a root is, for the guest's own 4 MiB. */
static uint64_t own_entry(const struct mode *m)
{
	switch (m->levels) {
	case 2: return (uint32_t)own32 | P | W | U | A;
	case 3: return (uint32_t)own_directory | P;
	case 4: return (uint32_t)own_upper[0] | P | W | U | A;
	default: return (uint32_t)own_upper[1] | P | W | U | A;
	}
}

static void segment64(uint32_t slot, uint32_t base, uint32_t limit)
{
	mmu_gdt[slot] = limit | (uint64_t)(base & 0xffffff) << 16 | 0x89ull << 40 | (uint64_t)(base >> 24) << 56;
}

static void fill_descriptors(void)
{
	static const uint64_t plain[] = { 0,
					  0x00cf9b000000ffffull,
					  0x00cf93000000ffffull,
					  0x00009b000000ffffull,
					  0x000093000000ffffull,
					  0x00af9b000000ffffull,
					  0x00cffb000000ffffull,
					  0x00cff3000000ffffull,
					  0x00affb000000ffffull };
	struct {
		uint16_t limit;
		uint32_t base;
	} __attribute__((packed)) pointer = { sizeof(mmu_gdt) - 1, (uint32_t)mmu_gdt };

	memcpy(mmu_gdt, plain, sizeof(plain));
	segment64(9, (uint32_t)mmu_tss32, 103);
	segment64(10, (uint32_t)mmu_tss64, 103);
	__asm__ volatile("lgdt %0" : : "m"(pointer) : "memory");
	for (uint32_t i = 0; i < 32; i++) {
		uint64_t type = i == VECTOR_BP ? 0xee00ull : 0x8e00ull;
		uint32_t from32 = (uint32_t)mmu_stubs32 + 16 * i, from64 = (uint32_t)mmu_stubs64 + 16 * i;

		mmu_idt32[i] = (from32 & 0xffff) | 0x08ull << 16 | type << 32 | (uint64_t)(from32 >> 16) << 48;
		mmu_idt64[2 * i] = (from64 & 0xffff) | 0x28ull << 16 | type << 32 | (uint64_t)(from64 >> 16) << 48;
	}
}
