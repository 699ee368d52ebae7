/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 8254's six modes as functions of the ticks since the counter was loaded.
 *
 * A count that is written at tick t is in the counter at t + 1. In modes 2 and 3 a new count waits for
 * the end of the period (mode 2) or half period (mode 3) that is running; settle() takes it over.
 */
#include "dev/legacy/pit_counter.h"

static unsigned from_bcd(unsigned value)
{
	return (value & 15) + (value >> 4 & 15) * 10 + (value >> 8 & 15) * 100 + (value >> 12 & 15) * 1000;
}

static unsigned to_bcd(unsigned value)
{
	return value % 10 | value / 10 % 10 << 4 | value / 100 % 10 << 8 | value / 1000 % 10 << 12;
}

static bool periodic(const struct pit_counter *counter)
{
	return counter->mode == 2 || counter->mode == 3;
}

static bool strobed_by_gate(const struct pit_counter *counter)
{
	return counter->mode == 1 || counter->mode == 5;
}

/* Tick numbers are compared by difference: start may lie before the machine's own. */
static bool before(uint64_t a, uint64_t b)
{
	return (int64_t)(a - b) < 0;
}

/* Ticks of mode 3's high half: the longer one for an odd count. */
static uint32_t high_half(uint32_t count)
{
	return (count + 1) / 2;
}

static uint64_t elapsed(const struct pit_counter *counter, uint64_t tick)
{
	if (counter->held)
		return counter->elapsed;
	return before(counter->start, tick) ? tick - counter->start : 0;
}

static bool running(const struct pit_counter *counter)
{
	return counter->loaded && !counter->held && (!strobed_by_gate(counter) || counter->triggered) &&
	       (!periodic(counter) || counter->gate);
}

uint32_t pit_counter_period(const struct pit_counter *counter)
{
	return periodic(counter) && running(counter) ? counter->count : 0;
}

static void settle(struct pit_counter *counter, uint64_t tick)
{
	if (!counter->next_count || strobed_by_gate(counter) || before(tick, counter->next_start))
		return;
	counter->count = counter->next_count;
	counter->start = counter->next_start - (counter->next_low ? high_half(counter->count) : 0);
	counter->next_count = 0;
}

static bool output(const struct pit_counter *counter, uint64_t tick)
{
	uint64_t ticks = elapsed(counter, tick);

	switch (counter->mode) {
	case 0: return counter->loaded && ticks >= counter->count;
	case 1: return !counter->triggered || before(tick, counter->start) || ticks >= counter->count;
	case 2:
		return !running(counter) || before(tick, counter->start) ||
		       ticks % counter->count != counter->count - 1;
	case 3:
		return !running(counter) || before(tick, counter->start) ||
		       ticks % counter->count < high_half(counter->count);
	default: /* 4 and 5: one low tick at the end */
		return !counter->loaded || (counter->mode == 5 && !counter->triggered) || ticks != counter->count;
	}
}

bool pit_counter_output(struct pit_counter *counter, uint64_t tick)
{
	settle(counter, tick);
	return output(counter, tick);
}

uint64_t pit_counter_next_rise(struct pit_counter *counter, uint64_t tick)
{
	uint64_t rise;

	settle(counter, tick);
	if (!running(counter))
		return UINT64_MAX;
	if (!periodic(counter)) {
		rise = counter->start + counter->count + (counter->mode >= 4);
		return before(tick, rise) ? rise : UINT64_MAX;
	}
	rise = counter->start + (elapsed(counter, tick) / counter->count + 1) * counter->count;
	/* A count that takes over in the middle of the period begins with its low half. */
	if (counter->next_count && before(counter->next_start, rise))
		rise = counter->next_start + counter->next_count - high_half(counter->next_count);
	return rise;
}

/* What the counting element holds. */
static uint16_t present_count(struct pit_counter *counter, uint64_t tick)
{
	uint32_t modulus = counter->bcd ? 10000 : 65536, value;
	uint64_t ticks;

	settle(counter, tick);
	ticks = elapsed(counter, tick);
	if (strobed_by_gate(counter) && !counter->triggered)
		ticks = 0;
	if (counter->mode == 2) {
		value = counter->count - (uint32_t)(ticks % counter->count);
	} else if (counter->mode == 3) {
		/* Two at a time, from the even part of the count, once for each half. */
		uint32_t phase = (uint32_t)(ticks % counter->count), high = high_half(counter->count);

		value = (counter->count & ~1u) - 2 * (phase < high ? phase : phase - high);
	} else {
		value = (uint32_t)((counter->count + modulus - ticks % modulus) % modulus);
	}
	value %= modulus;
	return (uint16_t)(counter->bcd ? to_bcd(value) : value);
}

void pit_counter_control(struct pit_counter *counter, uint8_t control, uint64_t tick)
{
	uint8_t mode = control >> 1 & 7;

	counter->mode = mode > 5 ? mode - 4 : mode;
	counter->access = control >> 4 & 3;
	counter->bcd = control & 1;
	counter->loaded = counter->triggered = counter->held = false;
	counter->write_high = counter->read_high = counter->access == PIT_HIGH;
	counter->count_latched = counter->status_latched = false;
	counter->next_count = 0;
	counter->start = tick;
	counter->held = true;
	counter->elapsed = 0;
}

/* The count for the next period or half period, while one is running. */
static void load_later(struct pit_counter *counter, uint32_t count, uint64_t tick)
{
	uint64_t ticks = elapsed(counter, tick), period = ticks / counter->count * counter->count;
	bool high = counter->mode == 3 && ticks - period < high_half(counter->count);

	counter->next_count = count;
	counter->next_low = high;
	counter->next_start = counter->start + period + (high ? high_half(counter->count) : counter->count);
}

/* A whole count has been written. */
static void load(struct pit_counter *counter, uint32_t value, uint64_t tick)
{
	uint32_t count = counter->bcd ? from_bcd(value) : value;

	if (!count)
		count = counter->bcd ? 10000 : 65536;
	if (count == 1 && periodic(counter))
		count = 2; /* not allowed there */
	if (strobed_by_gate(counter) && counter->triggered) {
		counter->next_count = count; /* for the next trigger */
		return;
	}
	if (periodic(counter) && running(counter)) {
		load_later(counter, count, tick);
		return;
	}
	counter->loaded = true;
	counter->count = count;
	counter->start = tick + 1;
	counter->elapsed = 0;
	counter->held = strobed_by_gate(counter) || !counter->gate;
}

void pit_counter_write(struct pit_counter *counter, uint8_t value, uint64_t tick)
{
	settle(counter, tick);
	if (counter->access == PIT_LOW) {
		load(counter, value, tick);
	} else if (counter->access == PIT_HIGH) {
		load(counter, (uint32_t)value << 8, tick);
	} else if (!counter->write_high) {
		counter->low_byte = value;
		counter->write_high = true;
		if (counter->mode == 0) { /* the first half stops the count and lowers OUT */
			counter->loaded = false;
			counter->elapsed = elapsed(counter, tick);
			counter->held = true;
		}
	} else {
		counter->write_high = false;
		load(counter, (uint32_t)value << 8 | counter->low_byte, tick);
	}
}

/* A rising gate starts the strobes, restarts the periodic modes, and lets the others go on. */
static void gate_rises(struct pit_counter *counter, uint64_t tick)
{
	if (!counter->loaded)
		return;
	if (strobed_by_gate(counter) || periodic(counter)) {
		if (counter->next_count)
			counter->count = counter->next_count;
		counter->next_count = 0;
		counter->triggered = true;
		counter->start = tick + 1;
	} else {
		counter->start = tick - counter->elapsed;
	}
	counter->held = false;
}

void pit_counter_set_gate(struct pit_counter *counter, bool gate, uint64_t tick)
{
	settle(counter, tick);
	if (gate == counter->gate)
		return;
	counter->gate = gate;
	if (gate) {
		gate_rises(counter, tick);
	} else if (counter->loaded && !strobed_by_gate(counter)) {
		counter->elapsed = elapsed(counter, tick);
		counter->held = true;
	}
}

void pit_counter_latch(struct pit_counter *counter, uint64_t tick)
{
	if (counter->count_latched)
		return; /* the first latch holds until it is read */
	counter->latch = present_count(counter, tick);
	counter->count_latched = true;
}

/* Status byte: OUT, null count, access, mode, BCD (data sheet, read-back command). */
void pit_counter_latch_status(struct pit_counter *counter, uint64_t tick)
{
	bool null_count;

	if (counter->status_latched)
		return;
	settle(counter, tick);
	null_count = !counter->loaded || counter->next_count || (!counter->held && before(tick, counter->start));
	counter->status = (uint8_t)(output(counter, tick) << 7 | null_count << 6 | counter->access << 4 |
				    counter->mode << 1 | counter->bcd);
	counter->status_latched = true;
}

uint8_t pit_counter_read(struct pit_counter *counter, uint64_t tick)
{
	uint16_t value = counter->count_latched ? counter->latch : present_count(counter, tick);
	bool high = counter->read_high;

	if (counter->status_latched) {
		counter->status_latched = false;
		return counter->status;
	}
	if (counter->access == PIT_LOW_HIGH)
		counter->read_high = !high;
	else
		high = counter->access == PIT_HIGH;
	if (counter->access != PIT_LOW_HIGH || high)
		counter->count_latched = false;
	return (uint8_t)(high ? value >> 8 : value);
}
