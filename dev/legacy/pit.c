/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 8254 of a PC: counter 0 raises interrupt line 0, counter 1 is free, counter 2 is gated by port 0x61 and
 * its OUT is read there.
 *
 * Only counter 0 needs a timer, and only for the rising edges of OUT, since the line is edge triggered: each
 * becomes a pulse. Edges that fell due while the machine did not run are made up for (dev/tick.c). The edges' times come
 * from tick numbers, so they don't drift.
 */
#include "dev/legacy/pit.h"
#include "dev/clock.h"
#include "dev/legacy/pit_counter.h"

#define COUNTERS 3u
#define CONTROL_PORT 0x43
#define FIRST_PORT 0x40
#define SPEAKER_PORT 0x61
#define TIMER_LINE 0
#define READ_BACK 3u
#define SPEAKER_GATE 0x01u
#define SPEAKER_WRITABLE 0x0fu
#define SPEAKER_REFRESH 0x10u
#define SPEAKER_OUT 0x20u
#define REFRESH_TICKS 18u /* memory refresh every 15 microseconds */

struct pit {
	struct bus *bus;
	struct pit_counter counters[COUNTERS];
	uint8_t speaker;
	struct dev_timer timer;
	struct tick_debt ticks;
};

static uint64_t now_tick(const struct pit *pit)
{
	return clock_ticks(pit->bus->now(pit->bus->context), PIT_HZ);
}

/* Arms the timer for counter 0's next rising edge after `tick`, but not before `earliest` nanoseconds. */
static void schedule(struct pit *pit, uint64_t tick, uint64_t earliest)
{
	uint64_t rise = pit_counter_next_rise(&pit->counters[0], tick);

	if (rise == UINT64_MAX)
		timer_cancel(&pit->bus->timers, &pit->timer);
	else
		timer_arm(&pit->bus->timers, &pit->timer, max_u64(clock_time(rise, PIT_HZ), earliest));
}

static enum irq_fate pulse(void *device)
{
	struct pit *pit = device;

	(void)pit->bus->set_irq(pit->bus->context, TIMER_LINE, false);
	return pit->bus->set_irq(pit->bus->context, TIMER_LINE, true);
}

/* Nanoseconds from edge to edge of counter 0; 0: there is just one. */
static uint64_t period(const struct pit *pit)
{
	return clock_time(pit_counter_period(&pit->counters[0]), PIT_HZ);
}

static void edge(void *device, uint64_t now)
{
	struct pit *pit = device;

	tick_due(pit->bus, &pit->ticks, tick_periods(pit->timer.deadline, now, period(pit)), period(pit));
	schedule(pit, clock_ticks(now, PIT_HZ), now + TIMER_MINIMUM_PERIOD);
}

/* Counter 2 makes a tone or measures a time, and whoever waits for its end compares another clock with it. */
static void note_measurement(struct pit *pit, uint64_t tick)
{
	uint64_t rise =
		pit_counter_period(&pit->counters[2]) ? UINT64_MAX : pit_counter_next_rise(&pit->counters[2], tick);

	__atomic_store_n(&pit->bus->measuring, rise == UINT64_MAX ? 0 : clock_time(rise, PIT_HZ), __ATOMIC_RELAXED);
}

/* Counter 0 was touched: its line and its next edge are new. */
static void counter_changed(struct pit *pit, unsigned index, uint64_t tick)
{
	if (index == 2)
		note_measurement(pit, tick);
	if (index)
		return;
	tick_forget(&pit->ticks);
	(void)pit->bus->set_irq(pit->bus->context, TIMER_LINE, pit_counter_output(&pit->counters[0], tick));
	schedule(pit, tick, 0);
	if (pit_counter_period(&pit->counters[0]) && period(pit) < TIMER_MINIMUM_PERIOD)
		pit->bus->event(pit->bus->context, MACHINE_FAST_TIMER, (uint32_t)period(pit));
}

/* All but the latching of one counter, which is commoner and is quicker without. */
static __attribute__((noinline)) void command(struct pit *pit, uint8_t value, uint64_t tick)
{
	unsigned index = value >> 6;

	if (index != READ_BACK) {
		pit_counter_control(&pit->counters[index], value, tick);
		counter_changed(pit, index, tick);
		return;
	}
	for (unsigned i = 0; i < COUNTERS; i++) {
		if (!(value & 2u << i))
			continue;
		if (!(value & 0x20))
			pit_counter_latch(&pit->counters[i], tick);
		if (!(value & 0x10))
			pit_counter_latch_status(&pit->counters[i], tick);
	}
}

static void control_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct pit *pit = device;
	uint64_t tick = now_tick(pit);
	unsigned index = value >> 6 & 3;

	if (index != READ_BACK && (value >> 4 & 3) == PIT_LATCH)
		pit_counter_latch(&pit->counters[index], tick);
	else
		command(pit, (uint8_t)value, tick);
}

static uint32_t control_read(void *device, uint16_t port, unsigned size)
{
	return 0xff; /* write only */
}

static uint32_t pit_read(void *device, uint16_t port, unsigned size)
{
	struct pit *pit = device;

	return pit_counter_read(&pit->counters[port - FIRST_PORT], now_tick(pit));
}

static void pit_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct pit *pit = device;
	uint64_t tick = now_tick(pit);

	pit_counter_write(&pit->counters[port - FIRST_PORT], (uint8_t)value, tick);
	counter_changed(pit, port - FIRST_PORT, tick);
}

static uint32_t speaker_read(void *device, uint16_t port, unsigned size)
{
	struct pit *pit = device;
	uint64_t tick = now_tick(pit);

	return pit->speaker | (tick / REFRESH_TICKS & 1 ? SPEAKER_REFRESH : 0) |
	       (pit_counter_output(&pit->counters[2], tick) ? SPEAKER_OUT : 0);
}

static void speaker_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct pit *pit = device;

	uint64_t tick = now_tick(pit);

	pit->speaker = value & SPEAKER_WRITABLE;
	pit_counter_set_gate(&pit->counters[2], value & SPEAKER_GATE, tick);
	note_measurement(pit, tick);
}

static const struct port_ops pit_ops = { .widest = 1, .read = pit_read, .write = pit_write };
static const struct port_ops control_ops = { .widest = 1, .read = control_read, .write = control_write };
static const struct port_ops speaker_ops = { .widest = 1, .read = speaker_read, .write = speaker_write };

/* The data sheet leaves the state after power-on open; ours is mode 0 with no count loaded. */
void pit_reset(struct pit *pit)
{
	timer_cancel(&pit->bus->timers, &pit->timer);
	for (unsigned i = 0; i < COUNTERS; i++) {
		pit->counters[i] = (struct pit_counter){ .gate = i != 2, .count = 65536 };
		pit_counter_control(&pit->counters[i], PIT_LOW_HIGH << 4, now_tick(pit));
	}
	tick_forget(&pit->ticks);
	pit->speaker = 0;
	note_measurement(pit, now_tick(pit));
	(void)pit->bus->set_irq(pit->bus->context, TIMER_LINE, false);
}

enum status pit_create(struct bus *bus, struct pit **out)
{
	struct pit *pit = device_alloc(bus, sizeof(*pit));

	if (!pit)
		return NO_MEMORY;
	pit->bus = bus;
	pit->timer = (struct dev_timer){ .fire = edge, .device = pit };
	pit->ticks = (struct tick_debt){ .raise = pulse, .device = pit };
	tick_open(bus, &pit->ticks);
	pit_reset(pit);
	TRY(port_register(bus, FIRST_PORT, COUNTERS, &pit_ops, pit, "pit"));
	TRY(port_register(bus, CONTROL_PORT, 1, &control_ops, pit, "pit"));
	TRY(port_register(bus, SPEAKER_PORT, 1, &speaker_ops, pit, "speaker"));
	*out = pit;
	return OK;
}
