/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resets itself "times=" times and counts the lives. The count lies in RAM where a reset keeps RAM (zero_ram_on_reset
 * = off, option "ram"), else in the clock's CMOS memory. Each life looks at what a reset must have put right. With "cpus=" the
 * others write to memory all the while.
 */
#include "smp.h"

#define COUNT_AT (6 * MIB)
#define MAGIC 0x5eb00700u
#define CMOS_COUNT 0x60
#define SCRATCH (8 * MIB)
#define IOAPIC 0xfec00000u
#define LAPIC 0xfee00000u
#define LAPIC_MOVED 0xfed00000u
#define APIC_BASE 0x1bu

static uint32_t ioapic_entry(uint32_t line)
{
	write32(IOAPIC, 0x10 + 2 * line);
	return read32(IOAPIC + 0x10);
}

static uint8_t cmos_read(uint8_t at)
{
	out8(0x70, at);
	return in8(0x71);
}

static void cmos_write(uint8_t at, uint8_t v)
{
	out8(0x70, at);
	out8(0x71, v);
}

static uint32_t lives(bool ram)
{
	if (ram)
		return (read32(COUNT_AT) & 0xffffff00) == MAGIC ? read32(COUNT_AT) & 0xff : 0;
	return cmos_read(CMOS_COUNT);
}

static void set_lives(bool ram, uint32_t n)
{
	if (ram)
		write32(COUNT_AT, MAGIC | n);
	else
		cmos_write(CMOS_COUNT, (uint8_t)n);
}

/* Each has its own MiB, which it finds empty in each life unless RAM is kept. */
#define OTHERS_AT (12 * MIB)
static void other(unsigned cpu)
{
	for (uint32_t i = 0;; i = (i + PAGE) & (MIB - 1))
		write32(OTHERS_AT + cpu * MIB + i, i);
}

static void reset_machine(uint32_t n)
{
	switch (n % 3) {
	case 0: out8(0xcf9, 6); break;
	case 1: out8(0x64, 0xfe); break;
	default: out8(0x92, 3);
	}
}

void guest_main(void)
{
	bool ram = option("ram");
	uint32_t times = option_number("times=", 3), n = lives(ram), mib = option_number("mib=", 2);

	check_equal(READ_CR(0) & 0x80000001, 1);
	check_equal(ioapic_entry(5), 0x10000); /* masked */
	check_equal(in8(0x92) & 2, 2);
	check(rdmsr(APIC_BASE) == (LAPIC | 0x900));
	check_equal(read32(LAPIC + 0x30) & 0xf0, 0x10); /* its version: the page is there, too */
	for (uint32_t i = 0; i < mib * MIB; i += PAGE) {
		if (!ram)
			check_equal(read32(SCRATCH + i), 0);
		else if (n)
			check_equal(read32(SCRATCH + i), n - 1);
		write32(SCRATCH + i, ram ? n : ~n);
	}
	write32(IOAPIC + 0x10, 0x35);
	check_equal(ioapic_entry(5), 0x35);
	if (failures || n >= times) {
		print("lived %u times\n", n + 1);
		return;
	}
	wrmsr(APIC_BASE, LAPIC | 0x900);
	check(start_cpus(option_number("cpus=", 1), other));
	wrmsr(APIC_BASE, LAPIC_MOVED | 0x900);
	set_lives(ram, n + 1);
	reset_machine(n);
	print("FAILED: still here\n");
	failures++;
}
