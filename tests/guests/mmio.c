/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MMIO exits by the instruction forms that drivers use. The IOAPIC's version and redirection registers serve
 * as memory with known bits: entry 3's low half is a register that can be written and read back.
 */
#include "guest.h"

#define IOAPIC 0xfec00000u
#define WINDOW (IOAPIC + 0x10)
#define LAPIC 0xfee00000u
#define MOVED 0xfed00000u
#define ENTRY 0x16u /* redirection entry 3, low half */
#define MASKED 0x00010000u

#define CODE (8 * MIB)    /* two pages, each with a function that reads a register of the IOAPIC */
#define ALIAS 0x40000000u /* where one of them is mapped */
#define TABLES (9 * MIB)

static uint32_t version;

static void choose(uint32_t reg)
{
	write32(IOAPIC, reg);
}

static void check_reads(void)
{
	uint32_t eax, ebx = 0x80000000, buffer[2] = { 0, 0 };
	void *to = buffer;
	const void *from = (void *)WINDOW;
	bool zero;

	choose(1);
	version = read32(WINDOW);
	print("ioapic version 0x%x\n", version);
	check(version >> 16 == 0x17 && (version & 0xff) >= 0x11 && (version & 0xff) <= 0x20);
	__asm__ volatile("movzbl %1, %0" : "=r"(eax) : "m"(*(uint8_t *)WINDOW));
	check_equal(eax, version & 0xff);
	__asm__ volatile("movzwl %1, %0" : "=r"(eax) : "m"(*(uint16_t *)(WINDOW + 2)));
	check_equal(eax, version >> 16);
	__asm__ volatile("orl %1, %0" : "+r"(ebx) : "m"(*(uint32_t *)WINDOW));
	check_equal(ebx, 0x80000000 | version);
	ebx = 5;
	__asm__ volatile("addl %1, %0" : "+r"(ebx) : "m"(*(uint32_t *)WINDOW));
	check_equal(ebx, version + 5);
	__asm__ volatile("testl %2, %1; setz %0" : "=q"(zero) : "m"(*(uint32_t *)WINDOW), "r"(~version));
	check(zero);
	__asm__ volatile("cmpl %2, %1; sete %0" : "=q"(zero) : "m"(*(uint32_t *)WINDOW), "r"(version));
	check(zero);
	__asm__ volatile("btl $16, %1; setc %0" : "=q"(zero) : "m"(*(uint32_t *)WINDOW));
	check_equal(zero, version >> 16 & 1);
	__asm__ volatile("pushl %1; popl %0" : "=r"(eax) : "m"(*(uint32_t *)WINDOW));
	check_equal(eax, version);
	__asm__ volatile("movsl" : "+D"(to), "+S"(from) : : "memory");
	check_equal(buffer[0], version);
	check(from == (void *)(WINDOW + 4));
	from = (void *)WINDOW;
	__asm__ volatile("lodsl" : "=a"(eax), "+S"(from));
	check_equal(eax, version);
	__asm__ volatile("movl 0xfec00010, %0" : "=a"(eax)); /* the form with an absolute address */
	check_equal(eax, version);
}

static void check_writes(void)
{
	uint32_t eax, ecx, value = MASKED | 0x35;
	void *to = (void *)WINDOW;
	const void *from = &value;
	bool equal;

	choose(ENTRY);
	write32(WINDOW, MASKED | 0x31);
	check_equal(read32(WINDOW), MASKED | 0x31);
	__asm__ volatile("movl $0x10032, %0" : "=m"(*(uint32_t *)WINDOW));
	check_equal(read32(WINDOW), MASKED | 0x32);
	__asm__ volatile("orl $4, %0" : "+m"(*(uint32_t *)WINDOW));
	check_equal(read32(WINDOW), MASKED | 0x36);
	__asm__ volatile("andl %1, %0" : "+m"(*(uint32_t *)WINDOW) : "r"(~2u));
	check_equal(read32(WINDOW), MASKED | 0x34);
	__asm__ volatile("incl %0" : "+m"(*(uint32_t *)WINDOW));
	check_equal(read32(WINDOW), MASKED | 0x35);
	__asm__ volatile("xorl $1, %0" : "+m"(*(uint32_t *)WINDOW));
	check_equal(read32(WINDOW), MASKED | 0x34);
	eax = MASKED | 0x37;
	__asm__ volatile("xchgl %0, %1" : "+r"(eax), "+m"(*(uint32_t *)WINDOW));
	check_equal(eax, MASKED | 0x34);
	eax = MASKED | 0x37;
	ecx = MASKED | 0x38;
	__asm__ volatile("lock; cmpxchgl %3, %1; sete %2"
			 : "+a"(eax), "+m"(*(uint32_t *)WINDOW), "=q"(equal)
			 : "r"(ecx));
	check(equal);
	check_equal(read32(WINDOW), MASKED | 0x38);
	eax = 2;
	__asm__ volatile("lock; xaddl %0, %1" : "+r"(eax), "+m"(*(uint32_t *)WINDOW));
	check_equal(eax, MASKED | 0x38);
	check_equal(read32(WINDOW), MASKED | 0x3a);
	__asm__ volatile("lock; btsl $0, %0" : "+m"(*(uint32_t *)WINDOW));
	check_equal(read32(WINDOW), MASKED | 0x3b);
	__asm__ volatile("movsl" : "+D"(to), "+S"(from) : : "memory");
	check_equal(read32(WINDOW), MASKED | 0x35);
	to = (void *)WINDOW;
	__asm__ volatile("stosl" : "+D"(to) : "a"(MASKED | 0x36) : "memory");
	check_equal(read32(WINDOW), MASKED | 0x36);
}

static void check_lapic(void)
{
	print("lapic id %u version 0x%x\n", read32(LAPIC + 0x20) >> 24, read32(LAPIC + 0x30));
	check_equal(read32(LAPIC + 0x20) >> 24, 0);
	check((read32(LAPIC + 0x30) & 0xf0) == 0x10);
	write32(LAPIC + 0x80, 0x20);
	check_equal(read32(LAPIC + 0x80), 0x20);
	write32(LAPIC + 0x80, 0);
}

/* A locked access is carried out once, though the count is another by the time it is written (which the APIC ignores). */
static void check_locked_count(void)
{
	write32(LAPIC + 0xf0, 0x1ff);
	write32(LAPIC + 0x3e0, 0xb); /* by one */
	write32(LAPIC + 0x320, MASKED);
	write32(LAPIC + 0x380, UINT32_MAX);
	__asm__ volatile("lock; orl $1, %0" : "+m"(*(uint32_t *)(LAPIC + 0x390)));
	write32(LAPIC + 0x380, 0);
}

/* The page goes where IA32_APIC_BASE says, with what the APIC holds, and nothing stays behind. */
static void check_moved_lapic(void)
{
	uint32_t lapic_version = read32(LAPIC + 0x30);
	uint64_t base = rdmsr(0x1b);

	write32(LAPIC + 0x80, 0x30);
	wrmsr(0x1b, base - LAPIC + MOVED);
	check_equal(read32(MOVED + 0x30), lapic_version);
	check_equal(read32(MOVED + 0x80), 0x30);
	check_equal(read32(LAPIC + 0x30), UINT32_MAX);
	write32(LAPIC + 0x80, 0x40);
	check_equal(read32(MOVED + 0x80), 0x30);
	wrmsr(0x1b, base);
	check_equal(read32(MOVED + 0x30), UINT32_MAX);
	check_equal(read32(LAPIC + 0x80), 0x30);
	write32(LAPIC + 0x80, 0);
}

/* mov 0xfec000XX, %eax; ret */
static void put_code(uint32_t page, uint8_t offset)
{
	const uint8_t code[] = { 0xa1, offset, 0x00, 0xc0, 0xfe, 0xc3 };

	memcpy((void *)page, code, sizeof(code));
}

static uint32_t call(uint32_t page)
{
	return ((uint32_t(*)(void))page)();
}

/* The window shows the version; the register beside it, which one was chosen: 1. */
static void check_changing_code(void)
{
	uint32_t *directory = (uint32_t *)TABLES, *table = directory + 1024;

	choose(1);
	for (unsigned round = 0; round < 8; round++) {
		put_code(CODE, round & 1 ? 0 : 0x10);
		check_equal(call(CODE), round & 1 ? 1 : version);
	}
	put_code(CODE, 0x10);
	put_code(CODE + PAGE, 0);
	memset(directory, 0, 2 * PAGE);
	for (uint32_t i = 0; i < 4; i++)
		directory[i] = i << 22 | 0x83;
	directory[IOAPIC >> 22] = (IOAPIC & ~(4 * MIB - 1)) | 0x83;
	directory[ALIAS >> 22] = (uint32_t)table | 3;
	WRITE_CR(3, directory);
	WRITE_CR(4, READ_CR(4) | 0x10);
	WRITE_CR(0, READ_CR(0) | 0x80000000);
	for (unsigned round = 0; round < 8; round++) {
		table[0] = (CODE + (round & 1) * PAGE) | 3;
		__asm__ volatile("invlpg (%0)" : : "r"(ALIAS) : "memory");
		check_equal(call(ALIAS), round & 1 ? 1 : version);
	}
	WRITE_CR(0, READ_CR(0) & ~0x80000000u);
}

/* Where nothing is: reads are all ones, writes are lost, the machine goes on. */
static void check_hole(void)
{
	check_equal(read32(0xfd000000), 0xffffffff);
	write32(0xfd000000, 1);
	check_equal(read32(0xfd000000), 0xffffffff);
}

/* The ACPI tables' ROM: a write changes nothing. */
static void check_rom(void)
{
	uint32_t was = read32(0xe0000);

	write32(0xe0000, ~was);
	check_equal(read32(0xe0000), was);
}

void guest_main(void)
{
	check_reads();
	check_writes();
	check_lapic();
	check_locked_count();
	check_moved_lapic();
	check_changing_code();
	check_hole();
	check_rom();
}
