/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local APIC's timer (Intel SDM vol. 3 section 11.5.4). The count is a function of the machine's clock: a tick before
 * the divider is one nanosecond, so a divided tick is a power of two of them and nothing is rounded. A
 * TSC deadline is turned into nanoseconds when it is set, and looked at again when it fires.
 *
 * The timer isn't one of the machine's queue: its processor looks at it, so that neither needs the other's lock. It is the owner's.
 */
#include "dev/apic/lapic_internal.h"
#include "dev/clock.h"

_Static_assert(LAPIC_TIMER_HZ == NANOSECONDS, "a tick before the divider is one nanosecond");

static uint64_t now(const struct lapic *lapic)
{
	return lapic->bus->now(lapic->bus->context);
}

/* log2 of the divider: bits 3, 1 and 0 count 2, 4 .. 128, and 7 is 1. */
static unsigned divide_shift(const struct lapic *lapic)
{
	unsigned code = (lapic->divide & 3) | (lapic->divide >> 1 & 4);

	return (code + 1) & 7;
}

static unsigned mode(const struct lapic *lapic)
{
	return LVT_TIMER_MODE(lapic->lvt[LVT_TIMER]);
}

void lapic_timer_stop(struct lapic *lapic)
{
	lapic->counting = false;
	tick_forget(&lapic->ticks);
	lapic->deadline = UINT64_MAX;
}

static uint64_t period(const struct lapic *lapic)
{
	return (uint64_t)lapic->initial_count << divide_shift(lapic);
}

uint32_t lapic_timer_current(const struct lapic *lapic)
{
	uint64_t ticks;

	if (!lapic->counting || !lapic->initial_count)
		return 0;
	ticks = (now(lapic) - lapic->count_start) >> divide_shift(lapic);
	if (mode(lapic) == TIMER_PERIODIC)
		ticks %= lapic->initial_count;
	return ticks < lapic->initial_count ? lapic->initial_count - (uint32_t)ticks : 0;
}

static void tell_fast(const struct lapic *lapic)
{
	struct bus *bus = lapic->bus;

	if (mode(lapic) != TIMER_PERIODIC || period(lapic) >= TIMER_MINIMUM_PERIOD)
		return;
	bus->lock(bus->context);
	bus->event(bus->context, MACHINE_FAST_TIMER, (uint32_t)period(lapic));
	bus->unlock(bus->context);
}

/* Any write starts the count over; 0 stops it. */
void lapic_timer_set_count(struct lapic *lapic, uint32_t count)
{
	if (mode(lapic) == TIMER_TSC_DEADLINE)
		return;
	lapic->initial_count = count;
	if (!count) {
		lapic_timer_stop(lapic);
		return;
	}
	tick_forget(&lapic->ticks);
	tell_fast(lapic);
	lapic->count_start = now(lapic);
	lapic->counting = true;
	lapic->deadline = lapic->count_start + period(lapic);
}

/* The next end of the count after `time`. */
static uint64_t next_end(const struct lapic *lapic, uint64_t time)
{
	uint64_t length = period(lapic);

	if (mode(lapic) != TIMER_PERIODIC)
		return lapic->count_start + length;
	return lapic->count_start + ((time - lapic->count_start) / length + 1) * length;
}

/* The count goes on from where it is, at the new speed. */
void lapic_timer_set_divide(struct lapic *lapic, uint32_t value)
{
	uint32_t left = lapic_timer_current(lapic);
	uint64_t time = now(lapic);

	lapic->divide = value & 0xb;
	if (!lapic->counting)
		return;
	lapic->count_start = time - ((uint64_t)(lapic->initial_count - left) << divide_shift(lapic));
	lapic->deadline = next_end(lapic, time);
}

void lapic_timer_mode_changed(struct lapic *lapic, uint32_t old)
{
	unsigned from = LVT_TIMER_MODE(old), to = mode(lapic);

	if (from == to)
		return;
	/* To and from TSC-deadline mode the timer is disarmed. */
	if (from >= TIMER_TSC_DEADLINE || to >= TIMER_TSC_DEADLINE) {
		lapic->initial_count = 0;
		lapic->tsc_deadline = 0;
		lapic_timer_stop(lapic);
	} else if (lapic->counting) {
		tick_forget(&lapic->ticks);
		tell_fast(lapic);
		/* A periodic count that becomes one-shot ends with the period that is running. */
		if (from == TIMER_PERIODIC)
			lapic->count_start += (now(lapic) - lapic->count_start) / period(lapic) * period(lapic);
		lapic->deadline = next_end(lapic, now(lapic));
	}
}

enum irq_fate lapic_timer_tick(void *device)
{
	return lapic_raise_lvt(device, LVT_TIMER, true);
}

static void expire(struct lapic *lapic)
{
	lapic->tsc_deadline = 0;
	(void)lapic_raise_lvt(lapic, LVT_TIMER, true);
}

/* Arms the deadline that is set, or expires it if it is over. */
static void arm_deadline(struct lapic *lapic)
{
	uint64_t tsc = lapic->host->tsc(lapic->context), time = now(lapic), wait;

	if (lapic->tsc_deadline <= tsc) {
		lapic->deadline = UINT64_MAX;
		expire(lapic);
		return;
	}
	wait = clock_time(lapic->tsc_deadline - tsc, lapic->tsc_hz);
	lapic->deadline = wait > UINT64_MAX - time ? UINT64_MAX : time + wait;
}

void lapic_timer_set_deadline(struct lapic *lapic, uint64_t deadline)
{
	if (mode(lapic) != TIMER_TSC_DEADLINE)
		return;
	lapic->tsc_deadline = deadline;
	if (deadline)
		arm_deadline(lapic);
	else
		lapic->deadline = UINT64_MAX;
}

void lapic_tsc_changed(struct lapic *lapic)
{
	if (lapic->tsc_deadline)
		arm_deadline(lapic);
}

void lapic_timer_run(struct lapic *lapic, uint64_t time)
{
	uint64_t deadline = lapic->deadline;

	if (deadline > time)
		return;
	lapic->deadline = UINT64_MAX;
	if (lapic->tsc_deadline) {
		arm_deadline(lapic);
		return;
	}
	if (!lapic->counting)
		return;
	if (mode(lapic) != TIMER_PERIODIC) {
		lapic->counting = false;
		expire(lapic);
		return;
	}
	tick_due(lapic->bus, &lapic->ticks, tick_periods(deadline, time, period(lapic)), period(lapic));
	lapic->deadline = max_u64(next_end(lapic, time), time + TIMER_MINIMUM_PERIOD);
}
