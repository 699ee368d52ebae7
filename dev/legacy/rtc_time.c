/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gregorian calendar. Years are counted from March, so that the leap day is the last of its year: then the days before a
 * month follow from one linear formula, (153 m + 2) / 5, and no table of months is needed.
 */
#include "dev/legacy/rtc_time.h"

#define DAY_SECONDS 86400u
#define ERA_DAYS 146097u   /* 400 years */
#define EPOCH_DAYS 719468u /* from 0000-03-01 to 1970-01-01 */
#define EPOCH_WEEKDAY 4u   /* Thursday, from Sunday = 0 */

struct rtc_time rtc_time_split(uint64_t seconds)
{
	uint64_t days = seconds / DAY_SECONDS, from_march = days + EPOCH_DAYS, era = from_march / ERA_DAYS;
	unsigned rest = (unsigned)(seconds % DAY_SECONDS), day_of_era = (unsigned)(from_march % ERA_DAYS);
	unsigned year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	unsigned month = (5 * day_of_year + 2) / 153;

	return (struct rtc_time){
		.year = (unsigned)(era * 400) + year_of_era + (month >= 10),
		.month = month < 10 ? month + 3 : month - 9,
		.day = day_of_year - (153 * month + 2) / 5 + 1,
		.hour = rest / 3600,
		.minute = rest / 60 % 60,
		.second = rest % 60,
		.weekday = (unsigned)((days + EPOCH_WEEKDAY) % 7) + 1,
	};
}

static unsigned clamp(unsigned value, unsigned low, unsigned high)
{
	return value < low ? low : value > high ? high : value;
}

uint64_t rtc_time_join(struct rtc_time time)
{
	unsigned year = clamp(time.year, 1970, 9999), month = clamp(time.month, 1, 12);
	unsigned march_month = month > 2 ? month - 3 : month + 9, march_year = year - (month <= 2);
	unsigned year_of_era = march_year % 400;
	unsigned day_of_year = (153 * march_month + 2) / 5 + clamp(time.day, 1, 31) - 1;
	uint64_t days = (uint64_t)(march_year / 400) * ERA_DAYS + 365 * year_of_era + year_of_era / 4 -
			year_of_era / 100 + day_of_year - EPOCH_DAYS;

	return days * DAY_SECONDS + clamp(time.hour, 0, 23) * 3600 + clamp(time.minute, 0, 59) * 60 +
	       clamp(time.second, 0, 59);
}
