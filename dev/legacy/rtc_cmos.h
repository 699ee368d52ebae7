/* SPDX-License-Identifier: Apache-2.0 */
/* The RTC's registers and memory as data: number forms, the alarm, memory sizes. Pure functions over the 128 bytes. */
#pragma once

#include <stdbool.h>

#include "dev/legacy/rtc_time.h"

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

/* Numbers in the form that register B asks for; decoded, 0xff stands for what is no number. */
uint8_t rtc_encode(const uint8_t *cmos, unsigned value);
unsigned rtc_decode(const uint8_t *cmos, uint8_t value);
uint8_t rtc_encode_hour(const uint8_t *cmos, unsigned hour);
unsigned rtc_decode_hour(const uint8_t *cmos, uint8_t value);
bool rtc_is_time(unsigned index);
/* The date and the time of day that the registers show; stored, or read with 0xff for what is no number. */
void rtc_store_time(uint8_t *cmos, struct rtc_time time);
struct rtc_time rtc_load_time(const uint8_t *cmos);
/* The first second (since 1970) after `after` at which the alarm goes off, or NEVER. */
uint64_t rtc_next_alarm(const uint8_t *cmos, uint64_t after);
/* The bytes in which PC firmware leaves the memory's size, and the checksum over 0x10..0x2d. */
void rtc_store_memory(uint8_t *cmos, uint64_t below_4g, uint64_t above_4g);
