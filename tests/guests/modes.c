/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every mode of the processor that has its own way from linear to physical addresses: real, protected, 32-bit
 * paging with 4 MiB pages, PAE, 4 levels, 5 levels where CPUID has them. In each, a mapping is read and
 * written through, a missing and a read-only page fault as they should, and a changed entry holds after INVLPG.
 *
 * Physical pages A and B lie at 32 MiB. The linear area at 1 GiB has four small pages: A, none,
 * B read-only, the local APIC; and behind them a large page on A's block.
 *
 * "stay": goes on in PAE for ever, with five equal pages at 40 MiB and a written one that is zero, for the monitor to look at.
 */
#include "guest.h"

#define PHYSICAL_A (32 * MIB)
#define PHYSICAL_B (PHYSICAL_A + PAGE)
#define LINEAR 0x40000000u
#define LAPIC 0xfee00000u
#define P 1u
#define W 2u
#define LARGE 0x80u
#define NOCACHE 0x10u
#define CR0_WP (1u << 16)
#define CR0_PG (1u << 31)
#define CR4_PSE 0x10u
#define CR4_PAE 0x20u
#define CR4_LA57 (1u << 12)
#define NX (1ull << 63)
#define REAL_RESULT 0x6000u

struct real_result {
	uint32_t header, interrupts, divides, hypervisor;
	uint8_t port, pad[3];
	uint16_t left, pad2;
	uint32_t eflags, cr0;
};

/* modes.asm knows the offsets. */
struct long_probe {
	uint64_t address, found, put, missing, fault_address, error, sum, apic;
	uint32_t idt;
};
_Static_assert(offsetof(struct long_probe, idt) == 64 && offsetof(struct long_probe, error) == 40,
	       "as modes.asm has it");

struct gate64 {
	uint16_t low, selector, type, middle;
	uint32_t high, reserved;
};

void real_trip(void);
void long_trip(uint32_t cr3, uint32_t cr4, struct long_probe *probe);
extern char long_fault[];

static uint32_t directory32[1024] __attribute__((aligned(4096))), table32[1024] __attribute__((aligned(4096)));
static uint64_t tables[9][512] __attribute__((aligned(4096)));
enum { LEVEL5, LEVEL4, LEVEL4_HIGH, IDENTITY3, HIGH3, LOW2, APIC2, HIGH2, HIGH1 };

static void do_read(void *address)
{
	(void)*(volatile uint32_t *)address;
}

static void do_write(void *address)
{
	*(volatile uint32_t *)address = 0x11111111;
}

static void do_call(void *address)
{
	((void (*)(void))address)();
}

static void expect_fault(void (*function)(void *), uint32_t address, uint32_t error)
{
	if (!check(catch_trap(function, (void *)address)))
		return;
	check_equal(caught.vector, VECTOR_PF);
	check_equal(caught.error, error);
	check_equal(caught_cr2, address);
}

static void invalidate(uint32_t address)
{
	__asm__ volatile("invlpg (%0)" : : "r"(address) : "memory");
}

static void prepare_memory(void)
{
	for (uint32_t i = 0; i < PAGE; i += 4) {
		write32(PHYSICAL_A + i, 0xaaaa0000 + i);
		write32(PHYSICAL_B + i, 0xbbbb0000 + i);
	}
}

/* Paging is on and LINEAR is laid out as the top of this file says. */
static void probe_small_pages(void (*map_first)(uint32_t physical), const char *mode)
{
	check_equal(read32(LINEAR + 0x10), 0xaaaa0010);
	write32(LINEAR + 0x20, 0xc001d00d);
	check_equal(read32(PHYSICAL_A + 0x20), 0xc001d00d);
	expect_fault(do_read, LINEAR + PAGE + 0x123, 0);
	expect_fault(do_write, LINEAR + PAGE + 0x124, 2);
	check_equal(read32(LINEAR + 2 * PAGE), 0xbbbb0000);
	expect_fault(do_write, LINEAR + 2 * PAGE, 3);
	check_equal(read32(PHYSICAL_B), 0xbbbb0000);
	check_equal(read32(LINEAR + 3 * PAGE + 0x30), read32(LAPIC + 0x30));
	map_first(PHYSICAL_B);
	invalidate(LINEAR);
	check_equal(read32(LINEAR + 0x10), 0xbbbb0010);
	map_first(PHYSICAL_A);
	invalidate(LINEAR);
	check_equal(read32(LINEAR + 0x20), 0xc001d00d);
	check(!memcmp((char *)&(uint32_t){ cpuid(0x40000000, 0).ebx }, "Quir", 4));
	print("%s\n", mode);
}

static void map_first32(uint32_t physical)
{
	table32[0] = physical | P | W;
}

static void check_paging32(void)
{
	for (uint32_t i = 0; i < 32; i++)
		directory32[i] = i << 22 | LARGE | W | P;
	directory32[LAPIC >> 22] = (LAPIC & 0xffc00000) | LARGE | NOCACHE | W | P;
	directory32[LINEAR >> 22] = (uint32_t)table32 | W | P;
	directory32[(LINEAR >> 22) + 1] = PHYSICAL_A | LARGE | W | P;
	map_first32(PHYSICAL_A);
	table32[2] = PHYSICAL_B | P;
	table32[3] = LAPIC | NOCACHE | W | P;
	WRITE_CR(3, directory32);
	WRITE_CR(4, READ_CR(4) | CR4_PSE);
	WRITE_CR(0, READ_CR(0) | CR0_PG | CR0_WP);
	probe_small_pages(map_first32, "32-bit paging");
	check_equal(read32(LINEAR + 4 * MIB + PAGE + 4), 0xbbbb0004);
	check(directory32[(LINEAR >> 22) + 1] & 0x20); /* accessed */
	check(table32[0] & 0x20);
	WRITE_CR(0, READ_CR(0) & ~(CR0_PG | CR0_WP));
	WRITE_CR(4, READ_CR(4) & ~CR4_PSE);
}

static void map_first64(uint32_t physical)
{
	tables[HIGH1][0] = physical | P | W;
}

/* The lower three levels, for PAE and for 4 and 5 levels: in PAE, W in a top entry is reserved. */
static void fill_tables(uint32_t top_rights)
{
	memset(tables, 0, sizeof(tables));
	for (uint64_t i = 0; i < 64; i++)
		tables[LOW2][i] = i << 21 | LARGE | W | P;
	tables[APIC2][LAPIC >> 21 & 511] = (LAPIC & 0xffe00000) | LARGE | NOCACHE | W | P;
	tables[HIGH2][0] = (uint32_t)tables[HIGH1] | W | P;
	tables[HIGH2][1] = PHYSICAL_A | LARGE | W | P;
	map_first64(PHYSICAL_A);
	tables[HIGH1][2] = PHYSICAL_B | P;
	tables[HIGH1][3] = LAPIC | NOCACHE | W | P;
	tables[IDENTITY3][0] = (uint32_t)tables[LOW2] | top_rights;
	tables[IDENTITY3][1] = (uint32_t)tables[HIGH2] | top_rights;
	tables[IDENTITY3][3] = (uint32_t)tables[APIC2] | top_rights;
}

static void stay(void)
{
	for (uint32_t at = 0; at < 6 * PAGE; at += 4)
		write32(40 * MIB + at, at < 5 * PAGE ? 0x5eed0000 + at % PAGE : 0);
	print("staying\n");
	for (uint32_t round = 0;; round++) {
		write32(LINEAR + 0x40, round);
		if (!(round & 0xffff))
			(void)cpuid(0, 0);
	}
}

static void check_pae(void)
{
	bool nx = cpuid(0x80000001, 0).edx >> 20 & 1;

	prepare_memory();
	fill_tables(P);
	if (nx) {
		wrmsr(0xc0000080, rdmsr(0xc0000080) | 1 << 11);
		tables[HIGH1][4] = NX | PHYSICAL_A | W | P;
	}
	WRITE_CR(4, READ_CR(4) | CR4_PAE);
	WRITE_CR(3, tables[IDENTITY3]);
	WRITE_CR(0, READ_CR(0) | CR0_PG | CR0_WP);
	probe_small_pages(map_first64, "PAE");
	if (option("stay"))
		stay();
	check_equal(read32(LINEAR + BLOCK + PAGE + 4), 0xbbbb0004);
	if (nx)
		expect_fault(do_call, LINEAR + 4 * PAGE, 0x11);
	WRITE_CR(0, READ_CR(0) & ~(CR0_PG | CR0_WP));
	WRITE_CR(4, READ_CR(4) & ~CR4_PAE);
}

static uint32_t make_idt64(void)
{
	static struct gate64 idt[VECTOR_PF + 1];
	static struct {
		uint16_t pad, limit;
		uint64_t base;
	} __attribute__((packed, aligned(4))) pointer;
	uint32_t handler = (uint32_t)long_fault;

	idt[VECTOR_PF] = (struct gate64){ (uint16_t)handler, SELECTOR_CODE64, 0x8e00, (uint16_t)(handler >> 16), 0, 0 };
	pointer.limit = sizeof(idt) - 1;
	pointer.base = (uint32_t)idt;
	return (uint32_t)&pointer.limit;
}

static void check_long(uint32_t cr3, uint32_t cr4, uint64_t address, const char *mode)
{
	struct long_probe probe = { .address = address + 0x18,
				    .put = 0x0123456789abcdefull,
				    .missing = address + PAGE + 8,
				    .idt = make_idt64() };

	prepare_memory();
	long_trip(cr3, cr4, &probe);
	check(probe.found == 0xaaaa001caaaa0018ull);
	check(*(uint64_t *)(PHYSICAL_A + 0x20) == probe.put);
	check(probe.fault_address == address + PAGE + 8);
	check(probe.error == 0);
	check(probe.sum == 0x1122334455667788ull + 0xfedcba9876543210ull + 0xffff800000001234ull);
	check(probe.apic == read32(LAPIC + 0x30));
	print("%s\n", mode);
}

static void check_long_modes(void)
{
	bool page_1g = cpuid(0x80000001, 0).edx >> 26 & 1;

	if (!(cpuid(0x80000001, 0).edx >> 29 & 1)) {
		print("no long mode\n");
		return;
	}
	fill_tables(W | P);
	tables[LEVEL4][0] = (uint32_t)tables[IDENTITY3] | W | P;
	tables[LEVEL4][256] = (uint32_t)tables[HIGH3] | W | P;
	tables[HIGH3][0] = (uint32_t)tables[HIGH2] | W | P;
	check_long((uint32_t)tables[LEVEL4], 0, 0xffff800000000000ull, "4 levels");
	if (page_1g) { /* 1 GiB from 0 on: A lies in it */
		tables[HIGH3][1] = LARGE | W | P;
		tables[HIGH3][2] = (uint32_t)tables[HIGH2] | W | P;
		check(!!page_1g);
		struct long_probe probe = { .address = 0xffff800040000000ull + PHYSICAL_A + 0x18,
					    .missing = 0xffff800080001000ull,
					    .put = 1,
					    .idt = make_idt64() };

		prepare_memory();
		long_trip((uint32_t)tables[LEVEL4], 0, &probe);
		check(probe.found == 0xaaaa001caaaa0018ull);
		check(probe.fault_address == probe.missing);
		print("1 GiB pages\n");
	}
	if (!(cpuid(7, 0).ecx >> 16 & 1)) {
		print("no 5 levels\n");
		return;
	}
	tables[LEVEL5][0] = (uint32_t)tables[LEVEL4] | W | P;
	tables[LEVEL5][256] = (uint32_t)tables[LEVEL4_HIGH] | W | P;
	tables[LEVEL4_HIGH][3] = (uint32_t)tables[HIGH3] | W | P;
	check_long((uint32_t)tables[LEVEL5], CR4_LA57, 0xff00018000000000ull, "5 levels");
}

static void check_real(void)
{
	const struct real_result *r = (const struct real_result *)REAL_RESULT;

	real_trip();
	check_equal(r->header, 0x1badb002);
	check_equal(r->interrupts, 1);
	check_equal(r->divides, 1);
	check(!memcmp(&r->hypervisor, "Quir", 4));
	check_equal(r->port, in8(0x21));
	check_equal(r->left, 0);
	check_equal(r->eflags & 0x200, 0);
	check_equal(r->cr0 & 1, 0);
	check_equal(*(uint16_t *)0x12350, 0xbeef);
	print("real mode\n");
}

void guest_main(void)
{
	prepare_memory();
	check_real();
	check_paging32();
	check_pae();
	check_long_modes();
	check_real(); /* and once more from where it began */
}
