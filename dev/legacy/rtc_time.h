/* SPDX-License-Identifier: Apache-2.0 */
/* Calendar arithmetic for the RTC: seconds since 1970-01-01 00:00 to and from a date. Pure functions. */
#pragma once

#include <stdint.h>

struct rtc_time {
	unsigned year;       /* 1970..9999 */
	unsigned month, day; /* from 1 */
	unsigned hour, minute, second;
	unsigned weekday; /* 1 is Sunday, as the RTC counts */
};

struct rtc_time rtc_time_split(uint64_t seconds);
/* Fields out of range are brought into it first; the weekday is not looked at. */
uint64_t rtc_time_join(struct rtc_time time);
