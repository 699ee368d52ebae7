/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the RTC's bytes mean: numbers in BCD or binary, hours by 12 or 24, date and time, an alarm whose parts may be "don't care",
 * and the sizes of memory. Knows no clock and no bus; rtc.c is the only caller.
 */
#include "dev/legacy/rtc_cmos.h"
#include "lib/bits.h"

#define DAY_SECONDS 86400u
#define HOUR_PM 0x80u
#define ALARM_ANY 0xc0u
#define ALARM_MATCHES_ANY UINT32_MAX

uint8_t rtc_encode(const uint8_t *cmos, unsigned value)
{
	return (uint8_t)(cmos[REGISTER_B] & B_BINARY ? value : value / 10 << 4 | value % 10);
}

unsigned rtc_decode(const uint8_t *cmos, uint8_t value)
{
	if (cmos[REGISTER_B] & B_BINARY)
		return value;
	return (value & 15) > 9 || value >> 4 > 9 ? 0xff : (value >> 4) * 10u + (value & 15);
}

uint8_t rtc_encode_hour(const uint8_t *cmos, unsigned hour)
{
	if (cmos[REGISTER_B] & B_24_HOURS)
		return rtc_encode(cmos, hour);
	return rtc_encode(cmos, (hour + 11) % 12 + 1) | (hour >= 12 ? HOUR_PM : 0);
}

unsigned rtc_decode_hour(const uint8_t *cmos, uint8_t value)
{
	unsigned hour;

	if (cmos[REGISTER_B] & B_24_HOURS)
		return rtc_decode(cmos, value);
	hour = rtc_decode(cmos, value & (uint8_t)~HOUR_PM);
	return hour < 1 || hour > 12 ? 0xff : hour % 12 + (value & HOUR_PM ? 12 : 0);
}

bool rtc_is_time(unsigned index)
{
	return index == CENTURY ||
	       (index <= YEAR && index != SECONDS_ALARM && index != MINUTES_ALARM && index != HOURS_ALARM);
}

void rtc_store_time(uint8_t *cmos, struct rtc_time time)
{
	cmos[SECONDS] = rtc_encode(cmos, time.second);
	cmos[MINUTES] = rtc_encode(cmos, time.minute);
	cmos[HOURS] = rtc_encode_hour(cmos, time.hour);
	cmos[WEEKDAY] = rtc_encode(cmos, time.weekday);
	cmos[DAY] = rtc_encode(cmos, time.day);
	cmos[MONTH] = rtc_encode(cmos, time.month);
	cmos[YEAR] = rtc_encode(cmos, time.year % 100);
	cmos[CENTURY] = rtc_encode(cmos, time.year / 100);
}

struct rtc_time rtc_load_time(const uint8_t *cmos)
{
	return (struct rtc_time){
		.second = rtc_decode(cmos, cmos[SECONDS]),
		.minute = rtc_decode(cmos, cmos[MINUTES]),
		.hour = rtc_decode_hour(cmos, cmos[HOURS]),
		.day = rtc_decode(cmos, cmos[DAY]),
		.month = rtc_decode(cmos, cmos[MONTH]),
		.year = rtc_decode(cmos, cmos[CENTURY]) * 100 + rtc_decode(cmos, cmos[YEAR]) % 100,
	};
}

static bool alarm_matches(unsigned alarm, unsigned value)
{
	return alarm == ALARM_MATCHES_ANY || alarm == value;
}

/* One alarm register as a number below limit, ALARM_MATCHES_ANY for "don't care"; false if it can't match. */
static bool alarm_value(const uint8_t *cmos, enum rtc_register which, unsigned limit, unsigned *value)
{
	uint8_t raw = cmos[which];

	if ((raw & ALARM_ANY) == ALARM_ANY) {
		*value = ALARM_MATCHES_ANY;
		return true;
	}
	*value = which == HOURS_ALARM ? rtc_decode_hour(cmos, raw) : rtc_decode(cmos, raw);
	return *value < limit;
}

/* Looks at less than 150 candidates. */
uint64_t rtc_next_alarm(const uint8_t *cmos, uint64_t after)
{
	uint64_t start = after + 1, midnight = start / DAY_SECONDS * DAY_SECONDS;
	unsigned from = (unsigned)(start % DAY_SECONDS), second, minute, hour;

	if (!alarm_value(cmos, SECONDS_ALARM, 60, &second) || !alarm_value(cmos, MINUTES_ALARM, 60, &minute) ||
	    !alarm_value(cmos, HOURS_ALARM, 24, &hour))
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

static void store_word(uint8_t *cmos, unsigned low, unsigned high, uint64_t value)
{
	value = min_u64(value, 0xffff);
	cmos[low] = (uint8_t)value;
	cmos[high] = (uint8_t)(value >> 8);
}

void rtc_store_memory(uint8_t *cmos, uint64_t below_4g, uint64_t above_4g)
{
	uint64_t extended = below_4g > MIB ? (below_4g - MIB) / KIB : 0;
	uint64_t high = below_4g > 16 * MIB ? (below_4g - 16 * MIB) / (64 * KIB) : 0;
	unsigned sum = 0;

	store_word(cmos, 0x15, 0x16, min_u64(below_4g / KIB, 640));
	store_word(cmos, 0x17, 0x18, extended);
	store_word(cmos, 0x30, 0x31, extended);
	store_word(cmos, 0x34, 0x35, high);
	above_4g = min_u64(above_4g / (64 * KIB), 0xffffff);
	for (unsigned i = 0; i < 3; i++)
		cmos[0x5b + i] = (uint8_t)(above_4g >> (8 * i));
	cmos[0x14] = 0x02; /* equipment: a floating-point unit */
	for (unsigned i = 0x10; i <= 0x2d; i++)
		sum += cmos[i];
	cmos[0x2e] = (uint8_t)(sum >> 8);
	cmos[0x2f] = (uint8_t)sum;
}
