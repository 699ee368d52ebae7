/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MC146818 (Motorola data sheet). The time is an offset to the machine's clock, not something that ticks: registers are made
 * from it when they are read. While the guest has stopped the clock (SET, or the divider in reset) the registers
 * are plain memory, and starting it again makes a new offset of them.
 *
 * The three interrupt flags are found out when somebody looks (sync()); a timer is armed only for flags that are
 * enabled and not set yet, and none while the line is up, since it stays up until register C is read.
 */
#include "dev/rtc.h"
#include "dev/clock.h"
#include "dev/rtc_time.h"
#include "lib/bits.h"
#include "lib/memory.h"

#define INDEX_PORT 0x70
#define CMOS_SIZE 128u
#define CRYSTAL_HZ 32768u
#define UPDATE_WARNING UINT64_C(244000) /* UIP rises this long before the update */
#define NEVER UINT64_MAX
#define DAY_SECONDS 86400u
#define CENTURY 0x32u

enum rtc_register {
	SECONDS, SECONDS_ALARM, MINUTES, MINUTES_ALARM, HOURS, HOURS_ALARM, WEEKDAY, DAY, MONTH, YEAR,
	REGISTER_A, REGISTER_B, REGISTER_C, REGISTER_D,
};

#define A_UPDATING 0x80u
#define A_DIVIDER 0x70u
#define A_DIVIDER_NORMAL 0x20u
#define A_RATE 0x0fu
#define B_SET 0x80u
#define B_BINARY 0x04u
#define B_24_HOURS 0x02u
#define C_REQUEST 0x80u
#define C_PERIODIC 0x40u /* the enable bits in register B lie at the same places */
#define C_ALARM 0x20u
#define C_UPDATE 0x10u
#define C_FLAGS (C_PERIODIC | C_ALARM | C_UPDATE)
#define D_VALID 0x80u
#define HOUR_PM 0x80u
#define ALARM_ANY 0xc0u
#define ALARM_MATCHES_ANY UINT32_MAX

struct rtc {
	struct bus *bus;
	uint8_t index, cmos[CMOS_SIZE]; /* registers A, B and C stand in it; the time only while it is stopped */
	uint64_t base_seconds; /* at nanosecond base_time of the machine's clock, which may lie before 0 (mod 2^64) */
	uint64_t base_time;
	uint64_t synced;       /* up to when the flags are known */
	bool level;
	struct dev_timer timer;
};

static uint64_t now(const struct rtc *rtc)
{
	return rtc->bus->now(rtc->bus->context);
}

static bool divider_runs(uint8_t a)
{
	return (a & A_DIVIDER) == A_DIVIDER_NORMAL;
}

static bool running(const struct rtc *rtc)
{
	return !(rtc->cmos[REGISTER_B] & B_SET) && divider_runs(rtc->cmos[REGISTER_A]);
}

static uint64_t seconds_at(const struct rtc *rtc, uint64_t time)
{
	return rtc->base_seconds + (time - rtc->base_time) / NANOSECONDS;
}

/* ---- the form of numbers ---- */

static uint8_t encode(const struct rtc *rtc, unsigned value)
{
	return (uint8_t)(rtc->cmos[REGISTER_B] & B_BINARY ? value : value / 10 << 4 | value % 10);
}

/* 0xff for what is no number. */
static unsigned decode(const struct rtc *rtc, uint8_t value)
{
	if (rtc->cmos[REGISTER_B] & B_BINARY)
		return value;
	return (value & 15) > 9 || value >> 4 > 9 ? 0xff : (value >> 4) * 10u + (value & 15);
}

static uint8_t encode_hour(const struct rtc *rtc, unsigned hour)
{
	if (rtc->cmos[REGISTER_B] & B_24_HOURS)
		return encode(rtc, hour);
	return encode(rtc, (hour + 11) % 12 + 1) | (hour >= 12 ? HOUR_PM : 0);
}

static unsigned decode_hour(const struct rtc *rtc, uint8_t value)
{
	unsigned hour;

	if (rtc->cmos[REGISTER_B] & B_24_HOURS)
		return decode(rtc, value);
	hour = decode(rtc, value & (uint8_t)~HOUR_PM);
	return hour < 1 || hour > 12 ? 0xff : hour % 12 + (value & HOUR_PM ? 12 : 0);
}

/* Puts the time as it is now into the registers. */
static void store_time(struct rtc *rtc)
{
	struct rtc_time time = rtc_time_split(seconds_at(rtc, now(rtc)));

	rtc->cmos[SECONDS] = encode(rtc, time.second);
	rtc->cmos[MINUTES] = encode(rtc, time.minute);
	rtc->cmos[HOURS] = encode_hour(rtc, time.hour);
	rtc->cmos[WEEKDAY] = encode(rtc, time.weekday);
	rtc->cmos[DAY] = encode(rtc, time.day);
	rtc->cmos[MONTH] = encode(rtc, time.month);
	rtc->cmos[YEAR] = encode(rtc, time.year % 100);
	rtc->cmos[CENTURY] = encode(rtc, time.year / 100);
}

/* Takes the time from the registers; the phase of the second stays. */
static void load_time(struct rtc *rtc)
{
	struct rtc_time time = {
		.second = decode(rtc, rtc->cmos[SECONDS]),
		.minute = decode(rtc, rtc->cmos[MINUTES]),
		.hour = decode_hour(rtc, rtc->cmos[HOURS]),
		.day = decode(rtc, rtc->cmos[DAY]),
		.month = decode(rtc, rtc->cmos[MONTH]),
		.year = decode(rtc, rtc->cmos[CENTURY]) * 100 + decode(rtc, rtc->cmos[YEAR]) % 100,
	};

	rtc->base_time += (now(rtc) - rtc->base_time) / NANOSECONDS * NANOSECONDS;
	rtc->base_seconds = rtc_time_join(time);
}

/* ---- interrupts ---- */

/* Crystal ticks per periodic interrupt; 0 for none. Rates 1 and 2 repeat 8 and 9. */
static uint64_t period_ticks(const struct rtc *rtc)
{
	unsigned rate = rtc->cmos[REGISTER_A] & A_RATE;

	if (!rate || !divider_runs(rtc->cmos[REGISTER_A]))
		return 0;
	return UINT64_C(1) << ((rate < 3 ? rate + 7 : rate) - 1);
}

static bool alarm_matches(unsigned alarm, unsigned value)
{
	return alarm == ALARM_MATCHES_ANY || alarm == value;
}

/* One alarm register as a number below limit, ALARM_MATCHES_ANY for "don't care"; false if it can't match. */
static bool alarm_value(const struct rtc *rtc, enum rtc_register which, unsigned limit, unsigned *value)
{
	uint8_t raw = rtc->cmos[which];

	if ((raw & ALARM_ANY) == ALARM_ANY) {
		*value = ALARM_MATCHES_ANY;
		return true;
	}
	*value = which == HOURS_ALARM ? decode_hour(rtc, raw) : decode(rtc, raw);
	return *value < limit;
}

/* The first second after `after` at which the alarm goes off, or NEVER. Looks at less than 150 candidates. */
static uint64_t next_alarm(const struct rtc *rtc, uint64_t after)
{
	uint64_t start = after + 1, midnight = start / DAY_SECONDS * DAY_SECONDS;
	unsigned from = (unsigned)(start % DAY_SECONDS), second, minute, hour;

	if (!alarm_value(rtc, SECONDS_ALARM, 60, &second) || !alarm_value(rtc, MINUTES_ALARM, 60, &minute) ||
	    !alarm_value(rtc, HOURS_ALARM, 24, &hour))
		return NEVER;
	for (unsigned h = from / 3600; h <= from / 3600 + 24; h++) {
		if (!alarm_matches(hour, h % 24))
			continue;
		for (unsigned m = h * 60 < from / 60 ? from / 60 : h * 60; m < (h + 1) * 60; m++) {
			if (!alarm_matches(minute, m % 60))
				continue;
			for (unsigned s = m * 60 < from ? from : m * 60; s < (m + 1) * 60; s++)
				if (alarm_matches(second, s % 60))
					return midnight + s;
		}
	}
	return NEVER;
}

/* When the next flag that is enabled will be set. */
static uint64_t next_event(const struct rtc *rtc, uint64_t time)
{
	uint8_t wanted = rtc->cmos[REGISTER_B] & (uint8_t)~rtc->cmos[REGISTER_C] & C_FLAGS;
	uint64_t period = period_ticks(rtc), second = seconds_at(rtc, time), next = NEVER, alarm;

	if (wanted & C_PERIODIC && period)
		next = clock_time((clock_ticks(time, CRYSTAL_HZ) / period + 1) * period, CRYSTAL_HZ);
	if (!running(rtc))
		return next;
	if (wanted & C_UPDATE)
		next = min_u64(next, rtc->base_time + (second + 1 - rtc->base_seconds) * NANOSECONDS);
	if (wanted & C_ALARM && (alarm = next_alarm(rtc, second)) != NEVER)
		next = min_u64(next, rtc->base_time + (alarm - rtc->base_seconds) * NANOSECONDS);
	return next;
}

/* Line and timer as the flags have it. */
static void update(struct rtc *rtc)
{
	uint8_t *c = &rtc->cmos[REGISTER_C];
	bool level = *c & rtc->cmos[REGISTER_B] & C_FLAGS;
	uint64_t next = level ? NEVER : next_event(rtc, now(rtc));

	*c = (*c & C_FLAGS) | (level ? C_REQUEST : 0);
	if (next == NEVER)
		timer_cancel(&rtc->bus->timers, &rtc->timer);
	else
		timer_arm(&rtc->bus->timers, &rtc->timer, next);
	if (level == rtc->level)
		return;
	rtc->level = level;
	rtc->bus->set_irq(rtc->bus->context, RTC_LINE, level);
}

/* Sets the flags of all that happened since the last call. */
static void sync(struct rtc *rtc)
{
	uint64_t time = now(rtc), since = rtc->synced, period = period_ticks(rtc);
	uint8_t *c = &rtc->cmos[REGISTER_C];

	rtc->synced = time;
	if (period && clock_ticks(time, CRYSTAL_HZ) / period != clock_ticks(since, CRYSTAL_HZ) / period)
		*c |= C_PERIODIC;
	if (!running(rtc) || seconds_at(rtc, time) == seconds_at(rtc, since))
		return;
	*c |= C_UPDATE;
	if (!(*c & C_ALARM) && next_alarm(rtc, seconds_at(rtc, since)) <= seconds_at(rtc, time))
		*c |= C_ALARM;
}

static void event(void *device, uint64_t time)
{
	sync(device);
	update(device);
}

/* ---- registers ---- */

static bool is_time(unsigned index)
{
	return index == CENTURY || (index <= YEAR && index != SECONDS_ALARM && index != MINUTES_ALARM &&
				    index != HOURS_ALARM);
}

static bool updating(const struct rtc *rtc)
{
	return running(rtc) && (now(rtc) - rtc->base_time) % NANOSECONDS >= NANOSECONDS - UPDATE_WARNING;
}

static uint32_t read_data(struct rtc *rtc)
{
	uint8_t value;

	if (is_time(rtc->index) && running(rtc))
		store_time(rtc);
	value = rtc->cmos[rtc->index];
	if (rtc->index == REGISTER_A)
		return value | (updating(rtc) ? A_UPDATING : 0);
	if (rtc->index == REGISTER_D)
		return D_VALID;
	if (rtc->index == REGISTER_C) {
		sync(rtc);
		update(rtc);
		value = rtc->cmos[REGISTER_C];
		rtc->cmos[REGISTER_C] = 0;
		update(rtc);
	}
	return value;
}

/* Registers A and B, which can stop the clock and start it again. */
static void write_control(struct rtc *rtc, uint8_t value)
{
	bool ran = running(rtc), divided = divider_runs(rtc->cmos[REGISTER_A]);

	if (ran)
		store_time(rtc);
	if (rtc->index == REGISTER_A)
		value &= (uint8_t)~A_UPDATING;
	else if (value & B_SET)
		value &= (uint8_t)~C_UPDATE; /* SET clears the update interrupt's enable bit */
	/* Taken out of reset, the divider makes its first update after half a second. */
	if (rtc->index == REGISTER_A && !divided && divider_runs(value))
		rtc->base_time = now(rtc) - NANOSECONDS / 2;
	rtc->cmos[rtc->index] = value;
	if (!ran && running(rtc))
		load_time(rtc);
}

static void write_data(struct rtc *rtc, uint8_t value)
{
	sync(rtc);
	switch (rtc->index) {
	case REGISTER_A: case REGISTER_B:
		write_control(rtc, value);
		break;
	case REGISTER_C: case REGISTER_D: /* read only */
		break;
	default:
		if (is_time(rtc->index) && running(rtc)) {
			store_time(rtc);
			rtc->cmos[rtc->index] = value;
			load_time(rtc);
		} else {
			rtc->cmos[rtc->index] = value;
		}
		break;
	}
	update(rtc);
}

static uint32_t rtc_read(void *device, uint16_t port, unsigned size)
{
	/* The index is write only; bit 7, the NMI mask, has no NMI to mask. */
	return port == INDEX_PORT ? 0xff : read_data(device);
}

static void rtc_write(void *device, uint16_t port, unsigned size, uint32_t value)
{
	struct rtc *rtc = device;

	if (port == INDEX_PORT)
		rtc->index = value & (CMOS_SIZE - 1);
	else
		write_data(rtc, (uint8_t)value);
}

static const struct port_ops rtc_ops = { .widest = 1, .read = rtc_read, .write = rtc_write };

/* ---- life ---- */

static void store_word(struct rtc *rtc, unsigned low, unsigned high, uint64_t value)
{
	value = min_u64(value, 0xffff);
	rtc->cmos[low] = (uint8_t)value;
	rtc->cmos[high] = (uint8_t)(value >> 8);
}

/* The bytes in which PC firmware leaves the memory's size, and the checksum over 0x10..0x2d. */
static void store_memory(struct rtc *rtc, uint64_t below_4g, uint64_t above_4g)
{
	uint64_t extended = below_4g > MIB ? (below_4g - MIB) / KIB : 0;
	uint64_t high = below_4g > 16 * MIB ? (below_4g - 16 * MIB) / (64 * KIB) : 0;
	unsigned sum = 0;

	store_word(rtc, 0x15, 0x16, min_u64(below_4g / KIB, 640));
	store_word(rtc, 0x17, 0x18, extended);
	store_word(rtc, 0x30, 0x31, extended);
	store_word(rtc, 0x34, 0x35, high);
	above_4g = min_u64(above_4g / (64 * KIB), 0xffffff);
	for (unsigned i = 0; i < 3; i++)
		rtc->cmos[0x5b + i] = (uint8_t)(above_4g >> (8 * i));
	rtc->cmos[0x14] = 0x02; /* equipment: a floating-point unit */
	for (unsigned i = 0x10; i <= 0x2d; i++)
		sum += rtc->cmos[i];
	rtc->cmos[0x2e] = (uint8_t)(sum >> 8);
	rtc->cmos[0x2f] = (uint8_t)sum;
}

void rtc_reset(struct rtc *rtc)
{
	rtc->index = 0;
	rtc->cmos[REGISTER_B] &= B_SET | B_BINARY | B_24_HOURS | 1;
	rtc->cmos[REGISTER_C] = 0;
	rtc->synced = now(rtc);
	update(rtc);
}

enum status rtc_create(struct bus *bus, uint64_t seconds, uint64_t below_4g, uint64_t above_4g, struct rtc **out)
{
	struct rtc *rtc = heap_alloc(sizeof(*rtc));
	enum status status;

	if (!rtc)
		return NO_MEMORY;
	rtc->bus = bus;
	rtc->timer = (struct dev_timer){ .fire = event, .device = rtc };
	rtc->base_seconds = seconds;
	rtc->base_time = now(rtc);
	rtc->cmos[REGISTER_A] = A_DIVIDER_NORMAL | 6; /* 1024 Hz, as firmware leaves it */
	rtc->cmos[REGISTER_B] = B_24_HOURS;
	store_memory(rtc, below_4g, above_4g);
	store_time(rtc);
	rtc_reset(rtc);
	status = port_register(bus, INDEX_PORT, 2, &rtc_ops, rtc, "rtc");
	if (status != OK) {
		heap_free(rtc, sizeof(*rtc));
		return status;
	}
	*out = rtc;
	return OK;
}

void rtc_destroy(struct rtc *rtc)
{
	if (!rtc)
		return;
	timer_cancel(&rtc->bus->timers, &rtc->timer);
	port_unregister(rtc->bus, INDEX_PORT, 2, rtc);
	heap_free(rtc, sizeof(*rtc));
}
