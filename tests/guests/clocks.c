/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three clocks beside each other, the time stamp counter, the ACPI timer and the paravirtual clock, until a byte is typed: however often
 * the machine was paused meanwhile, the same time has gone by for all, and none ever goes back.
 */
#include "pv_clock.h"

#define LINE_STATUS 0x3fd
#define DATA_READY 1
#define PM_TIMER 0x608
#define PM_PER_MS 3579u
#define SHORTEST_MS 50u

/* The ACPI timer, and the counter just before and just behind it: whatever holds the guest up between them is known. */
struct moment {
	uint32_t pm;
	uint64_t start, before, behind, pv;
};

static volatile struct pv_clock pv_clock __attribute__((aligned(64)));

static struct moment take_moment(void)
{
	struct moment m;

	m.start = rdtsc();
	m.pv = pv_clock_now(&pv_clock);
	m.before = rdtsc();
	m.pm = in32(PM_TIMER);
	m.behind = rdtsc();
	return m;
}

static uint32_t milliseconds(uint64_t ticks, uint32_t khz)
{
	uint32_t ms = 0;

	for (; ticks >= khz; ticks -= khz)
		ms++;
	return ms;
}

void guest_main(void)
{
	uint32_t khz = cpuid(0x40000010, 0).eax, pm_ms, pv_ms, least, most;
	struct moment first, last;

	wrmsr(MSR_PV_CLOCK, (uintptr_t)&pv_clock | 1);
	first = last = take_moment();
	print("measuring\n");
	do {
		struct moment now = take_moment();

		if (now.pm - last.pm > 1u << 31)
			check(!"the ACPI timer went back");
		if (now.before < last.behind || now.behind < now.before)
			check(!"the time stamp counter went back");
		if (now.pv < last.pv)
			check(!"the paravirtual clock went back");
		last = now;
		pm_ms = (last.pm - first.pm) / PM_PER_MS;
	} while (failures < 5 && (pm_ms < SHORTEST_MS || !(in8(LINE_STATUS) & DATA_READY)));
	least = milliseconds(last.before - first.behind, khz);
	most = milliseconds(last.behind - first.before, khz);
	print("%u ms by the ACPI timer, %u to %u by the time stamp counter\n", pm_ms, least, most);
	check(least <= pm_ms + pm_ms / 16 + 5);
	check(pm_ms <= most + most / 16 + 5);
	pv_ms = milliseconds(last.pv - first.pv, 1000000);
	check(pv_ms + 2 >= milliseconds(last.start - first.before, khz));
	check(pv_ms <= milliseconds(last.before - first.start, khz) + 2);
}
