/* SPDX-License-Identifier: Apache-2.0 */
/* The RTC's registers and memory as data: number forms, the alarm, memory sizes. Pure functions over the 128 bytes. */
#pragma once

#include <stdint.h>

#define CMOS_SIZE 128u
#define CENTURY 0x32u
#define NEVER UINT64_MAX

enum rtc_register {
	SECONDS,
	SECONDS_ALARM,
	MINUTES,
	MINUTES_ALARM,
	HOURS,
	HOURS_ALARM,
	WEEKDAY,
	DAY,
	MONTH,
	YEAR,
	REGISTER_A,
	REGISTER_B,
	REGISTER_C,
	REGISTER_D,
};

#define B_BINARY 0x04u
#define B_24_HOURS 0x02u

/* Numbers in the form that register B asks for; decoded, 0xff stands for what is no number. */
uint8_t rtc_encode(const uint8_t *cmos, unsigned value);
unsigned rtc_decode(const uint8_t *cmos, uint8_t value);
uint8_t rtc_encode_hour(const uint8_t *cmos, unsigned hour);
unsigned rtc_decode_hour(const uint8_t *cmos, uint8_t value);
/* The first second (since 1970) after `after` at which the alarm goes off, or NEVER. */
uint64_t rtc_next_alarm(const uint8_t *cmos, uint64_t after);
/* The bytes in which PC firmware leaves the memory's size, and the checksum over 0x10..0x2d. */
void rtc_store_memory(uint8_t *cmos, uint64_t below_4g, uint64_t above_4g);
