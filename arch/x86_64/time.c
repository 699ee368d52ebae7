/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One clock: the TSC, scaled. Nanoseconds = ticks * scale / 2^56 with a 128-bit product: no
 * division on the way, error below 2^-50 of the reading. The scale is computed once, before other CPUs run.
 */
#include "arch/x86_64/time.h"

#include "arch/x86_64/apic.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/cpu_local.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"

#define NS_PER_SECOND UINT64_C(1000000000)
#define TO_NS_SHIFT 56
#define TO_TSC_SHIFT 60
/* Where both scales fit 64 bits. */
#define SLOWEST_HZ UINT64_C(4000000)
#define FASTEST_HZ UINT64_C(15000000000)
#define FALLBACK_HZ UINT64_C(1000000000)

static uint64_t tsc_hz, boot_tsc;
static uint64_t to_ns, to_tsc;

/* (high_shifted << shift) / divisor, for a quotient that fits 64 bits. */
static uint64_t scale_of(uint64_t value, unsigned shift, uint64_t divisor)
{
	uint64_t high = value >> (64 - shift), low = value << shift, quotient;

	panic_unless(high < divisor);
	__asm__("divq %3" : "=a"(quotient), "+d"(high) : "a"(low), "r"(divisor) : "cc");
	return quotient;
}

uint64_t host_tsc_hz(void)
{
	return tsc_hz;
}

uint64_t host_tsc_to_ns(uint64_t ticks)
{
	return (uint64_t)((unsigned __int128)ticks * to_ns >> TO_NS_SHIFT);
}

uint64_t host_ns_to_tsc(uint64_t ns)
{
	return (uint64_t)((unsigned __int128)ns * to_tsc >> TO_TSC_SHIFT);
}

int64_t host_tsc_ahead(void)
{
	return this_cpu()->tsc_ahead;
}

uint64_t host_now_ns(void)
{
	int64_t ticks = (int64_t)(rdtsc() - boot_tsc) - this_cpu()->tsc_ahead;

	return host_tsc_to_ns(ticks > 0 ? (uint64_t)ticks : 0);
}

void time_wait_ns(uint64_t ns)
{
	uint64_t start = rdtsc(), ticks = host_ns_to_tsc(ns);

	while (rdtsc() - start < ticks)
		__builtin_ia32_pause();
}

/*
 * What the processor or a hypervisor tells is exact, and counts as long as measuring doesn't speak against it (by 2 %). What it
 * tells as its nominal frequency may be off by some: that, and a measurement whose runs don't agree, is a guess.
 */
static uint64_t choose_hz(const char **source)
{
	bool sure;
	uint64_t measured = time_measured_hz(source, &sure), told = time_told_hz(), hz = measured;

	if (told && (!sure || time_agree(measured, told, 50))) {
		*source = "CPUID";
		return told;
	}
	if (told)
		log_line(LOG_WARNING "time: CPUID says %lu kHz, measured %lu kHz: measured counts", told / 1000,
			 measured / 1000);
	if (sure)
		return hz;
	if (!hz) {
		*source = "its nominal frequency";
		hz = time_nominal_hz();
	}
	if (!hz) {
		*source = "nothing";
		hz = FALLBACK_HZ;
	}
	log_line(LOG_WARNING "time: the TSC's %lu MHz are a guess, by %s: clocks may run wrong", hz / 1000000, *source);
	return hz;
}

void time_init(void)
{
	const char *source;
	uint64_t hz = choose_hz(&source);

	if (hz < SLOWEST_HZ || hz > FASTEST_HZ) {
		log_line(LOG_WARNING "time: a TSC of %lu Hz cannot be; %lu assumed", hz, FALLBACK_HZ);
		hz = FALLBACK_HZ;
	}
	tsc_hz = hz;
	to_ns = scale_of(NS_PER_SECOND, TO_NS_SHIFT, hz);
	to_tsc = scale_of(hz, TO_TSC_SHIFT, NS_PER_SECOND);
	boot_tsc = rdtsc();
	log_line(LOG_DEBUG "time: TSC at %lu.%03lu MHz by %s", hz / 1000000, hz / 1000 % 1000, source);
}

/* Both as close as the hardware allows; interrupts are off. */
static void arm(uint64_t deadline_ns)
{
	uint64_t when = boot_tsc + host_ns_to_tsc(deadline_ns) + 1 + (uint64_t)this_cpu()->tsc_ahead, now = rdtsc();

	apic_timer_arm(when, (int64_t)(when - now) > 0 ? when - now : 0);
}

void host_timer_set(uint64_t deadline_ns)
{
	this_cpu()->timer_deadline_ns = deadline_ns;
	if (deadline_ns == UINT64_MAX)
		apic_timer_disarm();
	else
		arm(deadline_ns);
}

void time_timer_fired(struct cpu *cpu)
{
	if (cpu->timer_deadline_ns == UINT64_MAX)
		return;
	if (host_now_ns() < cpu->timer_deadline_ns)
		arm(cpu->timer_deadline_ns);
	else
		cpu->timer_deadline_ns = UINT64_MAX;
}
