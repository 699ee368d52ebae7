/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Oscillators derived from the machine's clock. Both directions are exact, without a 128-bit division: a device keeps
 * tick numbers counted from the start of the machine, so that no rounding adds up.
 */
#pragma once

#include <stdint.h>

#define NANOSECONDS UINT64_C(1000000000)
/*
 * A guest's periodic timer fires no faster than this, whatever it asks for, or the guest would get nothing else done; the count it
 * reads stays exact.
 */
#define TIMER_MINIMUM_PERIOD UINT64_C(200000)
#define CLOCK_MAX_HZ UINT64_C(18000000000) /* above it a second's worth of product overflows */

_Static_assert(CLOCK_MAX_HZ <= UINT64_MAX / NANOSECONDS, "products of one second fit");

/* Ticks of an oscillator of hz (at most CLOCK_MAX_HZ) that are over at `time` nanoseconds. */
static inline uint64_t clock_ticks(uint64_t time, uint64_t hz)
{
	return time / NANOSECONDS * hz + time % NANOSECONDS * hz / NANOSECONDS;
}

/* The first nanosecond at which clock_ticks() is `ticks`; UINT64_MAX when it lies beyond the clock's end. */
static inline uint64_t clock_time(uint64_t ticks, uint64_t hz)
{
	uint64_t seconds = ticks / hz;

	if (seconds >= UINT64_MAX / NANOSECONDS)
		return UINT64_MAX;
	return seconds * NANOSECONDS + (ticks % hz * NANOSECONDS + hz - 1) / hz;
}

/* Periods between a timer's deadline and now, from 1 on; 1 too where the period is below the floor. */
static inline uint64_t tick_periods(uint64_t deadline, uint64_t now, uint64_t period)
{
	return period < TIMER_MINIMUM_PERIOD || now < deadline ? 1 : (now - deadline) / period + 1;
}
