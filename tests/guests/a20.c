/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The A20 gate in every mode of the processor: with the gate closed an odd MiB shows the even one below, at once, for
 * reads, writes, and the walk of page tables; opened again, both are as they were. Port 0x92 and the keyboard
 * controller show the same state.
 *
 * This image begins at 1 MiB, out of reach while the gate is closed: what closes it runs from a copy below.
 */
#include "guest.h"

#define EVEN (8 * MIB)
#define ODD (EVEN + MIB)
#define COPY 0xa000u
#define COPY_INS 0xb000u
#define RESULT ((volatile uint32_t *)0x6000)
#define P 1u
#define W 2u
#define LARGE 0x80u
#define CR0_PG (1u << 31)
#define CR4_PSE 0x10u
#define CR4_PAE 0x20u
#define LINEAR 0x40000000u
#define IOAPIC 0xfec00000u

void a20_real(void);
void a20_long(uint32_t cr3, uint32_t odd);
extern char a20_copied[], a20_copied_end[], a20_ins[], a20_ins_end[];

/* Below 1 MiB, so that walks find them with the gate closed too. */
static uint32_t *const directory32 = (uint32_t *)0x10000, *const table32 = (uint32_t *)0x11000;
static uint64_t *const level4 = (uint64_t *)0x12000, *const level3 = (uint64_t *)0x13000;
static uint64_t *const level2 = (uint64_t *)0x14000, *const high2 = (uint64_t *)0x15000,
		       *const high1 = (uint64_t *)0x16000;

static uint32_t closed(uint32_t odd, uint32_t put)
{
	return ((uint32_t(*)(uint32_t, uint32_t))COPY)(odd, put);
}

/* Where `linear` leads to ODD: 0 in flat mode. */
static void probe(uint32_t linear, const char *mode)
{
	write32(EVEN + 0x10, 0xe0e0e0e0);
	write32(linear + 0x10, 0x0d0d0d0d);
	check_equal(read32(ODD + 0x10), 0x0d0d0d0d);
	check_equal(closed(linear + 0x10, 0xc105ed00), 0xe0e0e0e0);
	check_equal(read32(EVEN + 0x10), 0xc105ed00);
	check_equal(read32(ODD + 0x10), 0x0d0d0d0d);
	/* A page that nobody has touched before, first seen with the gate closed. */
	check_equal(closed(linear + 0x5000, 0x12345678), 0);
	check_equal(read32(EVEN + 0x5000), 0x12345678);
	check_equal(read32(ODD + 0x5000), 0);
	write32(EVEN + 0x5000, 0);
	/* A string instruction on a port is carried out by the hypervisor. */
	write32(ODD + 0x20, 0x5a5a5a5a);
	write32(EVEN + 0x20, 0x5a5a5a5a);
	((void (*)(uint32_t))COPY_INS)(linear + 0x20);
	check_equal(read32(ODD + 0x20), 0x5a5a5a5a);
	check_equal(read32(EVEN + 0x20) & 0xffffff02, 0x5a5a5a00);
	print("%s\n", mode);
}

static void check_real(void)
{
	uint32_t header = read32(0x100500);

	a20_real();
	check_equal(RESULT[0], 0x11112222);
	check_equal(RESULT[1], 0x11112222);
	check_equal(RESULT[2], 0x55556666);
	check_equal(RESULT[3], 0x33334444);
	write32(0x100500, header);
	print("real mode\n");
}

static void check_paging32(void)
{
	memset(directory32, 0, 2 * PAGE);
	for (uint32_t i = 0; i < 4; i++)
		directory32[i] = i << 22 | LARGE | W | P;
	directory32[LINEAR >> 22] = (uint32_t)table32 | W | P;
	for (uint32_t i = 0; i < 16; i++)
		table32[i] = (ODD + i * PAGE) | W | P;
	WRITE_CR(3, directory32);
	WRITE_CR(4, READ_CR(4) | CR4_PSE);
	WRITE_CR(0, READ_CR(0) | CR0_PG);
	probe(LINEAR, "32-bit paging");
	WRITE_CR(0, READ_CR(0) & ~CR0_PG);
	WRITE_CR(4, READ_CR(4) & ~CR4_PSE);
}

static void fill_tables(uint32_t top_rights)
{
	memset(level4, 0, 5 * PAGE);
	for (uint64_t i = 0; i < 8; i++)
		level2[i] = i << 21 | LARGE | W | P;
	for (uint32_t i = 0; i < 16; i++)
		high1[i] = (ODD + i * PAGE) | W | P;
	high2[0] = (uint32_t)high1 | W | P;
	level3[0] = (uint32_t)level2 | top_rights;
	level3[1] = (uint32_t)high2 | top_rights;
	level4[0] = (uint32_t)level3 | W | P;
}

static void check_pae(void)
{
	fill_tables(P);
	WRITE_CR(4, READ_CR(4) | CR4_PAE);
	WRITE_CR(3, level3);
	WRITE_CR(0, READ_CR(0) | CR0_PG);
	probe(LINEAR, "PAE");
	WRITE_CR(0, READ_CR(0) & ~CR0_PG);
	WRITE_CR(4, READ_CR(4) & ~CR4_PAE);
}

/*
 * The walk itself passes the gate: CR3 names a directory in an odd MiB whose copy below says something else. With the gate
 * closed and the translations flushed, the lower one counts.
 */
static void check_walk(void)
{
	uint32_t *odd = (uint32_t *)(ODD + 0x8000), *even = (uint32_t *)(EVEN + 0x8000);

	for (uint32_t i = 0; i < 4; i++)
		odd[i] = even[i] = i << 22 | LARGE | W | P;
	odd[LINEAR >> 22] = LARGE | W | P;
	even[LINEAR >> 22] = (EVEN & ~(4 * MIB - 1)) | LARGE | W | P;
	write32(0x7000, 0x70707070);
	write32((EVEN & ~(4 * MIB - 1)) + 0x7000, 0xe7e7e7e7);
	WRITE_CR(3, odd);
	WRITE_CR(4, READ_CR(4) | CR4_PSE);
	WRITE_CR(0, READ_CR(0) | CR0_PG);
	check_equal(read32(LINEAR + 0x7000), 0x70707070);
	check_equal(closed(LINEAR + 0x7000, 0x71717171), 0xe7e7e7e7);
	WRITE_CR(0, READ_CR(0) & ~CR0_PG);
	WRITE_CR(4, READ_CR(4) & ~CR4_PSE);
	check_equal(read32(0x7000), 0x70707070);
	check_equal(read32((EVEN & ~(4 * MIB - 1)) + 0x7000), 0x71717171);
	print("page walk\n");
}

static void check_long(void)
{
	if (!(cpuid(0x80000001, 0).edx >> 29 & 1)) {
		print("no long mode\n");
		return;
	}
	fill_tables(W | P);
	write32(EVEN + 0x20, 0xe2e2e2e2);
	write32(ODD + 0x20, 0x0d2d2d2d);
	a20_long((uint32_t)level4, LINEAR + 0x20);
	check_equal(RESULT[0], 0x0d2d2d2d);
	check_equal(RESULT[1], 0xe2e2e2e2);
	check_equal(RESULT[2], 0x0d2d2d2d);
	check_equal(read32(EVEN + 0x20), 0x77778888);
	print("long mode\n");
}

/* A device in an even MiB answers in the odd one above too: what the hypervisor does for the guest passes the gate. */
static void check_device(void)
{
	uint32_t version;

	write32(IOAPIC, 1);
	version = read32(IOAPIC + 0x10);
	check(version != 0xffffffff);
	check_equal(read32(IOAPIC + MIB + 0x10), 0xffffffff);
	check_equal(closed(IOAPIC + MIB + 0x10, 0), version);
	check_equal(read32(IOAPIC + MIB + 0x10), 0xffffffff);
	print("device\n");
}

static void keyboard_wait(void)
{
	for (unsigned i = 0; i < 100000 && (in8(0x64) & 2); i++)
		;
}

static uint8_t output_port(void)
{
	keyboard_wait();
	out8(0x64, 0xd0);
	for (unsigned i = 0; i < 100000 && !(in8(0x64) & 1); i++)
		;
	return in8(0x60);
}

/* Each shows what the other has done. Nothing here touches memory above 1 MiB while the gate is closed: it is closed by code
 * in the copy only, which opens it again; so the keyboard's closing is left to a byte that keeps the gate open. */
static void check_mirrors(void)
{
	check_equal(in8(0x92) & 2, 2);
	check_equal(output_port() & 2, 2);
	keyboard_wait();
	out8(0x64, 0xd1);
	keyboard_wait();
	out8(0x60, 0xdf);
	check_equal(in8(0x92) & 2, 2);
	print("mirrors\n");
}

void guest_main(void)
{
	memcpy((void *)COPY, a20_copied, (size_t)(a20_copied_end - a20_copied));
	memcpy((void *)COPY_INS, a20_ins, (size_t)(a20_ins_end - a20_ins));
	interrupts_off();
	check_mirrors();
	check_real();
	probe(ODD, "protected mode");
	check_device();
	check_paging32();
	check_walk();
	check_pae();
	check_long();
	check_real();
}
