/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast is the TSC? Measured against a counter of known speed over 10 ms, again until two runs agree: the machine may be
 * interrupted by system management or, being a virtual one, not run for a while. Both ends of a run are the quickest of a few
 * readings, so that most such pauses don't count at all. Every loop is bounded by a count of readings: a counter that stands
 * still costs milliseconds, not the machine.
 */
#include "arch/x86_64/acpi.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/paging.h"
#include "arch/x86_64/time.h"
#include "arch/x86_64/traps.h"

#define RUNS 8u
#define READINGS 5u
#define WINDOW_PER_SECOND 100u
#define AGREE 1000u        /* within this part of each other */
#define STUCK_READS 20000u /* without a change: it doesn't tick */
#define MOST_READS 1000000u

/* ---- counters ---- */

/* Counts up by hz, modulo mask + 1. */
struct counter {
	const char *name;
	uint64_t hz;
	uint32_t mask;
	uint32_t (*read)(void);
};

#define PM_TIMER_HZ UINT64_C(3579545) /* ACPI 6.5 section 4.8.3.3 */
#define PM_TIMER_MASK 0xffffffu       /* the 24 bits that every one has */

static struct acpi_register pm_timer;

static uint32_t read_pm_timer(void)
{
	return acpi_read(&pm_timer, 32);
}

static bool open_pm_timer(struct counter *c)
{
	*c = (struct counter){ "PM timer", PM_TIMER_HZ, PM_TIMER_MASK, read_pm_timer };
	return acpi_open(&acpi_power()->pm_timer, 32, &pm_timer);
}

/* IA-PC HPET specification 1.0a, sections 2.3 and 3.2.4; registers in 32-bit words. */
#define HPET_TABLE_ADDRESS 44u
#define HPET_SIZE 0x400u
#define HPET_PERIOD 1u /* femtoseconds */
#define HPET_CONFIGURATION 4u
#define HPET_COUNTER 60u
#define HPET_ENABLE 1u
#define HPET_PERIOD_MOST 100000000u
#define FEMTOSECONDS UINT64_C(1000000000000000)

static volatile uint32_t *hpet;

static uint32_t read_hpet(void)
{
	return hpet[HPET_COUNTER];
}

/* It stays on: its own interrupts are as the firmware left them, and all their ways are masked. */
static bool open_hpet(struct counter *c)
{
	const uint8_t *table = host_acpi_table("HPET");
	uint64_t address;
	uint32_t period;

	if (!table || ((const struct acpi_header *)table)->length < HPET_TABLE_ADDRESS + sizeof(address))
		return false;
	__builtin_memcpy(&address, table + HPET_TABLE_ADDRESS, sizeof(address));
	hpet = address ? host_map_device(hpa(address), HPET_SIZE, MEMORY_TYPE_UC) : NULL;
	period = hpet ? hpet[HPET_PERIOD] : 0;
	if (!period || period > HPET_PERIOD_MOST)
		return false;
	hpet[HPET_CONFIGURATION] |= HPET_ENABLE;
	*c = (struct counter){ "HPET", FEMTOSECONDS / period, UINT32_MAX, read_hpet };
	return true;
}

#define PIT_HZ UINT64_C(1193182)
#define PIT_CHANNEL_2 0x42u
#define PIT_COMMAND 0x43u
#define PIT_CHANNEL_2_MODE_0 0xb0u /* low then high byte; counts down, and on through zero */
#define PIT_CHANNEL_2_LATCH 0x80u
#define PORT_B 0x61u
#define PORT_B_GATE 0x01u
#define PORT_B_SPEAKER 0x02u

static uint32_t read_pit(void)
{
	uint32_t low;

	out8(PIT_COMMAND, PIT_CHANNEL_2_LATCH);
	low = in8(PIT_CHANNEL_2);
	return 0 - (low | (uint32_t)in8(PIT_CHANNEL_2) << 8);
}

static bool open_pit(struct counter *c)
{
	out8(PORT_B, (uint8_t)((in8(PORT_B) & ~PORT_B_SPEAKER) | PORT_B_GATE));
	out8(PIT_COMMAND, PIT_CHANNEL_2_MODE_0);
	out8(PIT_CHANNEL_2, 0xff);
	out8(PIT_CHANNEL_2, 0xff);
	*c = (struct counter){ "PIT", PIT_HZ, 0xffff, read_pit };
	return true;
}

static bool (*const counters[])(struct counter *c) = { open_pm_timer, open_hpet, open_pit };

/* ---- measuring ---- */

struct reading {
	uint64_t tsc;
	uint32_t count;
};

static struct reading read_both(const struct counter *c)
{
	struct reading best = { 0 };
	uint64_t shortest = UINT64_MAX;

	for (unsigned i = 0; i < READINGS; i++) {
		uint64_t before = rdtsc();
		uint32_t count = c->read();
		uint64_t took = rdtsc() - before;

		if (took < shortest) {
			shortest = took;
			best = (struct reading){ before + took / 2, count };
		}
	}
	return best;
}

/* One run, in Hz; 0: the counter doesn't count. */
static uint64_t run(const struct counter *c)
{
	const uint64_t wanted = c->hz / WINDOW_PER_SECOND;
	struct reading first = read_both(c), last;
	uint32_t seen = first.count;
	uint64_t elapsed = 0;

	for (unsigned reads = 0, stuck = 0; elapsed < wanted; reads++) {
		uint32_t passed = (c->read() - seen) & c->mask;

		stuck = passed ? 0 : stuck + 1;
		if (stuck > STUCK_READS || reads > MOST_READS)
			return 0;
		seen += passed;
		elapsed += passed;
	}
	last = read_both(c);
	elapsed += (last.count - seen) & c->mask;
	return (last.tsc - first.tsc) * c->hz / elapsed;
}

/* Until a run agrees with an earlier one. *sure: it did; else the shortest, since an interruption only lengthens one. */
static uint64_t measure(const struct counter *c, bool *sure)
{
	uint64_t hz[RUNS], least = UINT64_MAX;

	for (unsigned i = 0; i < RUNS; i++) {
		hz[i] = run(c);
		if (!hz[i])
			return 0;
		least = min_u64(least, hz[i]);
		for (unsigned j = 0; j < i; j++)
			if ((*sure = time_agree(hz[i], hz[j], AGREE)))
				return (hz[i] + hz[j]) / 2;
	}
	return least;
}

uint64_t time_measured_hz(const char **source, bool *sure)
{
	uint64_t hz = 0;

	*sure = false;
	for (unsigned i = 0; i < ARRAY_SIZE(counters) && !*sure; i++) {
		struct counter c;
		uint64_t found = counters[i](&c) ? measure(&c, sure) : 0;

		if (!found || (hz && !*sure))
			continue;
		hz = found;
		*source = c.name;
	}
	return hz;
}

/* ---- what the processor says ---- */

#define HYPERVISOR_TIMING 0x40000010u
#define HYPERVISOR_LEAVES_END 0x40000100u

/* A hypervisor's word, in kHz; else the crystal times a ratio, Intel SDM vol. 3 section 19.7.3. */
uint64_t time_told_hz(void)
{
	struct cpuid_result r;

	if (features.hypervisor) {
		uint32_t last = cpuid(0x40000000, 0).eax;

		if (last >= HYPERVISOR_TIMING && last < HYPERVISOR_LEAVES_END && cpuid(HYPERVISOR_TIMING, 0).eax)
			return UINT64_C(1000) * cpuid(HYPERVISOR_TIMING, 0).eax;
	}
	if (features.max_leaf < 0x15)
		return 0;
	r = cpuid(0x15, 0);
	return r.eax && r.ebx && r.ecx ? (uint64_t)r.ecx * r.ebx / r.eax : 0;
}

#define MSR_PLATFORM_INFO 0xceu
#define MSR_PSTATE_0 0xc0010064u
#define MHZ UINT64_C(1000000)

/* AMD's PPRs, Core::X86::Msr::PStateDef: the TSC runs at the frequency of P-state 0. 200 MHz * FID / DID from family 17h on. */
static uint64_t amd_nominal(void)
{
	uint64_t p, family = (cpuid(1, 0).eax >> 8 & 15) + (cpuid(1, 0).eax >> 20 & 255);

	if (family < 0x17 || !rdmsr_safe(MSR_PSTATE_0, &p) || !(p >> 63))
		return 0;
	if (family >= 0x1a)
		return (p & 0xfff) * 5 * MHZ;
	return p >> 8 & 0x3f ? (p & 0xff) * 200 * MHZ / (p >> 8 & 0x3f) : 0;
}

/* Leaf 16h, else the maximum non-turbo ratio of 100 MHz: Intel SDM vol. 4, MSR_PLATFORM_INFO, Sandy Bridge and later. */
uint64_t time_nominal_hz(void)
{
	uint64_t info;

	if (features.amd)
		return features.hypervisor ? 0 : amd_nominal();
	if (features.max_leaf >= 0x16 && cpuid(0x16, 0).eax & 0xffff)
		return (cpuid(0x16, 0).eax & 0xffff) * MHZ;
	return !features.hypervisor && rdmsr_safe(MSR_PLATFORM_INFO, &info) ? (info >> 8 & 0xff) * 100 * MHZ : 0;
}
