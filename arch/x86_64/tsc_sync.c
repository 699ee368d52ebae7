/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Firmware, or a processor plugged in later, may leave CPUs with different time stamp counters, and all clocks here are one
 * counter scaled. A CPU that comes up first takes over IA32_TSC_ADJUST, which tells what firmware has written. Then it asks the boot
 * CPU for the time: the answer was given between asking and hearing, so each round bounds the difference from both sides,
 * however long it took. Only a difference that is proven so is taken out; where the bounds hold zero, nothing is touched. What the
 * processor doesn't let itself be told is kept as tsc_ahead: the host's clock and guests' offsets reckon with it.
 * Intel SDM vol. 3 section 18.17.
 */
#include "arch/x86_64/tsc_sync.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/cpu_local.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"

#define MSR_TSC 0x10u
#define MSR_TSC_ADJUST 0x3bu
#define ROUNDS 64u
#define MEASURE_NS UINT64_C(10000000)
#define CLOSE_NS 1000u /* bounds that are good enough */
#define SETTINGS 4u    /* what one measurement with wide bounds leaves, the next may prove */

static struct {
	uint32_t taken;           /* atomic: by the CPU that asks */
	uint32_t asked, answered; /* atomic */
	uint64_t tsc;
} exchange;

static uint64_t boot_adjust;
static bool out_of_step; /* atomic */

bool host_tsc_in_step(void)
{
	return features.invariant_tsc && !__atomic_load_n(&out_of_step, __ATOMIC_RELAXED);
}

/* Not before what came before it: SDM vol. 2, RDTSC. */
static uint64_t ordered_tsc(void)
{
	__asm__ volatile("lfence" : : : "memory");
	return rdtsc();
}

void tsc_sync_open(void)
{
	if (features.tsc_adjust)
		boot_adjust = rdmsr(MSR_TSC_ADJUST);
}

void tsc_sync_answer(void)
{
	uint32_t asked = __atomic_load_n(&exchange.asked, __ATOMIC_ACQUIRE);

	if (asked == exchange.answered)
		return;
	exchange.tsc = ordered_tsc();
	__atomic_store_n(&exchange.answered, asked, __ATOMIC_RELEASE);
}

/* What must be added here to have the boot CPU's time lies in [low, high]. */
struct bounds {
	int64_t low, high;
};

/* Narrows the bounds by one round; false: no answer until `end`. */
static bool ask(struct bounds *b, uint64_t end)
{
	uint32_t number = exchange.asked + 1;
	uint64_t before = ordered_tsc(), after;

	__atomic_store_n(&exchange.asked, number, __ATOMIC_RELEASE);
	while (__atomic_load_n(&exchange.answered, __ATOMIC_ACQUIRE) != number) {
		if ((int64_t)(rdtsc() - end) >= 0)
			return false;
		__builtin_ia32_pause();
	}
	after = ordered_tsc();
	if ((int64_t)(exchange.tsc - after) > b->low)
		b->low = (int64_t)(exchange.tsc - after);
	if ((int64_t)(exchange.tsc - before) < b->high)
		b->high = (int64_t)(exchange.tsc - before);
	return true;
}

/* The difference that is proven; 0: none is. */
static int64_t difference(void)
{
	const uint64_t end = rdtsc() + host_ns_to_tsc(MEASURE_NS);
	const int64_t close = (int64_t)host_ns_to_tsc(CLOSE_NS);
	struct bounds b = { INT64_MIN, INT64_MAX };

	while (__atomic_exchange_n(&exchange.taken, 1, __ATOMIC_ACQUIRE))
		__builtin_ia32_pause();
	for (unsigned i = 0; i < ROUNDS && ask(&b, end); i++)
		if (b.high - b.low < close && i)
			break;
	__atomic_store_n(&exchange.taken, 0, __ATOMIC_RELEASE);
	return b.low > 0 || b.high < 0 ? b.low + (b.high - b.low) / 2 : 0;
}

static void move(int64_t by)
{
	if (features.tsc_adjust)
		wrmsr(MSR_TSC_ADJUST, rdmsr(MSR_TSC_ADJUST) + (uint64_t)by);
	else
		wrmsr(MSR_TSC, rdtsc() + (uint64_t)by);
}

void tsc_sync_adopt(void)
{
	int64_t off;

	if (features.tsc_adjust && rdmsr(MSR_TSC_ADJUST) != boot_adjust)
		wrmsr(MSR_TSC_ADJUST, boot_adjust);
	off = difference();
	if (!off)
		return;
	log_line(LOG_WARNING "cpu: the time stamp counter of the one with APIC id %u was off by %ld ticks",
		 this_cpu()->apic_id, off);
	for (unsigned i = 0; off && i < SETTINGS; i++) {
		move(off);
		off = difference();
	}
	if (!off)
		return;
	__atomic_store_n(&out_of_step, true, __ATOMIC_RELAXED);
	log_line(LOG_WARNING "cpu: it can't be set, and is off by %ld ticks: reckoned with", off);
	this_cpu()->tsc_ahead = -off;
}
