/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two clocks beside each other, the time stamp counter and the ACPI timer, until a byte is typed: however often the machine
 * was paused meanwhile, the same time has gone by for both, and neither ever goes back.
 */
#include "guest.h"

#define LINE_STATUS 0x3fd
#define DATA_READY 1
#define PM_TIMER 0x608
#define PM_PER_MS 3579u
#define SHORTEST_MS 50u

/* The ACPI timer, and the counter just before and just behind it: whatever holds the guest up between them is known. */
struct moment {
	uint32_t pm;
	uint64_t before, behind;
};

static struct moment take_moment(void)
{
	struct moment m;

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
	uint32_t khz = cpuid(0x40000010, 0).eax, pm_ms, least, most;
	struct moment first = take_moment(), last = first;

	print("measuring\n");
	do {
		struct moment now = take_moment();

		if (now.pm - last.pm > 1u << 31)
			check(!"the ACPI timer went back");
		if (now.before < last.behind || now.behind < now.before)
			check(!"the time stamp counter went back");
		last = now;
		pm_ms = (last.pm - first.pm) / PM_PER_MS;
	} while (failures < 5 && (pm_ms < SHORTEST_MS || !(in8(LINE_STATUS) & DATA_READY)));
	least = milliseconds(last.before - first.behind, khz);
	most = milliseconds(last.behind - first.before, khz);
	print("%u ms by the ACPI timer, %u to %u by the time stamp counter\n", pm_ms, least, most);
	check(least <= pm_ms + pm_ms / 16 + 5);
	check(pm_ms <= most + most / 16 + 5);
}
