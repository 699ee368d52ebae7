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

void guest_main(void)
{
	uint32_t khz = cpuid(0x40000010, 0).eax, pm_ms, tsc_ms, pm = in32(PM_TIMER), pm_start = pm;
	uint64_t tsc = rdtsc(), tsc_start = tsc;

	print("measuring\n");
	do {
		uint32_t pm_now = in32(PM_TIMER);
		uint64_t tsc_now = rdtsc();

		if (pm_now - pm > 1u << 31)
			check(!"the ACPI timer went back");
		if (tsc_now < tsc)
			check(!"the time stamp counter went back");
		pm = pm_now;
		tsc = tsc_now;
		pm_ms = (pm - pm_start) / PM_PER_MS;
	} while (failures < 5 && (pm_ms < SHORTEST_MS || !(in8(LINE_STATUS) & DATA_READY)));
	for (tsc_ms = 0; tsc - tsc_start >= khz; tsc_ms++)
		tsc_start += khz;
	print("%u ms by the ACPI timer, %u by the time stamp counter\n", pm_ms, tsc_ms);
	check(tsc_ms <= pm_ms + pm_ms / 16 + 5);
	check(pm_ms <= tsc_ms + tsc_ms / 16 + 5);
}
