/* SPDX-License-Identifier: Apache-2.0 */
/* MC146818 real-time clock with 128 bytes of CMOS memory. */
#pragma once

#include "dev/bus.h"

#define RTC_LINE 8u

struct rtc;

/*
 * seconds: UTC now, since 1970. below_4g and above_4g: bytes of RAM, for the memory-size bytes of the CMOS.
 * Ports 0x70, 0x71, interrupt line 8. NO_MEMORY, CONFLICT.
 */
enum status rtc_create(struct bus *bus, uint64_t seconds, uint64_t below_4g, uint64_t above_4g,
		       struct rtc **out) must_check;
/* The reset pin: interrupts are disabled and cleared; time and memory live on the battery. */
void rtc_reset(struct rtc *rtc);
/* Nanoseconds since 1970 that its time stands for now. */
uint64_t rtc_wall_clock(const struct rtc *rtc);
